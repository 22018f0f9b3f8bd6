"""The folder of a run: where each file lies, and which stages are done.

A stage record (``work/stages/<stage>.json``) says what a stage was computed from. It is written last, so a stage with
a record is whole; a run that finds the same fingerprint and the outputs in place skips the stage.
"""

from __future__ import annotations

import logging
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from retrieval_core.config.config import Config
from retrieval_core.files import storage
from retrieval_core.files.fingerprint import fingerprint

log = logging.getLogger("fabric_retrieval")

POOL_JSON = "first_retrieval_results.json"
POOL_PARQUET = "candidate_pool.parquet"


class RunError(RuntimeError):
    """The run cannot go on; the message says what is wrong and what to do."""


class Workspace:
    """Paths and stage records of one run. Paths are absolute (or URLs), so that they mean the same on every node."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.output_dir = storage.absolute(config.run.output_dir)
        self.folder = storage.join(self.output_dir, config.run.name)
        self.current_stage: str | None = None  # for the log

    def path(self, *parts: str) -> str:
        """A file or folder of the run."""
        return storage.join(self.folder, *parts)

    def work(self, *parts: str) -> str:
        """A file or folder that only the run itself needs."""
        return storage.join(self.folder, "work", *parts)

    def arm_folder(self, arm: str, main: str) -> str:
        """The folder of an arm's store and pool: the run's for its main arm, one under ``work/`` for a baseline."""
        return self.folder if arm == main else self.work("arms", arm)

    def write_problem(self) -> str | None:
        """Why the run could not write into its folder; None if it can. Tried, with nothing left behind."""
        local = storage.local_path(self.folder)
        try:
            if local is None:
                storage.write_bytes(self.path(".check.tmp"), b"")
                storage.remove(self.path(".check.tmp"))
                return None
            place = next(folder for folder in (Path(local), *Path(local).parents) if os.path.lexists(folder))
            if not place.is_dir():
                return f"{place} is no folder; name another one"
            with tempfile.TemporaryFile(dir=place) as file:
                file.write(b"x")
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            return f"{self.folder} cannot be written: {reason}; name a folder that can be, or a URL"
        return None

    def record(self, stage: str) -> dict[str, Any] | None:
        """What a finished stage recorded, or None."""
        try:
            record = storage.read_json(self._record_file(stage))
        except FileNotFoundError:
            return None
        except ValueError:  # not JSON
            record = None
        if not isinstance(record, dict) or "fingerprint" not in record:
            log.warning("%s: its record cannot be read; the stage is done again", stage)
            return None
        return record

    def reopen(self, stage: str) -> None:
        """Forget that a stage is done, before what its record says of the folder changes."""
        storage.remove(self._record_file(stage))

    def _record_file(self, stage: str) -> str:
        return self.work("stages", f"{stage}.json")

    def stage(
        self,
        name: str,
        inputs: Mapping[str, Any],
        outputs: Sequence[str],
        action: Callable[[], Mapping[str, Any]],
        *,
        overwrite: bool = False,
    ) -> dict[str, Any]:
        """Run a stage, such as ``embed.gallery``, unless it is done; ``overwrite`` runs it anyway.

        ``inputs`` are everything the result depends on, JSON-able. ``outputs`` are paths of the files that it leaves.
        ``action`` does the work and returns facts to record. Returns the record: stage, fingerprint, seconds, skipped,
        and the facts.
        """
        digest = fingerprint({"stage": name, "inputs": inputs})
        record = self.record(name)
        if record and record["fingerprint"] == digest and all(map(storage.exists, outputs)) and not overwrite:
            log.info("%s: done before, skipped", name)
            return {**record, "skipped": True}
        self.reopen(name)
        log.info("%s: started", name)
        began = time.perf_counter()
        self.current_stage = name
        try:
            facts = dict(action())
        finally:
            self.current_stage = None
        seconds = round(time.perf_counter() - began, 3)
        record = {"stage": name, "fingerprint": digest, "seconds": seconds, **facts}
        storage.write_json(self._record_file(name), record)
        log.info("%s: done in %.1f s", name, seconds)
        return {**record, "skipped": False}
