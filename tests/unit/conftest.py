"""A folder on each kind of store."""

from __future__ import annotations

from uuid import uuid4

import pytest


@pytest.fixture(params=["local", "file", "memory"])
def folder(request, tmp_path):
    """A folder that does not exist yet, on each kind of store."""
    if request.param == "memory":
        return f"memory://{uuid4().hex}/deep/er"
    prefix = "file://" if request.param == "file" else ""
    return f"{prefix}{tmp_path}/deep/er"
