"""Exact search in one process: a finished embedding store, mapped into memory, and the run's model.

Shapes: F fabrics, R vectors of one, D dimensions, H, W of the query image.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from retrieval_core.config.config import Config
from retrieval_core.encoding.arms import Arm, encoder_fingerprint
from retrieval_core.encoding.encoders import Encoder, ModelEncoder
from retrieval_core.encoding.views import PARTS, Cut, views_of
from retrieval_core.images.part import around_click, cut_part, part_at
from retrieval_core.images.patches import Windows, boxes_in_pixels, grid_of, windows_of
from retrieval_core.images.rgb import Picture
from retrieval_core.ranking.expansion import expand_queries
from retrieval_core.ranking.partials import PLACE
from retrieval_core.ranking.second_look import Parts
from retrieval_core.run.workspace import RunError
from retrieval_core.serving.catalogue import Catalogue, identity, open_catalogue, shards_of
from retrieval_core.serving.second_look import look_again
from retrieval_core.store.embeddings import Box, read_manifest


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
    """The fabrics of a store, and the model that encodes queries, in one thread at a time.

    Similarities are those of the candidate pool, and so is their order: score descending, then path as UTF-8 bytes. A
    query is encoded alone, so its vector may differ from that of a run's batch by rounding.

    ``size`` is the side in pixels of the square the model sees; where it ``sees_patches``, a part of a fabric is told
    from what is around it. Under another ``fingerprint`` of the store a row may be another fabric. ``shards`` are file,
    0 and number of images of the store's shards, of which a second look reads the windows of what it looks at. Memory:
    that of the catalogue, and the model.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        encoder: Encoder,
        config: Config,
        size: int,
        fingerprint: str,
        shards: Sequence[tuple[str, int, int]] = (),
    ) -> None:
        self.fingerprint = fingerprint
        self.images = config.images
        self.regions = catalogue.vectors_FRD.shape[1]
        self.dim = encoder.dim
        self.size = size
        self._catalogue, self._encoder, self._keys, self._shards = catalogue, encoder, config.retrieve, shards
        self._embed = config.embed
        self._views = views_of(config, config.model, "queries")
        self._of_patches = encoder if isinstance(encoder, ModelEncoder) and self._views.mask is not None else None
        self._encoding = threading.Lock()  # the model uses every core; two calls at a time only double its memory

    def __len__(self) -> int:
        return len(self._catalogue)

    @property
    def sees_patches(self) -> bool:
        """Whether a query is the mean of its own patches."""
        return self._of_patches is not None

    def path(self, row: int) -> str:
        """Path of a fabric as the store spells it; IndexError for a row that is not there."""
        return self._catalogue.path(row)

    def encode(self, image: NDArray[np.uint8] | Image.Image | Picture) -> Query:
        """An upright RGB query image, decoded, PIL or (H, W, 3) uint8, encoded. Memory O(H W)."""
        return self.encode_cut(self._views.cut(image, self.images))

    def encode_part(self, picture: Picture, box: Box) -> Query:
        """A part of an upright picture, in pixels, encoded: with what surrounds it, where a model tells them apart.

        A part that is transparent around its motif is a picture of its own.
        """
        cropped = picture.rgb.crop(box)
        alpha = picture.alpha and picture.alpha.crop(box)
        if self._of_patches is None or (alpha is not None and np.asarray(alpha).min() < 128):
            return self.encode(Picture(cropped, cropped.size, alpha))
        part = cut_part(picture.rgb, box, self.size)
        with self._encoding:
            vectors_1D, parts_XD = self._of_patches.encode_part(part, PARTS)
        return self._query(vectors_1D[0], parts_XD)

    def part_at(self, picture: Picture, at: tuple[int, int]) -> Box:
        """The box of the motif at a pixel of an upright picture; only where it ``sees_patches``."""
        assert self._of_patches is not None
        view, square = around_click(picture.rgb, at)
        with self._encoding:
            patches_PD = self._of_patches.encode_patches(view)
        x0, y0, x1, y1 = part_at(patches_PD, square, at)
        return max(0, x0), max(0, y0), min(picture.rgb.width, x1), min(picture.rgb.height, y1)

    def encode_cut(self, cut: Cut) -> Query:
        """A query image that ``views_of`` a run's queries have cut, encoded."""
        with self._encoding:
            found = self._views.embed_all(self._encoder, [cut], keep=self._keys.rescore > 0)
        return self._query(found.vectors[0, 0], found.kept[0].windows if found.kept else None)

    def _query(self, vector_D: NDArray[np.float32], parts_XD: NDArray[np.int8] | None) -> Query:
        if parts_XD is None or not self._keys.rescore:
            return Query(vector_D)
        return Query(vector_D, Parts(np.zeros(1, np.int32), parts_XD[None]))

    def rank(self, query: Query, top: int) -> list[Hit]:
        """The first ``top`` fabrics, best first; all of them if there are fewer. Expanded and rescored as for a pool.

        Time and memory as ``Catalogue.topk``. Raises ValueError for ``top < 1`` or another width.
        """
        catalogue, vector_D, expand, parts = self._catalogue, query.vector, self._keys.expand, query.parts
        if expand:
            first = catalogue.topk(vector_D, expand)
            vector_D = expand_queries(vector_D[None], first.vectors_KD[None], first.scores[None])[0]
        if parts is not None:
            return self._look_again(vector_D, parts.with_wholes(vector_D[None]) if expand else parts, top)
        found, hits = catalogue.topk(vector_D, top), []
        for row, region, similarity in zip(found.rows.tolist(), found.regions, found.scores.tolist(), strict=True):
            boxes = catalogue.boxes(row)
            # Vector 0 stands for the whole fabric, so its box is the picture.
            box = boxes[region] if self.regions > 1 else None
            hits.append(Hit(row, self.path(row), similarity, boxes[0][2:], box))
        return hits

    def _look_again(self, vector_D: NDArray[np.float32], parts: Parts, top: int) -> list[Hit]:
        found = self._catalogue.topk(vector_D, max(top, self._keys.rescore))
        rows = {self.path(row): row for row in found.rows.tolist()}
        query = pa.array(np.zeros(len(rows), np.int32))
        table = pa.table({"query": query, "image_path": pa.array([*rows], pa.large_string()), PLACE: found.places})
        windows, size = windows_of(self._embed), self._embed.fabric_size
        boxes = [_boxes_of(windows, size, *self._size_of(row)) for row in found.rows.tolist()]
        boxes_of = dict(zip(found.places.tolist(), boxes, strict=True))
        ranking = look_again(self._shards, table, boxes_of, parts, top, self._keys.expand)
        return [
            Hit(
                row,
                entry["image_path"],
                entry["similarity"],
                self._size_of(row),
                tuple(entry["box"]),
                tuple(map(tuple, entry["occurrences"])),
            )
            for entry in ranking.to_pylist()
            for row in [rows[entry["image_path"]]]
        ]

    def _size_of(self, row: int) -> tuple[int, int]:
        """Width and height of a fabric: its first vector stands for the whole."""
        return self._catalogue.boxes(row)[0][2:]


@lru_cache
def _boxes_of(windows: Windows, fabric_size: int, width: int, height: int) -> NDArray[np.int32]:
    """The boxes of a fabric's windows, (W, 4), as they were kept."""
    return boxes_in_pixels(grid_of(width, height, fabric_size), windows, width, height)[:-1]


def open_index(
    store: str, arm: Arm, config: Config, folder: str | None = None, advance: Callable[[int], None] = lambda _: None
) -> SearchIndex:
    """Open a finished store of fabrics and the model it was made with; ``config`` is that of the run.

    ``folder`` and ``advance`` are those of ``open_catalogue``. Raises RunError if the store is not finished, empty, or
    was made with another model or preprocessing, and WeightsError if the model cannot be loaded.
    """
    try:
        manifest = read_manifest(store)
    except FileNotFoundError:
        raise RunError(f"{store}: there is no finished store; run `fabric-retrieval embed`") from None
    refuse_other_model(store, manifest, arm, config)
    shards = [(file, 0, images) for file, images in shards_of(store, manifest)]
    if not shards:
        raise RunError(f"{store}: it holds no fabric; see rejects.parquet in the run's folder")
    # A batch is padded to its size, and a query is one view.
    encoder = arm.build(1, config.run.seed)
    catalogue = open_catalogue(store, manifest, folder, advance)
    stored = catalogue.vectors_FRD.shape[2]
    if stored != encoder.dim:
        raise RunError(f"{store}: vectors of {stored} dimensions, the model gives {encoder.dim}; embed again")
    return SearchIndex(catalogue, encoder, config, arm.image_size, identity(manifest), shards)


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
