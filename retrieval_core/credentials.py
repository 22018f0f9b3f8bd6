"""Secrets in URLs: refused where they are given, and never repeated.

A URL of the configuration ends up in logs, in ``run.json`` and in every path of the pool. So ``s3://key:secret@bucket``
is refused; stores find credentials in the environment, a profile or the machine's role.
"""

from __future__ import annotations

import re

# What stands before a password may be empty. A number and a slash after the colon are a port; a user without a
# password (abfs://container@account) is no secret; a pasted secret may hold slashes.
_PASSWORD = re.compile(r"(?<=://)[^/\s:@]*:(?!\d+/)\S*@")


def holds_credentials(text: str) -> bool:
    """True if a URL in the text has a password in front of its host or bucket."""
    return _PASSWORD.search(text) is not None


def hide_credentials(text: str) -> str:
    """The text without users and passwords of URLs, to be shown."""
    return _PASSWORD.sub("***@", text)
