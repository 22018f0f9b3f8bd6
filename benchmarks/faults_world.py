"""What the fault campaign runs on: data, weights, calm runs, folders of cases, and one Ray for most of them."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.faults_plan import (
    BATCH,
    CHECKPOINT_EVERY,
    EPOCHS,
    FABRICS,
    GALLERY_BLOCK,
    QUERIES,
    QUERY_BLOCK,
    SHARD,
    STAGES,
    TRAINING,
    Case,
)
from benchmarks.training_cases import MINIATURE, shaped
from ray_jobs.cluster.connect import ENVIRONMENT
from retrieval_core.model.weights import save_model
from tests.jobs.processes import Processes, free_ports, wait_until
from tests.jobs.small_data import as_options, settings, write_catalogue, write_png

HOOKS = Path(__file__).parent / "fault_hooks"
ROOT = Path(__file__).parents[1]
RAY = str(Path(sys.executable).with_name("ray"))
PACE_SECONDS = 0.06
NAME, VECTORS = "trial", 3
KEYS: dict[str, Any] = {
    "run__name": NAME,
    "train__enabled": True,
    "train__epochs": EPOCHS,
    "train__batch_size": BATCH,
    "train__checkpoint_every": CHECKPOINT_EVERY,
    "train__loader_threads": 1,
    "embed__num_actors": 2,
    "embed__shard_size": SHARD,
    "retrieve__query_block": QUERY_BLOCK,
    "retrieve__gallery_block": GALLERY_BLOCK * VECTORS,
    "retrieve__top_k": 5,
    "retrieve__expand": 2,
    "retrieve__rescore": 8,
    "model__pooling": "patches",
    "embed__fabric_size": 56,
    "embed__vectors": VECTORS,
    "evaluate__baselines": ["random"],
}
OUTPUTS = {
    "train": ["model", "checkpoints", "tensorboard", "train_log.csv", "work/stages/train.json"],
    "embed": ["embeddings", "rejects.parquet", "work/plan", "work/listing", "work/stages/embed.*"],
    "retrieve": [
        "embeddings/expanded", "first_retrieval_results.json", "candidate_pool.parquet", "work/stages/retrieve.json",
    ],
    "evaluate": [
        "metrics.json", "per_query.csv", "*_by_depth.csv", "*.trec", "work/hits.parquet", "work/relevant.parquet",
        "work/stages/evaluate.json",
    ],
    "report": ["report.html", "work/stages/report.json"],
}  # fmt: skip
"""Outputs of each stage in the folder of a run; those of the attacked stage and later ones are removed before."""


class World:
    """Takes up what an earlier part of the campaign left on disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data, self.pristine, self.changed = folder / "data", folder / "pristine", folder / "changed"
        self.weights, self.control = folder / "weights", folder / "control"
        self._head: Processes | None = None
        self._address = ""
        self._stack = ExitStack()

    def __enter__(self) -> World:
        if not (self.folder / "made").exists():
            shutil.rmtree(self.folder, ignore_errors=True)
            write_catalogue(self.data, fabrics=FABRICS, queries=QUERIES, training=TRAINING)
            shutil.copytree(self.data, self.pristine)
            shutil.copytree(self.data, self.changed)
            for number, picture in enumerate(sorted(self.changed.rglob("*.png"))):
                write_png(picture, 9, number)
            save_model(shaped(MINIATURE, "patches"), str(self.weights))
            self.control.mkdir()
            (self.folder / "made").touch()
        self.restore_data()
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.close()
        self.restore_data()

    def restore_data(self, source: Path | None = None, only: str = "") -> None:
        """Give the pictures, or those that match ``only``, the content and time of ``source``, else of the start."""
        source = source or self.pristine
        for picture in (picture for picture in sorted(source.rglob("*.png")) if re.search(only, str(picture))):
            target = self.data / picture.relative_to(source)
            was, is_now = picture.stat(), target.stat() if target.exists() else None
            if is_now is None or (was.st_size, was.st_mtime_ns) != (is_now.st_size, is_now.st_mtime_ns):
                shutil.copy2(picture, target)

    def lose_pictures(self) -> int:
        """Remove every other fabric of the catalogue, as if a part of the storage were gone; returns how many."""
        lost = sorted((self.data / "fabrics" / "test").rglob("*.png"))[::2]
        for picture in lost:
            picture.unlink()
        return len(lost)

    # ---- commands

    def command(self, stage: str, out: Path, workers: int = 0) -> list[str]:
        """Arguments of the program for a stage."""
        keys = {**KEYS, "train__num_workers": workers}
        return [stage, *as_options(settings(self.data, self.weights, out, **keys))]

    def environment(self, *, own_ray: bool) -> Mapping[str, str]:
        """Environment of a command that starts its own Ray, or uses the shared one."""
        found = {
            **ENVIRONMENT,
            "FAULT_CONTROL": str(self.control),
            "PYTHONPATH": os.pathsep.join([str(HOOKS), str(ROOT)]),
            "RAY_OVERRIDE_RESOURCES": '{"CPU": 2, "GPU": 0}',
            # As in the tests: Ray Train looks at its workers every two seconds, and a report waits for that.
            "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
            "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # else Ray listens on every address of the machine
            "RAY_AUTH_MODE": "disabled",  # a Ray of loopback that only this campaign uses
        }
        return found if own_ray else {**found, "RAY_ADDRESS": self.head()}

    def head(self) -> str:
        """Address of the Ray that cases share; started when needed, and again after a case has ended it."""
        if self._head is not None and self._head.started[0].poll() is not None:
            self._stack.close()
            self._head = None
        if self._head is None:
            (port,) = free_ports(1)
            (self.folder / "head.log").unlink(missing_ok=True)
            self._head = self._stack.enter_context(
                Processes(self.folder / "head.log", **self.environment(own_ray=True))
            )
            words = ["start", "--head", "--block", "--disable-usage-stats", "--include-dashboard=false"]
            words += ["--num-cpus=2", "--num-gpus=0", f"--port={port}"]
            head = self._head.start([RAY, *words])
            self._address = f"127.0.0.1:{port}"
            wait_until(lambda: _raylet_runs(self._head, port), head)
        return self._address

    def set_plan(self, events: str, **fault: Any) -> None:
        """Tell the attacked processes which fault to inject and which log to write."""
        content = {"events": events, "pace": PACE_SECONDS, **fault}
        temporary = self.control / "plan.json.new"
        temporary.write_text(json.dumps(content))
        temporary.replace(self.control / "plan.json")

    def events(self, name: str) -> list[dict[str, Any]]:
        """What was begun and committed, in order."""
        file = self.control / name
        if not file.exists():
            return []
        return [json.loads(line) for line in file.read_text().splitlines(keepends=True) if line.endswith("\n")]

    def happened(self, name: str) -> bool:
        """Whether a fault inside a process has struck."""
        return (self.control / f"{name}.happened").exists()

    def run_calmly(self, stage: str, out: Path, log: Path, workers: int = 0) -> int:
        """The command without a fault; its exit code, 124 if it did not end."""
        with Processes(log, **self.environment(own_ray=False)) as processes:
            try:
                return processes.start_program(self.command(stage, out, workers)).wait(timeout=400)
            except subprocess.TimeoutExpired:
                return 124

    # ---- folders of runs

    @property
    def reference(self) -> Path:
        """The calm run of all stages."""
        return self._calm("reference", "run", self.pristine)

    def calm_after_change(self, case: Case) -> Path:
        """The calm run of a stage over data in which every picture that the case may change is changed."""
        return self._calm(f"changed-{case.stage}", case.stage, self.changed, case.match)

    def _calm(self, name: str, stage: str, data: Path, only: str = "") -> Path:
        """A run without faults, made once."""
        out = self.folder / name
        if not (out / "done").exists():
            shutil.rmtree(out, ignore_errors=True)
            if stage != "run":
                self.prepare(out, stage)
            self.restore_data(data, only)
            self.set_plan(f"{name}.jsonl", pace=0)
            code = self.run_calmly(stage, out, self.folder / f"{name}.log")
            self.restore_data()
            if code:
                raise RuntimeError(f"the calm run ended with {code}: {self.folder / name}.log")
            (out / "done").touch()
        return out / NAME

    def prepare(self, out: Path, stage: str) -> Path:
        """A copy of the calm run without what this stage and later ones left."""
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(self.reference, out / NAME)
        shutil.rmtree(out / NAME / "work" / "logs", ignore_errors=True)
        for later in STAGES[STAGES.index(stage) :]:
            for path in (found for pattern in OUTPUTS[later] for found in (out / NAME).glob(pattern)):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        return out / NAME

    def case_folder(self, case: Case) -> Path:
        return self.folder / "cases" / f"{case.number:02d}-{case.stage}-{case.fault}"


def _raylet_runs(head: Processes | None, port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        if probe.connect_ex(("127.0.0.1", port)):
            return False
    return head is not None and "Ray runtime started" in head.log.read_text(errors="replace")
