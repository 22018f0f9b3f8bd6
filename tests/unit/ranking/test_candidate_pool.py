"""The pool's two files against the parts they are made from."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval_core.files import tables
from retrieval_core.ranking import candidate_pool
from retrieval_core.ranking.candidate_pool import PartError, PoolCounts, pool_schema, read_pool, write_pool
from retrieval_core.ranking.partials import PARTIAL_SCHEMA, merge_partials

ODD_NAMES = [
    'element img/1,"quoted" 花.png',
    "two\nlines\tand\rreturns.png",
    "</script><script>alert(1)</script>.png",
    "back\\slash/é/e\u0301.png",
    "\u2028\U0001f9f5 'single'.png",
]
Rows = list[tuple[int, float, str]]


def write_part(path: Path, rows: Rows, boxes: bool = False) -> str:
    table = pa.Table.from_pylist(
        [
            {
                "query": q,
                "similarity": s,
                "image_path": p,
                "region": 0,
                "box": [i, i + 1, i + 2, i + 3] if boxes else None,
            }
            for i, (q, s, p) in enumerate(rows)
        ],
        schema=PARTIAL_SCHEMA,
    )
    tables.write_table(str(path), table.append_column("later", pa.array(np.zeros(len(rows)))))
    return str(path)


def write(tmp_path: Path, parts: list[str], queries: list[str], with_boxes: bool = False) -> PoolCounts:
    parquet, results = tmp_path / "out" / "candidate_pool.parquet", tmp_path / "out" / "first_retrieval_results.json"
    return write_pool(parts, queries, str(parquet), str(results), with_boxes=with_boxes)


def written(tmp_path: Path) -> tuple[str, pa.Table]:
    text = (tmp_path / "out" / "first_retrieval_results.json").read_bytes().decode("utf-8")
    return text, pq.read_table(tmp_path / "out" / "candidate_pool.parquet")


def test_both_files_say_the_same_in_the_order_of_the_query_list(tmp_path: Path) -> None:
    parts = [
        write_part(tmp_path / "0", [(1, 0.75, "b"), (1, 0.5, "a"), (1, 0.5, "é"), (2, 1.0, "a")]),
        write_part(tmp_path / "1", []),
        write_part(tmp_path / "2", [(4, -0.25, "c")]),
    ]
    counts = write(tmp_path, parts, ["z", "y", "x", "w", "v", "u"])
    assert counts == PoolCounts(queries=6, answered=3, candidates=5)
    text, table = written(tmp_path)
    found = json.loads(text)
    assert list(found) == ["z", "y", "x", "w", "v", "u"]
    assert found["y"] == [
        {"image_path": "b", "similarity": 0.75},
        {"image_path": "a", "similarity": 0.5},
        {"image_path": "é", "similarity": 0.5},
    ]
    assert [found[name] for name in "zwu"] == [[], [], []]
    assert table.schema.equals(pool_schema(with_boxes=False))
    assert table.to_pylist() == [
        {"query_path": "y", "image_path": "b", "similarity": 0.75, "rank": 1},
        {"query_path": "y", "image_path": "a", "similarity": 0.5, "rank": 2},
        {"query_path": "y", "image_path": "é", "similarity": 0.5, "rank": 3},
        {"query_path": "x", "image_path": "a", "similarity": 1.0, "rank": 1},
        {"query_path": "v", "image_path": "c", "similarity": -0.25, "rank": 1},
    ]


def test_names_survive_as_they_are_spelled(tmp_path: Path) -> None:
    part = write_part(tmp_path / "0", [(q, 0.5, name) for q in range(5) for name in sorted(ODD_NAMES, key=str.encode)])
    write(tmp_path, [part], ODD_NAMES)
    text, table = written(tmp_path)
    found = json.loads(text)
    assert list(found) == ODD_NAMES
    assert {item["image_path"] for item in found[ODD_NAMES[0]]} == set(ODD_NAMES)
    assert table["query_path"].unique().to_pylist() == ODD_NAMES
    assert [query.query_path for query in read_pool(str(tmp_path / "out" / "candidate_pool.parquet"))] == ODD_NAMES
    assert text.count("花") == 6, "people read this file: names are not escaped beyond need"


def test_similarities_of_the_json_are_those_of_the_parquet_to_the_last_bit(tmp_path: Path) -> None:
    values = np.sort(np.random.default_rng(0).uniform(-1, 1, 500).astype(np.float32))[::-1]
    write(tmp_path, [write_part(tmp_path / "0", [(0, float(v), str(i)) for i, v in enumerate(values)])], ["q"])
    text, table = written(tmp_path)
    printed = [item["similarity"] for item in json.loads(text)["q"]]
    assert printed == values.astype(np.float64).tolist() == table["similarity"].to_pylist()


def test_boxes_are_written_only_with_regions(tmp_path: Path) -> None:
    part = write_part(tmp_path / "0", [(0, 0.5, "a"), (0, 0.25, "b"), (1, 0.5, "a")], boxes=True)
    write(tmp_path, [part], ["p", "q"], with_boxes=True)
    _, table = written(tmp_path)
    assert table.schema.equals(pool_schema(with_boxes=True))
    assert table["box"].to_pylist() == [[0, 1, 2, 3], [1, 2, 3, 4], [2, 3, 4, 5]]
    first, second = read_pool(str(tmp_path / "out" / "candidate_pool.parquet"))
    assert first.boxes is not None and first.boxes.tolist() == [[0, 1, 2, 3], [1, 2, 3, 4]]
    assert second.boxes is not None and second.boxes.tolist() == [[2, 3, 4, 5]]
    write(tmp_path, [part], ["p", "q"])
    assert "box" not in written(tmp_path)[1].column_names


def test_a_pool_of_nothing(tmp_path: Path) -> None:
    assert write(tmp_path, [], []) == PoolCounts(0, 0, 0)
    assert written(tmp_path)[0] == "{}\n"
    assert write(tmp_path, [write_part(tmp_path / "0", [])], ["only rejected"]) == PoolCounts(1, 0, 0)
    text, table = written(tmp_path)
    assert json.loads(text) == {"only rejected": []}
    assert len(table) == 0 and table.schema.equals(pool_schema(with_boxes=False))
    assert list(read_pool(str(tmp_path / "out" / "candidate_pool.parquet"))) == []


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([[(0, 0.5, "a")], [(3, 0.5, "a")]], "answers query 3, but the query list has 3 queries"),
        ([[(1, 0.5, "a")], [(0, 0.5, "a")]], "not ordered"),
        ([[(1, 0.5, "a")], [(1, 0.4, "b")]], "not ordered"),
        ([[(1, 0.5, "a"), (0, 0.5, "a")]], "not ordered"),
        ([[(0, 0.5, "a"), (0, 0.75, "b")]], "not ordered"),
        ([[(0, 0.5, "a"), (0, float("nan"), "b")]], "not ordered"),
    ],
)
def test_a_part_of_another_run_leaves_the_old_pool_alone(tmp_path: Path, parts: list[Rows], message: str) -> None:
    write(tmp_path, [write_part(tmp_path / "good", [(0, 0.5, "a")])], ["p"])
    before = [path.read_bytes() for path in sorted((tmp_path / "out").iterdir())]
    bad = [write_part(tmp_path / str(i), rows) for i, rows in enumerate(parts)]
    with pytest.raises(PartError, match=message):
        write(tmp_path, bad, ["p", "q", "r"])
    assert [path.read_bytes() for path in sorted((tmp_path / "out").iterdir())] == before
    assert len(before) == 2


def test_a_writer_that_fails_half_way_leaves_nothing(tmp_path: Path) -> None:
    part = write_part(tmp_path / "0", [(0, 0.5, "a")])
    with pytest.raises(FileNotFoundError):
        write(tmp_path, [part, str(tmp_path / "absent")], ["p", "q"])
    assert list((tmp_path / "out").iterdir()) == []


@settings(max_examples=40)
@given(st.data(), st.integers(0, 12), st.sampled_from([1, 3, 1 << 16]))
def test_any_split_into_parts_gives_the_same_pool(data: st.DataObject, queries: int, rows_at_a_time: int) -> None:
    names = [f"q{i}{'é' * (i % 2)}" for i in range(queries)]
    score = st.integers(-4, 4).map(lambda n: n / 4)
    answers = [data.draw(st.dictionaries(st.sampled_from("abé花Z~"), score)) for _ in range(queries)]
    ordered = [sorted(answer.items(), key=lambda item: (-item[1], item[0].encode())) for answer in answers]
    cuts = sorted(data.draw(st.sets(st.integers(0, queries))) | {0, queries})
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(candidate_pool, "_ROWS", rows_at_a_time)
        parts = []
        for start, end in zip(cuts, [*cuts[1:], queries], strict=True):
            rows = [(q, s, p) for q in range(start, end) for p, s in answers[q].items()]
            path = write_part(Path(folder) / str(start), rows)
            tables.write_table(path, merge_partials([pq.read_table(path).select(PARTIAL_SCHEMA.names)], 99))
            parts.append(path)
        counts = write(Path(folder), list(dict.fromkeys(parts)), names)
        text, table = written(Path(folder))
        pool = list(read_pool(str(Path(folder) / "out" / "candidate_pool.parquet")))
    expected = {
        name: [{"image_path": p, "similarity": s} for p, s in rows] for name, rows in zip(names, ordered, strict=True)
    }
    assert json.loads(text) == expected
    assert counts == PoolCounts(queries, sum(map(bool, answers)), sum(map(len, answers)))
    assert [(q.query_path, list(zip(q.image_paths, q.similarities.tolist(), strict=True))) for q in pool] == [
        (name, rows) for name, rows in zip(names, ordered, strict=True) if rows
    ]
    assert table["rank"].to_pylist() == [rank for rows in ordered for rank in range(1, len(rows) + 1)]
