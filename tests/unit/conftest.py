"""A folder on each kind of store, and a store that fails."""

from __future__ import annotations

from uuid import uuid4

import pytest

from retrieval_core.files import retries
from tests.erring_store import erring


@pytest.fixture(params=["local", "file", "memory"])
def folder(request, tmp_path):
    """A folder that does not exist yet, on each kind of store."""
    if request.param == "memory":
        return f"memory://{uuid4().hex}/deep/er"
    prefix = "file://" if request.param == "file" else ""
    return f"{prefix}{tmp_path}/deep/er"


@pytest.fixture
def erring_store(monkeypatch):
    """``erring://`` without files or errors; nobody waits before trying again."""
    monkeypatch.setattr(retries.time, "sleep", lambda seconds: None)
    erring()
    yield
    erring()
