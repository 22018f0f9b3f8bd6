"""Credentials of stores: refused and hidden in URLs, and one readable error where none are found.

A URL of the configuration ends up in logs, in ``run.json`` and in every path of the pool. So ``s3://key:secret@bucket``
is refused; stores find credentials in the environment, a profile or the machine's role.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager

# The user before a password may be empty. A number and a slash after the colon are a port; a user without a
# password (abfs://container@account) is no secret; a pasted secret may hold slashes.
_PASSWORD = re.compile(r"(?<=://)[^/\s:@]*:(?!\d+/)\S*@")

# By name: botocore and google-auth are loaded only where their stores are used.
_MISSING_CREDENTIALS_ERRORS = frozenset(
    {
        "CredentialRetrievalError",
        "DefaultCredentialsError",
        "NoCredentialsError",
        "PartialCredentialsError",
        "ProfileNotFound",
        "SSOTokenLoadError",
        "TokenRetrievalError",
        "UnauthorizedSSOTokenError",
    }
)
_REMEDIES = {
    "s3": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (and AWS_SESSION_TOKEN where they are short-lived), or "
    "AWS_PROFILE for one of ~/.aws/credentials, or give the machine a role; on every node",
    "gs": "set GOOGLE_APPLICATION_CREDENTIALS to a key file, run `gcloud auth application-default login`, or give the "
    "machine a service account; on every node",
}


class CredentialsError(PermissionError):
    """A store refuses to answer without credentials; ``strerror`` names what to set."""


@contextmanager
def credentials_needed(path: str) -> Iterator[None]:
    """Turn each library's own error for missing credentials, few of them an OSError, into a CredentialsError."""
    try:
        yield
    except Exception as error:
        if type(error).__name__ not in _MISSING_CREDENTIALS_ERRORS:
            raise
        scheme = path.partition("://")[0]
        remedy = _REMEDIES.get(scheme, "give them to the store's own settings")
        reason = " ".join(str(error).split()).rstrip(".")
        raise CredentialsError(errno.EACCES, f"no credentials for {scheme}:// ({reason}); {remedy}", path) from None


def holds_credentials(text: str) -> bool:
    """True if a URL in the text has a password before its host or bucket."""
    return _PASSWORD.search(text) is not None


def hide_credentials(text: str) -> str:
    """The text with users and passwords in URLs replaced by ``***``."""
    return _PASSWORD.sub("***@", text)
