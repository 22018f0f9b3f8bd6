"""A Ray of this machine alone can be reached from this machine alone, and its token is read by its owner alone."""

from __future__ import annotations

import os
from pathlib import Path

import ray

from tests.jobs.processes import descendants, listening


def test_nothing_listens_on_the_network(ray_cluster: None) -> None:
    @ray.remote
    def where() -> int:
        return os.getpid()

    worker = ray.get(where.remote())
    everything = descendants(os.getpid())
    assert worker in everything
    found = listening(everything)
    assert len(found["127.0.0.1"]) >= 4  # state, node manager, object manager, driver
    assert set(found) <= {"127.0.0.1", "::1"}
    assert ray.util.get_node_ip_address() == "127.0.0.1"


def test_listening_sees_an_open_port() -> None:
    import socket

    with socket.socket() as one, socket.socket(socket.AF_INET6) as two:
        one.bind(("0.0.0.0", 0))
        two.bind(("::1", 0))
        one.listen()
        two.listen()
        found = listening([os.getpid()])
        assert one.getsockname()[1] in found["0.0.0.0"]
        assert two.getsockname()[1] in found["::1"]


def test_the_token_is_its_owners_alone(ray_cluster: None) -> None:
    token = Path.home() / ".ray" / "auth_token"
    assert not token.exists() or token.stat().st_mode & 0o077 == 0
