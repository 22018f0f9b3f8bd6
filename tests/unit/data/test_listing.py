"""The listing: an id for every image, and buckets in which everything meets that must."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections import Counter

import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from retrieval_core.data.listing import assign_ids, bucket_of, listing_file, remove_other_listings, write_listing
from retrieval_core.data.records import DataError, Record, short_id
from retrieval_core.files import storage, tables

PATHS = st.lists(
    st.text(alphabet="a./é", min_size=1, max_size=7).filter(lambda path: not path.endswith("/")),
    unique=True,
    max_size=9,
)


# ---- ids and buckets


@pytest.mark.parametrize(
    ("paths", "ids"),
    [
        (["x/1800.png", "y/1801.png"], ["1800", "1801"]),
        (["x/a.b.png", "x/c.png"], ["a", "c"]),
        (["x/a.b.png", "x/a.png"], ["a.b", "a"]),
        (["x/a.png", "y/a.png"], ["x/a", "y/a"]),
        (["x/a.png", "x/a.jpg", "b.png"], ["x/a.png", "x/a.jpg", "b"]),
        (["a.png", "a.jpg", "a.png.png"], ["a.png", "a.jpg", "a.png.png"]),
        (["v1.0/a", "v2.0/a"], ["v1.0/a", "v2.0/a"]),
        (["s3://b/a.png", "s3://c.d/a.png"], ["s3://b/a", "s3://c.d/a"]),
    ],
)
def test_ids(paths, ids):
    assert assign_ids(paths) == dict(zip(paths, ids, strict=True))


@given(PATHS)
@example(["a.png", "a.jpg", "a.png.png"])
@example(["x.d/a", "y/a", "x.png"])
def test_ids_are_unique_and_as_published_where_nothing_collides(paths):
    ids = assign_ids(paths)
    assert sorted(ids) == sorted(paths)
    assert len(set(ids.values())) == len(paths)
    shorts = Counter(map(short_id, paths))
    for path, name in ids.items():
        assert shorts[short_id(path)] > 1 or name == short_id(path)
        assert short_id(name) == short_id(path)  # so that buckets, which share no short id, share no id


@given(PATHS, st.randoms(use_true_random=False))
def test_ids_do_not_depend_on_the_order(paths, random):
    shuffled = list(paths)
    random.shuffle(shuffled)
    assert assign_ids(shuffled) == assign_ids(paths)


def test_images_that_may_share_an_id_share_a_bucket():
    for path in ("x/a.b.png", "y/a.png", "a"):
        assert bucket_of(path, 997) == bucket_of("a.c.d.jpg", 997)
    spread = Counter(bucket_of(f"img/{n}.png", 8) for n in range(4000))
    assert sorted(spread) == list(range(8))
    assert max(spread.values()) < 2 * min(spread.values())


def test_buckets_are_the_same_in_every_process():
    program = (
        "from retrieval_core.data.listing import bucket_of\nprint([bucket_of(f'é/{n}.png', 1000) for n in range(9)])"
    )
    here = [bucket_of(f"é/{n}.png", 1000) for n in range(9)]
    for seed in ("1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": seed}
        found = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
        )
        assert found.stdout.strip() == str(here)
    # Pinned, so that a new version finds the buckets of an old plan.
    digest = hashlib.blake2b(b"3", digest_size=8).digest()
    assert here[3] == int.from_bytes(digest, "big") % 1000


# ---- listing


def read_listing(folder, buckets):
    return [tables.read_table(listing_file(folder, bucket)).to_pylist() for bucket in range(buckets)]


@pytest.mark.parametrize("chunk", [1, 3, 100])
def test_a_listing_holds_every_record_in_its_bucket(tmp_path, monkeypatch, chunk):
    monkeypatch.setattr("retrieval_core.data.listing._CHUNK", chunk)
    records = [Record(f"img/{n % 17}.png", f"/data/{n % 17}.png", (f"c{n}",)) for n in range(40)]
    assert write_listing(iter(records), str(tmp_path), 3) == (40, 3)
    listed = read_listing(str(tmp_path), 3)
    for bucket, rows in enumerate(listed):
        assert {bucket_of(row["path"], 3) for row in rows} <= {bucket}
        assert [row["position"] for row in rows] == sorted(row["position"] for row in rows)
    rows = sorted((row for rows in listed for row in rows), key=lambda row: row["position"])
    assert [(row["path"], row["location"], tuple(row["categories"])) for row in rows] == [r[:3] for r in records]


def test_the_number_of_buckets_follows_the_number_of_images(tmp_path, monkeypatch):
    monkeypatch.setattr("retrieval_core.data.listing.BUCKET_ROWS", 10)
    records = [Record(f"{n}.png", f"/{n}.png") for n in range(41)]
    for listed, buckets in ((41, 5), (40, 4), (1, 1)):
        folder = tmp_path / str(listed)
        assert write_listing(iter(records[:listed]), str(folder), None) == (listed, buckets)
        assert sum(map(len, read_listing(str(folder), buckets))) == listed
        assert len(storage.list_names(str(folder))) == buckets
        assert write_listing(iter(records[:listed]), str(tmp_path / "given"), buckets) == (listed, buckets)
        assert read_listing(str(folder), buckets) == read_listing(str(tmp_path / "given"), buckets)


def test_an_empty_listing_has_one_empty_bucket(tmp_path):
    assert write_listing([], str(tmp_path), None) == (0, 1)
    assert read_listing(str(tmp_path), 1) == [[]]


def test_a_listing_that_outgrew_its_buckets_divides_each(tmp_path, monkeypatch):
    monkeypatch.setattr("retrieval_core.data.listing.BUCKET_ROWS", 10)
    monkeypatch.setattr("retrieval_core.data.listing._CHUNK", 7)
    records = [Record(f"{n}.png", f"/{n}.png") for n in range(61)]
    for listed, before, after in ((30, 3, 3), (31, 3, 6), (61, 3, 9), (61, 2, 8), (61, 9, 9), (5, 9, 9)):
        folder = str(tmp_path / f"{listed}-{before}")
        assert write_listing(iter(records[:listed]), folder, before) == (listed, after)
        found = read_listing(folder, after)
        assert [row["position"] for rows in found for row in rows] == [
            place for bucket in range(after) for place in range(listed) if bucket_of(f"{place}.png", after) == bucket
        ]
        assert len(storage.list_names(folder)) == after
    assert write_listing(iter(records), str(tmp_path / "fixed"), 1, may_grow=False) == (61, 1)


def test_listings_of_earlier_runs_and_versions_go(folder):
    for name in ("notes.txt", "listing-00000.parquet", "listing-00001.parquet", "listing-a/x", "listing-b/x"):
        storage.write_bytes(storage.join(folder, name), b"")
    remove_other_listings(folder, "listing-b")
    assert storage.list_names(folder) == ["listing-b", "notes.txt"]
    assert storage.list_names(storage.join(folder, "listing-b")) == ["x"]


def test_records_that_cannot_be_read_leave_the_old_listing(tmp_path):
    def unread():
        yield Record("b.png", "/b.png")
        raise DataError("not mounted")

    write_listing([Record("a.png", "/a.png")], str(tmp_path), 2)
    for buckets in (2, None):
        with pytest.raises(DataError, match="not mounted"):
            write_listing(unread(), str(tmp_path), buckets)
        assert [row["path"] for rows in read_listing(str(tmp_path), 2) for row in rows] == ["a.png"]


def test_a_bucket_is_not_cut_at_every_chunk(tmp_path, monkeypatch):
    """Else row groups would be chunks x buckets: quadratic in the catalogue."""
    monkeypatch.setattr("retrieval_core.data.listing._CHUNK", 10)
    monkeypatch.setattr("retrieval_core.data.listing._GROUP", 50)
    names = [f"{row:04d}.png" for row in range(1000)]
    write_listing((Record(name, name) for name in names), str(tmp_path), 4)
    found = []
    for bucket in range(4):
        file = pq.ParquetFile(listing_file(str(tmp_path), bucket))
        assert file.num_row_groups <= file.metadata.num_rows // 50 + 1
        paths = file.read().column("path").to_pylist()
        assert paths == sorted(paths)
        found += paths
    assert sorted(found) == names
