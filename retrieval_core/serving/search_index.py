"""Exact search in one process: a finished embedding store in memory, and the run's model.

Shapes: F fabrics in path order, R vectors of one, D dimensions, H, W of the query image.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
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
from retrieval_core.ranking.partials import topk_table
from retrieval_core.ranking.second_look import Parts
from retrieval_core.ranking.topk import block_topk
from retrieval_core.run.workspace import RunError
from retrieval_core.serving.second_look import look_again
from retrieval_core.store.embeddings import Box, Vectors, read_manifest, read_vectors


class Hit(NamedTuple):
    """A fabric that was found."""

    row: int  # in the catalogue, in path order
    path: str  # as the store spells it
    similarity: float  # cosine
    size: tuple[int, int]  # width and height of the upright fabric
    box: Box | None  # region that matched best; None where a fabric has one vector
    occurrences: tuple[Box, ...] = ()  # every place where it shows the motif, the most similar one first


class Query(NamedTuple):
    """A motif that is searched for."""

    vector: NDArray[np.float32]  # (D,)
    parts: Parts | None = None  # of this one query, number 0, where a second look is taken


class SearchIndex:
    """The fabrics of a store as one array, and the model that encodes queries, in one thread at a time.

    Similarities are those of the candidate pool, and so is their order: score descending, then path as UTF-8 bytes. A
    query is encoded alone, so its vector may differ from that of a run's batch by rounding.

    ``vectors`` come by path, and ``size`` is the side in pixels of the square the model sees. Under another
    ``fingerprint`` of the store a row may be another fabric. ``shards`` are file, 0 and number of images of the store's
    shards, of which a second look reads the windows of what it looks at. Memory O(F R D) float32 (100,000 fabrics of
    one vector of 256: 102 MB) and the model.
    """

    def __init__(
        self,
        vectors: Vectors,
        encoder: Encoder,
        config: Config,
        size: int,
        fingerprint: str,
        shards: Sequence[tuple[str, int, int]] = (),
    ) -> None:
        self.fingerprint = fingerprint
        self.images = config.images
        self.regions = vectors.embeddings_FRD.shape[1]
        self.dim = encoder.dim
        self.size = size
        self._vectors, self._encoder, self._keys, self._shards = vectors, encoder, config.retrieve, shards
        self._views = views_of(config, config.model, "queries")
        self._encoding = threading.Lock()  # the model uses every core; two calls at a time only double its memory

    def __len__(self) -> int:
        return len(self._vectors.paths)

    def path(self, row: int) -> str:
        """Path of a fabric as the store spells it; IndexError for a row that is not there."""
        if not 0 <= row < len(self):
            raise IndexError(f"row {row}: the catalogue has {len(self)} fabrics")
        return str(self._vectors.paths[row].as_py())

    def encode(self, image: NDArray[np.uint8] | Image.Image | Picture) -> Query:
        """An upright RGB query image, decoded, PIL or (H, W, 3) uint8, encoded. Memory O(H W)."""
        cut = self._views.cut(image, self.images)
        with self._encoding:
            found = self._views.embed_all(self._encoder, [cut], keep=self._keys.rescore > 0)
        parts = Parts(np.zeros(1, np.int32), found.kept[0].windows[None]) if found.kept else None
        return Query(found.vectors[0, 0], parts)

    def rank(self, query: Query, top: int) -> list[Hit]:
        """The first ``top`` fabrics, best first; all of them if there are fewer. Expanded and rescored as for a pool.

        Time O(F R D); memory as ``block_topk`` for one query. Raises ValueError for ``top < 1`` or another width.
        """
        if not len(self):
            return []
        vectors_FRD, queries_QD, expand = self._vectors.embeddings_FRD, query.vector[None], self._keys.expand
        if expand:
            first = block_topk(queries_QD, vectors_FRD, expand)
            queries_QD = expand_queries(queries_QD, vectors_FRD[first.rows, first.regions], first.scores)
        if query.parts is not None:
            parts = query.parts.with_wholes(queries_QD) if expand else query.parts
            return self._look_again(queries_QD, parts, top)
        found = block_topk(queries_QD, vectors_FRD, top)
        hits = []
        for row, region, similarity in zip(found.rows[0], found.regions[0], found.scores[0], strict=True):
            boxes = self._vectors.boxes_FR4[row].tolist()
            box = tuple(boxes[region]) if self.regions > 1 else None
            # Vector 0 stands for the whole fabric, so its box is the picture.
            hits.append(Hit(int(row), self.path(int(row)), float(similarity), (boxes[0][2], boxes[0][3]), box))
        return hits

    def _look_again(self, queries_QD: NDArray[np.float32], parts: Parts, top: int) -> list[Hit]:
        found = block_topk(queries_QD, self._vectors.embeddings_FRD, max(top, self._keys.rescore))
        rows = {self.path(row): row for row in found.rows[0].tolist()}
        number = np.zeros(1, np.int32)
        table = topk_table(found, number, self._vectors.paths, places=self._vectors.order_F)
        ranking = look_again(self._shards, table, parts, top, self._keys.expand).to_pylist()
        sizes = {row: self._vectors.boxes_FR4[row, 0, 2:].tolist() for row in rows.values()}
        return [
            Hit(
                row,
                entry["image_path"],
                entry["similarity"],
                (sizes[row][0], sizes[row][1]),
                tuple(entry["box"]),
                tuple(map(tuple, entry["occurrences"])),
            )
            for entry in ranking
            for row in [rows[entry["image_path"]]]
        ]


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
    shards = [(file, 0, images) for file, images in shards_of(store, manifest)]
    return SearchIndex(vectors, encoder, config, arm.image_size, manifest["fingerprint"], shards)


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
    regions, shards = int(manifest["regions"]), shards_of(store, manifest)
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


def shards_of(store: str, manifest: Mapping[str, Any]) -> list[tuple[str, int]]:
    """File and number of images of the shards that hold some."""
    entries = [(entry["file"], entry["rows"] // manifest["regions"]) for entry in manifest["shards"]]
    return [(storage.join(store, name), images) for name, images in entries if images]


def _paths(file: str, regions: int) -> pa.Array:
    """Paths of a shard's images in the order in which ``read_vectors`` gives them: sorted."""
    column = tables.read_table(file, columns=["path"]).column("path").combine_chunks().cast(pa.large_string())
    paths = column.take(pa.array(np.arange(0, len(column), regions)))
    return paths.take(pc.sort_indices(paths))
