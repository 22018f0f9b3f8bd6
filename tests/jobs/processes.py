"""The program as processes of its own: started, watched and killed with everything that it started."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType

PROJECT = Path(__file__).parents[2]
VARIABLE = "FABRIC_RETRIEVAL_TEST"
WAIT_SECONDS = 300.0


class Processes:
    """Starts commands, and ends them with all their descendants, which a variable in their environment marks.

    Ray's daemons outlive their parents, so a walk down from the first process would miss some after a kill. Each
    instance has its own folder for Ray's sessions.
    """

    def __init__(self, log: Path, **environment: str) -> None:
        self.mark = f"{VARIABLE}={uuid.uuid4().hex}"
        self.log = log
        self.started: list[subprocess.Popen[bytes]] = []
        # Not pytest's own folder: the path of a socket has at most 107 characters.
        self.temporary = Path(tempfile.mkdtemp(prefix="ray-"))
        (self.temporary / "ray").mkdir()
        inherited = {key: value for key, value in os.environ.items() if key not in {"RAY_ADDRESS", "RAY_TMPDIR"}}
        name, _, value = self.mark.partition("=")
        self.environment = {**inherited, "RAY_TMPDIR": str(self.temporary), name: value, **environment}

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.kill()
        shutil.rmtree(self.temporary, ignore_errors=True)
        if error is not None and self.log.exists():
            print(self.log.read_text(errors="replace")[-4000:])

    def start(self, command: Sequence[str], **environment: str) -> subprocess.Popen[bytes]:
        """Start a command that writes into the log."""
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                command,
                env={**self.environment, **environment},
                cwd=PROJECT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.started.append(process)
        return process

    def start_program(self, arguments: Sequence[str]) -> subprocess.Popen[bytes]:
        """``python -m ray_jobs ...``"""
        return self.start([sys.executable, "-m", "ray_jobs", *arguments])

    def alive(self) -> dict[int, str]:
        """Command lines of all living processes that descend from what was started here.

        Some of Ray's change their title and so hide their environment; they are found as children of the others.
        """
        mark = b"\0" + self.mark.encode() + b"\0"
        marked = set()
        for folder in Path("/proc").iterdir():
            with suppress(OSError):  # ended meanwhile, or another user's
                if folder.name.isdigit() and mark in b"\0" + (folder / "environ").read_bytes() + b"\0":
                    marked.add(int(folder.name))
        found = {}
        for pid in descendants(*marked) - {os.getpid()}:
            with suppress(OSError):
                found[pid] = Path("/proc", str(pid), "cmdline").read_bytes().replace(b"\0", b" ").decode()
        return {pid: line for pid, line in found.items() if line}

    def halt(self, name: str) -> None:
        """Stop (SIGSTOP) the processes whose command line starts with ``name``, until they are killed."""
        for pid, line in self.alive().items():
            if line.startswith(name):
                os.kill(pid, signal.SIGSTOP)

    def kill(self) -> list[str]:
        """``kill -9`` all of them until none is left; returns their command lines."""
        killed: dict[int, str] = {}
        until = time.monotonic() + 30
        while (left := self.alive()) or any(map(_ending, killed)):
            assert time.monotonic() < until, left
            for pid in left:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            killed |= left
            time.sleep(0.02)
        for process in self.started:
            process.wait()
        return list(killed.values())


def _ending(pid: int) -> bool:
    """True until a killed process has ended; its command line disappears earlier, with its memory."""
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def descendants(*pids: int) -> set[int]:
    """Processes, their children, their children."""
    parents = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError):
                parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
    found = set(pids)
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def listening(pids: Iterable[int]) -> dict[str, set[int]]:
    """Addresses at which processes accept TCP connections, with the ports; ``0.0.0.0`` and ``::`` are all of them."""
    sockets = set()
    for pid in pids:
        with suppress(OSError):
            for link in (Path("/proc") / str(pid) / "fd").iterdir():
                with suppress(OSError):
                    sockets.add(str(link.readlink()))
    found: dict[str, set[int]] = defaultdict(set)
    for family, table in ((socket.AF_INET, "tcp"), (socket.AF_INET6, "tcp6")):
        for line in Path("/proc/net", table).read_text().splitlines()[1:]:
            _, local, _, state, *rest = line.split()
            if state == "0A" and f"socket:[{rest[5]}]" in sockets:
                address, _, port = local.partition(":")
                words = [bytes.fromhex(address[start : start + 8])[::-1] for start in range(0, len(address), 8)]
                shown = socket.inet_ntop(family, b"".join(words)).removeprefix("::ffff:")
                found[shown].add(int(port, 16))
    return found


def free_ports(count: int) -> list[int]:
    """Ports of the loopback address that nobody listens on."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    """Return as soon as the condition holds; fail if the process ends before, or takes too long."""
    until = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert process.poll() is None, f"ended with {process.returncode} before it could be interrupted"
        assert time.monotonic() < until, "did not get that far"
        time.sleep(0.002)


def identities(folder: Path, pattern: str = "*.parquet") -> Mapping[str, tuple[int, int]]:
    """What changes when a file is written again: inode and modification time, by name."""
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.glob(pattern)}
