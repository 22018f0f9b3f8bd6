"""Files without what stands beside their picture: texts, thumbnails, notes of programs.

None of it is the picture, yet Pillow refuses a whole file for a text that is long or a note that is cut short. What
says how the picture is shown, orientation and colour profile, is kept as far as it can be read.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

from PIL import JpegImagePlugin, PngImagePlugin

from retrieval_core.images.colour_profiles import LARGEST_PROFILE

_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8"
_PNG_NOTES = frozenset(
    ("tEXt", "zTXt", "iTXt", "iCCP", "eXIf", "gAMA", "cHRM", "sRGB", "sBIT", "bKGD", "hIST", "pHYs", "sPLT", "tIME")
)
"""Side parts whatever their checksum says. Of other optional chunks a wrong one may mean that the name is damaged."""
_PNG_PIXELS = frozenset({"tRNS", "acTL", "fcTL", "fdAT"})
"""Chunks that may be missing, but decide pixels where they are there."""
_PNG_ORIENTATION = (b"eXIf", b"iTXtXML:com.adobe.xmp\0", b"tEXtRaw profile type exif\0", b"zTXtRaw profile type exif\0")
_PNG_END = b"\0\0\0\0IDAT\x35\xaf\x06\x1e"
_JPEG_KEPT = (b"JFIF\0", b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0", b"ICC_PROFILE\0", b"Adobe")
_JPEG_END = bytes.fromhex("ffc0000b080001000101011100 ffda0008010100003f00")


class Bare(NamedTuple):
    """A file's bytes without side parts."""

    content: bytes
    profile: bytes | None = None  # the colour profile, where it could not stay


def without_side_parts(content: bytes) -> Bare | None:
    """The same picture with few side parts; None for other formats than PNG and JPEG. Memory O(content)."""
    if content.startswith(_PNG):
        return _bare_png(content)
    if content.startswith(_JPEG):
        return Bare(b"".join(_jpeg_parts(content)))
    return None


def _opens(factory: Callable[[io.BytesIO], object], content: bytes) -> bool:
    try:
        factory(io.BytesIO(content))
    except Exception:  # whatever Pillow raises for it, it would raise for the whole file
        return False
    return True


def _bare_png(content: bytes) -> Bare:
    kept, profile = [_PNG], None
    for chunk in _png_chunks(content):
        kind = chunk[4:8].decode("latin-1")
        sound = chunk[-4:] == struct.pack(">I", zlib.crc32(chunk[4:-4]))
        if kind == "iCCP" and sound and profile is None:
            profile = _inflated(chunk)
        side = kind in _PNG_NOTES or (kind[:1].islower() and kind not in _PNG_PIXELS and sound)
        orients = chunk[4:40].startswith(_PNG_ORIENTATION)
        if not side or (orients and _opens(PngImagePlugin.PngImageFile, b"".join([*kept[:2], chunk, _PNG_END]))):
            kept.append(chunk)
    return Bare(b"".join(kept), profile)


def _png_chunks(content: bytes) -> Iterator[bytes]:
    at = len(_PNG)
    while at < len(content):
        end = at + 12 + int.from_bytes(content[at : at + 4], "big")
        yield content[at:end]
        at = end


def _inflated(chunk: bytes) -> bytes | None:
    """The profile in a chunk iCCP: a name, a zero, the method 0, and a zlib stream."""
    method, _, stream = chunk[8:-4].partition(b"\0")[2].partition(b"\0")
    inflate = zlib.decompressobj()
    try:
        profile = inflate.decompress(stream, LARGEST_PROFILE)
    except zlib.error:
        return None
    return None if method or inflate.unconsumed_tail else profile


def _jpeg_parts(content: bytes) -> Iterator[bytes]:
    yield _JPEG
    at = len(_JPEG)
    while at + 4 <= len(content) and content[at] == 0xFF and content[at + 1] != 0xDA:
        marker = content[at + 1]
        if marker == 0xFF:  # a filling byte
            at += 1
            continue
        bare = marker == 0x01 or 0xD0 <= marker <= 0xD7  # these have no length
        end = at + 2 + (0 if bare else int.from_bytes(content[at + 2 : at + 4], "big"))
        segment = content[at:end]
        side = 0xE0 <= marker <= 0xEF or marker == 0xFE
        known = segment[4:].startswith(_JPEG_KEPT)
        if not side or (known and _opens(JpegImagePlugin.JpegImageFile, _JPEG + segment + _JPEG_END)):
            yield segment
        at = end
    yield content[at:]
