"""One run at a time in one output folder."""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from retrieval_core.files import storage
from retrieval_core.run.workspace import RunError

log = logging.getLogger("fabric_retrieval")

LEASE_SECONDS = 60.0
DISK_SETTLE_SECONDS, STORE_SETTLE_SECONDS = 0.05, 1.0
"""Seconds after which a new holder checks that the lease is still its own: on a disk, on an object store."""


class Lease:
    """A context in which this process alone holds an output folder.

    The holder's name lies in ``work/lease.json`` and is renewed every third of ``LEASE_SECONDS``. The lease of a dead
    process is taken over at once on the same host, and after ``LEASE_SECONDS`` without renewal elsewhere.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.token = uuid.uuid4().hex
        self.since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)

    def __enter__(self) -> Lease:
        dead = self.refuse_second()
        if dead:
            log.info("taking over the folder from process %s on %s, which is gone", dead["pid"], dead["host"])
        if dead is not None:
            storage.remove(self.path)
        # Of two that find the folder free, one creates the file. Of two that take over from the dead, the later may
        # have removed the file of the other, which then sees another token or none, and stops.
        created = storage.create(self.path, self._content())
        if created:
            on_disk = storage.local_path(self.path) is not None
            time.sleep(DISK_SETTLE_SECONDS if on_disk else STORE_SETTLE_SECONDS)
        if not created or (self._read() or {}).get("token") != self.token:
            raise RunError(
                f"{self.path}: another run started in this folder at the same moment; choose another run.name"
            )
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        if not self._successor():
            storage.remove(self.path)

    def refuse_second(self) -> dict[str, Any] | None:
        """Check that no other run holds the folder now; nothing is taken.

        Returns what a dead run left in the file, empty if that cannot be read, or None without a file. Raises RunError,
        naming the holder, if a living process holds the folder.
        """
        holder = self._read()
        if holder and _alive(holder):
            raise RunError(
                f"{self.path}: process {holder['pid']} on {holder['host']} is running in this folder since "
                f"{holder['since']}; wait for it, stop it, or choose another run.name"
            )
        return holder

    def _read(self) -> dict[str, Any] | None:
        """The lease in the file; empty if it is torn, and so nobody's; None without a file."""
        try:
            holder = storage.read_json(self.path)
        except FileNotFoundError:
            return None
        except ValueError:
            return {}
        return holder if isinstance(holder, dict) and json.loads(self._content()).keys() <= holder.keys() else {}

    def _content(self) -> bytes:
        holder = {
            "token": self.token,
            "host": socket.gethostname(),
            "boot": _boot_id(),
            "pid": os.getpid(),
            "process_start": _process_start(os.getpid()),
            "since": self.since,
            "renewed": time.time(),
        }
        return json.dumps(holder, indent=1).encode()

    def _successor(self) -> dict[str, Any] | None:
        """The lease of the run that has taken this one over, if any."""
        holder = self._read()
        return holder if holder and holder["token"] != self.token else None

    def _renew(self) -> None:
        while not self._stop.wait(LEASE_SECONDS / 3):
            try:
                successor = self._successor()
                if successor is None:
                    storage.write_bytes(self.path, self._content())
            except Exception as error:  # a store that does not answer raises its own kinds; the next time it may
                log.warning("%s: cannot be renewed now (%s); trying again", self.path, type(error).__name__)
                continue
            if successor is not None:
                log.error(
                    "%s: process %s on %s took this folder over while this run was stopped for longer than its lease; "
                    "end one of the two",
                    self.path,
                    successor["pid"],
                    successor["host"],
                )
                return


def _alive(holder: Mapping[str, Any]) -> bool:
    if holder["host"] == socket.gethostname() and holder["boot"] == _boot_id():
        # The start time tells a living holder from another process that got its number.
        return bool(_process_start(holder["pid"]) == holder["process_start"] is not None)
    return bool(time.time() - holder["renewed"] < LEASE_SECONDS)


def _process_start(pid: int) -> str | None:
    """Start time of a living process in clock ticks; None for one that is gone or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
