"""Finds everything that is wrong with a data set in one go, before any compute is spent.

An error stops a run or makes it pointless; a run works around what a warning names. Images are looked for, not opened:
a damaged one is found when it is decoded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations, islice

from retrieval_core.config.sections import DataConfig, Split
from retrieval_core.data.datasets import gallery_records, query_records, split_records
from retrieval_core.data.image_tree import PassedOver
from retrieval_core.data.labels import odd_labels
from retrieval_core.data.motif_boxes import load_motif_boxes
from retrieval_core.data.problems import EXAMPLES, Notes, Problem, Severity, Tally
from retrieval_core.data.published_layout import read_fabrics, read_queries
from retrieval_core.data.records import (
    DataError,
    Record,
    base_name,
    full_stem,
    name_problem,
    query_id,
    short_id,
    without_image_suffix,
)
from retrieval_core.files import stamps, storage
from retrieval_core.files.formats import is_pointer
from retrieval_core.files.spelling import other_spelling, spelling_key

_PROBES = 32  # requests to an object store at a time
_LISTED = stamps.Look("")
_POINTER_BYTES = range(100, 200)  # only files of such a size are opened


def check_data(data: DataConfig, *, training: bool) -> tuple[list[Problem], dict[str, int]]:
    """Look for every problem of a data set: files, lines, images, ids, labels and splits.

    With ``training``, the training and validation splits are checked too, as a training run needs both. Returns the
    problems, errors first, and the counts ``<split>.queries``, ``<split>.fabrics``, ``<split>.categories``. What a
    manifest or a folder searches is the ``test`` split. Each local file is looked at, not opened. Memory: O(distinct
    paths), about 200 bytes each; for the published layout O(split).
    """
    notes = Notes()
    searched: Split = data.gallery_split if data.format == "published" else "test"
    names: list[Split] = [searched]
    if training and data.format == "folder":
        notes.add("no-labels", "data.format = 'folder' has none to train with; set train.enabled=false", "error")
    elif training:
        names += [name for name in ("train", "validation") if name != searched]
    counts: dict[str, int] = {}
    categories: dict[Split, set[str]] = {}
    for name in names:
        split = _SplitCheck(data, name, notes, searched=name == searched, trained=training and name == "train")
        split.run()
        categories[name] = split.classes | split.held
        counts[f"{name}.queries"] = split.queries
        counts[f"{name}.fabrics"] = split.fabrics
        counts[f"{name}.categories"] = len(categories[name])
    for left, right in combinations(names, 2):
        for category in sorted(categories[left] & categories[right]):
            notes.add("shared-categories", f"{category} ({left} and {right})")
    return notes.problems(), counts


class _SplitCheck:
    """One split: fabrics first, as the queries are judged by their categories."""

    def __init__(self, data: DataConfig, name: Split, notes: Notes, *, searched: bool, trained: bool) -> None:
        self.data, self.name, self.notes = data, name, notes
        self.searched, self.trained = searched, trained
        self.queries = self.fabrics = 0
        self.classes: set[str] = set()  # of the queries
        self.held: set[str] = set()  # by a fabric
        self.known: set[str] = set()  # to the label files, on an image or not
        self._unlabelled = Tally()  # fabrics without a category
        self._classless = Tally()  # queries without a category
        self._irrelevant = Tally()  # queries whose motif no fabric holds
        self._fabric_paths: set[int] = set()  # hashes: a catalogue's paths would take several times as much
        self._files: set[int] = set()  # of the fabrics, then of the queries: those of `stamps.Look`

    def run(self) -> None:
        self._check_fabrics()
        self._check_queries()
        if self.data.format != "folder" and self.fabrics and self.queries:
            self._judge_labels()
        if self.trained and self.fabrics:
            self._check_boxes()

    def _note(self, kind: str, example: str, severity: Severity = "warning") -> None:
        self.notes.add(kind, f"{self.name}: {example}", severity)

    def _report(self, error: DataError) -> None:
        self.notes.add(error.kind, str(error), "error")  # it would stop a run

    def _drain(self, records: Iterable[Record]) -> Iterator[Record]:
        """The records before a problem that ends the reading."""
        try:
            yield from records
        except DataError as error:
            self._report(error)

    def _check_fabrics(self) -> None:
        missing = 0
        # What a folder holds was listed a moment ago; a manifest may name what is not there.
        for record, look in _probe(self._drain(self._fabric_records()), listed=self.data.format != "manifest"):
            self.fabrics += 1
            key = hash(record.path)
            if key in self._fabric_paths:
                self._note("duplicate-fabric", record.path)
            else:
                self._note_file(record, look)
            self._fabric_paths.add(key)
            self.held.update(record.categories)
            if not record.categories:
                self._unlabelled.add(f"{self.name}: {record.path}")
            if name_problem(record) is not None:
                self._note("name-not-utf8", record.path)
            elif look is None:
                missing += 1
                self._note("missing-fabric", record.path + _hint(record, missing))
        self.known |= self.held
        if missing == self.fabrics:
            problem = f"none of the {missing} fabrics is there" if missing else "there are no fabrics"
            self._note("no-gallery", problem, "error")

    def _note_file(self, record: Record, look: stamps.Look | None) -> None:
        """Note a file that is there twice, or a pointer in its place."""
        if look is None or look.file is None:
            return
        if int(look.stamp.partition(":")[0]) in _POINTER_BYTES and is_pointer(record.location):
            self._note("git-lfs-pointer", record.path)
        if look.file in self._files:
            self._note("same-file", record.path)
        self._files.add(look.file)

    def _note_left_out(self, reason: PassedOver, name: str) -> None:
        self._note(reason, name)

    def _fabric_records(self) -> Iterator[Record]:
        if self.data.format == "published":
            needed = not self.searched or self.trained
            fabrics = read_fabrics(
                self.data.root,
                self.name,
                labels_needed=needed,
                exclude=self.data.exclude,
                left_out=self._note_left_out,
                report=self._report,
            )
            self.known.update(fabrics.categories)
            like = {spelling_key(full_stem(record.path)): base_name(record.path) for record in fabrics.records}
            for name in fabrics.without_image:
                other = like.get(spelling_key(without_image_suffix(name)))
                self._note("label-without-image", f"{name} (there is {other})" if other else name)
            self._check_ids(fabrics.records)
            yield from fabrics.records
        elif self.searched:
            yield from gallery_records(self.data, self._report, self._note_left_out)
        else:
            assert self.name != "test", "the test split of a manifest is the searched one"
            yield from split_records(self.data, self.name, self._report)[1]

    def _check_ids(self, records: list[Record]) -> None:
        first: dict[str, str] = {}
        stems: dict[str, str] = {}
        for record in records:
            stem = full_stem(record.path)
            if stem in stems:
                self._note("duplicate-fabric-id", f"{stems[stem]} and {record.path}")
                continue
            stems[stem] = record.path
            other = first.setdefault(short_id(record.path), record.path)
            if other != record.path:
                self._note("colliding-fabric-id", f"{base_name(other)} and {base_name(record.path)}")

    def _query_records(self) -> Iterator[Record]:
        if self.data.format == "published":
            yield from read_queries(self.data.root, self.name, self._report)
        elif self.searched:
            yield from query_records(self.data, self._report, self._note_left_out)
        else:
            assert self.name != "test", "the test split of a manifest is the searched one"
            yield from split_records(self.data, self.name, self._report)[0]

    def _check_queries(self) -> None:
        missing = 0
        self._files.clear()
        paths: set[str] = set()
        ids: dict[str, str] = {}
        for record, look in _probe(self._drain(self._query_records()), listed=False):
            self.queries += 1
            self.classes.update(record.categories)
            if record.path in paths:
                self._note("duplicate-query", record.path)
            else:
                self._note_file(record, look)
            if record.path not in paths and self.data.format == "published":
                other = ids.setdefault(query_id(record.path), record.path)
                if other != record.path:
                    self._note("duplicate-query-id", f"{other} and {record.path}")
            paths.add(record.path)
            if not record.categories:
                self._classless.add(f"{self.name}: {record.path}")
            elif self.held.isdisjoint(record.categories):
                self._irrelevant.add(f"{self.name}: {record.path}")
            if name_problem(record) is not None:
                self._note("name-not-utf8", record.path)
            elif look is None:
                missing += 1
                self._note("missing-query", f"{record.path} (looked for at {record.location}){_hint(record, missing)}")
        if missing == self.queries:
            problem = f"none of the {missing} query images is there" if missing else "there are no queries"
            self._note("no-queries", problem, "error")

    def _judge_labels(self) -> None:
        severity: Severity = "error" if self.trained else "warning"
        if self._unlabelled.count == self.fabrics or self._classless.count == self.queries:
            what = "fabrics" if self._unlabelled.count == self.fabrics else "queries"
            self._note("no-labels", f"none of the {what} has a category", severity)
            return
        if self._classless.count + self._irrelevant.count == self.queries:
            self._note("no-labels", "no fabric holds the category of any query", severity)
        for category in sorted(self.classes - self.known):
            self._note("unknown-category", category)
        for kind, example in odd_labels(self.classes, self.held):
            self._note(kind, example)
        self.notes.add_all("fabric-without-label", self._unlabelled)
        self.notes.add_all("query-without-class", self._classless)
        self.notes.add_all("query-without-relevant", self._irrelevant)

    def _check_boxes(self) -> None:
        try:
            boxes = load_motif_boxes(self.data, self._report)
        except DataError as error:
            self._report(error)
            return
        if boxes and not any(hash(path) in self._fabric_paths for path in boxes):
            self._note("boxes-without-image", f"none of {len(boxes)} paths in motif_boxes.csv, as {next(iter(boxes))}")


def _probe(records: Iterator[Record], *, listed: bool) -> Iterator[tuple[Record, stamps.Look | None]]:
    """Each record and a look at its file, None if nothing is there. What a store has ``listed`` is there."""
    with ThreadPoolExecutor(_PROBES) as pool:
        while chunk := list(islice(records, 1024)):
            remote = any(storage.is_url(record.location) for record in chunk)
            # Local look-ups are too quick to gain from threads.
            look: Callable[..., Iterable[stamps.Look | None]] = pool.map if remote and not listed else map
            yield from zip(chunk, [_LISTED] * len(chunk) if listed and remote else look(_look, chunk), strict=True)


def _look(record: Record) -> stamps.Look | None:
    try:
        if storage.local_path(record.location) is not None:
            return stamps.look(record.location)
        return _LISTED if storage.exists(record.location) else None
    except (OSError, ValueError):
        return None  # a store that cannot be asked cannot give the image either


def _hint(record: Record, missing: int) -> str:
    """What may be meant by the path of a missing image; sought for those that are shown only."""
    found = other_spelling(record.location) if missing <= EXAMPLES else None
    return f" ({found})" if found else ""
