"""Files of many kinds are known by their first bytes, and texts are left alone."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import pickle
import sqlite3
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.orc
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from retrieval_core.files.formats import FIRST, format_of

TABLE = pa.table({"image_path": ["a.png"], "categories": ["rose"]})
CSV = b"image_path,categories\na.png,rose\n"


def packed(name: str, content: bytes = CSV) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, content)
    return buffer.getvalue()


def arrow(kind: str) -> bytes:
    buffer = io.BytesIO()
    if kind == "feather":
        pyarrow.feather.write_feather(TABLE, buffer)
    elif kind == "orc":
        pyarrow.orc.write_table(TABLE, buffer)
    elif kind == "parquet":
        pq.write_table(TABLE, buffer)
    else:
        with pa.ipc.new_stream(buffer, TABLE.schema) as writer:
            writer.write_table(TABLE)
    return buffer.getvalue()


def drawn(form: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, form)
    return buffer.getvalue()


def tarred() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        entry = tarfile.TarInfo("table.csv")
        entry.size = len(CSV)
        archive.addfile(entry, io.BytesIO(CSV))
    return buffer.getvalue()


def database(folder: Path) -> bytes:
    connection = sqlite3.connect(folder / "table.db")
    connection.execute("create table fabrics (image_path, categories)")
    connection.commit()
    connection.close()
    return (folder / "table.db").read_bytes()


def array() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.ones(3))
    return buffer.getvalue()


def test_files_are_known_by_their_first_bytes(tmp_path: Path) -> None:
    kinds = {
        "a gzip file": gzip.compress(CSV),
        "a bzip2 file": bz2.compress(CSV),
        "an xz file": lzma.compress(CSV),
        "a tar archive": tarred(),
        "a ZIP archive": packed("table.csv"),
        "an Excel or Office file": packed("[Content_Types].xml"),
        "an OpenDocument file": packed("mimetype", b"application/vnd.oasis.opendocument.spreadsheet"),
        "a Feather file": arrow("feather"),
        "an Arrow stream": arrow("stream"),
        "an ORC file": arrow("orc"),
        "a Parquet file": arrow("parquet"),
        "an SQLite database": database(tmp_path),
        "a NumPy array": array(),
        "a pickle": pickle.dumps({"a": 1}),
        "a PDF file": drawn("PDF"),
        "an AVIF picture": drawn("AVIF"),
        "a HEIC picture": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
        "UTF-16 text": CSV.decode().encode("utf-16"),
        "a web page": b"\n<!DOCTYPE HTML><html><body>404</body></html>",
        "an SVG drawing": b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>',
        "a Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 132\n",
    }
    found = {name: format_of(content[:FIRST]) for name, content in kinds.items()}
    assert {name: form and form.name for name, form in found.items()} == {name: name for name in kinds}
    pictures = {form: format_of(drawn(form)[:FIRST]) for form in ("PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP")}
    assert {form: kind and kind.name for form, kind in pictures.items()} == dict.fromkeys(pictures, "a picture")
    without_mark = format_of(CSV.decode().encode("utf-16-le"))
    assert without_mark is not None
    assert without_mark.name == "UTF-16 text"


@given(st.text().map(str.encode).filter(lambda text: b"\0" not in text))
def test_text_is_no_other_format(text: bytes) -> None:
    assert format_of(text) is None or text.lstrip().startswith(b"<")


@pytest.mark.parametrize(
    "start", ["ORC,b", "ORCHID,b", "PAR1,x", "BZh,x", "GIF8,x", "BM,x", "Object", "a" * 257 + "ustar", ""]
)
def test_a_text_that_starts_like_another_format_is_left_alone(start: str) -> None:
    assert format_of(start.encode()) is None


@pytest.mark.parametrize("kind", ["feather", "stream", "orc"])
def test_the_command_that_a_remedy_names_makes_a_table(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a table"
    path.write_bytes(arrow(kind))
    form = format_of(path.read_bytes()[:FIRST])
    assert form is not None
    command = form.remedy_for(str(path)).partition(": ")[2]
    subprocess.run(["bash", "-c", command.replace("python", sys.executable, 1)], check=True)
    assert pq.read_table(f"{path}.parquet").to_pylist() == TABLE.to_pylist()
