"""Why Ray could not be reached or started is told beforehand, in a line with the cause and the remedy."""

from __future__ import annotations

import os
import re
import resource
import socket
import tempfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import ray

from ray_jobs.__main__ import main
from ray_jobs.cluster import preflight
from ray_jobs.cluster.preflight import address_problem, cluster_address, start_problems
from tests.jobs.processes import free_ports
from tests.jobs.small_data import as_options, settings, write_catalogue


@pytest.mark.parametrize(
    ("value", "expected"),
    [(None, None), ("", None), (" ", None), ("local", None), ("auto", "auto"), (" head:6379 ", "head:6379")],
)
def test_empty_and_local_mean_what_absent_means(
    value: str | None, expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if value is not None:
        monkeypatch.setenv("RAY_ADDRESS", value)
    assert cluster_address() == expected


@pytest.fixture(scope="module")
def web() -> Iterator[int]:
    """Port of a web server."""
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


ADDRESSES = [
    ("127.0.0.1:{free}", "nothing answers there (Connection refused); start the cluster"),
    ("ray://127.0.0.1:{free}", "nothing answers there (Connection refused); start the cluster"),
    ("[::1]:{free}", "nothing answers there"),
    ("no-such-host.invalid:6379", "the name no-such-host.invalid is not known here"),
    (f"{'a' * 64}:6379", "nothing answers there"),  # no name at all
    ("http://127.0.0.1:8265", "a job server, to which `ray job submit` sends commands"),
    ("head", "not HOST:PORT"),
    ("head:", "not HOST:PORT"),
    ("head:0", "not HOST:PORT"),
    ("head:65536", "not HOST:PORT"),
    ("127.0.0.1:{web}", "what listens there does not answer as Ray"),
]


@pytest.mark.parametrize(("address", "reason"), ADDRESSES)
def test_an_address_that_leads_nowhere(address: str, reason: str, web: int) -> None:
    place = address.format(free=free_ports(1)[0], web=web)
    line = address_problem(place)
    assert line is not None
    assert line.startswith(f"RAY_ADDRESS = {place}: {reason}")
    assert line.endswith("or unset RAY_ADDRESS to compute on this machine alone")


def test_a_port_that_never_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "ANSWER_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        line = address_problem(f"127.0.0.1:{silent.getsockname()[1]}")
    assert line is not None
    assert "does not answer as Ray" in line


def test_auto_without_a_ray_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    def find(*_: object) -> str:
        raise ConnectionError("Could not find any running Ray instance.")

    monkeypatch.setattr(ray._private.services, "get_ray_address_from_environment", find)
    assert str(address_problem("auto")).startswith("RAY_ADDRESS = auto: no Ray runs on this machine")
    place = f"127.0.0.1:{free_ports(1)[0]}"  # of one that was killed
    monkeypatch.setattr(ray._private.services, "get_ray_address_from_environment", lambda *_: place)
    assert str(address_problem("auto")).startswith(f"RAY_ADDRESS = auto ({place}): nothing answers there")


def test_a_ray_that_answers_is_no_problem(ray_cluster: None) -> None:
    assert address_problem(ray.get_runtime_context().gcs_address) is None


def test_a_command_ends_with_the_line(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    place = f"127.0.0.1:{free_ports(1)[0]}"
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setenv("RAY_ADDRESS", place)
    options = as_options(settings(write_catalogue(tmp_path / "data"), weights, tmp_path / "out"))
    for command in ("run", "check"):
        assert main([command, *options]) == 1
        assert capsys.readouterr().err.startswith(f"fabric-retrieval: RAY_ADDRESS = {place}: nothing answers there")


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder whose path is not as long as pytest's."""
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp") as folder:
        yield Path(folder)


def surroundings(folder: Path) -> dict[str, str]:
    (folder / "file").write_text("")
    (folder / "foreign").mkdir()
    (folder / "foreign" / "ray").write_text("")  # for a folder that may not be written: root may write all
    return {
        "long": str(folder / ("a" * 90)),
        "new": "/tmp/ray-test-that-is-not-there",
        "relative": "tmp",
        "empty": "",
        "file": str(folder / "file"),
        "foreign": str(folder / "foreign"),
        "here": "/tmp",
    }


STARTS = [
    ({"TMPDIR": "long"}, "TMPDIR = .*bytes too long for the path of Ray's sockets; set RAY_TMPDIR"),
    ({"TMPDIR": "long", "RAY_TMPDIR": "here"}, None),
    ({"TMPDIR": "new"}, None),
    ({"TMPDIR": "relative"}, "TMPDIR = tmp: not an absolute path"),
    ({"RAY_TMPDIR": "relative"}, "RAY_TMPDIR = tmp: not an absolute path"),
    ({"TMPDIR": "empty"}, "TMPDIR = : not an absolute path"),
    ({"TMPDIR": "file"}, "TMPDIR = .*Not a directory.*set RAY_TMPDIR to a folder that you can write"),
    ({"TMPDIR": "foreign"}, "TMPDIR = .*ray: Not a directory.*set RAY_TMPDIR"),
    ({"HOME": None}, "HOME is not set.*set HOME to a folder that you can write"),
    ({"HOME": "file"}, "HOME = .*Not a directory.*set HOME to a folder that you can write"),
    ({"HOME": None, "RAY_AUTH_MODE": "disabled"}, None),
    ({"HOME": None, "RAY_AUTH_TOKEN": "here"}, None),
]


@pytest.mark.parametrize(("variables", "pattern"), STARTS)
def test_surroundings_in_which_ray_does_not_start(
    variables: dict[str, str | None], pattern: str | None, short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TMPDIR", "RAY_TMPDIR", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(short))
    places = surroundings(short)
    for name, place in variables.items():
        if place is None:
            monkeypatch.delenv(name)
        else:
            monkeypatch.setenv(name, places.get(place, place))
    found = list(start_problems())
    if pattern is None:
        assert found == []
    else:
        (line,) = found
        assert re.match(pattern, line), line


GB = 10**9
LIMITS = [
    (resource.RLIMIT_AS, 8 * GB, "ulimit -v allows 8.0 GB of address space"),
    (resource.RLIMIT_AS, 10**15, None),
    (resource.RLIMIT_NOFILE, 64, "ulimit -Hn allows 64 open files"),
    (resource.RLIMIT_NOFILE, 4096, None),
    (resource.RLIMIT_NPROC, 100, "ulimit -u allows 100 processes and threads"),
    (resource.RLIMIT_NPROC, 10**6, None),
]


@pytest.mark.parametrize(("kind", "limit", "start"), LIMITS)
def test_limits_that_ray_would_die_of(
    kind: int, limit: int, start: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = resource.getrlimit
    monkeypatch.setattr(resource, "getrlimit", lambda which: (limit, limit) if which == kind else before(which))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(ray._private.utils, "estimate_available_memory", lambda: 64 * GB)
    monkeypatch.setattr(ray._private.utils, "get_shared_memory_bytes", lambda: 32 * GB)
    found = list(start_problems())
    assert [line.startswith(start or "") for line in found] == ([] if start is None else [True])


def test_the_limit_of_a_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pids.max").write_text("100\n")
    (tmp_path / "pids.current").write_text("7\n")
    monkeypatch.setattr(preflight, "control_groups", lambda _: [tmp_path])
    (line,) = start_problems()
    assert "pids.max (docker --pids-limit) allows 100 processes and threads, 7 run" in line
