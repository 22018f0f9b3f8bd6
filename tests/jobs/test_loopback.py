"""A Ray of this machine alone can be reached only from this machine, and only its owner can read its token."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import ray

from tests.jobs.processes import descendants, listening


def exposed_of(root: int) -> dict[str, set[str]]:
    """Addresses beyond loopback at which a process and its descendants listen, by their command lines."""
    found = {}
    for pid in descendants(root):
        if addresses := set(listening([pid])) - {"127.0.0.1", "::1"}:
            with suppress(OSError):  # it has ended
                found[f"{pid}: {Path(f'/proc/{pid}/cmdline').read_text()}".replace("\0", " ")] = addresses
    return found


def test_nothing_listens_on_the_network(ray_cluster: None) -> None:
    @ray.remote
    def own_pid() -> int:
        return os.getpid()

    worker = ray.get(own_pid.remote())
    everything = descendants(os.getpid())
    assert worker in everything
    assert len(listening(everything)["127.0.0.1"]) >= 4  # state, node manager, object manager, driver
    assert exposed_of(os.getpid()) == {}
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


def test_only_the_owner_can_read_the_token(ray_cluster: None) -> None:
    token = Path.home() / ".ray" / "auth_token"
    assert not token.exists() or token.stat().st_mode & 0o077 == 0
