"""Broken and hostile input of every kind a user hands over, each with the outcome that is expected of it.

What ``tests/odd_images.py`` holds is not repeated here.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from tests.jobs.small_data import write_catalogue, write_png
from tests.odd_images import encode, png_chunk, raw_png, smooth_noise

TINY = Path(__file__).parents[1] / "Weight_Path" / "dinov2-motif-tiny"
GIGABYTE = 10**9
READY = "check: ready to run"


class BadInput(NamedTuple):
    """One bad input, handed to ``check`` as a user does, or to the reader that ``check`` leaves out."""

    name: str
    make: Callable[[Path], list[str]]
    """Writes into an empty folder and returns the command's words; for ``image`` and ``load`` the one path."""
    code: int
    """Exit code of ``check``."""
    says: str
    """Part of the line on the screen. For an image the reason of the reject; for weights part of the error."""
    entry: str = "check"
    large: bool = False
    """A gigabyte, of which next to nothing may be in memory."""


def bad_inputs() -> Iterator[BadInput]:
    """Images and data sets; names are unique."""
    for group in (_images, _query_lists, _tables, _split_files, _trees):
        yield from group()


# ---- images


def _images() -> Iterator[BadInput]:
    bomb = zlib.compress(bytes(100_000_000), 9)
    header = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    start, end = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header), png_chunk(b"IEND", b"")
    pixel = png_chunk(b"IDAT", zlib.compress(bytes(4)))
    contents = {
        "PNG whose text inflates to 100 MB": (start + png_chunk(b"zTXt", b"k\0\0" + bomb) + pixel + end, "embedded"),
        "PNG whose profile inflates to 100 MB": (start + png_chunk(b"iCCP", b"k\0\0" + bomb) + pixel + end, "embedded"),
        "PNG whose pixels inflate to 100 MB": (start + png_chunk(b"IDAT", bomb) + end, "embedded"),
        "PNG of no pixels": (raw_png(0, 0, 8, 2, b""), "corrupt"),
        "GIF that declares 65535 x 65535": (_GIF, "too_large"),
        "BMP that declares 100000 x 100000": (_bmp(100_000, 100_000), "too_large"),
        "TIFF whose directory points at itself": (b"II*\0\x08\0\0\0\0\0\x08\0\0\0", "corrupt"),
        "SVG, which could ask for other files": (b'<svg><image href="file:///etc/passwd"/></svg>', "not_an_image"),
        "PostScript, which is a program": (b"%!PS-Adobe-3.0 EPSF-3.0\n(out) (w) file\n", "not_an_image"),
    }
    for name, (content, reason) in contents.items():
        yield BadInput(name, _file("image.png", content), 0, reason, "image")
    for suffix, form in (("png", "PNG"), ("jpg", "JPEG"), ("tif", "TIFF")):
        content = encode(smooth_noise(), form)
        for tenth in range(1, 10):
            cut = content[: len(content) * tenth // 10]
            yield BadInput(f"{form} cut at {tenth}0 %", _file(f"cut.{suffix}", cut), 0, "truncated", "image")
    yield BadInput("image that links to itself", _file("loop.png", _loop), 0, "unreadable", "image")
    yield BadInput("image that links to /dev/zero", _file("zero.png", _zero), 0, "unreadable", "image")


_GIF = b"GIF89a\xff\xff\xff\xff\0\0\0,\0\0\0\0\xff\xff\xff\xff\0\x02\x02D\x01\0;"


def _bmp(width: int, height: int) -> bytes:
    return b"BM" + struct.pack("<IIIIiiHHIIiiII", 60, 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0) + bytes(6)


# ---- data sets


def _query_lists() -> Iterator[BadInput]:
    def listed(content: bytes | Callable[[Path], object]) -> Callable[[Path], list[str]]:
        return lambda folder: _published(folder, "test.txt", content)

    yield BadInput("query list that is a FIFO", listed(os.mkfifo), 1, "FIFO")
    yield BadInput("query list that links to itself", listed(_loop), 1, "test.txt")
    yield BadInput("query list that is /dev/zero", listed(_zero), 1, "device")
    yield BadInput("query list that is a folder", listed(Path.mkdir), 1, "a folder")
    yield BadInput("query list of 1 GB in one line", listed(hole), 1, "line 1 is longer than", large=True)
    yield BadInput("query list in UTF-16", listed("a.png x\n".encode("utf-16")), 1, "is UTF-16 text")
    yield BadInput("query list in Latin-1", listed(b"Bl\xfcte.png rose\n"), 1, "line 1 is not UTF-8")
    yield BadInput("query list with zero bytes", listed(b"a\0.png rose\n"), 1, "zero byte")
    yield BadInput("query list without images", listed(b"rose\nbear\n"), 1, "names no image")
    yield BadInput("query list that is empty", listed(b""), 1, "there are no queries")
    yield BadInput("query outside the root", _outside, 0, "test.queries: 1")
    yield BadInput("query that clears the screen", listed(b"\x1b[2J\x1b[1;1H.png rose\n"), 1, r"\x1b[2J\x1b[1;1H.png")
    yield BadInput("query with markup", listed(b"<script>alert(1)</script>'\".png rose\n"), 1, "<script>alert(1)")


def _outside(folder: Path) -> list[str]:
    """A path that leaves the root, as lists of real catalogues do: it is read, and only that."""
    write_png(folder / "elsewhere" / "q.png", 1)
    return _published(folder, "test.txt", b"../elsewhere/q.png test motif 0\n")


def _tables() -> Iterator[BadInput]:
    head = b"image_path,categories\n"
    contents: dict[str, tuple[bytes, str]] = {
        "manifest torn inside quotes": (head + b'a.png,rose\nb.png,"ro', "not valid CSV"),
        "manifest torn inside a path": (head + b"a.png,rose\nb.p", "line 3 has 1 cells where the header has 2"),
        "manifest without a header": (b"a.png,rose\n", "no column image_path"),
        "manifest with a column twice": (b"image_path,image_path\na.png,b.png\n", "column image_path twice"),
        "manifest with a cell of 1 MB": (head + b"a.png," + b"x" * 10**6, "field larger than field limit"),
        "manifest that is a spreadsheet": (b"PK\x03\x04\x14\0\x06\0\x08\0\0\0!\0\xf1\xff\n", "is a ZIP archive"),
        "manifest whose header is 1 MB": (b",".join(b"%d" % n for n in range(150_000)), "no column image_path"),
        "Parquet of a header alone": (b"PAR1", "cannot be read as Parquet"),
        "Parquet without its end": (b"PAR1" + bytes(4000), "cannot be read as Parquet"),
        "Parquet whose footer is 2 GB": (b"PAR1" + bytes(9) + b"\xff\xff\xff\x7fPAR1", "cannot be read as Parquet"),
    }
    for name, (content, says) in contents.items():
        yield BadInput(name, _manifest(content), 1, says)
    buffer = pa.BufferOutputStream()
    pq.write_table(pa.table({"image_path": ["a.png"] * 900, "categories": ["rose"] * 900}), buffer)
    whole = buffer.getvalue().to_pybytes()
    for tenth in range(1, 10):
        cut = whole[: len(whole) * tenth // 10]
        yield BadInput(f"Parquet cut at {tenth}0 %", _manifest(cut), 1, "cannot be read as Parquet")
    numbers = pa.BufferOutputStream()
    pq.write_table(pa.table({"image_path": [1, 2]}), numbers)
    content = numbers.getvalue().to_pybytes()
    yield BadInput("Parquet of numbers for paths", _manifest(content), 1, "row 1: image_path is 1")
    lines = b'"new\nline.png",a\n"quotes \' "" .png",b\n'
    yield BadInput("manifest of names with line breaks and quotes", _manifest(head + lines), 1, r"new\nline.png")
    yield BadInput("manifest that names devices", _manifest(head + b"/dev/zero,\n/dev/stdin,\n"), 0, "test.fabrics: 2")
    yield BadInput("manifest of 1 GB in one line", _manifest(hole), 1, "line 1 is longer than", large=True)
    yield BadInput("manifest that is a FIFO", _manifest(os.mkfifo), 1, "FIFO")
    yield BadInput("manifest that is a folder", _manifest(Path.mkdir), 1, "folder without Parquet")


def _split_files() -> Iterator[BadInput]:
    def split(content: bytes | Callable[[Path], object], name: str = "Test_split.json") -> Callable[[Path], list[str]]:
        return lambda folder: _published(folder, name, content)

    whole = json.dumps([[n, f"f{n:04d}", "e1", "rose"] for n in range(20)]).encode()
    for tenth in range(1, 10):
        cut = whole[: len(whole) * tenth // 10]
        yield BadInput(f"split file cut at {tenth}0 %", split(cut), 1, "cannot be read as JSON")
    contents: dict[str, tuple[bytes, str]] = {
        "split file that is an object": (b'{"a": 1}', "it must be a list of items"),
        "split file that is a number": (b"7", "it must be a list of items"),
        "split file of objects": (b'[{"a": 1}]', "item 0 (from 0): is no list"),
        "split file with an odd item": (b'[[0, "a", "e1"]]', "has 3 values"),
        "split file with a null for a name": (b'[[0, null, "e1", "rose"]]', "file name at place 1 is None"),
        "split file with a lone surrogate": (b'[[0, "\\ud800", "e1", "rose"]]', "file name at place 1"),
        "split file with an item of 1 MB": (b'[[0, {"a": "' + b"x" * 10**6 + b'"}, "e", "c"]]', "file name at place 1"),
        "split file nested 100,000 deep": (b"[" * 100_000, "cannot be read as JSON"),
        "split file with a number of 10,000 digits": (b"[[" + b"9" * 10_000 + b"]]", "cannot be read as JSON"),
        "split file that is empty": (b"", "cannot be read as JSON"),
        "split file that is a web page": (b"<!DOCTYPE html>", "is a web page, not JSON"),
    }
    for name, (content, says) in contents.items():
        yield BadInput(name, split(content), 1, says)
    yield BadInput("split file of 1 GB in one line", split(hole), 1, "is larger than", large=True)
    yield BadInput("split file that is a FIFO", split(os.mkfifo), 1, "FIFO")
    index, classes = "TestAll_index.csv", "Test_element.csv"
    yield BadInput("fabric index of 1 GB in one line", split(hole, index), 1, "line 1 is longer", large=True)
    yield BadInput("fabric index with a cell under nothing", split(b"rose\na,b\n", index), 1, "under no category")
    yield BadInput("class file of 1 GB in one line", split(hole, classes), 1, "line 1 is longer", large=True)
    yield BadInput(
        "class file with three cells", split(b"1.png,rose,red\n", classes), 1, "write <query id>.png,<category>"
    )


def _trees() -> Iterator[BadInput]:
    def gallery(make: Callable[[Path], None]) -> Callable[[Path], list[str]]:
        def write(folder: Path) -> list[str]:
            (folder / "gallery").mkdir()
            write_png(folder / "gallery" / "a.png", 1)
            write_png(folder / "q.png", 2)
            make(folder / "gallery")
            keys = {"data.format": "folder", "data.gallery": folder / "gallery", "data.queries": folder / "q.png"}
            return options(folder, keys)

        return write

    def odd_names(folder: Path) -> None:
        for name in (b"new\nline.png", b"<script>.png", b"quote'\".png", b"\xff\xfe.png", b"\x1b[2J.png"):
            (folder / os.fsdecode(name)).write_bytes(b"")

    yield BadInput("gallery that holds itself", gallery(lambda g: (g / "in").symlink_to(g)), 0, "test.fabrics: 1")
    yield BadInput("gallery with a link that loops", gallery(lambda g: (g / "x.png").symlink_to("x.png")), 0, READY)
    yield BadInput("gallery with a FIFO", gallery(lambda g: os.mkfifo(g / "fifo.png")), 0, "ignored-file: 1")
    yield BadInput("gallery of odd names", gallery(odd_names), 0, "test.fabrics: 6")
    yield BadInput("gallery of a name that is not UTF-8", gallery(odd_names), 0, r"name-not-utf8: 1")
    yield BadInput("root that is no folder", lambda f: options(f, {"data.root": "/dev/null"}), 1, "/dev/null")
    yield BadInput("root that is a loop", lambda f: options(f, {"data.root": _loop(f / "loop")}), 1, "missing-file")


# ---- makers


def put(path: Path, content: bytes | Callable[[Path], object]) -> None:
    """Write a file, or let something else be made at its path."""
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        content(path)


def hole(path: Path) -> None:
    """A sparse file of a gigabyte: zero bytes, no line end."""
    with path.open("wb") as file:
        file.truncate(GIGABYTE)


def options(folder: Path, keys: Mapping[str, object]) -> list[str]:
    """The command's words: the small model of the repository, an output folder, and these keys."""
    base = {"model.weights": TINY, "model.image_size": 28, "run.output_dir": folder / "out", "train.enabled": "false"}
    return [word for key, value in (base | dict(keys)).items() for word in ("--set", f"{key}={value}")]


def _file(name: str, content: bytes | Callable[[Path], object]) -> Callable[[Path], list[str]]:
    def write(folder: Path) -> list[str]:
        put(folder / name, content)
        return [str(folder / name)]

    return write


def _published(folder: Path, name: str, content: bytes | Callable[[Path], object]) -> list[str]:
    """A sound data set in the published layout of which one file is another."""
    root = write_catalogue(folder / "data", fabrics=2, queries=2)
    (root / name).unlink()
    put(root / name, content)
    return options(folder, {"data.root": root})


def _manifest(content: bytes | Callable[[Path], object]) -> Callable[[Path], list[str]]:
    def write(folder: Path) -> list[str]:
        put(folder / "fabrics", content)
        write_png(folder / "q.png", 1)
        (folder / "queries.csv").write_text("query_path,category\nq.png,rose\n")
        keys = {"data.format": "manifest", "data.gallery": "fabrics", "data.queries": "queries.csv"}
        return options(folder, {"data.root": folder, **keys})

    return write


def _zero(path: Path) -> None:
    path.symlink_to("/dev/zero")


def _loop(path: Path) -> Path:
    path.symlink_to(path)
    return path
