"""Networks and disks have bad moments; errors that waiting does not cure are raised at once."""

from __future__ import annotations

import errno

import pytest

from retrieval_core.files import retries
from retrieval_core.files.retries import retried


@pytest.fixture
def waits(monkeypatch):
    slept = []
    monkeypatch.setattr(retries.time, "sleep", slept.append)
    return slept


def failing(times, error):
    """A read that fails so many times before it succeeds."""
    left = [error] * times

    def read():
        if left:
            raise left.pop()
        return "read"

    return read


def test_a_read_that_succeeds_is_not_repeated(waits):
    assert retried(failing(0, None)) == "read"
    assert waits == []


def test_a_bad_moment_passes(waits):
    assert retried(failing(2, OSError(errno.EIO, "Input/output error"))) == "read"
    assert len(waits) == 2


def test_a_bad_disk_is_given_up_within_a_second(waits):
    with pytest.raises(OSError, match="Input/output"):
        retried(failing(3, OSError(errno.EIO, "Input/output error")))
    assert 0 < sum(waits) < 1


@pytest.mark.parametrize(
    "error", [FileNotFoundError("a"), PermissionError("a"), OSError(errno.ELOOP, "a loop"), ValueError("a")]
)
def test_a_permanent_error_is_raised_at_once(error, waits):
    with pytest.raises(type(error)):
        retried(failing(1, error))
    assert waits == []
