"""Exact search in one process: a finished embedding store in memory, and the run's model.

Shapes: F fabrics in path order, R vectors of one, D dimensions, H, W of the query image.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from PIL import Image

from retrieval_core.config.config import Config
from retrieval_core.encoding.arms import Arm, encoder_fingerprint
from retrieval_core.encoding.encoders import Encoder
from retrieval_core.encoding.views import views_of
from retrieval_core.files import storage, tables
from retrieval_core.images.rgb import Picture
from retrieval_core.ranking.expansion import expand_queries
from retrieval_core.ranking.topk import block_topk
from retrieval_core.run.workspace import RunError
from retrieval_core.store.embeddings import Box, Vectors, read_manifest, read_vectors


class Hit(NamedTuple):
    """A fabric that was found."""

    row: int  # in the catalogue, in path order
    path: str  # as the store spells it
    similarity: float  # cosine
    size: tuple[int, int]  # width and height of the upright fabric
    box: Box | None  # region that matched best; None where a fabric has one vector


class SearchIndex:
    """The fabrics of a store as one array, and the model that encodes queries, in one thread at a time.

    Similarities are those of the candidate pool, and so is their order: score descending, then path as UTF-8 bytes. A
    query is encoded alone, so its vector may differ from that of a run's batch by rounding.

    ``vectors`` come by path, and ``size`` is the side in pixels of the square the model sees. Under another
    ``fingerprint`` of the store a row may be another fabric. Memory O(F R D) float32 (100,000 fabrics of one vector of
    256: 102 MB) and the model.
    """

    def __init__(self, vectors: Vectors, encoder: Encoder, config: Config, size: int, fingerprint: str) -> None:
        self.fingerprint = fingerprint
        self.images = config.images
        self.regions = vectors.embeddings_FRD.shape[1]
        self.dim = encoder.dim
        self.size = size
        self._vectors, self._encoder, self._expand = vectors, encoder, config.retrieve.expand
        self._views = views_of(config, config.model, "queries")
        self._encoding = threading.Lock()  # the model uses every core; two calls at a time only double its memory

    def __len__(self) -> int:
        return len(self._vectors.paths)

    def path(self, row: int) -> str:
        """Path of a fabric as the store spells it; IndexError for a row that is not there."""
        if not 0 <= row < len(self):
            raise IndexError(f"row {row}: the catalogue has {len(self)} fabrics")
        return str(self._vectors.paths[row].as_py())

    def encode(self, image: NDArray[np.uint8] | Image.Image | Picture) -> NDArray[np.float32]:
        """The vector (D,) of an upright RGB query image, decoded, PIL or (H, W, 3) uint8. Memory O(H W)."""
        cut = self._views.cut(image, self.images)
        with self._encoding:
            vector: NDArray[np.float32] = self._views.embed(self._encoder, [cut])[0][0, 0]
        return vector

    def rank(self, query_D: NDArray[np.float32], top: int) -> list[Hit]:
        """The first ``top`` fabrics, best first; all of them if there are fewer. The query is expanded as for a pool.

        Time O(F R D); memory as ``block_topk`` for one query. Raises ValueError for ``top < 1`` or another width.
        """
        if not len(self):
            return []
        vectors_FRD, queries_QD = self._vectors.embeddings_FRD, query_D[None]
        if self._expand:
            first = block_topk(queries_QD, vectors_FRD, self._expand)
            queries_QD = expand_queries(queries_QD, vectors_FRD[first.rows, first.regions], first.scores)
        found = block_topk(queries_QD, vectors_FRD, top)
        hits = []
        for row, region, similarity in zip(found.rows[0], found.regions[0], found.scores[0], strict=True):
            boxes = self._vectors.boxes_FR4[row].tolist()
            box = tuple(boxes[region]) if self.regions > 1 else None
            # Vector 0 stands for the whole fabric, so its box is the picture.
            hits.append(Hit(int(row), self.path(int(row)), float(similarity), (boxes[0][2], boxes[0][3]), box))
        return hits


def open_index(store: str, arm: Arm, config: Config) -> SearchIndex:
    """Load a finished store of fabrics and the model it was made with; ``config`` is that of the run.

    Raises RunError if the store is not finished, empty, or was made with another model or preprocessing, and
    WeightsError if the model cannot be loaded.
    """
    try:
        manifest = read_manifest(store)
    except FileNotFoundError:
        raise RunError(f"{store}: there is no finished store; run `fabric-retrieval embed`") from None
    refuse_other_model(store, manifest, arm, config)
    vectors = load_vectors(store, manifest)
    if not len(vectors.paths):
        raise RunError(f"{store}: it holds no fabric; see rejects.parquet in the run's folder")
    # A batch is padded to its size, and a query is one view.
    encoder = arm.build(1, config.run.seed)
    stored = vectors.embeddings_FRD.shape[2]
    if stored != encoder.dim:
        raise RunError(f"{store}: vectors of {stored} dimensions, the model gives {encoder.dim}; embed again")
    return SearchIndex(vectors, encoder, config, arm.image_size, manifest["fingerprint"])


def refuse_other_model(store: str, manifest: Mapping[str, Any], arm: Arm, config: Config) -> None:
    """Raise RunError if a store was made with other weights, image size, preprocessing or regions than the model's."""
    views = views_of(config, arm.model, "gallery")
    wanted = {
        "weights": arm.weights,
        "image_size": views.image_size,
        "regions": views.rows,
        "encoder": encoder_fingerprint(arm, views, config),
    }
    # The manifest of an older store has no "encoder".
    different = [name for name, value in wanted.items() if manifest.get(name, value) != value]
    if different:
        words = {"weights": "another model", "image_size": "another image size", "regions": "other vectors a fabric"}
        how = words.get(different[0], "other keys of images, model or embed")
        raise RunError(f"{store}: embedded with {how}; run `fabric-retrieval embed` with this configuration")


def load_vectors(store: str, manifest: Mapping[str, Any]) -> Vectors:
    """All fabrics of a store, by path as UTF-8 bytes, with their boxes. Memory O(F R D) float32, and one shard."""
    regions = int(manifest["regions"])
    shards = [(storage.join(store, entry["file"]), entry["rows"] // regions) for entry in manifest["shards"]]
    shards = [(file, images) for file, images in shards if images]
    if not shards:
        return read_vectors([], regions)
    dim = read_vectors([(shards[0][0], 0, 1)], regions).embeddings_FRD.shape[2]
    paths = pa.concat_arrays([_paths(file, regions) for file, _ in shards])
    order = np.asarray(pc.sort_indices(paths))
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    embeddings = np.empty((len(order), regions, dim), np.float32)
    boxes = np.empty((len(order), regions, 4), np.int32)
    stored = np.empty(len(order), np.int64)
    start = 0
    for file, images in shards:
        part = read_vectors([(file, 0, images)], regions, boxes=True)
        rows = place[start : start + images]
        embeddings[rows], boxes[rows], stored[rows] = part.embeddings_FRD, part.boxes_FR4, start + part.order_F
        start += images
    return Vectors(paths.take(pa.array(order)), embeddings, boxes, stored)


def _paths(file: str, regions: int) -> pa.Array:
    """Paths of a shard's images in the order in which ``read_vectors`` gives them: sorted."""
    column = tables.read_table(file, columns=["path"]).column("path").combine_chunks().cast(pa.large_string())
    paths = column.take(pa.array(np.arange(0, len(column), regions)))
    return paths.take(pc.sort_indices(paths))
