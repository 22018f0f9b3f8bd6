"""Shards and manifests on a store that fails: a shard is whole or absent, and nothing live is ever removed."""

from __future__ import annotations

import numpy as np
import pytest

from retrieval_core.files import storage
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
from tests.erring_store import BUSY, DENIED, ServerDisconnectedError, plan

FOLDER = "erring://run/gallery"
LOST = ServerDisconnectedError("Server disconnected")
ERRORS = (OSError, ServerDisconnectedError)
REJECTS = [Reject("c.png", "corrupt", "")]


pytestmark = pytest.mark.usefixtures("erring_store")


def write(name, value=1.0):
    boxes, vectors = np.zeros((2, 1, 4), np.int32), np.full((2, 3), value, np.float32)
    write_shard(f"{FOLDER}/{name}", [("a.png", "a"), ("b.png", "b")], boxes, vectors, REJECTS)


def entries(*names):
    return [{"file": name, "images": 3, "rows": 2, "rejected": 1} for name in names]


def vectors_of(name):
    return read_vectors([(f"{FOLDER}/{name}", 0, 2)], 1).embeddings_FRD[:, 0].tolist()


@pytest.mark.parametrize("error", [BUSY, DENIED, LOST])
def test_a_shard_that_cannot_be_written_is_absent_or_as_it_was(error):
    plan(write=[error])
    with pytest.raises(ERRORS):
        write("s.parquet")
    assert storage.list_names(FOLDER) == []
    write("s.parquet")
    plan(write=[error])
    with pytest.raises(ERRORS):
        write("s.parquet", 2.0)
    assert vectors_of("s.parquet") == [[1.0] * 3] * 2


@pytest.mark.parametrize("errors", [[BUSY], [BUSY, BUSY]])
def test_a_bad_moment_passes(errors):
    write("s.parquet")
    write_manifest(FOLDER, "f", entries("s.parquet"), {"regions": 1})
    plan(read=errors)
    assert shard_summary(f"{FOLDER}/s.parquet") == (2, REJECTS)
    plan(read=errors)
    assert vectors_of("s.parquet") == [[1.0] * 3] * 2
    plan(read=errors)
    assert read_manifest(FOLDER)["shards"] == entries("s.parquet")


@pytest.mark.parametrize("errors", [[BUSY] * 3, [DENIED], [LOST]])
def test_what_cannot_be_read_is_an_error(errors):
    write("s.parquet")
    write_manifest(FOLDER, "f", entries("s.parquet"), {})
    for read in (vectors_of, lambda name: shard_summary(f"{FOLDER}/{name}"), lambda _: read_manifest(FOLDER)):
        plan(read=errors)
        with pytest.raises(ERRORS):
            read("s.parquet")
    plan()
    assert storage.list_names(FOLDER) == [MANIFEST, "s.parquet"]


@pytest.mark.parametrize("schedule", [{"read": [BUSY] * 3}, {"write": [BUSY]}, {"write": [LOST]}])
def test_a_shard_that_cannot_shrink_keeps_its_images(schedule):
    write("s.parquet")
    plan(**schedule)
    with pytest.raises(ERRORS):
        copy_images([(f"{FOLDER}/s.parquet", ["a.png"])], f"{FOLDER}/t.parquet")
    plan()
    assert storage.list_names(FOLDER) == ["s.parquet"]
    assert shard_summary(f"{FOLDER}/s.parquet") == (2, REJECTS)


@pytest.mark.parametrize(
    ("schedule", "left"),
    [
        ({"write": [BUSY]}, ["new.parquet", "old.parquet"]),
        ({"write": [LOST]}, ["new.parquet", "old.parquet"]),
        ({"read": [BUSY] * 3}, ["new.parquet", "old.parquet"]),
        ({"list": [BUSY]}, ["new.parquet", "old.parquet"]),
        ({"remove": [BUSY]}, ["new.parquet", "old.parquet"]),
        ({}, ["new.parquet"]),
    ],
)
def test_no_shard_goes_before_the_manifest_without_it_is_whole(schedule, left):
    write("old.parquet")
    write("new.parquet")
    write_manifest(FOLDER, "f", entries("new.parquet", "old.parquet"), {})
    plan(**schedule)
    if schedule:
        with pytest.raises(ERRORS):
            write_manifest(FOLDER, "g", entries("new.parquet"), {})
    else:
        write_manifest(FOLDER, "g", entries("new.parquet"), {})
    plan()
    assert storage.list_names(FOLDER) == [MANIFEST, *left]
    live = [entry["file"] for entry in read_manifest(FOLDER)["shards"]]
    assert set(live) <= set(left)
    write_manifest(FOLDER, "g", entries("new.parquet"), {})
    assert storage.list_names(FOLDER) == [MANIFEST, "new.parquet"]
