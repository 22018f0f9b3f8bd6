"""One case: the command is attacked at its moment, run again without faults, and compared with the calm run."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmarks.faults_attack import END_SECONDS, Attack, NotInjectedError, end, second_holder, stop
from benchmarks.faults_compare import Compared, compare, compare_changed, max_redone
from benchmarks.faults_plan import CHECKPOINT_EVERY, OUTAGE_SECONDS, OUTSIDE, OWN_RAY, Case
from benchmarks.faults_world import World
from tests.jobs.processes import Processes

COMMITTED = {
    "train": "checkpoints/step-*.pt",
    "embed": "embeddings/*/*.parquet",
    "retrieve": "work/retrieval/*/*.parquet",
}


def run_case(world: World, case: Case) -> dict[str, Any]:
    """Attack, run the same command again, compare; returns the case's row of the results."""
    began = time.monotonic()
    out = world.case_folder(case)
    world.restore_data()
    # The calm runs are made before the case's own log begins.
    calm_after = world.calm_after_change(case) if case.fault == "change" else None
    folder = world.prepare(out, case.stage)
    names = [f"{case.number:02d}-{case.attempt}-{turn}.jsonl" for turn in ("attacked", "again")]
    for stale in world.control.glob(f"{case.number:02d}-{case.attempt}-*"):
        stale.unlink()
    world.set_plan(names[0], **_inner_fault(world, case))
    row: dict[str, Any] = {**_about(case), "injected": True}
    try:
        attack = _attack(world, case, out, names[0])
    except NotInjectedError as error:
        return {**row, "injected": False, "how": str(error)}
    row |= {"first_exit": attack.code, "how": attack.how, "said": _last_line(out / "attacked.log")}
    if case.fault == "vanished":
        world.restore_data()
    victim = _finish_change(world, case, names[0])
    world.set_plan(names[1], pace=0)
    row["second_exit"] = world.run_calmly(case.stage, out, out / "again.log", case.workers)
    found = _compare(world, case, folder, calm_after, victim)
    # Changed data start another training, so the work before the change is lost in any case.
    logs = names[1:] if case.fault == "change" and case.stage == "train" else names
    events = [event for name in logs for event in world.events(name)]
    row |= _verdict(case, row, found, max_redone(case.stage, events, attack.excused))
    row["as_expected"] &= attack.refused
    row["seconds"] = round(time.monotonic() - began, 1)
    if row["identical"] and row["as_expected"]:
        shutil.rmtree(out)
    return row


def _verdict(case: Case, row: dict[str, Any], found: Compared, redone: int) -> dict[str, Any]:
    return {
        "identical": row["second_exit"] == 0 and not (found.differing or found.lost or found.doubled),
        "rows_lost": found.lost,
        "rows_doubled": found.doubled,
        "redone": redone,
        "as_expected": row["first_exit"] == 0 or not case.expects_success,
        "differing": found.differing[:5],
    }


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").split("\n") if log.exists() else []
    return next((line for line in reversed(lines) if line.strip()), "")


def _about(case: Case) -> dict[str, Any]:
    return {
        "number": case.number,
        "stage": case.stage,
        "fault": case.fault,
        "seed": case.seed,
        "attempt": case.attempt,
        "moment": case.describe(),
        "training_workers": case.workers,
    }


def _inner_fault(world: World, case: Case) -> dict[str, Any]:
    """The fault that strikes inside the processes; empty where they are killed from outside."""
    if case.fault in OUTSIDE:
        return {}
    places = {"source": str(world.changed), "target": str(world.data)}
    return {
        "fault": case.fault, "match": case.match, "at": case.at, "half": case.half,
        "seed": f"{case.seed} {case.number}", "seconds": OUTAGE_SECONDS,
        "places": f"{world.data}|{world.folder / 'cases'}", **places,
    }  # fmt: skip


def _attack(world: World, case: Case, out: Path, events: str) -> Attack:
    # Before the command starts: this may start a Ray.
    environment = world.environment(own_ray=case.fault in OWN_RAY)
    with Processes(out / "attacked.log", **environment) as processes:
        driver = processes.start_program(world.command(case.stage, out, case.workers))
        if case.fault not in OUTSIDE:
            return _wait_inner(world, case, driver, events)
        line = _await_moment(world, case, driver, out, events)
        if case.fault == "two-holders":
            return second_holder(world, case, processes, driver, out)
        how = _strike(world, case, processes, driver, line)
        if case.fault == "torn-committed":
            return Attack(-signal.SIGKILL, how, _tear(out, case.stage))
        code, stopped = end(driver)
        return Attack(code, how + stopped)


def _await_moment(
    world: World, case: Case, driver: subprocess.Popen[bytes], out: Path, events: str
) -> dict[str, Any] | None:
    """Wait for the case's moment; returns the piece of work that was begun then."""
    if case.at:
        _until(lambda: len(_begun(world, case, events)) >= case.at, driver)
    else:
        _until((out / "trial" / "work" / "lease.json").exists, driver)
    time.sleep(case.delay)
    if driver.poll() is not None:
        raise NotInjectedError("the command had ended")
    return _begun(world, case, events)[case.at - 1] if case.at else None


def _begun(world: World, case: Case, events: str) -> list[dict[str, Any]]:
    return [event for event in world.events(events) if event["kind"] in case.kinds]


def _until(condition: Callable[[], bool], driver: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + END_SECONDS
    while not condition():
        if driver.poll() is not None:
            raise NotInjectedError(f"the command ended with {driver.returncode} before the moment")
        if time.monotonic() > until:
            raise NotInjectedError("the moment did not come")
        time.sleep(0.002)


def _strike(
    world: World, case: Case, processes: Processes, driver: subprocess.Popen[bytes], begun: dict[str, Any] | None
) -> str:
    """Kill what the case names, or take the pictures away."""
    if case.fault == "vanished":
        return f"{world.lose_pictures()} pictures gone"
    if case.fault == "sigterm":
        driver.send_signal(signal.SIGTERM)
        return "driver asked to end"
    if case.fault in {"all", "torn-committed"}:
        return f"{len(processes.kill())} processes killed"
    if case.fault == "driver":
        pid, name = driver.pid, "driver"
    elif case.fault == "raylet":
        pid = next(pid for pid, line in processes.alive().items() if "raylet/raylet" in line)
        name = "raylet"
    else:
        assert begun is not None
        pid, name = begun["pid"], case.fault
        with suppress(OSError):
            name = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        raise NotInjectedError("the worker had ended") from None
    return f"{name} killed"


def _tear(out: Path, stage: str) -> list[str]:
    """Cut the newest committed file to half its length, as a power cut may; returns the work it held."""
    files = sorted((out / "trial").glob(COMMITTED[stage]), key=lambda path: path.stat().st_mtime_ns)
    if not files:
        raise NotInjectedError("nothing was committed yet")
    os.truncate(files[-1], files[-1].stat().st_size // 2)
    if stage == "train":
        step = int(files[-1].name.split("-")[1])
        return [str(step - back) for back in range(1, CHECKPOINT_EVERY + 1)]
    return [files[-1].name]


def _wait_inner(world: World, case: Case, driver: subprocess.Popen[bytes], events: str) -> Attack:
    """Wait for a fault inside a process to strike, and for the command's end."""
    if case.fault == "hang":
        _until(lambda: world.happened(events), driver)
        time.sleep(1 + case.delay)
        if driver.poll() is not None:
            raise NotInjectedError("it went on although a read hung")
        code, stopped = stop(driver)
        return Attack(code, f"a read hung{stopped}")
    code, stopped = end(driver)
    if not world.happened(events):
        raise NotInjectedError(f"the command ended with {code} before the moment")
    return Attack(code, case.fault + stopped)


def _finish_change(world: World, case: Case, events: str) -> str:
    """Finish writing a picture that was read half written; returns its path."""
    if case.fault != "change":
        return ""
    victim = Path((world.control / f"{events}.happened").read_text())
    victim.write_bytes((world.changed / victim.relative_to(world.data)).read_bytes())
    return str(victim)


def _compare(world: World, case: Case, folder: Path, calm_after: Path | None, victim: str) -> Compared:
    if not case.exact_files:
        return compare_changed(world.reference, world.reference, folder, victim)
    if calm_after is None:
        return compare(case.stage, world.reference, folder)
    if case.stage == "embed":
        return compare_changed(world.reference, calm_after, folder, victim)
    return compare(case.stage, calm_after, folder)
