"""The files of a catalogue are made once, whole or not at all, and replaced when the store has changed."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from retrieval_core.ranking.topk import block_topk
from retrieval_core.run.workspace import RunError
from retrieval_core.serving import catalogue as module
from retrieval_core.serving.catalogue import Catalogue, open_catalogue
from retrieval_core.store.embeddings import Vectors, read_manifest
from tests.unit.serving.small_store import write_vectors

FABRICS, REGIONS, DIM = 50, 2, 16


def drawn(seed: int, fabrics: int = FABRICS) -> Vectors:
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(fabrics, REGIONS, DIM)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
    paths = pa.array(sorted((f"{'ä花Bb🌸'[index % 5]}{index}" for index in range(fabrics)), key=str.encode))
    boxes = rng.integers(1, 99, (fabrics, REGIONS, 4), dtype=np.int32)
    return Vectors(paths, vectors, boxes, np.arange(fabrics))


def opened(folder: Path, seed: int, search: Path | None, advanced: list[int] | None = None) -> Catalogue:
    store = write_vectors(folder / f"store{seed}", drawn(seed), 7, fingerprint=f"{seed:040}")
    told = [] if advanced is None else advanced
    return open_catalogue(store, read_manifest(store), None if search is None else str(search), told.append)


def assert_ranks(catalogue: Catalogue, vectors: Vectors) -> None:
    for seed in range(5):
        query = np.random.default_rng(seed).normal(size=DIM).astype(np.float32)
        found, expected = catalogue.topk(query, 9), block_topk(query[None], vectors.embeddings_FRD, 9)
        for name, values in (("rows", expected.rows), ("scores", expected.scores), ("regions", expected.regions)):
            assert getattr(found, name).tolist() == values[0].tolist()
        matched = vectors.embeddings_FRD[expected.rows[0], expected.regions[0]]
        np.testing.assert_array_equal(found.vectors_KD, matched)
    for row, path in enumerate(vectors.paths.to_pylist()):
        assert catalogue.path(row) == path
        assert np.array(catalogue.boxes(row)).tolist() == vectors.boxes_FR4[row].tolist()


def test_it_ranks_as_the_vectors_in_memory_do_and_is_made_once(tmp_path: Path) -> None:
    advanced: list[int] = []
    assert_ranks(opened(tmp_path, 1, tmp_path / "search", advanced), drawn(1))
    assert sum(advanced) == FABRICS
    manifest = read_manifest(str(tmp_path / "store1"))
    shutil.rmtree(tmp_path / "store1")  # what follows is not read from the store
    again = open_catalogue("nowhere", manifest, str(tmp_path / "search"), advanced.append)
    assert_ranks(again, drawn(1))
    assert sum(advanced) == FABRICS


def test_the_place_in_the_store_goes_with_each_fabric(tmp_path: Path) -> None:
    catalogue, vectors = opened(tmp_path, 3, None), drawn(3)
    order = np.random.default_rng(0).permutation(FABRICS)
    places = np.concatenate([np.sort(order[start : start + 7]) for start in range(0, FABRICS, 7)])
    found = catalogue.topk(vectors.embeddings_FRD[0, 0], FABRICS)
    assert places[found.places].tolist() == found.rows.tolist()


def test_another_store_takes_its_place_while_the_old_one_goes_on(tmp_path: Path) -> None:
    old = opened(tmp_path, 1, tmp_path / "search")
    assert_ranks(opened(tmp_path, 2, tmp_path / "search"), drawn(2))
    assert len(list((tmp_path / "search").iterdir())) == 1
    assert_ranks(old, drawn(1))


@pytest.mark.parametrize("folder", [None, "file/below", "read-only"])
def test_without_a_folder_that_can_be_written_the_copy_is_temporary(folder: str | None, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    (tmp_path / "read-only").mkdir(mode=0o500)
    if folder == "read-only" and os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    assert_ranks(opened(tmp_path, 1, None if folder is None else tmp_path / folder), drawn(1))
    assert not list((tmp_path / "read-only").iterdir())


def test_a_copy_that_cannot_be_written_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened(tmp_path, 1, tmp_path / "search")
    monkeypatch.setattr(module.os, "access", lambda *_: False)  # root may write everywhere
    monkeypatch.setattr(module, "_make", None)
    assert_ranks(opened(tmp_path, 1, tmp_path / "search"), drawn(1))


def test_a_store_that_was_to_hold_the_same_and_holds_more_is_another(tmp_path: Path) -> None:
    """A picture that was rejected, and is not any more."""
    catalogues = []
    for fabrics in (FABRICS - 1, FABRICS):
        store = write_vectors(tmp_path / "store", drawn(1, fabrics), FABRICS, fingerprint="the same")
        catalogues.append(open_catalogue(store, read_manifest(store), str(tmp_path / "search"), lambda _: None))
    assert [len(catalogue) for catalogue in catalogues] == [FABRICS - 1, FABRICS]


def test_an_attempt_that_was_killed_is_not_taken_up_and_is_removed_later(tmp_path: Path) -> None:
    search = tmp_path / "search"
    fresh, forgotten = search / "x.tmp", search / "y.tmp"
    for folder in (fresh, forgotten):
        folder.mkdir(parents=True)
        (folder / "codes_FRD.npy").write_bytes(b"cut")
    past = time.time() - 2 * 86_400
    os.utime(forgotten, (past, past))
    assert_ranks(opened(tmp_path, 1, search), drawn(1))
    assert fresh.exists() and not forgotten.exists()


def test_two_processes_at_a_time_both_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make = module._make

    def slower(*arguments: Any) -> Catalogue:
        monkeypatch.setattr(module, "_make", make)
        opened(tmp_path, 1, tmp_path / "search")  # the other one is ready first
        return make(*arguments)

    monkeypatch.setattr(module, "_make", slower)
    assert_ranks(opened(tmp_path, 1, tmp_path / "search"), drawn(1))
    assert len(list((tmp_path / "search").iterdir())) == 1


def test_a_disk_that_is_too_small_is_told_before_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 1))
    with pytest.raises(RunError, match=r"search: the catalogue takes 0\.0 GB there .* make room"):
        opened(tmp_path, 1, tmp_path / "search")
    assert not list((tmp_path / "search").iterdir())


def test_a_disk_that_fills_up_is_told_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.np, "save", full)
    with pytest.raises(RunError, match="search: No space left on device, while the catalogue is made ready there"):
        opened(tmp_path, 1, tmp_path / "search")
    assert not list((tmp_path / "search").iterdir())


def test_wrong_queries_are_refused(tmp_path: Path) -> None:
    catalogue = opened(tmp_path, 1, None)
    with pytest.raises(ValueError, match="k = 0"):
        catalogue.topk(np.ones(DIM, np.float32), 0)
    with pytest.raises(ValueError, match=r"shape \(3,\) for vectors of 16"):
        catalogue.topk(np.ones(3, np.float32), 1)
    for row in (-1, FABRICS):
        with pytest.raises(IndexError, match=f"row {row}"):
            catalogue.path(row)
