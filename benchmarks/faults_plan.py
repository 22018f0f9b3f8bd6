"""Which faults strike which stage, and when; all of it follows from the seed."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any, NamedTuple

STAGES = ("train", "embed", "retrieve", "evaluate", "report")
FAULTS = (
    "driver", "actor", "task", "raylet", "all", "torn", "torn-committed", "full", "hang", "fail", "change", "shuffle",
    "unavailable", "vanished", "sigterm", "two-holders",
)  # fmt: skip
FABRICS, QUERIES, TRAINING = 24, 4, 12
SHARD, QUERY_BLOCK, GALLERY_BLOCK = 2, 2, 3
EPOCHS, BATCH, CHECKPOINT_EVERY = 3, 2, 2
STEPS = EPOCHS * TRAINING // BATCH
SHARDS = (FABRICS + QUERIES) // SHARD
QUERY_BLOCKS, GALLERY_BLOCKS = QUERIES // QUERY_BLOCK, FABRICS // GALLERY_BLOCK
TRIES = 3
"""Attempts at a case: a stage may be over before its moment, and then an earlier one is drawn."""

COUNTS: dict[str, dict[str, int]] = {
    "train": {
        "driver": 3, "actor": 2, "raylet": 1, "all": 2, "torn": 2, "torn-committed": 1, "full": 2, "hang": 1,
        "fail": 2, "change": 1, "unavailable": 2, "sigterm": 2, "two-holders": 2,
    },
    "embed": {
        "driver": 3, "actor": 3, "task": 2, "raylet": 2, "all": 2, "torn": 2, "torn-committed": 2, "full": 2, "hang": 1,
        "fail": 2, "change": 2, "shuffle": 2, "unavailable": 3, "vanished": 3, "sigterm": 2, "two-holders": 3,
    },
    "retrieve": {
        "driver": 2, "task": 3, "raylet": 1, "all": 2, "torn": 2, "torn-committed": 2, "full": 2, "hang": 1, "fail": 2,
        "shuffle": 2, "unavailable": 2, "sigterm": 2, "two-holders": 2,
    },
    "evaluate": {
        "driver": 1, "task": 1, "all": 1, "torn": 1, "full": 1, "hang": 1, "fail": 1, "unavailable": 1, "sigterm": 1,
        "two-holders": 1,
    },
    "report": {"driver": 1, "all": 1, "torn": 1, "full": 1, "unavailable": 1, "sigterm": 1},
}  # fmt: skip
"""Number of cases by stage and fault."""

OUTSIDE = {"driver", "actor", "task", "raylet", "all", "torn-committed", "vanished", "sigterm", "two-holders"}
"""Faults that strike from outside of the processes, at a moment after a piece of work was begun."""
OUTAGE_SECONDS = 30.0
"""Seconds in which nothing can be read or written, when the storage is unavailable."""
OWN_RAY = {"raylet", "all", "torn-committed"}
"""Faults that end Ray itself, so that the attacked command starts its own; the others share one."""
SURVIVED = {
    "train": {"actor", "fail", "change"},
    "embed": {"actor", "task", "torn", "fail", "change", "shuffle"},
    "retrieve": {"task", "torn", "fail", "shuffle"},
    "evaluate": {"task", "fail"},
    "report": set(),
}
"""Faults that the driver survives, so that the attacked command itself must succeed."""

WORK = {
    "train": {"step": STEPS},
    "embed": {"encode": SHARDS},
    "retrieve": {
        "rank": 2 * QUERY_BLOCKS * GALLERY_BLOCKS, "merge": 4 * QUERY_BLOCKS, "rescore": 2, "write": 1,
    },
    "evaluate": {"evaluate": 1, "judge": 1},
    "report": {"report": 1},
}  # fmt: skip
"""Pieces of work by kind, as ``fault_hooks`` logs them; without decoding, as pixels are not kept."""
IMAGE, SHARD_FILE = r"\.png$", r"/embeddings/.*\.parquet$"
TRAINING_QUERY = r"/1003,motif\.png$"
"""The picture that changes during training; every step depends on it, so the calm run has the same change."""
WRITTEN = {
    "train": (r"/checkpoints/|/model/", STEPS // CHECKPOINT_EVERY + 2 * EPOCHS),
    "embed": (r"/embeddings/", SHARDS),
    "retrieve": (r"/work/retrieval/|candidate_pool|first_retrieval", sum(WORK["retrieve"].values())),
    "evaluate": (r"metrics\.json|per_query\.csv|\.trec$|/hits\.parquet", 4),
    "report": (r"report\.html|/stages/report\.json", 2),
}
"""Paths that a stage writes, and about how many."""
READ = {
    "train": (IMAGE, 2 * TRAINING),
    "embed": (IMAGE, FABRICS),
    "retrieve": (SHARD_FILE, 2 * QUERY_BLOCKS * GALLERY_BLOCKS),
    "evaluate": (r"candidate_pool\.parquet$|/work/plan/.*\.parquet$|\.csv$", 2),
}
"""Paths that a stage reads while it works, and about how many."""


class Case(NamedTuple):
    """One fault in one stage."""

    number: int
    stage: str
    fault: str
    attempt: int
    seed: int
    kinds: tuple[str, ...]
    """Kinds of work that are counted until a kill."""
    at: int
    """The piece of work, write or read at which it strikes, from 1; 0: before any, ``delay`` after the start."""
    delay: float
    """Seconds after that, for faults from outside."""
    workers: int
    """Training workers; 0 trains in the driver."""
    match: str = ""
    half: bool = False
    """change: the picture is half rewritten; two-holders: the second one is of another host, and has the folder."""

    @property
    def expects_success(self) -> bool:
        """Whether the attacked command must succeed by itself."""
        return self.fault in SURVIVED[self.stage] or (self.fault == "two-holders" and not self.half)

    @property
    def exact_files(self) -> bool:
        """Whether the files of the calm run must come out; else its rows, as shards may be divided otherwise."""
        return self.stage != "embed" or self.fault not in {"unavailable", "vanished"}

    def describe(self) -> str:
        """When it strikes, in words."""
        if self.fault == "shuffle":
            return "every commit late by a drawn time"
        if self.fault in OUTSIDE:
            moment = (
                f"{self.delay:.2f} s after {'/'.join(self.kinds)} {self.at}" if self.at else f"{self.delay:.2f} s in"
            )
            return f"{moment}{', taken' if self.half else ''}"
        operation = {"torn": "write", "full": "write", "unavailable": "read or write"}.get(self.fault, "read")
        return f"{operation} {self.at}{', half' if self.half else ''}"


def kinds_of_case() -> Iterator[tuple[str, str]]:
    """(stage, fault) of every case, interleaved, so that a campaign that is cut short has some of each."""
    for repeat in range(max(count for faults in COUNTS.values() for count in faults.values())):
        for group in FAULTS[:-4], FAULTS[-4:]:  # those that came later do not move the first numbers
            for stage, faults in COUNTS.items():
                yield from ((stage, fault) for fault, count in faults.items() if repeat < count and fault in group)


def make_case(number: int, seed: int, attempt: int = 0) -> Case:
    """Draw the moment of a case, earlier with every attempt."""
    stage, fault = list(kinds_of_case())[number]
    rng = random.Random(f"{seed} {number} {attempt}")
    keys: dict[str, Any] = {"kinds": tuple(WORK[stage]), "delay": rng.uniform(0, 0.12), "workers": 0}
    if stage == "train":
        keys["workers"] = int(fault in {"actor", "raylet"})
    if fault in OUTSIDE:
        if fault == "task":
            keys["kinds"] = ("decode",) if stage == "embed" else ("judge",) if stage == "evaluate" else keys["kinds"]
        if fault == "vanished":
            keys["kinds"] = ("decode",)
        keys["half"] = fault == "two-holders" and rng.random() < 0.5
        pieces = sum({**WORK[stage], "decode": SHARDS}[kind] for kind in keys["kinds"])
    elif fault in {"torn", "full"}:
        keys["match"], pieces = WRITTEN[stage]
    elif fault == "unavailable":
        keys["match"], pieces = rng.choice([places[stage] for places in (READ, WRITTEN) if stage in places])
    elif fault != "shuffle":
        keys["match"], pieces = READ[stage]
        if fault == "change":
            keys["half"] = rng.random() < 0.5
            if stage == "train":
                keys["match"], pieces = TRAINING_QUERY, EPOCHS
    else:
        pieces = 1
    keys["at"] = rng.randint(1, max(1, int(0.9 * pieces / (1 + attempt))))
    if fault in {"driver", "all", "sigterm"} and attempt == 0 and rng.random() < 0.2:
        keys |= {"at": 0, "delay": rng.uniform(0, 4)}
    if fault == "torn-committed":
        keys["at"] = max(4, keys["at"])  # so that something is committed
    return Case(number, stage, fault, attempt, seed, **keys)
