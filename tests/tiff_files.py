"""TIFF files written byte by byte, in layouts that Pillow does not write."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

GREY, RGB, CMYK, YCBCR, LAB = 1, 2, 5, 6, 8
BYTE, SHORT, LONG, QUAD = 1, 3, 4, 16
_CODES = {BYTE: "B", SHORT: "H", LONG: "I", QUAD: "Q"}
_FORMATS = {"u": 1, "i": 2, "f": 3}

Tags = dict[int, tuple[int, Sequence[int]]]


def tiff(
    pixels: np.ndarray,
    colours: int,
    *,
    planar: bool = False,
    deflate: bool = False,
    tile: tuple[int, int] | None = None,
    order: str = "<",
    big: bool = False,
    reversed_bits: bool = False,
    extra: Sequence[int] = (),
    more: Mapping[int, tuple[int, Sequence[int]]] | None = None,
) -> bytes:
    """A file of ``pixels`` (H, W, samples) in strips of 7 rows, or in tiles (width, height).

    ``colours`` is the photometric interpretation, ``extra`` what the samples beyond it are, ``order`` the byte order.
    """
    height, width, samples = pixels.shape
    planes = [pixels[..., n : n + 1] for n in range(samples)] if planar else [pixels]
    blocks = []
    for block in (block for plane in planes for block in _blocks(plane, tile)):
        raw = np.ascontiguousarray(block.astype(block.dtype.newbyteorder(order))).tobytes()
        raw = zlib.compress(raw) if deflate else raw
        blocks.append(raw.translate(bytes(int(f"{n:08b}"[::-1], 2) for n in range(256))) if reversed_bits else raw)
    sizes = (LONG, [len(block) for block in blocks])
    tags: Tags = {
        **{256: (LONG, [width]), 257: (LONG, [height]), 258: (SHORT, [8 * pixels.itemsize] * samples)},
        **{259: (SHORT, [8 if deflate else 1]), 262: (SHORT, [colours]), 277: (SHORT, [samples])},
        **({322: (SHORT, [tile[0]]), 323: (SHORT, [tile[1]]), 325: sizes} if tile else {278: (LONG, [7]), 279: sizes}),
        **({266: (SHORT, [2])} if reversed_bits else {}),
        **({284: (SHORT, [2])} if planar else {}),
        **({338: (SHORT, extra)} if extra else {}),
        **({} if pixels.dtype.kind == "u" else {339: (SHORT, [_FORMATS[pixels.dtype.kind]] * samples)}),
        **(more or {}),
    }
    return written(tags, 324 if tile else 273, blocks, order, big)


def _blocks(plane: np.ndarray, tile: tuple[int, int] | None) -> Iterator[np.ndarray]:
    height, width, samples = plane.shape
    if tile is None:
        yield from (plane[y : y + 7] for y in range(0, height, 7))
        return
    for y in range(0, height, tile[1]):
        for x in range(0, width, tile[0]):
            part = plane[y : y + tile[1], x : x + tile[0]]
            block = np.zeros((tile[1], tile[0], samples), plane.dtype)
            block[: part.shape[0], : part.shape[1]] = part
            yield block


def written(tags: Tags, offsets: int, blocks: Sequence[bytes], order: str = "<", big: bool = False) -> bytes:
    """A file of one directory and its blocks, whose places go into the tag ``offsets``."""
    word, size = ("Q", 8) if big else ("I", 4)
    start = (24 if big else 10) + (len(tags) + 1) * (20 if big else 12) + size
    entry_of = {**tags, offsets: (QUAD if big else LONG, [0] * len(blocks))}
    long = [_packed(order, *entry) for _, entry in sorted(entry_of.items())]
    at = start + sum(len(value) + len(value) % 2 for value in long if len(value) > size)
    places = [at + sum(map(len, blocks[:number])) for number in range(len(blocks))]
    entry_of[offsets] = (entry_of[offsets][0], places)
    directory = values = b""
    for tag, (kind, numbers) in sorted(entry_of.items()):
        value = _packed(order, kind, numbers)
        field = value.ljust(size, b"\0")
        if len(value) > size:
            field = struct.pack(order + word, start + len(values))
            values += value + bytes(len(value) % 2)
        directory += struct.pack(f"{order}HH{word}", tag, kind, len(numbers)) + field
    head = (b"II" if order == "<" else b"MM") + (
        struct.pack(order + "HHHQQ", 43, 8, 0, 16, len(entry_of))
        if big
        else struct.pack(order + "HIH", 42, 8, len(entry_of))
    )
    return (head + directory + bytes(size)).ljust(start, b"\0") + values + b"".join(blocks)


def _packed(order: str, kind: int, numbers: Sequence[int]) -> bytes:
    return struct.pack(order + _CODES[kind] * len(numbers), *numbers)
