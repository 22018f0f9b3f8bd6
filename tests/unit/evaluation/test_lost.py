"""What the pool lost, found bucket by bucket, against a sort of everything."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from retrieval_core.data.shard_plan import PLAN_SCHEMA, bucket_shards
from retrieval_core.evaluation.lost import Lost, Question, count_before, lost_in_bucket, nearest, query_vectors
from retrieval_core.files import tables
from retrieval_core.store.embeddings import write_manifest, write_shard

FABRICS, REGIONS, DIM, DEPTH = 41, 3, 4, 6
CATEGORIES = ("bear", "rose", "moon")


class Catalogue:
    """Fabrics on a coarse grid of vectors, so that many scores are equal; every ninth was rejected; two buckets."""

    def __init__(self, folder: Path) -> None:
        random = np.random.default_rng(3)
        self.names = [f"{'aBä花'[number % 4]}{number:02}.png" for number in range(FABRICS)]
        self.held = {name: {CATEGORIES[number % 3]} for number, name in enumerate(self.names)}
        self.vectors = {
            name: random.integers(-1, 2, (REGIONS, DIM)).astype(np.float32)
            for number, name in enumerate(self.names)
            if number % 9
        }
        self.plans, self.shards = [], []
        for bucket in range(2):
            part = self.names[bucket::2]
            rows = [
                {"shard": 0, "path": name, "id": name, "location": f"/at/{name}", "categories": sorted(self.held[name])}
                for name in part
            ]
            self.plans.append(str(folder / f"plan-{bucket}.parquet"))
            tables.write_table(self.plans[-1], pa.Table.from_pylist(rows, schema=PLAN_SCHEMA))
            embedded = [name for name in part if name in self.vectors]
            self.shards.append([])
            for number, some in enumerate((embedded[:5], embedded[5:])):
                file = str(folder / f"{bucket:05}-{number:06}-mark.parquet")
                boxes = np.array([[[0, 0, 9, 9], [0, 0, 5, 5], [4, 4, 9, 9]]] * len(some), np.int32)
                vectors = np.concatenate([self.vectors[name] for name in some])
                write_shard(file, [(name, name) for name in some], boxes, vectors, [])
                self.shards[-1].append(file)

    def ranking(self, query_D: np.ndarray) -> list[tuple[float, str]]:
        scores = {name: float((vectors @ query_D).max()) for name, vectors in self.vectors.items()}
        return sorted(((score, name) for name, score in scores.items()), key=lambda row: (-row[0], row[1].encode()))


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Catalogue:
    return Catalogue(tmp_path_factory.mktemp("lost"))


@pytest.mark.parametrize("limit", [3, 50])
def test_lost_fabrics_and_their_ranks_are_those_of_a_full_sort(catalogue: Catalogue, limit: int) -> None:
    vectors = np.random.default_rng(4).integers(-2, 3, (5, DIM)).astype(np.float32)
    wanted = [frozenset({"bear"}), frozenset({"rose"}), frozenset({"rose", "moon"}), frozenset({"none"}), frozenset()]
    rankings = [catalogue.ranking(vector) for vector in vectors]
    questions = [
        Question(names, vector, frozenset(name for _, name in ranking[:DEPTH]))
        for names, vector, ranking in zip(wanted, vectors, rankings, strict=True)
    ]
    parts = [
        lost_in_bucket(plan, shards, REGIONS, questions, limit)
        for plan, shards in zip(catalogue.plans, catalogue.shards, strict=True)
    ]
    lost = [nearest([*left, *right], limit) for left, right in zip(*parts, strict=True)]
    places = {
        number: [(one.similarity, one.path) for one in found if one.similarity is not None]
        for number, found in enumerate(lost)
    }
    places = {number: found for number, found in places.items() if found}
    counts = [count_before(shards, REGIONS, questions, places) for shards in catalogue.shards]
    for number, (names, ranking) in enumerate(zip(wanted, rankings, strict=True)):
        relevant = [(rank, *row) for rank, row in enumerate(ranking, 1) if catalogue.held[row[1]] & names]
        below = [(rank, score, name) for rank, score, name in relevant if rank > DEPTH]
        rejected = [name for name in catalogue.names if name not in catalogue.vectors and catalogue.held[name] & names]
        expected = [name for _, _, name in below] + sorted(rejected, key=str.encode)
        assert [one.path for one in lost[number]] == expected[:limit]
        ranks = [1 + sum(pair) for pair in zip(*(count.get(number, []) for count in counts), strict=True)]
        assert ranks == [rank for rank, _, _ in below][:limit]
        for one in lost[number]:
            assert one.location == f"/at/{one.path}"
            if one.similarity is not None:
                scores = catalogue.vectors[one.path] @ vectors[number]
                assert one.similarity == scores.max()
                assert one.pixels == 81
                assert one.box == ((0, 0, 9, 9), (0, 0, 5, 5), (4, 4, 9, 9))[int(scores.argmax())]
            else:
                assert (one.box, one.rank, one.pixels) == (None, None, None)


def test_many_queries_are_scored_in_parts(catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = np.random.default_rng(5).integers(-2, 3, (7, DIM)).astype(np.float32)
    questions = [Question(frozenset(), vector, frozenset()) for vector in vectors]
    places = {number: [(0.0, "m")] for number in range(7)}
    whole = count_before(catalogue.shards[0], REGIONS, questions, places)
    monkeypatch.setattr("retrieval_core.evaluation.lost._SCORES", 40)
    assert count_before(catalogue.shards[0], REGIONS, questions, places) == whole


def test_query_vectors_are_found_by_path(tmp_path: Path) -> None:
    entries = []
    for number, names in enumerate((["b.png", "a.png"], [], ["c.png"])):
        vectors = np.full((len(names), DIM), number, np.float32)
        boxes = np.zeros((len(names), 1, 4), np.int32)
        write_shard(str(tmp_path / f"{number}.parquet"), [(name, name) for name in names], boxes, vectors, [])
        entries.append({"file": f"{number}.parquet", "images": 2, "rows": len(names), "rejected": 2 - len(names)})
    write_manifest(str(tmp_path), "mark", entries, {"regions": 1})
    found = query_vectors(str(tmp_path), ["c.png", "a.png", "rejected.png"])
    assert {path: vector.tolist() for path, vector in found.items()} == {"a.png": [0.0] * DIM, "c.png": [2.0] * DIM}


def test_a_bucket_has_the_shards_that_carry_its_number() -> None:
    files = ["00001-000000-a.parquet", "00010-000000-b.parquet", "00001-000001-c.parquet"]
    assert bucket_shards(files, 1) == [files[0], files[2]]
    assert bucket_shards(files, 0) == []


def test_lost_fabrics_sort_as_the_pool_does() -> None:
    lost = [Lost("b", "", 0.5), Lost("é", "", 0.5), Lost("z", "", 0.5), Lost("c", "", 0.75), Lost("a", "")]
    assert [one.path for one in nearest(lost, 9)] == ["c", "b", "z", "é", "a"]
