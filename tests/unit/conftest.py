"""A folder on each kind of store, a store that fails, and a Hub on loopback."""

from __future__ import annotations

from uuid import uuid4

import pytest

from retrieval_core.files import retries
from retrieval_core.files.hub import pinned
from tests.erring_store import erring
from tests.hub_server import ask, serving


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


@pytest.fixture
def hub_server(tmp_path, monkeypatch):
    """A Hub without repositories, which this process asks, and an empty cache in ``tmp_path / "hf"``."""
    with serving() as server:
        ask(monkeypatch, server.endpoint, tmp_path / "hf")
        yield server
    pinned.cache_clear()
