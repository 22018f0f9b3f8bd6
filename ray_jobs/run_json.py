"""``run.json``: what was run, with which code and libraries, and how long each stage took."""

from __future__ import annotations

import platform
import subprocess
from importlib import metadata
from pathlib import Path

from ray_jobs.run import Run
from retrieval_core.config.sections import ROLES
from retrieval_core.files import storage

LIBRARIES = ("fabric-retrieval", "torch", "transformers", "ray", "numpy", "pandas", "pillow", "pyarrow")


def write_run_json(run: Run, error: str | None = None) -> None:
    """Write ``run.json`` with the records of all stages that are done, and the error that ended the run."""
    counts = {}
    for role in ROLES:
        name = f"embed.{role}{run.suffix(run.main)}"
        record = run.workspace.record(name)
        if record is not None:
            counts[role] = run.counts.get(name, record["counts"])
    value = {
        **({} if error is None else {"error": error}),
        "name": run.config.run.name,
        "arm": run.main,
        "head": run.head,
        "config": run.config.model_dump(),
        "seeds": {"run": run.config.run.seed},
        "versions": _versions(),
        "git_commit": _git_commit(),
        "stages": {record["stage"]: record for record in run.records()},
        "counts": counts,
    }
    storage.write_json(run.workspace.path("run.json"), value)


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed as a package"
    return found


def _git_commit() -> str | None:
    command = ["git", "rev-parse", "HEAD"]
    try:
        answer = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()
