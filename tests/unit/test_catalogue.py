"""The plan: one id and one shard for every image, and shards that outlive changes to the catalogue."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections import Counter
from itertools import permutations

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from retrieval_core import storage
from retrieval_core.catalogue import (
    Shard,
    assign_ids,
    bucket_of,
    listing_file,
    plan_bucket,
    plan_file,
    read_shard_plan,
    write_listing,
)
from retrieval_core.datasets import Record, full_stem, short_id

PATHS = st.lists(
    st.text(alphabet="a./é", min_size=1, max_size=7).filter(lambda path: not path.endswith("/")),
    unique=True,
    max_size=9,
)


class Catalogue:
    """A folder of files, and the plan made and written for it as the embedding stage does."""

    def __init__(self, folder, keep_order=False):
        self.folder, self.keep_order = folder, keep_order
        self.clock = 0
        (folder / "img").mkdir()

    def put(self, *names):
        for name in names:
            self.clock += 1
            file = self.folder / "img" / name
            file.write_bytes(name.encode())
            os.utime(file, ns=(self.clock * 10**9, self.clock * 10**9))

    def delete(self, name):
        (self.folder / "img" / name).unlink()

    def record(self, name, categories=()):
        return Record(f"img/{name}", str(self.folder / "img" / name), tuple(categories))

    def there(self):
        return storage.list_names(str(self.folder / "img"))

    def plan(self, records=None, *, per_shard=2, encoder="encoder", retry=()):
        """(rows as dicts, BucketPlan, shrunken)."""
        if records is None:
            records = [self.record(name) for name in self.there()]
        listing, plan = str(self.folder / "listing"), str(self.folder / "plan")
        write_listing(records, listing, 1)
        table, summary, shrunken = plan_bucket(
            listing,
            plan,
            0,
            images_per_shard=per_shard,
            encoder=encoder,
            keep_order=self.keep_order,
            retry={f"img/{name}" for name in retry},
        )
        storage.write_table(plan_file(plan, 0), table)
        return table.to_pylist(), summary, shrunken


@pytest.fixture
def catalogue(tmp_path):
    return Catalogue(tmp_path)


def places(rows):
    """name -> shard number."""
    return {row["path"].removeprefix("img/"): row["shard"] for row in rows}


def files(summary):
    return [shard.file_name for shard in summary.shards]


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


@settings(deadline=None)
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


@settings(deadline=None)
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
    program = "from retrieval_core.catalogue import bucket_of; print([bucket_of(f'é/{n}.png', 1000) for n in range(9)])"
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
    return [storage.read_table(listing_file(folder, bucket)).to_pylist() for bucket in range(buckets)]


@pytest.mark.parametrize("chunk", [1, 3, 100])
def test_a_listing_holds_every_record_in_its_bucket(tmp_path, monkeypatch, chunk):
    monkeypatch.setattr("retrieval_core.catalogue._CHUNK", chunk)
    records = [Record(f"img/{n % 17}.png", f"/data/{n % 17}.png", (f"c{n}",)) for n in range(40)]
    assert write_listing(iter(records), str(tmp_path), 3) == (40, 3)
    listed = read_listing(str(tmp_path), 3)
    for bucket, rows in enumerate(listed):
        assert {bucket_of(row["path"], 3) for row in rows} <= {bucket}
        assert [row["position"] for row in rows] == sorted(row["position"] for row in rows)
    rows = sorted((row for rows in listed for row in rows), key=lambda row: row["position"])
    assert [(row["path"], row["location"], tuple(row["categories"])) for row in rows] == [r[:3] for r in records]


def test_the_number_of_buckets_follows_the_number_of_images(tmp_path, monkeypatch):
    monkeypatch.setattr("retrieval_core.catalogue.BUCKET_ROWS", 10)
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


def test_a_new_listing_replaces_the_old(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    write_listing([Record("a.png", "/a.png")], str(tmp_path), 4)
    write_listing([Record("b.png", "/b.png")], str(tmp_path), 2)
    assert storage.list_names(str(tmp_path)) == ["listing-00000.parquet", "listing-00001.parquet", "notes.txt"]
    assert [row["path"] for rows in read_listing(str(tmp_path), 2) for row in rows] == ["b.png"]


# ---- plan


def test_a_first_plan_orders_by_path_and_fills_shards(catalogue):
    catalogue.put("é.png", "z.png", "a.png", "Z.png", "b.png")
    rows, summary, shrunken = catalogue.plan()
    assert [row["path"] for row in rows] == ["img/Z.png", "img/a.png", "img/b.png", "img/z.png", "img/é.png"]
    assert [row["shard"] for row in rows] == [0, 0, 1, 1, 2]
    assert [row["id"] for row in rows] == ["Z", "a", "b", "z", "é"]
    assert [shard[:3] for shard in summary.shards] == [(0, 0, 2), (0, 1, 2), (0, 2, 1)]
    assert (summary.images, summary.repeats, shrunken) == (5, 0, {})
    part = read_shard_plan(str(catalogue.folder / "plan"), 0, 1)
    assert part.to_pylist() == rows[2:4]


def test_file_names_tell_buckets_shards_and_content_apart():
    names = {
        Shard(bucket, number, images, mark * 64).file_name
        for bucket in (0, 1)
        for number in (0, 1)
        for images in (1, 2)
        for mark in "ab"
    }
    assert len(names) == 8
    assert "00001-000000-aaaaaaaaaaaaaaaa.parquet" in names


def test_the_order_of_the_listing_is_irrelevant_for_fabrics(catalogue, tmp_path):
    catalogue.put("a.png", "b.png", "c.png")
    records = [catalogue.record(name, "xy") for name in catalogue.there()]
    plans = []
    for number, order in enumerate(permutations(records)):
        listing = str(tmp_path / f"listing-{number}")
        write_listing([*order, order[0]], listing, 1)
        table, summary, _ = plan_bucket(
            listing, str(tmp_path / "none"), 0, images_per_shard=2, encoder="e", keep_order=False
        )
        plans.append((table.drop_columns("position"), summary))
    assert all(plan == plans[0] for plan in plans)


def test_queries_keep_the_order_of_their_list(tmp_path):
    catalogue = Catalogue(tmp_path, keep_order=True)
    catalogue.put("a.png", "b.png", "c.png")
    listed = [catalogue.record(name) for name in ("c.png", "a.png", "b.png")]
    rows, first, _ = catalogue.plan(listed)
    assert [row["path"] for row in rows] == ["img/c.png", "img/a.png", "img/b.png"]
    rows, second, _ = catalogue.plan(listed[::-1])
    assert files(first) == files(second)
    assert first.order != second.order
    assert {row["path"]: row["position"] for row in rows} == {"img/b.png": 0, "img/a.png": 1, "img/c.png": 2}


def test_a_path_listed_twice_is_one_image_with_all_its_categories(catalogue):
    catalogue.put("a.png", "b.png")
    listed = [("a.png", "ca"), ("b.png", "c"), ("a.png", "b"), ("a.png", "")]
    rows, summary, _ = catalogue.plan([catalogue.record(name, labels) for name, labels in listed])
    assert [(row["path"], row["categories"], row["position"]) for row in rows] == [
        ("img/a.png", ["a", "b", "c"], 0),
        ("img/b.png", ["c"], 1),
    ]
    assert (summary.images, summary.repeats) == (2, 2)


def test_categories_change_the_labels_only(catalogue):
    catalogue.put("a.png", "b.png")
    _, plain, _ = catalogue.plan([catalogue.record("a.png", "x"), catalogue.record("b.png")])
    _, again, _ = catalogue.plan([catalogue.record("a.png", "x"), catalogue.record("b.png")])
    _, other, _ = catalogue.plan([catalogue.record("a.png", "y"), catalogue.record("b.png")])
    assert plain == again
    assert plain.labels != other.labels
    assert plain._replace(labels="") == other._replace(labels="")


def test_added_images_get_new_shards(catalogue):
    catalogue.put("b.png", "d.png", "f.png")
    before, first, _ = catalogue.plan()
    catalogue.put("a.png", "c.png", "e.png")
    after, second, shrunken = catalogue.plan()
    assert places(after) == places(before) | {"a.png": 2, "c.png": 2, "e.png": 3}
    assert files(second)[:2] == files(first)
    assert shrunken == {}


def test_a_changed_image_leaves_its_shard_for_a_new_one(catalogue):
    catalogue.put("a.png", "b.png", "c.png")
    _, first, _ = catalogue.plan()
    catalogue.put("a.png")
    rows, second, shrunken = catalogue.plan()
    assert places(rows) == {"a.png": 2, "b.png": 0, "c.png": 1}
    assert shrunken == {files(first)[0]: (second.shards[0], ["img/b.png"])}
    assert files(second)[0] != files(first)[0]
    assert files(second)[1] == files(first)[1]


def test_a_deleted_image_shrinks_its_shard(catalogue):
    catalogue.put("a.png", "b.png", "c.png", "d.png", "e.png")
    _, first, _ = catalogue.plan(per_shard=3)
    catalogue.delete("b.png")
    catalogue.delete("d.png")
    catalogue.delete("e.png")
    rows, second, shrunken = catalogue.plan(per_shard=3)
    assert places(rows) == {"a.png": 0, "c.png": 0}
    assert shrunken == {files(first)[0]: (second.shards[0], ["img/a.png", "img/c.png"])}
    assert second.shards[0].images == 2
    # What was deleted from the last shard does not come back under a name that was used for other content.
    catalogue.put("d.png")
    rows, third, _ = catalogue.plan(per_shard=3)
    assert files(third)[1] not in files(first)


def test_retried_images_count_as_changed(catalogue):
    catalogue.put("a.png", "b.png", "c.png")
    _, first, _ = catalogue.plan()
    rows, second, shrunken = catalogue.plan(retry=["b.png", "c.png", "gone.png"])
    assert places(rows) == {"a.png": 0, "b.png": 2, "c.png": 2}
    assert list(shrunken) == [files(first)[0]]
    assert not set(files(second)) & set(files(first))


def test_a_retried_image_alone_in_its_shard_gets_another_file(catalogue):
    catalogue.put("a.png")
    names = {files(catalogue.plan(retry=["a.png"])[1])[0] for _ in range(3)}
    assert len(names) == 3


def test_another_encoder_is_another_plan(catalogue):
    catalogue.put("b.png", "c.png")
    catalogue.plan()
    catalogue.put("a.png")
    catalogue.plan()
    rows, _, shrunken = catalogue.plan(encoder="other")
    assert places(rows) == {"a.png": 0, "b.png": 0, "c.png": 1}
    assert shrunken == {}


def test_fingerprints_follow_content_and_encoder(catalogue):
    catalogue.put("a.png", "b.png")
    _, first, _ = catalogue.plan()
    assert files(catalogue.plan()[1]) == files(first)
    other = files(catalogue.plan(encoder="other")[1])
    assert other != files(first)
    catalogue.put("a.png", "b.png")
    assert files(catalogue.plan(encoder="other")[1])[0] != other[0]


def test_missing_and_unreadable_images_keep_a_slot(catalogue):
    catalogue.put("a.png")
    strange = [
        Record("img/gone.png", str(catalogue.folder / "img/gone.png")),
        Record("nul.png", "/data/nul\0.png"),
        Record("odd.png", "nowhere://odd.png"),
        Record("under.png", str(catalogue.folder / "img/a.png/under.png")),
    ]
    rows, summary, _ = catalogue.plan([catalogue.record("a.png"), *strange])
    stamps = {row["path"]: row["stamp"] for row in rows}
    assert len(stamps) == summary.images == 5
    assert stamps["img/gone.png"] == "missing"
    assert all(stamps[name].startswith("unreadable: ") for name in ("nul.png", "odd.png", "under.png"))
    catalogue.put("gone.png")
    rows, _, _ = catalogue.plan([catalogue.record("a.png"), *strange])
    assert places(rows)["gone.png"] > max(shard for name, shard in places(rows).items() if name != "gone.png")


def test_an_image_whose_id_changes_is_embedded_again(catalogue):
    catalogue.put("a.x.png", "b.png")
    rows, _, _ = catalogue.plan()
    assert [row["id"] for row in rows] == ["a", "b"]
    catalogue.put("a.y.png")
    rows, _, _ = catalogue.plan()
    assert {row["id"]: row["shard"] for row in rows} == {"b": 0, "a.x": 1, "a.y": 1}


EDITS = st.lists(
    st.tuples(st.sampled_from(["put", "delete", "retry"]), st.sampled_from([f"{n}.png" for n in range(7)])), max_size=6
)


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rounds=st.lists(EDITS, min_size=1, max_size=5), per_shard=st.integers(1, 3))
def test_any_sequence_of_edits_moves_only_what_changed(tmp_path_factory, rounds, per_shard):
    catalogue = Catalogue(tmp_path_factory.mktemp("edits"))
    expected: dict[str, int] = {}
    stored: dict[str, tuple[str, ...]] = {}  # file -> what it holds, as the embedding stage would leave it
    for edits in rounds:
        touched, retried = set(), set()
        for action, name in edits:
            if action == "put":
                catalogue.put(name)
                touched.add(name)
            elif action == "retry":
                retried.add(name)
            elif name in catalogue.there():
                catalogue.delete(name)
        rows, summary, shrunken = catalogue.plan(per_shard=per_shard, retry=retried)
        found = places(rows)
        assert len(rows) == len(found) == summary.images
        assert sorted(found) == catalogue.there()
        for name, number in found.items():
            moved = name in touched | retried or name not in expected
            assert number > max(expected.values(), default=-1) if moved else number == expected[name]
        content = {
            shard.file_name: tuple(row["path"] for row in rows if row["shard"] == shard.number)
            for shard in summary.shards
        }
        assert [shard.images for shard in summary.shards] == [len(images) for images in content.values()]
        assert max((len(images) for images in content.values()), default=0) <= per_shard
        for old, (shard, kept) in shrunken.items():
            assert set(kept) < set(stored[old])
            stored[shard.file_name] = tuple(kept)
        for file, images in content.items():
            # A file that is there already holds exactly what the plan says: nothing stale is taken for committed.
            assert stored.setdefault(file, images) == images
        stored = {file: stored[file] for file in content}
        expected = found


def test_the_plan_is_a_table_any_reader_opens(catalogue):
    catalogue.put("a.png")
    rows, _, _ = catalogue.plan([catalogue.record("a.png", ["flower", "bear"])])
    table = storage.read_table(plan_file(str(catalogue.folder / "plan"), 0))
    assert table.schema.field("categories").type == pa.list_(pa.string())
    assert table.to_pylist() == rows
    assert full_stem(rows[0]["path"]) == rows[0]["id"]
