"""Windows kept beside the vectors: what is written is what is read, and no more is read than is asked for."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval_core.files import storage
from retrieval_core.store import vector_files, windows
from retrieval_core.store.windows import (
    Kept,
    copy_windows,
    read_places,
    read_windows,
    windows_file,
    windows_folder,
    windows_summary,
    write_windows,
)

DIM = 6


def images(counts, seed=0):
    """An image of each number of windows."""
    rng = np.random.default_rng([seed, len(counts)])
    return [
        Kept(rng.integers(-127, 128, (count, DIM)).astype(np.int8), rng.integers(0, 999, (count, 4)).astype(np.int32))
        for count in counts
    ]


def names_of(kept, prefix=""):
    return [f"{prefix}é {place}.png" for place in range(len(kept))][::-1]


def write(path, kept, prefix=""):
    write_windows(str(path), names_of(kept, prefix), kept, DIM)
    return kept


def assert_same(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert (one.windows.dtype, one.boxes.dtype) == (np.int8, np.int32)
        np.testing.assert_array_equal(one.windows, other.windows)
        np.testing.assert_array_equal(one.boxes, other.boxes)


@pytest.fixture
def rows_read(monkeypatch):
    """(first row, rows) of each stretch that is read."""
    calls, read_rows = [], vector_files.read_rows

    def counted(reader, file, column, first, out):
        calls.append((first, len(out)))
        read_rows(reader, file, column, first, out)

    monkeypatch.setattr(vector_files, "read_rows", counted)
    return calls


# ---- places


@pytest.mark.parametrize("start", ["/runs/a", "runs/a", "s3://bucket/runs/a", "file:///runs/a", "memory://a"])
def test_windows_lie_beside_their_store(start):
    assert windows_folder(f"{start}/embeddings/gallery") == f"{start}/embeddings/windows/gallery"
    assert windows_file(f"{start}/embeddings/gallery/s.parquet") == f"{start}/embeddings/windows/gallery/s.parquet"


def test_stores_of_two_roles_do_not_share_windows():
    assert windows_folder("run/gallery") != windows_folder("run/queries")


# ---- one shard


@settings(max_examples=40)
@given(st.data(), st.lists(st.integers(1, 5), max_size=6))
def test_some_images_are_read_as_they_were_written(tmp_path_factory, data, counts):
    file = tmp_path_factory.mktemp("windows") / "s.parquet"
    kept = write(file, images(counts))
    assert windows_summary(str(file)) == len(kept)
    assert_same(read_windows(str(file), np.arange(len(kept))), kept)
    chosen = [place for place in range(len(kept)) if data.draw(st.booleans())]
    for path in (str(file), f"file://{file}"):
        assert_same(read_windows(path, np.array(chosen, np.int64)), [kept[place] for place in chosen])


def test_a_shard_without_images(folder):
    file = storage.join(folder, "s.parquet")
    write(file, [])
    assert windows_summary(file) == 0
    assert read_windows(file, np.array([], np.int64)) == []
    assert pq.read_schema(storage.open_read(file)).field("window").type == pa.binary(DIM)


def test_other_readers_open_the_windows_without_our_code(tmp_path):
    kept = write(tmp_path / "s.parquet", images([2, 1, 3]))
    paths = [name for name, image in zip(names_of(kept), kept, strict=True) for _ in image.windows]
    boxes, rows = np.concatenate([i.boxes for i in kept]), np.concatenate([i.windows for i in kept])
    table = pq.read_table(tmp_path / "s.parquet")
    assert table.schema.names == ["path", "box", "window"]
    assert table["path"].to_pylist() == paths
    assert table["box"].to_pylist() == boxes.tolist()
    assert [list(np.frombuffer(row, np.int8)) for row in table["window"].to_pylist()] == rows.tolist()
    frame = pd.read_parquet(tmp_path / "s.parquet")
    assert frame.path.tolist() == paths
    assert np.stack(frame.box).tolist() == boxes.tolist()
    assert np.frombuffer(b"".join(frame.window), np.int8).reshape(-1, DIM).tolist() == rows.tolist()


def test_on_a_disk_only_what_is_asked_for_is_read(tmp_path, rows_read):
    kept = write(tmp_path / "s.parquet", images([2, 3, 1, 4, 5]))
    assert_same(read_windows(str(tmp_path / "s.parquet"), np.array([1, 2, 4])), [kept[1], kept[2], kept[4]])
    assert rows_read == [(2, 4), (10, 5)]  # neighbours at once


@pytest.mark.parametrize(
    ("gap", "expected"),
    [
        (0, [(2, 3), (6, 4), (12, 2)]),
        (2 * DIM - 1, [(2, 8), (12, 2)]),
        (2 * DIM, [(2, 12)]),
    ],
)
def test_from_a_url_images_are_read_at_once_if_little_lies_between(monkeypatch, tmp_path, rows_read, gap, expected):
    """One row lies between the first two, two rows between the others."""
    monkeypatch.setattr(windows, "_GAP", gap)
    url = f"memory://{tmp_path.name}-{gap}/s.parquet"
    kept = write(url, images([2, 3, 1, 4, 2, 2]))
    assert_same(read_windows(url, np.array([1, 3, 5])), [kept[1], kept[3], kept[5]])
    assert rows_read == expected


def test_a_usual_gap_is_read_with_its_neighbours_from_a_url_only(tmp_path, rows_read):
    for path, expected in ((str(tmp_path / "s.parquet"), [(0, 1), (2, 1)]), (f"memory://{tmp_path.name}/s", [(0, 3)])):
        rows_read.clear()
        kept = write(path, images([1, 1, 1]))
        assert_same(read_windows(path, np.array([0, 2])), [kept[0], kept[2]])
        assert rows_read == expected


@pytest.mark.parametrize("keep", [0.3, 0.9])
def test_a_torn_file_is_named(folder, keep):
    shard = storage.join(folder, "gallery", "s.parquet")
    file = windows_file(shard)
    write(file, images([40, 50]))
    content = storage.read_bytes(file)
    storage.write_bytes(file, content[: int(keep * len(content))])
    for read in (
        lambda: read_windows(file, np.array([0])),
        lambda: list(read_places([(shard, 0, 2)], 0, np.array([1]))),
    ):
        with pytest.raises(ValueError, match=r"windows/gallery/s\.parquet: not a whole Parquet file .*delete it"):
            read()


def test_an_absent_file_is_an_error(folder):
    with pytest.raises(FileNotFoundError):
        read_windows(storage.join(folder, "s.parquet"), np.array([0]))


# ---- several shards


def test_images_of_several_shards_are_copied_in_order(folder):
    shards = [images(counts, seed) for seed, counts in enumerate([[2, 1, 3], [], [4, 1]])]
    files = [storage.join(folder, f"{number}.parquet") for number in range(3)]
    for number, (file, kept) in enumerate(zip(files, shards, strict=True)):
        write(file, kept, f"{number}/")
    names = [names_of(kept, f"{number}/") for number, kept in enumerate(shards)]
    target = storage.join(folder, "target.parquet")
    wanted = [names[0][2], names[0][0], "0/another.png"]  # not in the order of the shard
    copy_windows([(files[2], names[2]), (files[1], ["1/another.png"]), (files[0], wanted)], target)
    assert windows_summary(target) == 4
    assert_same(read_windows(target, np.arange(4)), [*shards[2], shards[0][0], shards[0][2]])
    assert_same(read_windows(target, np.array([1, 3])), [shards[2][1], shards[0][2]])
    table = pq.read_table(storage.open_read(target))
    assert table["path"].to_pylist() == [*[names[2][0]] * 4, names[2][1], *[names[0][0]] * 2, *[names[0][2]] * 3]
    copy_windows([(files[0], []), (files[1], [])], target)
    assert windows_summary(target) == 0
    assert read_windows(target, np.array([], np.int64)) == []


@settings(max_examples=40)
@given(st.data(), st.integers(0, 20))
def test_places_are_found_in_slices_of_shards(tmp_path_factory, data, first):
    store = str(tmp_path_factory.mktemp("run") / "gallery")
    slices, numbered = [], []
    for number in range(data.draw(st.integers(1, 4))):
        shard = storage.join(store, f"{number}.parquet")
        kept = write(windows_file(shard), images(data.draw(st.lists(st.integers(1, 3), max_size=4)), number))
        start = data.draw(st.integers(0, len(kept)))
        stop = data.draw(st.integers(start, len(kept)))
        slices.append((shard, start, stop))
        numbered += kept[start:stop]
    chosen = [place for place in range(len(numbered)) if data.draw(st.booleans())]
    found = list(read_places(slices, first, first + np.array(chosen, np.int64)))
    assert all(len(places) == len(kept) > 0 for places, kept in found)
    assert [place - first for places, _ in found for place in places.tolist()] == chosen
    assert_same([image for _, kept in found for image in kept], [numbered[place] for place in chosen])


def test_shards_without_a_place_are_not_read(tmp_path):
    """Places of images before and after the slices are another reader's."""
    shards = [str(tmp_path / "gallery" / f"{number}.parquet") for number in range(3)]
    kept = write(windows_file(shards[1]), images([1, 2, 3]))
    slices = [(shards[0], 0, 4), (shards[1], 1, 3), (shards[2], 2, 5)]
    found = list(read_places(slices, 10, np.array([3, 9, 15, 19, 40])))
    assert [places.tolist() for places, _ in found] == [[15]]
    assert_same(found[0][1], [kept[2]])
