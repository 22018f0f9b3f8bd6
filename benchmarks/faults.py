"""Does the same command, run again, end as if nothing had happened? Faults at random moments of every stage.

    1. One calm run of all stages over a small data set is the reference.
    2. Each case copies it without what the attacked stage (and later ones) left, starts that stage alone, and lets a
       fault strike at a moment drawn from the seed: kill -9 of the driver, of an actor, of a task's worker, of the
       raylet, of everything; a torn write; a committed file torn by a power cut; a full disk; a read that hangs, or
       that fails and then works; a picture that changes between listing and reading; commits in a shuffled order.
    3. The same command runs again without faults. Outputs are compared with the reference: bytes, rows, work redone.

Every case is written to benchmarks/results/faults.json when it ends; the same command continues a stopped campaign.
Run ``python -m benchmarks.faults`` from the project's folder, as it uses the tests' tools for processes.

    identical      bytes of the stage's outputs (train: the model, and the log without its rates; a changed picture:
                   rows of the store, as the names of shards depend on its time)
    rows_lost      rows of the calm run that are missing: (path, region), (query, fabric), epochs, (arm, query)
    rows_doubled   rows that occur too often or do not belong there
    max_redone     shards, blocks or checkpoint intervals of one process that were begun again, without those that the
                   fault itself destroyed after they were committed
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.faults_inject import run_case
from benchmarks.faults_plan import FAULTS, STAGES, SURVIVED, TRIES, kinds_of_case, make_case
from benchmarks.faults_world import ROOT, World
from benchmarks.machine import machine

RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "faults.md"
MARKS = ("<!-- campaign -->", "<!-- end of campaign -->")
CASE_SECONDS = 60
"""Seconds that must be left to begin a case."""


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    file = options.results / "faults.json"
    rows = taken_up(file, options.seed)
    until = time.monotonic() + 60 * options.minutes
    numbers = options.only or range(len(list(kinds_of_case())))
    todo = [number for number in numbers if number not in {row["number"] for row in rows}]
    with World(options.results / "faults") as world:
        for number in todo:
            if time.monotonic() > until - CASE_SECONDS:
                print(f"{options.minutes:g} minutes are over; the same command goes on", file=sys.stderr)
                break
            rows.append(attacked(world, number, options.seed))
            print(line_of(rows[-1]), file=sys.stderr, flush=True)
            write(file, options.seed, rows)
    print(table(rows))
    if options.page:
        paste(PAGE, page_part(rows, options.seed))
    return 0 if all(row["injected"] and row["identical"] and row["as_expected"] for row in rows) else 1


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0, help="of all moments; another one begins a new campaign")
    parser.add_argument("--minutes", type=float, default=60, help="no case is begun that might end later")
    parser.add_argument("--only", type=int, nargs="+", help="numbers of cases")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--page", action="store_true", help="put the table into docs/faults.md")
    return parser.parse_args(arguments)


def taken_up(file: Path, seed: int) -> list[dict[str, Any]]:
    """Rows of the cases that an earlier command with this seed has done."""
    if not file.exists():
        return []
    content = json.loads(file.read_text())
    return list(content["cases"]) if content["seed"] == seed else []


def attacked(world: World, number: int, seed: int) -> dict[str, Any]:
    """One case; tried again with an earlier moment if the stage was over before."""
    for attempt in range(TRIES):
        row = run_case(world, make_case(number, seed, attempt))
        if row["injected"]:
            break
        print(f"case {number} ({row['stage']}, {row['fault']}): {row['how']}", file=sys.stderr, flush=True)
    return row


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What all cases say together."""
    struck = [row for row in rows if row["injected"]]
    return {
        "injected": len(struck),
        "identical": sum(row["identical"] for row in struck),
        "rows_lost": sum(row["rows_lost"] for row in struck),
        "rows_doubled": sum(row["rows_doubled"] for row in struck),
        "max_redone": max((row["redone"] for row in struck), default=0),
    }


def write(file: Path, seed: int, rows: Sequence[dict[str, Any]]) -> None:
    """Write the results, whole or not at all."""
    temporary = file.with_suffix(".json.new")
    content = {"seed": seed, **summary(rows), "machine": machine(), "cases": list(rows)}
    temporary.write_text(json.dumps(content, indent=1) + "\n")
    temporary.replace(file)


def line_of(row: dict[str, Any]) -> str:
    """A case for people."""
    name = f"case {row['number']:2d}  {row['stage']:8} {row['fault']:14} {row['moment']:32}"
    if not row["injected"]:
        return f"{name} did not strike: {row['how']}"
    told = "identical" if row["identical"] else f"DIFFERS {row['differing']}"
    ends = f"exit {row['first_exit']}{'' if row['as_expected'] else ' (UNEXPECTED)'}, then {row['second_exit']}"
    return (
        f"{name} {told}, lost {row['rows_lost']}, doubled {row['rows_doubled']}, redone {row['redone']}; {ends}; "
        f"{row['seconds']:.0f} s"
    )


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Faults by stage as Markdown: how many of the injected ended identical, and the most that was redone."""
    struck = [row for row in rows if row["injected"]]
    lines = [f"| fault | {' | '.join(STAGES)} | redone |", "|---|" + "---|" * (len(STAGES) + 1)]
    for fault in FAULTS:
        of_fault = [row for row in struck if row["fault"] == fault]
        count = Counter(row["stage"] for row in of_fault)
        same = Counter(row["stage"] for row in of_fault if row["identical"])
        cells = [f"{same[stage]} of {count[stage]}" if count[stage] else "" for stage in STAGES]
        lines.append(f"| {fault} | {' | '.join(cells)} | {max((row['redone'] for row in of_fault), default='')} |")
    return "\n".join(lines)


def page_part(rows: Sequence[dict[str, Any]], seed: int) -> str:
    """The table with a summary above it."""
    found, about = summary(rows), machine()
    survivors = [row for row in rows if row["injected"] and row["fault"] in SURVIVED[row["stage"]]]
    ended = sum(row["first_exit"] == 0 for row in survivors)
    text = (
        f'`make bench-faults ARGS="--seed {seed}"`: {found["injected"]} faults, {found["identical"]} ends identical, '
        f"{found['rows_lost']} rows lost, {found['rows_doubled']} doubled, at most {found['max_redone']} redone. Where "
        f"the driver lived on, {ended} of {len(survivors)} attacked commands ended well by themselves. "
        f"{about['processor']}, {about['threads']} threads, torch {about['torch']}; "
        f"{sum(row['seconds'] for row in rows if row['injected']) / 60:.0f} minutes."
    )
    return f"{textwrap.fill(text, 120)}\n\n{table(rows)}\n"


def paste(page: Path, part: str) -> None:
    """Put the campaign's part between its marks."""
    before, _, rest = page.read_text().partition(MARKS[0])
    after = rest.partition(MARKS[1])[2]
    page.write_text(f"{before}{MARKS[0]}\n{part}{MARKS[1]}{after}")


if __name__ == "__main__":
    # As an exception, so that the processes that were started end as well.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped; the same command goes on"))
    sys.exit(main())
