"""Plans divided into other numbers of buckets: the same images, in full shards of what is committed."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval_core.data.listing import bucket_of
from retrieval_core.data.plan_division import PLAN, Division, commit_division, division_of, redivided
from retrieval_core.data.shard_plan import last_plan, plan_table, shards_of, write_plan
from retrieval_core.files import storage

PER_SHARD = 3


def written(folder, images, buckets, encoder="encoder"):
    """Write a plan of images ``0.png`` ...; returns (division, names of its shards -> paths)."""
    shards = {}
    for bucket in range(buckets):
        paths = [path for path in (f"{n}.png" for n in range(images)) if bucket_of(path, buckets) == bucket]
        rows = [
            {"shard": place // PER_SHARD, "path": path, "id": path[:-4], "stamp": f"1:{path}"}
            for place, path in enumerate(paths)
        ]
        write_plan(folder, bucket, plan_table(rows, encoder))
        for shard in shards_of(rows, bucket, encoder):
            shards[shard.file_name] = [row["path"] for row in rows if row["shard"] == shard.number]
    return Division(folder, "", buckets), shards


@given(
    images=st.integers(0, 60),
    before=st.integers(1, 6),
    after=st.integers(1, 9),
    same_encoder=st.booleans(),
    left=st.randoms(use_true_random=False),
)
def test_any_division_holds_the_same_images(tmp_path_factory, images, before, after, same_encoder, left):
    last, stored = written(str(tmp_path_factory.mktemp("plan")), images, before)
    committed = {name for name in stored if left.random() < 0.6}
    encoder = "encoder" if same_encoder else "another"
    found = Counter()
    for bucket in range(after):
        table, regrouped = redivided(last, bucket, after, PER_SHARD, encoder, committed.__contains__)
        rows = table.to_pylist()
        assert all(bucket_of(row["path"], after) == bucket for row in rows)
        assert [row["shard"] for row in rows] == sorted(row["shard"] for row in rows)
        found.update((row["path"], row["id"], row["stamp"]) for row in rows)
        shards = {shard.number: shard for shard in shards_of(rows, bucket, encoder)}
        copied = {path for name in committed if same_encoder for path in stored[name]}
        held = [row["path"] for row in rows if row["path"] in copied]
        assert [shard.file for shard in regrouped] == [shards[number].file_name for number in range(len(regrouped))]
        assert [path for shard in regrouped for _, paths in shard.sources for path in paths] == held
        assert all(set(paths) <= set(stored[name]) for shard in regrouped for name, paths in shard.sources)
        for numbers in (range(len(regrouped)), range(len(regrouped), len(shards))):  # full but for the last of each
            assert [shards[number].images for number in numbers][:-1] == [PER_SHARD] * (len(numbers) - 1)
        write_plan(f"{last.folder}/new", bucket, table)
        assert last_plan(f"{last.folder}/new", bucket, encoder) == (
            [{key: row[key] for key in ("shard", "path", "id", "stamp")} for row in rows],
            True,
        )
    assert found == Counter((f"{n}.png", f"{n}", f"1:{n}.png") for n in range(images))


def test_a_bucket_is_made_from_one_where_the_number_is_a_multiple(tmp_path):
    last, _ = written(str(tmp_path), 60, 3)
    for name in ("bucket-00000.parquet", "bucket-00002.parquet"):
        (tmp_path / name).unlink()
    images = [len(redivided(last, bucket, 6, PER_SHARD, "encoder", lambda _: True)[0]) for bucket in range(6)]
    assert [bool(count) for count in images] == [False, True, False, False, True, False]
    assert sum(images) == sum(bucket_of(f"{n}.png", 3) == 1 for n in range(60))


@pytest.mark.parametrize(
    ("files", "name", "buckets"),
    [
        ({}, "", 0),
        ({"bucket-00000.parquet": b""}, "", 1),
        ({"bucket-00000.parquet": b"", "bucket-00001.parquet": b"", "00004/bucket-00000.parquet": b""}, "", 2),
        ({"00002/bucket-00000.parquet": b"", "00004/bucket-00000.parquet": b""}, "00002", 2),
        ({PLAN: b'{"buckets": 4, "name": "00004"}', "bucket-00000.parquet": b""}, "00004", 4),
        ({PLAN: b'{"buckets": 3, "name": ""}'}, "", 3),  # killed before the first bucket
        ({PLAN: b'{"buckets": 4, "na', "bucket-00000.parquet": b""}, "", 1),
        ({PLAN: b"[]", "00004/bucket-00000.parquet": b""}, "00004", 4),
    ],
)
def test_which_division_counts(folder, files, name, buckets):
    for file, content in files.items():
        storage.write_bytes(storage.join(folder, file), content)
    assert division_of(folder) == Division(folder, name, buckets)


def test_a_committed_division_is_the_one_that_is_left(folder):
    def put(*names):
        for name in names:
            storage.write_bytes(storage.join(folder, name), b"")

    first = division_of(folder).into(2)
    commit_division(first)
    put("bucket-00000.parquet", "bucket-00001.parquet", "notes.txt", "00006/bucket-00000.parquet")
    assert division_of(folder) == first == Division(folder, "", 2)
    commit_division(first.into(2))
    assert storage.list_names(folder) == ["bucket-00000.parquet", "bucket-00001.parquet", "notes.txt", PLAN]
    second = first.into(4)
    put("00004/bucket-00000.parquet")
    assert second.folder == storage.join(folder, "00004")
    commit_division(second)
    assert division_of(folder) == second == second.into(4)
    assert storage.list_names(folder) == ["00004", "notes.txt", PLAN]
    third = second.into(8)
    put("00008/bucket-00000.parquet")
    commit_division(third)
    assert storage.list_names(folder) == ["00008", "notes.txt", PLAN]
