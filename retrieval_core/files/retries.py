"""Which failed reads are worth another try, and when."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PERMANENT_ERRORS = (FileNotFoundError, PermissionError, NotADirectoryError, IsADirectoryError)
_PERMANENT_ERRNOS = {errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL}  # those without a class of their own
_WAITS = (0.1, 0.4)  # seconds before the second and the third try


def retried(read: Callable[[], T]) -> T:
    """Call ``read`` up to three times within half a second: networks and disks have bad moments.

    An error that waiting does not cure (no such file, no permission, a folder) is raised at once.
    """
    for seconds in _WAITS:
        try:
            return read()
        except OSError as error:
            if not may_pass(error):
                raise
        time.sleep(seconds)
    return read()


def may_pass(error: BaseException | None) -> bool:
    """Whether an error is the storage's, and waiting may cure it."""
    if not isinstance(error, OSError) or isinstance(error, PERMANENT_ERRORS):
        return False
    return error.errno not in _PERMANENT_ERRNOS
