"""Problems of a data set: counted by kind, with a few examples and a remedy each."""

from __future__ import annotations

from collections import defaultdict
from typing import Literal, NamedTuple

Severity = Literal["error", "warning"]

EXAMPLES = 5
"""Examples kept of each kind of problem."""
_REMEDIES = {
    "missing-file": "put the file or folder there, or correct the path",
    "unset-key": "set the key, or change data.format",
    "malformed": "correct these lines",
    "other-format": "convert the file as the line says, or name another one",
    "no-queries": "check the query list, data.root and the working directory",
    "no-gallery": "check data.root, data.gallery and data.gallery_split",
    "no-labels": "without labels nothing can be trained or evaluated: name the categories of queries and fabrics",
    "missing-query": "put the images there or take the lines out; until then these queries are rejected and count as 0",
    "missing-fabric": "put the images there or take the rows out; until then they are rejected",
    "git-lfs-pointer": "run `git lfs pull` where the data set was cloned; until then these are rejected",
    "query-without-class": "name their category; until then they are searched for, and left out of every figure",
    "query-without-relevant": "no fabric holds their motif, so they are left out of every figure",
    "unknown-category": "no label file or row of the fabrics names these categories: check their spelling",
    "category-spelling": "a fabric answers a query whose category it has to the letter",
    "category-like-nothing": "they count as names of motifs; leave the cell empty where there is none",
    "category-like-list": "they count as names of motifs; write each category by itself",
    "fabric-without-label": "name their categories; until then they count as irrelevant for every query",
    "label-without-image": "put these fabrics' images there, or take them out of the label files",
    "duplicate-query": "a query listed twice is searched once; take the repeats out",
    "duplicate-query-id": "these queries share the id before the comma, and so their class; rename them",
    "duplicate-fabric": "a fabric listed twice is searched once, its categories united; take the repeats out",
    "duplicate-fabric-id": "these images share a name and so their labels; rename them",
    "colliding-fabric-id": "up to the first dot these names are the same: label files must name them in full",
    "name-not-utf8": "rename the files; until then they are rejected",
    "ignored-file": "these are no images by their suffix and are left out; move them, or correct the suffix",
    "hidden-file": "names that start with a dot are left out; rename what is meant to be there",
    "excluded-file": "data.exclude names these and they are left out; set another list to have them",
    "linked-file": "links to what the folder holds anyway are left out, as one image would be searched twice",
    "same-file": "each is the same file as another path, by a link or another spelling, and counts twice; keep one",
    "shared-categories": "motifs of one split are seen in another, so figures flatter the model; split by motif",
    "boxes-without-image": "image_path must be a fabric's path from data.root; until then no box is used",
}


class Problem(NamedTuple):
    """One kind of problem, however often it was found."""

    severity: Severity
    kind: str  # a slug such as ``missing-query``
    count: int  # type: ignore[assignment]  # hides tuple.count
    examples: tuple[str, ...]  # the first five, each with its split or its file and line
    remedy: str


class Tally:
    """A count with its first examples."""

    def __init__(self) -> None:
        self.count = 0
        self.examples: list[str] = []

    def add(self, example: str) -> None:
        """Count one more."""
        self.count += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append(example)


class Notes:
    """Problems by severity and kind, in order of their first appearance."""

    def __init__(self) -> None:
        self._tallies: dict[tuple[Severity, str], Tally] = defaultdict(Tally)

    def add(self, kind: str, example: str, severity: Severity = "warning") -> None:
        """Note one more problem of a kind."""
        self._tallies[severity, kind].add(example)

    def add_all(self, kind: str, tally: Tally) -> None:
        """Note, as warnings, what was tallied before its kind was known to be worth it."""
        if tally.count:
            known = self._tallies["warning", kind]
            known.count += tally.count
            known.examples = [*known.examples, *tally.examples][:EXAMPLES]

    def problems(self) -> list[Problem]:
        """What was noted, errors first."""
        found = [
            Problem(severity, kind, tally.count, tuple(tally.examples), _REMEDIES[kind])
            for (severity, kind), tally in self._tallies.items()
        ]
        return sorted(found, key=lambda problem: problem.severity != "error")
