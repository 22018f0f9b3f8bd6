"""A Ray head with a job server, as a person starts it, on ports of its own of this machine's loopback address."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from tests.jobs.processes import PROJECT, Processes, free_ports, wait_until

RAY = str(Path(sys.executable).with_name("ray"))
# Else Ray listens on every address of the machine, whatever --node-ip-address says.
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}


class Head:
    """A running head; it ends with its processes."""

    def __init__(self, processes: Processes, token: str = "", cpus: int = 2) -> None:
        ports = free_ports(5)
        self.processes = processes
        self.token = token
        self.address = f"http://127.0.0.1:{ports[0]}"
        self.state = f"127.0.0.1:{ports[1]}"
        """Where drivers and nodes connect."""
        self.client = f"ray://127.0.0.1:{ports[2]}"
        self.metrics = f"http://127.0.0.1:{ports[3]}/metrics"
        """What Prometheus would ask."""
        options = {
            "--dashboard-port": ports[0],
            "--port": ports[1],
            "--ray-client-server-port": ports[2],
            "--metrics-export-port": ports[3],
            # The agent starts jobs; if an earlier one still holds the default port, it silently starts none.
            "--dashboard-agent-listen-port": ports[4],
            "--num-cpus": cpus,
            "--num-gpus": 0,
        }
        words = [str(word) for pair in options.items() for word in pair]
        head = processes.start([RAY, "start", "--head", "--block", "--disable-usage-stats", *words], **LOOPBACK)
        wait_until(lambda: self.status(self.token) == 200, head)
        # The agent comes later than the job server; it has the node's logs, too.
        wait_until(lambda: self.status(self.token, "/api/v0/logs?node_ip=127.0.0.1") == 200, head)

    def status(self, token: str = "", path: str = "/api/jobs/") -> int:
        """HTTP status of the job server's answer to someone with this token; 0 for no answer."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        try:
            with urlopen(Request(f"{self.address}{path}", headers=headers), timeout=5) as answer:
                return int(answer.status)
        except HTTPError as error:
            return error.code
        except OSError:
            return 0

    def submit(self, *words: str, environment: Mapping[str, str] | None = None) -> int:
        """Exit code of `ray job submit`, which waits for the job's end."""
        return self.submitted([sys.executable, "-m", "ray_jobs", *words], environment).wait(timeout=300)

    def submitted(
        self, command: list[str], environment: Mapping[str, str] | None = None, folder: Path = PROJECT
    ) -> subprocess.Popen[bytes]:
        """`ray job submit` with a folder's content."""
        submit = [RAY, "job", "submit", "--address", self.address, "--working-dir", str(folder), "--", *command]
        return self.processes.start(submit, **(environment or {}))
