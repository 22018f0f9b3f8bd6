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
from contextlib import suppress
from pathlib import Path
from typing import Any

from retrieval_core.files import storage
from retrieval_core.run.workspace import RunError

log = logging.getLogger("fabric_retrieval")

LEASE_SECONDS = 60.0
SETTLE_SECONDS = {True: 0.05, False: 1.0}
"""How long a new holder waits to see that the lease is still its own: on a disk, elsewhere."""


class Lease:
    """One run at a time in one output folder.

    The holder's name lies in ``work/lease.json`` and is renewed every third of ``LEASE_SECONDS``. The lease of a dead
    process is taken over at once on the same host, and after ``LEASE_SECONDS`` without renewal elsewhere.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.token = uuid.uuid4().hex
        self.since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Lease:
        try:
            holder = self._read()
        except ValueError:  # torn, and so nobody's
            storage.remove(self.path)
            holder = None
        self._refuse_second(holder)
        if holder is not None:
            log.info("taking over the folder from process %s on %s, which is gone", holder["pid"], holder["host"])
            storage.remove(self.path)
        # Of two that find it free one makes the file. Of two that take over from the dead, the later may have removed
        # the file of the other, which sees another name there, or none, and stops.
        made = storage.create(self.path, self._content())
        if made:
            time.sleep(SETTLE_SECONDS[storage.local_path(self.path) is not None])
            holder = self._read()
        if not made or holder is None or holder["token"] != self.token:
            raise RunError(
                f"{self.path}: another run started in this folder at the same moment; choose another run.name"
            )
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)
        self._thread.start()
        return self

    def refuse_second(self) -> None:
        """Raise RunError if another run holds the folder now; nothing is taken."""
        with suppress(ValueError):  # torn, and so nobody's
            self._refuse_second(self._read())

    def _refuse_second(self, holder: dict[str, Any] | None) -> None:
        if holder is not None and _alive(holder):
            raise RunError(
                f"{self.path}: process {holder['pid']} on {holder['host']} is running in this folder since "
                f"{holder['since']}; wait for it, stop it, or choose another run.name"
            )

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        if self._others() is None:
            storage.remove(self.path)

    def _read(self) -> dict[str, Any] | None:
        """Who holds the folder, or None.

        Raises:
            ValueError: if the file cannot be read as what it should be.
        """
        try:
            holder = storage.read_json(self.path)
        except FileNotFoundError:
            return None
        if not isinstance(holder, dict) or not set(json.loads(self._content())) <= set(holder):
            raise ValueError(f"{self.path}: no lease")
        return holder

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

    def _others(self) -> dict[str, Any] | None:
        """The lease if another run has taken it over."""
        try:
            holder = self._read()
        except ValueError:
            return None
        return holder if holder is not None and holder["token"] != self.token else None

    def _renew(self) -> None:
        while not self._stop.wait(LEASE_SECONDS / 3):
            try:
                other = self._others()
                if other is None:
                    storage.write_bytes(self.path, self._content())
            except Exception as error:  # a store that does not answer raises its own kinds; the next time it may
                log.warning("%s: cannot be renewed now (%s); trying again", self.path, type(error).__name__)
                continue
            if other is not None:
                log.error(
                    "%s: process %s on %s took this folder over while this run was stopped for longer than its lease; "
                    "end one of the two",
                    self.path,
                    other["pid"],
                    other["host"],
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
