"""What a file is that is not what it should be: told by its first bytes, with what makes it useful."""

from __future__ import annotations

import re
import shlex
from typing import NamedTuple

from retrieval_core.files import storage

FIRST = 512
"""Bytes from a file's start that ``format_of`` wants to see."""


class Format(NamedTuple):
    """A known kind of file."""

    name: str  # with its article: "a gzip file"
    remedy: str  # what to do with it; FILE stands for its path

    def remedy_for(self, path: str) -> str:
        """The remedy with the path of a file, quoted for a shell."""
        return self.remedy.replace("FILE", shlex.quote(path))


_POINTER = "a Git LFS pointer"
_AGAIN = "copy or download it again"
_ELSEWHERE = "write what it holds as CSV or Parquet where it was made"
_SHEET = "save it as CSV (UTF-8): libreoffice --headless --convert-to csv FILE"
_PICTURE = "pictures are given as a folder, with data.format=folder, or named in a table"
_ARROW = "write it as Parquet: python -c 'import sys, pyarrow.parquet as p, {} as f; "
_ARROW += 'p.write_table({}, sys.argv[1] + ".parquet")\' FILE'
_BINARY = rb"(?=.{0,12}[\x00-\x08])"  # so that a text which starts with the same letters is left alone
_PACKED = rb"PK\x03\x04.{26}"  # the first name in a ZIP archive follows

_FORMATS: list[tuple[bytes, str, str]] = [
    (rb"version https://git-lfs", _POINTER, "run `git lfs pull` in the clone it is from, and copy the file"),
    (rb"(?i:\s*<(!doctype html|html|head)\b)", "a web page", f"servers send one in place of a file: {_AGAIN}"),
    (rb"\s*(<\?xml.*)?<svg\b", "an SVG drawing", "draw it as pixels: rsvg-convert FILE -o FILE.png"),
    (rb"\s*<\?xml", "an XML file", _ELSEWHERE),
    (rb"\x1f\x8b", "a gzip file", "unpack it: gunzip -k FILE"),
    (rb"BZh[1-9]1AY&SY", "a bzip2 file", "unpack it: bunzip2 -k FILE"),
    (rb"\xfd7zXZ\x00", "an xz file", "unpack it: unxz -k FILE"),
    (rb"\x28\xb5\x2f\xfd", "a Zstandard file", "unpack it: unzstd FILE"),
    (rb"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it: 7z x FILE"),
    (rb"Rar!\x1a\x07", "a RAR archive", "unpack it: 7z x FILE"),
    (rb"(?=[^\x00]{1,100}\x00).{257}ustar", "a tar archive", "unpack it: tar -xf FILE"),
    (_PACKED + rb"mimetypeapplication/vnd\.oasis", "an OpenDocument file", _SHEET),
    (_PACKED + rb"(\[Content_Types\]|_rels/|xl/|docProps/)", "an Excel or Office file", _SHEET),
    (rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Excel or Office file", _SHEET),
    (rb"PK\x03\x04", "a ZIP archive", "unpack it: unzip FILE"),
    (rb"ARROW1\x00|FEA1\x00", "a Feather file", _ARROW.format("pyarrow.feather", "f.read_table(sys.argv[1])")),
    (rb"\xff{4}", "an Arrow stream", _ARROW.format("pyarrow.ipc", "f.open_stream(sys.argv[1]).read_all()")),
    (rb"ORC" + _BINARY, "an ORC file", _ARROW.format("pyarrow.orc", "f.read_table(sys.argv[1])")),
    (rb"PAR1" + _BINARY, "a Parquet file", "tables are read with data.format=manifest"),
    (rb"PARE" + _BINARY, "an encrypted Parquet file", "write it without encryption"),
    (rb"Obj\x01", "an Avro file", _ELSEWHERE),
    (
        rb"SQLite format 3\x00",
        "an SQLite database",
        "write a table of it as CSV: sqlite3 -header -csv FILE 'select * from TABLE' > table.csv",
    ),
    (rb"\x89HDF\r\n\x1a\n", "an HDF5 file", _ELSEWHERE),
    (rb"\x93NUMPY", "a NumPy array", _ELSEWHERE),
    (rb"\x80[\x02-\x05]", "a pickle", "write it as Parquet where it was made: pandas.read_pickle(...).to_parquet(...)"),
    (rb"%PDF-", "a PDF file", "take the pictures out of it: pdfimages -png FILE picture"),
    (rb".{4}ftyp(hei|hev|mif|msf)", "a HEIC picture", "convert it: heif-convert FILE FILE.jpg"),
    (rb".{4}ftypavi", "an AVIF picture", _PICTURE),
    (rb".{4}ftyp", "a video", "take a picture out of it: ffmpeg -i FILE -frames:v 1 FILE.png"),
    (rb"\x89PNG|\xff\xd8\xff|GIF8[79]a|II\*\x00|MM\x00\*|RIFF.{4}WEBP|BM.{4}\x00{4}", "a picture", _PICTURE),
    (rb"\xff\xfe|\xfe\xff", "UTF-16 text", "write it as UTF-8: iconv -f UTF-16 -t UTF-8 FILE > utf8.csv"),
    (rb"([\t\r\n\x20-\x7e]\x00){2}", "UTF-16 text", "write it as UTF-8: iconv -f UTF-16LE -t UTF-8 FILE > utf8.csv"),
]
_PATTERNS = [(re.compile(pattern, re.DOTALL), Format(name, remedy)) for pattern, name, remedy in _FORMATS]


def format_of(start: bytes) -> Format | None:
    """The kind of a file by its first ``FIRST`` bytes; None for text of UTF-8, and for what is not known."""
    return next((form for pattern, form in _PATTERNS if pattern.match(start)), None)


def is_pointer(path: str) -> bool:
    """True if a file is the note that Git LFS leaves in place of a file; False if it cannot be read."""
    try:
        with storage.open_once(path) as file:
            form = format_of(file.read(FIRST))
    except OSError:
        return False
    return form is not None and form.name == _POINTER
