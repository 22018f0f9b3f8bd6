"""A Ray cluster of several nodes on this machine, each of which can be killed with all that runs on it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from tests.jobs.processes import Processes, wait_until
from tests.jobs.ray_head import LOOPBACK, Head

ENVIRONMENT = {
    "RAY_AUTH_MODE": "disabled",  # it listens on loopback only, and for this test only
    # Ray Train looks at its workers every two seconds, and a report waits for that; a watcher is one more process.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    # How long it waits for the places of lost workers, before it counts what is there again.
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "5",
    **LOOPBACK,
}


class Cluster:
    """A head without CPUs, where drivers run, and working nodes that come and go; ends with the block."""

    def __init__(self, log: Path, nodes: int, cpus: int) -> None:
        """Start it with ``nodes`` working nodes of ``cpus`` logical CPUs each."""
        self.log, self.cpus = log, cpus
        self._stack = ExitStack()
        try:
            self.processes = self._stack.enter_context(Processes(log, **ENVIRONMENT))
            self.processes.environment.pop("RAY_OVERRIDE_RESOURCES", None)
            self.head = Head(self.processes, cpus=0)
            self.nodes: list[Processes] = []
            self.add(nodes)
        except BaseException:
            self._stack.close()
            raise

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def add(self, count: int = 1, *, prefix: Sequence[str] = ()) -> None:
        """Start nodes and wait until they have joined; ``prefix`` is a command that runs the command after it."""
        for _ in range(count):  # one after the other: they would take the same names for their sockets
            node = self._stack.enter_context(Processes(self.log, **ENVIRONMENT))
            node.environment.pop("RAY_OVERRIDE_RESOURCES", None)
            joined = node.temporary / "joined"
            command = [sys.executable, "-m", "tests.cluster.ray_node", self.head.state, str(self.cpus), str(joined)]
            wait_until(joined.exists, node.start([*prefix, *command]))
            self.nodes.append(node)

    def kill(self, node: Processes) -> list[str]:
        """``kill -9`` for a node's raylet and all its workers at once; returns their command lines."""
        self.nodes.remove(node)
        return node.kill()

    def working(self, worker: str) -> list[Processes]:
        """Nodes on which a process runs whose command line starts with a word, such as ``ray::MapWorker``."""
        return [node for node in self.nodes if any(line.startswith(worker) for line in node.alive().values())]

    def driver(self, arguments: Sequence[str]) -> subprocess.Popen[bytes]:
        """``python -m ray_jobs ...`` on the head's machine, connected to the cluster."""
        return self.processes.start([sys.executable, "-m", "ray_jobs", *arguments], RAY_ADDRESS=self.head.state)
