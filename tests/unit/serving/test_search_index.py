"""The engine behind the search page ranks as a naive sort of the stored vectors does, and knows its model."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from retrieval_core.config.config import Config
from retrieval_core.encoding.arms import FROZEN, model_arm
from retrieval_core.encoding.encoders import Images, ModelEncoder
from retrieval_core.encoding.views import views_of
from retrieval_core.images.part import cut_part
from retrieval_core.images.rgb import Picture, decode_rgb, read_image
from retrieval_core.model.weights import save_model
from retrieval_core.run.workspace import RunError
from retrieval_core.serving.catalogue import open_catalogue, shards_of
from retrieval_core.serving.search_index import SearchIndex, open_index
from retrieval_core.store.embeddings import Vectors, read_manifest, read_vectors, write_manifest, write_shard
from tests.unit.serving.small_store import FABRICS, as_file, config, embed, picture, write_fabrics, write_vectors
from tests.unit.tiny_split import make_model

REGIONS = {"embed": {"regions": [1, 2], "region_overlap": 0.25, "vectors": 3}}


class Constant:
    """An encoder that always answers with the same vector."""

    def __init__(self, vector: np.ndarray) -> None:
        self.vector, self.dim = vector, len(vector)

    def encode(self, views: Images) -> np.ndarray:
        return np.repeat(self.vector[None], len(views), axis=0)


def unit(vector: np.ndarray) -> np.ndarray:
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def load_vectors(store: str) -> Vectors:
    manifest = read_manifest(store)
    files = [(file, 0, images) for file, images in shards_of(store, manifest)]
    return read_vectors(files, manifest["regions"], boxes=True)


def naive(query: np.ndarray, vectors: Vectors) -> list[tuple[str, float, int]]:
    """(path, similarity, region), fully sorted: the sums in index order, ties by the bytes of the path."""
    rows = []
    for path, regions in zip(vectors.paths.to_pylist(), vectors.embeddings_FRD.astype(np.float64), strict=True):
        scores = []
        for vector in regions:
            total = 0.0
            for left, right in zip(query.astype(np.float64), vector, strict=True):
                total += left * right
            scores.append(np.float32(total))
        best = int(np.argmax(scores))
        rows.append((path, float(scores[best]), best))
    return sorted(rows, key=lambda row: (-row[1], row[0].encode()))


@pytest.mark.parametrize("regions", [1, 3])
@pytest.mark.parametrize("top", [1, 7, 1000])
@pytest.mark.parametrize("expand", [0, 2])
def test_ranking_is_a_full_sort_with_ties(regions: int, top: int, expand: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    fabrics = rng.normal(size=(40, regions, 6)).astype(np.float32)
    fabrics[10:20] = fabrics[5]  # ties
    fabrics /= np.linalg.norm(fabrics, axis=-1, keepdims=True)
    paths = pa.array(sorted((f"/{'ä花Bb🌸'[index % 5]}{index}" for index in range(40)), key=str.encode))
    boxes = rng.integers(1, 99, (40, regions, 4), dtype=np.int32)
    vectors = Vectors(paths, fabrics, boxes, np.arange(len(fabrics)))
    query = unit(fabrics[5, 0] + fabrics[21, 0])
    store = write_vectors(tmp_path / "store", vectors, per_shard=7)
    catalogue = open_catalogue(store, read_manifest(store), None, lambda _: None)
    index = SearchIndex(catalogue, Constant(query), config(retrieve={"expand": expand}), 28, "mark")
    hits = index.rank(index.encode(picture(1)), top)
    if expand:
        first = [(paths.to_pylist().index(path), score, region) for path, score, region in naive(query, vectors)[:2]]
        query = unit(query + sum(np.float64(score) ** 6 * fabrics[row, region] for row, score, region in first))
    assert [(hit.path, hit.similarity) for hit in hits] == [row[:2] for row in naive(query, vectors)[:top]]
    for hit, (_, _, region) in zip(hits, naive(query, vectors), strict=False):
        assert index.path(hit.row) == hit.path
        assert hit.size == tuple(boxes[hit.row, 0, 2:].tolist())
        assert hit.box == (tuple(boxes[hit.row, region].tolist()) if regions > 1 else None)


@pytest.mark.parametrize("sections", [{}, REGIONS, {"embed": {"storage_dtype": "float16"}}])
@pytest.mark.parametrize("per_shard", [1, 4, 100])
def test_store_is_loaded_in_path_order_whatever_its_shards(
    tmp_path: Path, sections: dict[str, Any], per_shard: int
) -> None:
    keys = config(**sections)
    paths = write_fabrics(tmp_path / "fabrics")
    arm = embed(keys, paths, tmp_path / "store", per_shard)
    index = open_index(str(tmp_path / "store"), arm, keys)
    assert [index.path(row) for row in range(len(index))] == sorted(paths, key=str.encode)
    assert (index.regions, index.dim) == (3 if sections == REGIONS else 1, 512)
    for path in paths:
        hits = index.rank(index.encode(read_image(path, keys.images)), FABRICS)
        assert hits[0].path == path  # its own picture is most similar
        assert math.isclose(hits[0].similarity, 1, abs_tol=1e-3)
        assert hits[0].size == (64, 48)
        assert (hits[0].box is None) == (sections != REGIONS)


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"model": {"pooling": "cls", "image_size": 42}}, "another image size"),
        (REGIONS, "other vectors a fabric"),
        ({"images": {"resize": "published"}}, "other keys of images, model or embed"),
    ],
)
def test_store_of_other_views_is_refused(tmp_path: Path, sections: dict[str, Any], words: str) -> None:
    embed(config(), write_fabrics(tmp_path / "fabrics"), tmp_path / "store")
    other: Config = config(**sections)
    arm = embed(other, write_fabrics(tmp_path / "fabrics"), tmp_path / "unused")
    with pytest.raises(RunError, match=words):
        open_index(str(tmp_path / "store"), arm, other)


def test_windows_of_fabrics_are_searched_for_a_motif(tmp_path: Path) -> None:
    weights, paths = tmp_path / "weights", write_fabrics(tmp_path / "fabrics")
    save_model(make_model(pooling="patches"), str(weights))
    model = {"weights": str(weights), "image_size": 28}

    def keys_of(**keys: Any) -> Config:
        return config(model=model, embed={"fabric_size": 56, "vectors": 3, **keys})

    keys = keys_of()
    store, arm = str(tmp_path / "store"), model_arm(FROZEN, keys.model, 0)
    embed(keys, paths, tmp_path / "store", arm=arm)
    index, views = open_index(store, arm, keys), views_of(keys, keys.model, "queries")
    query = index.encode(picture(4, width=30, height=50))
    cut = views.cut(picture(4, width=30, height=50), keys.images)
    np.testing.assert_allclose(query.vector, views.embed(arm.build(1, 0), [cut])[0][0, 0], atol=1e-6)
    hits = index.rank(query, FABRICS)
    expected = naive(query.vector, load_vectors(store))
    assert [(hit.path, hit.similarity) for hit in hits] == [row[:2] for row in expected]
    assert {hit.size for hit in hits} == {(64, 48)} and all(hit.box is not None for hit in hits)
    for other in ({"fabric_size": 70}, {"vectors": 4}, {"windows": [3]}, {"window_stride": 1}):
        with pytest.raises(RunError, match=r"run `fabric-retrieval embed` with this configuration"):
            open_index(store, arm, keys_of(**other))


@pytest.mark.parametrize("rescore", [0, 5])
def test_a_part_of_a_fabric_is_searched_for_with_its_surroundings(tmp_path: Path, rescore: int) -> None:
    weights, paths = tmp_path / "weights", write_fabrics(tmp_path / "fabrics")
    save_model(make_model(pooling="patches"), str(weights))
    model, keys = {"weights": str(weights), "image_size": 28}, {"fabric_size": 56, "vectors": 3}
    found = config(model=model, embed=keys, retrieve={"rescore": rescore})
    store, arm = str(tmp_path / "store"), model_arm(FROZEN, found.model, 0)
    embed(found, paths, tmp_path / "store", arm=arm)
    index, whole = open_index(store, arm, found), decode_rgb(as_file(picture(4)), found.images)
    box = (10, 8, 40, 30)
    query = index.encode_part(whole, box)
    vectors, parts = cast("ModelEncoder", arm.build(1, 0)).encode_part(cut_part(whole.rgb, box, 28), 2)
    np.testing.assert_allclose(query.vector, vectors[0], atol=1e-6)
    if rescore:
        assert query.parts is not None
        np.testing.assert_allclose(query.parts.vectors[0], parts, atol=1)
    else:
        assert query.parts is None
    cropped = index.encode(whole.rgb.crop(box))
    assert not np.allclose(query.vector, cropped.vector, atol=1e-2)
    # Transparency says what the motif is, and needs no surroundings.
    alpha = Image.new("L", whole.rgb.size, 0)
    alpha.paste(255, (15, 10, 30, 25))
    cut_out = index.encode_part(whole._replace(alpha=alpha), box)
    expected = index.encode(Picture(whole.rgb.crop(box), (30, 22), alpha.crop(box)))
    np.testing.assert_array_equal(cut_out.vector, expected.vector)
    x0, y0, x1, y1 = index.part_at(whole, (63, 47))
    assert 0 <= x0 < x1 <= 64 and 0 <= y0 < y1 <= 48 and (x1, y1) == (64, 48)


def test_store_of_another_model_is_refused(tmp_path: Path) -> None:
    keys = config()
    arm = embed(keys, write_fabrics(tmp_path / "fabrics"), tmp_path / "store")
    with pytest.raises(RunError, match="embedded with another model; run `fabric-retrieval embed`"):
        open_index(str(tmp_path / "store"), arm._replace(weights="others"), keys)


def test_vectors_of_another_width_are_refused(tmp_path: Path) -> None:
    keys = config()
    arm = embed(keys, [], tmp_path / "store")
    write_shard(str(tmp_path / "store" / "a.parquet"), [("a", "a")], np.ones((1, 1, 4)), np.ones((1, 5)), [])
    manifest = read_manifest(str(tmp_path / "store"))
    shards = [{"file": "a.parquet", "images": 1, "rows": 1, "rejected": 0}]
    write_manifest(str(tmp_path / "store"), "mark", shards, {"regions": 1, "weights": manifest["weights"]})
    with pytest.raises(RunError, match="vectors of 5 dimensions, the model gives 512"):
        open_index(str(tmp_path / "store"), arm, keys)


def test_store_that_is_missing_or_empty_is_refused(tmp_path: Path) -> None:
    keys = config()
    arm = embed(keys, [], tmp_path / "empty")
    with pytest.raises(RunError, match="it holds no fabric"):
        open_index(str(tmp_path / "empty"), arm, keys)
    with pytest.raises(RunError, match="no finished store; run `fabric-retrieval embed`"):
        open_index(str(tmp_path / "nowhere"), arm, keys)


def test_rows_that_are_not_there(tmp_path: Path) -> None:
    keys = config()
    arm = embed(keys, write_fabrics(tmp_path / "fabrics"), tmp_path / "store")
    index = open_index(str(tmp_path / "store"), arm, keys)
    for row in (-1, FABRICS):
        with pytest.raises(IndexError, match=f"row {row}"):
            index.path(row)
