"""A finished store as a search in one process reads it: files that are mapped into memory, not loaded.

    vectors    float32: read where a fabric may be among the first
    codes, scales, lengths, errors    the same in 8 bits, which every query reads
    boxes      of the vectors
    by_path    the place in the store of each row
    paths      in path order

A *row* is the place of a fabric in path order, a *place* that in the store, shard after shard.

Shapes: F fabrics, R vectors of one, D dimensions, K fabrics found, C that may be.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from retrieval_core.files import storage
from retrieval_core.files.fingerprint import fingerprint
from retrieval_core.ranking.coarse import Coarse, coarse, contenders
from retrieval_core.ranking.topk import TopK, block_topk
from retrieval_core.run.workspace import RunError
from retrieval_core.store.embeddings import Box, Vectors, read_vectors

_LAYOUT = 1
"""Version of the files."""
_BATCH = 2048
"""Fabrics scored exactly at a time."""
_FORGOTTEN_SECONDS = 86_400.0
"""Age in seconds at which a folder that was never finished is removed."""


class Found(NamedTuple):
    """The first K fabrics of a query, best first, ties by path."""

    rows: NDArray[np.int64]
    places: NDArray[np.int64]
    scores: NDArray[np.float32]
    regions: NDArray[np.int16]
    vectors_KD: NDArray[np.float32]  # that matched


class Catalogue:
    """The fabrics of a store. Memory O(F) beside the mapped files: 8 bytes a fabric."""

    def __init__(self, folder: Path) -> None:
        def mapped(name: str) -> NDArray[Any]:
            return np.asarray(np.load(folder / f"{name}.npy", mmap_mode="r"))

        self.vectors_FRD, self.boxes_FR4, self._by_path = mapped("vectors"), mapped("boxes"), mapped("by_path")
        self._row_of = np.empty(len(self._by_path), np.int64)
        self._row_of[self._by_path] = np.arange(len(self._by_path))
        self._coarse = Coarse(*map(mapped, Coarse._fields))
        with pa.memory_map(str(folder / "paths.arrow")) as source:
            self._paths = pa.ipc.open_file(source).read_all().column("path")

    def __len__(self) -> int:
        return len(self._by_path)

    def path(self, row: int) -> str:
        """Path of a fabric as the store spells it; IndexError for a row that is not there."""
        if not 0 <= row < len(self):
            raise IndexError(f"row {row}: the catalogue has {len(self)} fabrics")
        return str(self._paths[row].as_py())

    def boxes(self, row: int) -> list[Box]:
        """The R boxes of a fabric's vectors; the first is the whole picture."""
        return [(x0, y0, x1, y1) for x0, y0, x1, y1 in self.boxes_FR4[self._by_path[row]].tolist()]

    def topk(self, query_D: NDArray[np.float32], k: int) -> Found:
        """Rank the catalogue by the rule of ``exact_scores``; all of it if ``k`` is more.

        Time O(F R D) in 8 bits; memory O(F) and that of a batch. Raises ValueError for ``k < 1`` or another width.
        """
        if k < 1:
            raise ValueError(f"k = {k}: must be at least 1")
        if query_D.shape != self.vectors_FRD.shape[2:]:
            raise ValueError(f"a query of shape {query_D.shape} for vectors of {self.vectors_FRD.shape[2]} dimensions")
        rows = np.sort(self._row_of[contenders(query_D, self._coarse, k)])
        parts = [self._exact(query_D, rows[start : start + _BATCH], k) for start in range(0, len(rows), _BATCH)]
        rows_C, scores_C = (np.concatenate([part[field] for part in parts]) for field in (0, 2))
        first = np.lexsort((rows_C, -scores_C))[:k]
        return Found._make(np.concatenate(values)[first] for values in zip(*parts, strict=True))

    def _exact(self, query_D: NDArray[np.float32], rows_C: NDArray[np.int64], k: int) -> Found:
        places_C = self._by_path[rows_C]
        vectors_CRD = np.asarray(self.vectors_FRD[places_C], np.float32)
        top: TopK = block_topk(query_D[None], vectors_CRD, k)
        chosen, regions = top.rows[0], top.regions[0]
        return Found(rows_C[chosen], places_C[chosen], top.scores[0], regions, vectors_CRD[chosen, regions])


def open_catalogue(
    store: str, manifest: Mapping[str, Any], folder: str | None, advance: Callable[[int], None]
) -> Catalogue:
    """The catalogue of a finished store in a folder of its own under ``folder``, made there unless it is there.

    That takes as many bytes as the store has, and a quarter more, and needs O(F) memory for the paths. ``advance`` is
    told how many fabrics more are done. Copies of what the store held before are removed. Without a ``folder`` that can
    be written, the copy is a temporary one. Raises RunError if there is no room.
    """
    target = None if folder is None else Path(folder, f"{identity(manifest)}-{_LAYOUT}")
    if folder is not None:
        with suppress(OSError):
            Path(folder).mkdir(parents=True, exist_ok=True)
    writable = folder is not None and os.access(folder, os.W_OK)
    if target is None or not (writable or target.exists()):
        with tempfile.TemporaryDirectory(prefix="fabric-retrieval-") as temporary:
            return _make(store, manifest, Path(temporary), advance)  # mapped files stay after their names have gone
    if not target.exists():
        with tempfile.TemporaryDirectory(dir=folder, suffix=".tmp") as temporary:
            _make(store, manifest, Path(temporary), advance)
            with suppress(OSError):  # another process was quicker
                Path(temporary).rename(target)
    for other in target.parent.iterdir():
        with suppress(OSError):
            if other != target and (other.suffix != ".tmp" or time.time() - other.stat().st_mtime > _FORGOTTEN_SECONDS):
                shutil.rmtree(other)
    return Catalogue(target)


def identity(manifest: Mapping[str, Any]) -> str:
    """Which vectors a store holds. Its fingerprint is that of what it was to hold, rejected images included."""
    return fingerprint(manifest)


def shards_of(store: str, manifest: Mapping[str, Any]) -> list[tuple[str, int]]:
    """File and number of images of the shards that hold some."""
    entries = [(entry["file"], entry["rows"] // manifest["regions"]) for entry in manifest["shards"]]
    return [(storage.join(store, name), images) for name, images in entries if images]


def _make(store: str, manifest: Mapping[str, Any], folder: Path, advance: Callable[[int], None]) -> Catalogue:
    regions, shards = int(manifest["regions"]), shards_of(store, manifest)
    dim = read_vectors([(shards[0][0], 0, 1)], regions).embeddings_FRD.shape[2]
    shape = (sum(images for _, images in shards), regions, dim)

    def parts() -> Iterator[Vectors]:
        for file, images in shards:
            yield read_vectors([(file, 0, images)], regions, boxes=True)
            advance(images)

    try:
        write_catalogue(folder, shape, parts())
    except OSError as error:
        raise RunError(f"{folder.parent}: {error.strerror or error}, while the catalogue is made ready there") from None
    return Catalogue(folder)


def write_catalogue(folder: Path, shape: tuple[int, int, int], parts: Iterable[Vectors]) -> None:
    """Write the files of a catalogue of (F, R, D) vectors from parts of its store, one after the other, with boxes.

    Memory O(F) for the paths, and a part. RunError if there is no room, OSError if that runs out.
    """
    fabrics, regions, dim = shape
    needed, free = fabrics * (regions * (5 * dim + 20) + 100), shutil.disk_usage(folder).free
    if needed > free:
        raise RunError(
            f"{folder.parent}: the catalogue takes {needed / 1e9:.1f} GB there as it is searched, and {free / 1e9:.1f} "
            "GB are free; make room"
        )
    shapes = {
        "vectors": (shape, np.float32),
        "boxes": ((fabrics, regions, 4), np.int32),
        "codes_FRD": (shape, np.int8),
        "scales_FR": ((fabrics, regions), np.float32),
        "lengths_F": ((fabrics,), np.float32),
        "errors_F": ((fabrics,), np.float32),
    }
    paths = list[pa.Array]()
    with ExitStack() as stack:
        files = {name: _begin(stack, folder / f"{name}.npy", *kind) for name, kind in shapes.items()}
        for part in parts:
            in_store = np.argsort(part.order_F)
            paths.append(part.paths.take(pa.array(in_store)).cast(pa.large_string()))
            vectors_FRD = part.embeddings_FRD[in_store]
            written = {"vectors": vectors_FRD, "boxes": part.boxes_FR4[in_store], **coarse(vectors_FRD)._asdict()}
            for name, values in written.items():
                files[name].write(np.ascontiguousarray(values, shapes[name][1]).data)
    names = pa.concat_arrays(paths)
    by_path = pc.sort_indices(names)
    np.save(folder / "by_path.npy", np.asarray(by_path).astype(np.int64))
    table = pa.table({"path": names.take(by_path)})
    with pa.OSFile(str(folder / "paths.arrow"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())  # a folder that has its name is whole, after a power cut, too


def _begin(stack: ExitStack, path: Path, shape: Sequence[int], dtype: type) -> IO[bytes]:
    """A file of an array, but for its numbers: a mapped file would end the process where the disk is full."""
    file = stack.enter_context(path.open("wb"))
    header = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": tuple(shape)}
    np.lib.format.write_array_header_2_0(file, header)
    return file
