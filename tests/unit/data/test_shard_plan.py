"""The plan: one id and one shard for every image, and shards that outlive changes to the catalogue."""

from __future__ import annotations

import os
from itertools import permutations

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval_core.data.listing import write_listing
from retrieval_core.data.records import Record, full_stem
from retrieval_core.data.shard_plan import (
    Shard,
    count_doubles,
    plan_bucket,
    plan_file,
    read_shard_plan,
    staged_plan,
    write_plan,
)
from retrieval_core.files import stamps, storage, tables


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
        """(rows as dicts, summary, shrunken shards)."""
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
        write_plan(plan, 0, table)
        return table.to_pylist(), summary, shrunken


@pytest.fixture
def catalogue(tmp_path):
    return Catalogue(tmp_path)


def places(rows):
    """name -> shard number."""
    return {row["path"].removeprefix("img/"): row["shard"] for row in rows}


def files(summary):
    return [shard.file_name for shard in summary.shards]


def test_a_first_plan_orders_by_path_and_fills_shards(catalogue):
    catalogue.put("é.png", "z.png", "a.png", "Z.png", "b.png")
    rows, summary, shrunken = catalogue.plan()
    assert [row["path"] for row in rows] == ["img/Z.png", "img/a.png", "img/b.png", "img/z.png", "img/é.png"]
    assert [row["shard"] for row in rows] == [0, 0, 1, 1, 2]
    assert [row["id"] for row in rows] == ["Z", "a", "b", "z", "é"]
    assert [shard[:3] for shard in summary.shards] == [(0, 0, 2), (0, 1, 2), (0, 2, 1)]
    assert (summary.images, summary.repeats, shrunken) == (5, 0, [])
    part = read_shard_plan(str(catalogue.folder / "plan"), 0, 1)
    assert part.to_pylist() == rows[2:4]


def test_a_stamp_that_the_listing_told_is_not_asked_for_again(catalogue, monkeypatch):
    catalogue.put("a.png", "b.png")
    monkeypatch.setattr(stamps, "look", lambda location: stamps.Look(f"asked for {location[-5:]}"))
    first, second = (catalogue.record(name) for name in ("a.png", "b.png"))
    rows, _, _ = catalogue.plan([first._replace(stamp="7:x"), second])
    assert [row["stamp"] for row in rows] == ["7:x", "asked for b.png"]


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


def test_one_file_under_several_paths_is_counted_within_and_across_buckets(tmp_path):
    for folder in ("img", "img/old"):
        (tmp_path / folder).mkdir()
    first = tmp_path / "img/a.png"
    first.write_bytes(b"a")
    (tmp_path / "img/b.png").write_bytes(b"a")
    (tmp_path / "img/old/a.png").symlink_to("../a.png")
    for name in ("hard-1", "hard-2", "old/hard-2"):
        (tmp_path / f"img/{name}.png").hardlink_to(first)
    names = ["a", "b", "old/a", "hard-1", "hard-2", "old/hard-2", "gone", "old/gone", "../img/b"]
    records = [Record(f"img/{name}.png", str(tmp_path / f"img/{name}.png")) for name in names]
    for buckets in (1, 8):
        listing = str(tmp_path / f"listing-{buckets}")
        write_listing(records, listing, buckets)
        keys = {"images_per_shard": 2, "encoder": "e", "keep_order": False}
        summaries = [plan_bucket(listing, str(tmp_path / "p"), number, **keys).summary for number in range(buckets)]
        assert count_doubles(summaries) == 5  # of 7 paths of two files; what is missing is no file


def test_the_links_that_a_bucket_tells_are_bounded(catalogue, monkeypatch):
    monkeypatch.setattr("retrieval_core.data.shard_plan._LINKS_TOLD", 3)
    catalogue.put(*(f"{number}.png" for number in range(9)))
    assert catalogue.plan()[1].links == ()
    for number in range(9):
        (catalogue.folder / f"{number}.png").hardlink_to(catalogue.folder / f"img/{number}.png")
    assert len(catalogue.plan()[1].links) == 3


def test_categories_change_the_labels_only(catalogue):
    catalogue.put("a.png", "b.png")
    _, plain, _ = catalogue.plan([catalogue.record("a.png", "x"), catalogue.record("b.png")])
    _, again, _ = catalogue.plan([catalogue.record("a.png", "x"), catalogue.record("b.png")])
    _, other, _ = catalogue.plan([catalogue.record("a.png", "y"), catalogue.record("b.png")])
    assert plain._replace(removals=again.removals) == again
    assert again.labels != other.labels
    assert again._replace(labels="") == other._replace(labels="")


def test_added_images_get_new_shards(catalogue):
    catalogue.put("b.png", "d.png", "f.png")
    before, first, _ = catalogue.plan()
    catalogue.put("a.png", "c.png", "e.png")
    after, second, shrunken = catalogue.plan()
    assert places(after) == places(before) | {"a.png": 2, "c.png": 2, "e.png": 3}
    assert files(second)[:2] == files(first)
    assert shrunken == []


def test_a_changed_image_leaves_its_shard_for_a_new_one(catalogue):
    catalogue.put("a.png", "b.png", "c.png")
    _, first, _ = catalogue.plan()
    catalogue.put("a.png")
    rows, second, shrunken = catalogue.plan()
    assert places(rows) == {"a.png": 2, "b.png": 0, "c.png": 1}
    assert shrunken == [(first.shards[0], second.shards[0], ["img/b.png"])]
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
    assert shrunken == [(first.shards[0], second.shards[0], ["img/a.png", "img/c.png"])]
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
    assert [shard.before for shard in shrunken] == first.shards[:1]
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
    assert shrunken == []


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


def test_removals_are_counted_whatever_the_encoder(catalogue):
    catalogue.put("a.png", "b.png", "c.png")
    absent = Record("img/never.png", str(catalogue.folder / "img/never.png"))
    listed = [catalogue.record(name) for name in ("a.png", "b.png", "c.png")]
    _, summary, _ = catalogue.plan([*listed, absent])
    assert summary.removals == (0, 0, 3)
    _, summary, _ = catalogue.plan([*listed, absent])
    assert summary.removals == (3, 0, 3)
    catalogue.put("a.png", "d.png")  # one that changed is there
    catalogue.delete("b.png")  # one that is listed still, but gone
    _, summary, _ = catalogue.plan([*listed[:2], catalogue.record("d.png")], encoder="another")
    assert summary.removals == (3, 2, 2)
    _, summary, _ = catalogue.plan([], encoder="another")
    assert summary.removals == (2, 2, 0)


def test_a_staged_plan_is_told_as_it_was_made(catalogue, tmp_path):
    catalogue.put("a.png", "b.png", "c.png")
    catalogue.plan()
    catalogue.delete("a.png")
    write_listing([catalogue.record(name) for name in catalogue.there()], str(tmp_path / "listing"), 1)
    folders, keys = (str(tmp_path / "listing"), str(tmp_path / "plan")), {"images_per_shard": 2, "encoder": "encoder"}
    plan = plan_bucket(*folders, 0, keep_order=False, **keys)
    write_plan(str(tmp_path / "staged"), 0, plan.table)
    table, shards, shrunken = staged_plan(str(tmp_path / "staged"), folders[1], 0, "encoder")
    assert table.equals(plan.table)
    assert table.schema.metadata == plan.table.schema.metadata
    assert (shards, shrunken) == (plan.summary.shards, plan.shrunken)
    assert len(shrunken) == 1
    fresh = plan_bucket(*folders, 0, keep_order=False, fresh=True, **keys)
    assert (fresh.table["shard"].to_pylist(), fresh.shrunken, fresh.summary.removals) == ([0, 0], [], (3, 1, 2))


EDITS = st.lists(
    st.tuples(st.sampled_from(["put", "delete", "retry"]), st.sampled_from([f"{n}.png" for n in range(7)])), max_size=6
)


@settings(max_examples=40)
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
        for before, after, kept in shrunken:
            assert set(kept) < set(stored[before.file_name])
            assert before.images == len(stored[before.file_name])
            stored[after.file_name] = tuple(kept)
        for file, images in content.items():
            # A file that is there already holds exactly what the plan says: nothing stale is taken for committed.
            assert stored.setdefault(file, images) == images
        stored = {file: stored[file] for file in content}
        expected = found


def test_the_plan_is_a_table_any_reader_opens(catalogue):
    catalogue.put("a.png")
    rows, _, _ = catalogue.plan([catalogue.record("a.png", ["flower", "bear"])])
    table = tables.read_table(plan_file(str(catalogue.folder / "plan"), 0))
    assert table.schema.field("categories").type == pa.list_(pa.string())
    assert table.to_pylist() == rows
    assert full_stem(rows[0]["path"]) == rows[0]["id"]
