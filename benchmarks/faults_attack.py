"""How an attacked command ends; and the attack by a second run that wants the folder, or has it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from benchmarks.faults_plan import Case
from benchmarks.faults_world import World
from tests.jobs.processes import Processes

END_SECONDS = 150.0
"""Seconds until a command that has not ended is stopped."""
STOP_SECONDS = 15.0
"""Seconds between Ctrl-C, a second Ctrl-C and kill -9."""
OTHER = {"token": "other", "host": "another-host", "pid": 7}
SETTLE_SECONDS = 2.0
"""Until workers, which look at the lease once a second, know that another run has the folder."""
UNASKED = ("logs", "tensorboard", "ray_train")
"""Folders in which names are one process's own."""


class NotInjectedError(Exception):
    """The stage was over before the fault could strike, or the command ended for another reason."""


class Attack(NamedTuple):
    """How the attacked command ended."""

    code: int
    how: str
    excused: Sequence[str] = ()
    """Committed work that the fault destroyed."""
    refused: bool = True
    """two-holders: whether the one that does not hold the folder was refused, and wrote nothing."""


def end(driver: subprocess.Popen[bytes]) -> tuple[int, str]:
    """Wait for the command's end; its exit code, and what had to be done for it."""
    try:
        return driver.wait(END_SECONDS), ""
    except subprocess.TimeoutExpired:
        return stop(driver)


def stop(driver: subprocess.Popen[bytes]) -> tuple[int, str]:
    """Ctrl-C, once more if need be, and then what nobody can ignore."""
    for times in ("Ctrl-C", "a second Ctrl-C"):
        os.killpg(driver.pid, signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            return driver.wait(STOP_SECONDS), f", stopped by {times}"
    os.killpg(driver.pid, signal.SIGKILL)
    return driver.wait(), ", stopped by kill -9"


def second_holder(world: World, case: Case, processes: Processes, driver: subprocess.Popen[bytes], out: Path) -> Attack:
    """A second run while the driver is stopped: the same command, which must be refused, or one on another host.

    That one (``half``) has waited for the lease to end, and has the folder now. Going on, the driver must end without
    another write.
    """
    driver.send_signal(signal.SIGSTOP)
    lease, refused = out / "trial" / "work" / "lease.json", True
    if not lease.exists():
        driver.send_signal(signal.SIGCONT)
        driver.wait(END_SECONDS)
        raise NotInjectedError("the command had ended")
    if case.half:
        lease.write_text(json.dumps(json.loads(lease.read_text()) | OTHER))
        time.sleep(SETTLE_SECONDS)
        before, how = _written(out / "trial"), "another host took the folder over"
    else:
        second = processes.start_program(world.command(case.stage, out, case.workers)).wait(END_SECONDS)
        how, refused = f"a second command ended with {second}", second == 1
    driver.send_signal(signal.SIGCONT)
    code, stopped = end(driver)
    if case.half:
        refused = code == 1 and _written(out / "trial") == before
        lease.unlink(missing_ok=True)  # the other run has ended, too
    return Attack(code, how + stopped, refused=refused)


def _written(folder: Path) -> dict[str, int]:
    """Files of a run with their times of writing."""
    files = [path for path in folder.rglob("*") if path.is_file() and not set(UNASKED) & set(path.parts)]
    return {str(path): path.stat().st_mtime_ns for path in files if not path.name.endswith(".tmp")}
