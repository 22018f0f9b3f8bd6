"""docs/secure-cluster.md on loopback: at every door the right token comes in, another one or none does not."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.jobs.processes import Processes, listening, wait_until
from tests.jobs.ray_head import LOOPBACK, RAY, Head
from tests.jobs.small_data import as_options, query_paths, settings, write_catalogue

pytestmark = pytest.mark.cluster

WRONG = "0" * 64
DOORS = ["state", "client"]
"""Ray's own port, and the one of Ray Client; the third door is the job server."""
STRANGERS = {
    "another token": {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": WRONG},
    "no token": {"RAY_AUTH_MODE": "disabled"},
}
DRIVER = """
import ray, sys
ray.init(sys.argv[1], logging_level="ERROR")
print("came in", ray.get(ray.remote(lambda: 6 * 7).remote()))
"""


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    """A head whose token was made as the page says, in a home folder of its own."""
    place = tmp_path_factory.mktemp("secured")
    with Processes(place / "log", HOME=str(place), RAY_AUTH_MODE="token", **LOOPBACK) as processes:
        for name in ("RAY_OVERRIDE_RESOURCES", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
            processes.environment.pop(name, None)
        made = [RAY, "get-auth-token", "--generate"]
        token = subprocess.run(made, env=processes.environment, capture_output=True, text=True, check=True).stdout
        (place / ".ray" / "auth_token").chmod(0o600)
        yield Head(processes, token.strip())


def knock(head: Head, door: str, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """A driver that connects to a door of the head; it is given up after a while."""
    address = getattr(head, door)
    port = int(address.rpartition(":")[2])
    wait_until(lambda: port in listening(head.processes.alive())["127.0.0.1"], head.processes.started[0])
    return head.processes.start(["timeout", "-s", "KILL", "60", sys.executable, "-c", DRIVER, address], **environment)


def test_job_server_asks_for_the_token(head: Head) -> None:
    assert head.status(head.token) == 200
    assert head.status() == 401
    assert head.status(WRONG) == 403


def test_everything_listens_on_loopback(head: Head) -> None:
    ports = {int(address.rpartition(":")[2]) for address in (head.address, head.state, head.client)}
    wait_until(lambda: ports <= listening(head.processes.alive())["127.0.0.1"], head.processes.started[0])
    found = listening(head.processes.alive())
    assert set(found) <= {"127.0.0.1", "::1"}


def test_job_with_the_token_runs(head: Head, weights: Path, tmp_path: Path) -> None:
    root = write_catalogue(tmp_path / "data", fabrics=4, queries=2)
    assert head.submit("run", *as_options(settings(root, weights, tmp_path / "out"))) == 0
    assert list(json.loads((tmp_path / "out" / "first_retrieval_results.json").read_text())) == query_paths(root)
    told = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert [path for path in told if head.token.encode() in path.read_bytes()] == []
    assert head.token not in head.processes.log.read_text(errors="replace")


@pytest.mark.parametrize("who", list(STRANGERS))
def test_job_of_a_stranger_is_refused(head: Head, who: str, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    (tmp_path / "code").mkdir()
    before = head.processes.log.stat().st_size
    command = ["touch", str(mark)]
    assert head.submitted(command, STRANGERS[who], tmp_path / "code").wait(60) != 0
    said = head.processes.log.read_bytes()[before:].decode()
    assert "Unauthorized" in said or "Forbidden" in said or "uthentication" in said
    assert not mark.exists()


@pytest.mark.parametrize("door", DOORS)
def test_driver_with_the_token_comes_in(head: Head, door: str) -> None:
    before = head.processes.log.stat().st_size
    assert knock(head, door, {}).wait(90) == 0
    assert b"came in 42" in head.processes.log.read_bytes()[before:]


def test_drivers_of_strangers_stay_outside(head: Head) -> None:
    """All at once: Ray tries for half a minute before it gives up."""
    before = head.processes.log.stat().st_size
    knocking = [knock(head, door, environment) for door in DOORS for environment in STRANGERS.values()]
    assert 0 not in [each.wait(90) for each in knocking]
    assert b"came in" not in head.processes.log.read_bytes()[before:]
