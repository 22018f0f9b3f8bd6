"""The embedding store: what is written is what every reader finds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval_core.files import stamps, storage, tables
from retrieval_core.store.embeddings import (
    MANIFEST,
    Reject,
    copy_images,
    read_manifest,
    read_vectors,
    shard_summary,
    write_manifest,
    write_shard,
)
from retrieval_core.store.windows import (
    Kept,
    read_windows,
    windows_file,
    windows_folder,
    windows_summary,
    write_windows,
)

REJECTS = [Reject("img/bad,é.png", "corrupt", 'line "1"\n2'), Reject("img/gone.png", "missing", "no such file")]


def unit_rows(count, dim, seed=0):
    rows = np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def shard(file, names, regions=1, dim=4, rejects=(), dtype="float32", seed=0):
    """Write a shard; returns (name -> (R, D) vectors, name -> (R, 4) boxes) as they were given."""
    vectors = unit_rows(len(names) * regions, dim, seed)
    boxes = np.random.default_rng(seed).integers(0, 999, (len(names), regions, 4)).astype(np.int32)
    images = [(name, Path(name).stem) for name in names]
    write_shard(str(file), images, boxes, vectors, rejects, dtype)
    blocks = vectors.reshape(len(names), regions, dim)
    return dict(zip(names, blocks, strict=True)), dict(zip(names, boxes, strict=True))


def rows_by_image(table):
    """(path, region) -> row; they must be unique."""
    rows = {(row["path"], row["region"]): row for row in table.to_pylist()}
    assert len(rows) == len(table)
    return rows


@pytest.mark.parametrize("regions", [1, 5])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_what_is_written_is_read(tmp_path, dtype, regions):
    names = ["img/b.png", "img/a.png", "img/é ,.png"]
    vectors, boxes = shard(tmp_path / "s.parquet", names, regions, dtype=dtype, rejects=REJECTS)
    table = tables.read_table(str(tmp_path / "s.parquet"))
    assert table.schema.names == ["path", "id", "region", "box", "embedding"]
    assert table.schema.field("region").type == pa.int16()
    assert table.schema.field("embedding").type == pa.list_(pa.float16() if dtype == "float16" else pa.float32(), 4)
    rows = rows_by_image(table)
    assert sorted(rows) == sorted((name, region) for name in names for region in range(regions))
    for (name, region), row in rows.items():
        assert row["id"] == Path(name).stem
        assert row["box"] == boxes[name][region].tolist()
        stored = np.array(row["embedding"], np.float32)
        np.testing.assert_array_equal(stored, vectors[name][region].astype(dtype).astype(np.float32))
        np.testing.assert_allclose(stored, vectors[name][region], atol=2**-11 if dtype == "float16" else 0)
    assert shard_summary(str(tmp_path / "s.parquet")) == (len(names) * regions, REJECTS)


def test_float16_takes_half_the_space(tmp_path):
    names = [f"img/{n}.png" for n in range(200)]
    sizes = {}
    for dtype in ("float32", "float16"):
        shard(tmp_path / dtype, names, dim=64, dtype=dtype)
        sizes[dtype] = (tmp_path / dtype).stat().st_size
    assert sizes["float16"] < 0.6 * sizes["float32"]


def test_a_shard_of_rejects_only(tmp_path):
    file = tmp_path / "s.parquet"
    shard(file, [], regions=2, rejects=REJECTS)
    assert shard_summary(str(file)) == (0, REJECTS)
    found = read_vectors([(str(file), 0, 0)], 2, boxes=True)
    assert len(found.paths) == len(found.embeddings_FRD) == len(found.boxes_FR4) == 0
    assert pq.read_table(file).schema.field("embedding").type == pa.list_(pa.float32(), 4)


def test_a_shrunken_shard_is_the_rest_bit_by_bit(tmp_path):
    old, new = tmp_path / "old.parquet", tmp_path / "new.parquet"
    names = [f"img/{n}.png" for n in "dacb"]
    shard(old, names, regions=2, dtype="float16", rejects=REJECTS)
    copy_images([(str(old), ["img/c.png", "img/d.png", REJECTS[1].path])], str(new))
    before, after = pq.read_table(old), pq.read_table(new)
    kept = [row for row in before.to_pylist() if row["path"] in ("img/c.png", "img/d.png")]
    assert after.to_pylist() == kept
    assert after.schema.equals(before.schema)
    assert shard_summary(str(new)) == (4, [REJECTS[1]])
    copy_images([(str(old), [])], str(new))
    assert shard_summary(str(new)) == (0, [])


def test_a_shard_of_images_of_several(tmp_path):
    sources, expected = [], []
    for number in range(3):
        file, names = tmp_path / f"{number}.parquet", [f"{number}/{n}.png" for n in "cab" if number]
        shard(file, names, regions=2, rejects=[Reject(f"{number}/gone.png", "missing", "")], seed=number)
        wanted = [*names[:2], *([f"{number}/gone.png"] if number else [])]
        sources.append((str(file), wanted))
        expected += [row for row in pq.read_table(file).to_pylist() if row["path"] in wanted]
    target = str(tmp_path / "of-several.parquet")
    copy_images(sources, target)
    assert pq.read_table(target).to_pylist() == expected
    rows, rejects = shard_summary(target)
    assert (rows, [reject.path for reject in rejects]) == (8, ["1/gone.png", "2/gone.png"])
    found = read_vectors([(target, 0, 4)], 2)
    assert found.paths.to_pylist() == ["1/a.png", "1/c.png", "2/a.png", "2/c.png"]


def test_other_readers_open_a_store_without_our_code(tmp_path):
    expected = {}
    for number in range(3):
        names = [f"img/{number}-{n}.png" for n in range(4)]
        vectors, _ = shard(tmp_path / f"00000-00000{number}-x.parquet", names, regions=2, seed=number)
        expected |= {(name, region): vectors[name][region] for name in names for region in range(2)}
    shard(tmp_path / "00000-000003-x.parquet", [], regions=2, rejects=REJECTS)
    write_manifest(str(tmp_path), "f", [{"file": name} for name in storage.list_names(str(tmp_path))], {})
    files = sorted(str(file) for file in tmp_path.glob("*.parquet"))
    table = pa.dataset.dataset(files).to_table()
    assert table.num_rows == 24
    for key, row in rows_by_image(table).items():
        np.testing.assert_array_equal(np.array(row["embedding"], np.float32), expected[key])
    frame = pd.concat([pd.read_parquet(file) for file in files])
    assert list(frame.columns) == ["path", "id", "region", "box", "embedding"]
    for row in frame.itertuples():
        np.testing.assert_array_equal(row.embedding, expected[row.path, row.region])
    assert len(frame) == 24


def test_float16_opens_in_pandas(tmp_path):
    vectors, _ = shard(tmp_path / "s.parquet", ["a.png"], dtype="float16")
    frame = pd.read_parquet(tmp_path / "s.parquet")
    np.testing.assert_array_equal(frame.embedding[0], vectors["a.png"][0].astype(np.float16))


# ---- reading vectors


@settings(max_examples=30)
@given(data=st.data(), regions=st.sampled_from([1, 3]), dtype=st.sampled_from(["float32", "float16"]))
def test_reading_slices_equals_reading_row_by_row(tmp_path_factory, data, regions, dtype):
    folder = tmp_path_factory.mktemp("store")
    names = data.draw(st.lists(st.text("aZé/.", min_size=1, max_size=6), unique=True, max_size=9), label="paths")
    cut = data.draw(st.integers(0, len(names)), label="cut")
    slices, wanted = [], []
    for number, part in enumerate((names[:cut], names[cut:])):
        file = folder / f"{number}.parquet"
        shard(file, part, regions, dtype=dtype, seed=number)
        start = data.draw(st.integers(0, len(part)), label="start")
        stop = data.draw(st.integers(start, len(part)), label="stop")
        slices.append((str(file), start, stop))
        wanted += part[start:stop]
    stored = list(wanted)
    wanted.sort(key=lambda name: name.encode())
    rows = {}
    for file, _, _ in slices:
        rows |= rows_by_image(pq.read_table(file))
    found = read_vectors(slices, regions, boxes=True)
    assert found.paths.to_pylist() == wanted
    assert [stored[place] for place in found.order_F] == wanted
    assert found.order_F.dtype == np.int64
    assert found.embeddings_FRD.dtype == np.float32
    assert found.boxes_FR4.shape == (len(wanted), regions, 4)
    assert found.embeddings_FRD.shape[:2] == (len(wanted), regions)
    for index, name in enumerate(wanted):
        for region in range(regions):
            row = rows[name, region]
            assert found.embeddings_FRD[index, region].tolist() == np.array(row["embedding"], np.float32).tolist()
            assert found.boxes_FR4[index, region].tolist() == row["box"]
    plain = read_vectors(slices, regions)
    np.testing.assert_array_equal(plain.embeddings_FRD, found.embeddings_FRD)
    assert plain.boxes_FR4.shape == (len(wanted), regions, 4)


def test_reading_no_file_is_empty():
    found = read_vectors([], 3, boxes=True)
    assert (len(found.paths), found.embeddings_FRD.shape[:2], found.boxes_FR4.shape) == (0, (0, 3), (0, 3, 4))


# ---- windows beside the vectors


def shard_with_windows(folder, number):
    """A shard of two images, of which the second has two windows; and the windows by image."""
    names, file = [f"{number}/b.png", f"{number}/a.png"], str(folder / f"{number}.parquet")
    shard(file, names, seed=number)
    values = np.arange(12, dtype=np.int8).reshape(3, 4) + 20 * number
    kept = [Kept(values[:1], np.full((1, 4), number, np.int32)), Kept(values[1:], np.full((2, 4), 9, np.int32))]
    write_windows(windows_file(file), names, kept, 4)
    return file, {name: image.windows.tolist() for name, image in zip(names, kept, strict=True)}


def test_windows_are_copied_with_their_images(tmp_path):
    (first, windows), (second, others) = (shard_with_windows(tmp_path / "gallery", number) for number in range(2))
    target = str(tmp_path / "gallery" / "new.parquet")
    copy_images([(first, ["0/a.png"]), (second, ["1/a.png", "1/b.png"])], target)
    assert pq.read_table(target)["path"].to_pylist() == ["0/a.png", "1/b.png", "1/a.png"]
    assert pq.read_table(windows_file(target))["path"].to_pylist() == [*["0/a.png"] * 2, "1/b.png", *["1/a.png"] * 2]
    copied = [image.windows.tolist() for image in read_windows(windows_file(target), np.arange(3))]
    assert copied == [windows["0/a.png"], others["1/b.png"], others["1/a.png"]]


@pytest.mark.parametrize("broken", ["absent", "torn"])
@pytest.mark.parametrize("number", [0, 1])
def test_windows_are_copied_only_where_all_sources_have_them(tmp_path, broken, number):
    files = [shard_with_windows(tmp_path / "gallery", number)[0] for number in range(2)]
    lost = windows_file(files[number])
    if broken == "absent":
        storage.remove(lost)
    else:
        storage.write_bytes(lost, storage.read_bytes(lost)[:-1])
    target = str(tmp_path / "gallery" / "new.parquet")
    copy_images([(file, [f"{number}/b.png"]) for number, file in enumerate(files)], target)
    assert pq.read_table(target)["path"].to_pylist() == ["0/b.png", "1/b.png"]
    assert not storage.exists(windows_file(target))
    copy_images([(files[1 - number], [f"{1 - number}/b.png"])], target)
    assert windows_summary(windows_file(target)) == 1


def test_windows_go_with_their_shards(folder):
    store, other = storage.join(folder, "gallery"), storage.join(folder, "queries")
    for name in ("live.parquet", "stale.parquet", ".live.parquet.1-ab.tmp", "mine.txt"):
        storage.write_bytes(windows_file(storage.join(store, name)), b"x")
    storage.write_bytes(windows_file(storage.join(other, "stale.parquet")), b"x")
    write_manifest(store, "mark", [{"file": "live.parquet"}], {})
    assert storage.list_names(windows_folder(store)) == ["live.parquet", "mine.txt"]
    assert storage.list_names(windows_folder(other)) == ["stale.parquet"]
    assert storage.list_names(store) == [MANIFEST]


# ---- manifest


def test_the_manifest_lists_what_is_live_and_the_rest_goes(tmp_path):
    for name in ("live.parquet", "stale.parquet", ".live.parquet.1-ab.tmp", "mine.txt"):
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(FileNotFoundError):
        read_manifest(str(tmp_path))
    entry = {"file": "live.parquet", "images": 2, "rows": 1, "rejected": 1}
    write_manifest(str(tmp_path), "mark", [entry], {"arm": "frozen"})
    assert read_manifest(str(tmp_path)) == {"fingerprint": "mark", "arm": "frozen", "shards": [entry]}
    assert storage.list_names(str(tmp_path)) == ["live.parquet", MANIFEST, "mine.txt"]


def test_the_manifest_is_written_before_anything_goes(tmp_path, monkeypatch):
    (tmp_path / "stale.parquet").write_bytes(b"x")

    def fail(path, value):
        raise OSError("disk full")

    monkeypatch.setattr(storage, "write_json", fail)
    with pytest.raises(OSError, match="disk full"):
        write_manifest(str(tmp_path), "mark", [], {})
    assert storage.list_names(str(tmp_path)) == ["stale.parquet"]


def test_the_same_manifest_is_not_written_again(tmp_path):
    write_manifest(str(tmp_path), "mark", [], {"arm": "frozen"})
    before = stamps.stamp(str(tmp_path / MANIFEST))
    write_manifest(str(tmp_path), "mark", [], {"arm": "frozen"})
    assert stamps.stamp(str(tmp_path / MANIFEST)) == before
    write_manifest(str(tmp_path), "other", [], {"arm": "frozen"})
    assert read_manifest(str(tmp_path))["fingerprint"] == "other"
