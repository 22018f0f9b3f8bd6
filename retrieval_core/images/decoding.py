"""From the location of a file to a decoded Pillow image, or the reason why there is none.

An image is decoded whole or rejected; nothing stands in for a missing part. One limit: the JPEG decoder conceals damage
inside a stream that still has its end marker, and Pillow does not report it.
"""

from __future__ import annotations

import io
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, get_args

from PIL import Image, ImageFile, JpegImagePlugin, PsdImagePlugin

from retrieval_core.files import storage
from retrieval_core.files.credentials import CredentialsError
from retrieval_core.files.formats import FIRST, format_of
from retrieval_core.files.retries import retried
from retrieval_core.images.side_parts import without_side_parts
from retrieval_core.images.tiff_layouts import TiffFile, UnsupportedLayout

Reason = Literal["missing", "unreadable", "empty", "not_an_image", "truncated", "too_large", "unsupported", "corrupt"]
REASONS: tuple[Reason, ...] = get_args(Reason)

# Pillow recognises these, but decodes them by other programs or handlers, so pixels would depend on the machine.
_NO_DECODER = frozenset({"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"})
# The second is raised where warnings are made errors.
_BOMB = (Image.DecompressionBombError, Image.DecompressionBombWarning)
_ENDS_EARLY = (EOFError, struct.error, IndexError)
# What Pillow's plugins say of a file that may be sound.
_NOT_READ = (
    *("unsupported", "not supported", "not yet supported", "cannot handle", "unimplemented", "support not installed"),
    *("unknown pixel mode", "unknown raw mode", "unknown pixel format", "unknown pcx mode", "unknown tga mode"),
)
_REMEDY = "save it as PNG, or as TIFF of 8 bits with interleaved RGB"


class ImageRejected(Exception):  # noqa: N818 - an outcome that is counted and listed, not a failure of the run
    """An image that cannot be embedded: ``reason``, one of ``REASONS``, and ``detail``, one line for a person.

    missing: nothing is there. unreadable: no permission, a folder, not a regular file, or the store failed. empty: 0
    bytes. not_an_image: no known format. truncated: the file ends too soon. too_large: more than ``images.max_pixels``.
    unsupported: a layout of pixels that Pillow does not read, or not rightly. corrupt: any other error of the decoder.
    """

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(reason, detail)  # both, so that it survives pickling between processes
        self.reason: Reason = reason
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}"


def read_content(location: str, max_pixels: int) -> bytes:
    """The bytes of a file or URL that may hold an image of up to ``max_pixels``.

    Raises ImageRejected for missing, unreadable, and too_large beyond 16 bytes a pixel and 64 MiB. Raises
    CredentialsError if the store asks for credentials.
    """
    # The file is read before it is decoded: a failing disk then differs from a failing decoder, and libtiff does not
    # map a file that may shrink. 16 bytes a pixel is the widest raw pixel; the rest is for metadata and other frames.
    limit = 16 * max_pixels + (64 << 20)
    try:
        local = storage.local_path(location)
        if local is not None:
            kind = storage.irregular_kind(local)
            if kind is not None:  # before opening: a FIFO without a writer would block for ever
                raise ImageRejected("unreadable", f"is {kind}, not a regular file")
        content = retried(lambda: _read_up_to(location, limit))
    except CredentialsError:  # no fault of this image: the run cannot go on
        raise
    except (FileNotFoundError, NotADirectoryError):
        raise ImageRejected("missing", "no such file") from None
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path, or an unknown kind of URL
        raise ImageRejected("unreadable", _one_line(error)) from error
    if content is None:
        raise ImageRejected("too_large", f"file of more than {limit} bytes for max_pixels {max_pixels}")
    return content


def _read_up_to(location: str, limit: int) -> bytes | None:
    """The content, or None where it has more bytes than the limit."""
    if storage.local_path(location) is None:
        content = storage.read_object(location, limit + 1)
        return None if len(content) > limit else content
    with storage.open_once(location) as file:
        if file.seek(0, io.SEEK_END) > limit:
            return None
        file.seek(0)
        return file.read()


def decode_frame(
    content: bytes, max_pixels: int, least: int | None = None
) -> tuple[ImageFile.ImageFile, tuple[int, int]]:
    """Decode the first frame of a file's bytes, once the header has shown that it has no more than ``max_pixels``.

    With ``least``, a JPEG is decoded at 1/2, 1/4 or 1/8 of its size where both sides keep that many pixels, which is
    several times as fast. Returns the loaded image in the mode of the file, and its width and height at whole size. A
    PNG's transparent colour in ``info`` is at the depth of its pixels. Text and metadata beside the picture never make
    it fail. Raises ImageRejected: empty, not_an_image, truncated, too_large, unsupported, corrupt.
    """
    if not content:
        raise ImageRejected("empty", "the file has 0 bytes")
    try:
        return _decode(content, max_pixels, least)
    except ImageRejected as rejected:
        bare = without_side_parts(content) if rejected.reason in ("truncated", "corrupt") else None
        if bare is None:
            raise
    opened, whole = _decode(bare.content, max_pixels, least)
    if bare.profile is not None:
        opened.info["icc_profile"] = bare.profile
    return opened, whole


def _decode(content: bytes, max_pixels: int, least: int | None) -> tuple[ImageFile.ImageFile, tuple[int, int]]:
    try:
        opened = _identify(content)
    except _BOMB:
        # Some decoders (WebP) ask Pillow's own limit, which may be lower than ours, before they tell the size.
        with pillow_call(content), _PILLOW_LIMIT.at_least(max_pixels):
            opened = _identify(content)
    _check_size(opened, max_pixels)
    _check_layers(opened)
    whole = opened.size
    with pillow_call(content):
        if least is not None and isinstance(opened, JpegImagePlugin.JpegImageFile):
            opened.draft(None, (least, least))
        if opened.format == "PNG":
            # The decoder skips the checksums of pixel data; verify() reads them, on a copy because it ends the image.
            type(opened)(io.BytesIO(content), "").verify()
            _scale_transparent_colour(opened)
        with _PILLOW_LIMIT.at_least(opened.width * opened.height):  # TIFF asks it again here
            opened.load()
    _check_size(opened, max_pixels)  # icons tell their true size only now
    return opened, whole if isinstance(opened, JpegImagePlugin.JpegImageFile) else opened.size


def _check_size(opened: ImageFile.ImageFile, max_pixels: int) -> None:
    width, height = opened.size
    if width * height > max_pixels:
        raise ImageRejected("too_large", f"{width} x {height} pixels, more than images.max_pixels = {max_pixels}")


def _check_layers(opened: ImageFile.ImageFile) -> None:
    if isinstance(opened, PsdImagePlugin.PsdImageFile):
        # Saved without it, the picture of all layers is a white sheet, and a resource says so.
        versions = [data for kind, _, data in opened.resources if kind == 1057]
        if versions and versions[0][4:5] == b"\0":
            raise ImageRejected("unsupported", f"Photoshop file with nothing but layers; {_REMEDY}")


def _identify(content: bytes) -> ImageFile.ImageFile:
    """``Image.open`` without its check of a process-wide limit, which would warn or fail below ours."""
    Image.preinit()  # in this order, formats are tried in the same order as by Image.open
    Image.init()
    problem: Exception | None = None
    for name in list(Image.ID):
        if name in _NO_DECODER:
            continue
        factory, accept = Image.OPEN[name]
        if name == "TIFF":
            factory = TiffFile
        claimed = False
        try:
            if accept is not None:
                answer = accept(content[:16])  # a text says that this build of Pillow lacks the decoder
                claimed = bool(answer) and not isinstance(answer, str)
                if isinstance(answer, str):
                    problem = problem or OSError(answer)
                if not claimed:
                    continue
            return factory(io.BytesIO(content), "")
        except _BOMB:
            raise
        except Exception as error:
            # Formats without a signature (TGA) fail on anything; only a claim makes the failure mean damage.
            problem = problem or (error if claimed else None)
    if problem is None:
        form = format_of(content[:FIRST])
        known = f"{form.name}; {form.remedy}" if form else f"the file starts with {content[:16]!r}"
        raise ImageRejected("not_an_image", f"no image format Pillow decodes: {known}")
    raise _rejection(problem, content) from problem


@contextmanager
def pillow_call(content: bytes) -> Iterator[None]:
    """Around calls of Pillow only: a hostile file can raise nearly anything there, and all of it is a reject."""
    try:
        yield
    except ImageRejected:
        raise
    except Exception as error:
        raise _rejection(error, content) from error


def _rejection(error: Exception, content: bytes) -> ImageRejected:
    if isinstance(error, _BOMB):
        return ImageRejected("too_large", _one_line(error))
    ends_early = isinstance(error, _ENDS_EARLY) or isinstance(error.__cause__, _ENDS_EARLY)
    if content[:4] == b"RIFF":  # WebP's decoder only says that it failed
        ends_early = int.from_bytes(content[4:8], "little") + 8 > len(content)
    text = str(error).lower()
    layout = None
    if isinstance(error, UnsupportedLayout):
        layout = str(error)
    elif content[:4] == b"8BPS" and (content[4:6] == b"\0\2" or isinstance(error.__cause__, KeyError)):
        large = "large " if content[4:6] == b"\0\2" else ""
        layout = f"{large}Photoshop file of {int.from_bytes(content[22:24], 'big')} bits a channel"
    elif any(words in text for words in _NOT_READ):
        layout = _one_line(error)
    if layout is not None:
        return ImageRejected("unsupported", f"{layout}; {_REMEDY}")
    if ends_early or "truncated" in text or "not enough" in text:
        return ImageRejected("truncated", _one_line(error))
    return ImageRejected("corrupt", _one_line(error))


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


class _PillowLimit:
    """Keeps Pillow's own pixel limit, one number a process, from firing on an image that ours allows.

    It is only ever raised, while images beyond it are read, and put back after the last of them unless someone else has
    changed it meanwhile: no other thread sees a stricter Pillow than it asked for.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._original: int | None = None
        self._raised: int | None = None

    @contextmanager
    def at_least(self, pixels: int) -> Iterator[None]:
        with self._lock:
            if self._users == 0:
                self._original = self._raised = Image.MAX_IMAGE_PIXELS
            needed = self._original is not None and pixels > self._original
            if needed:
                self._users += 1
                self._raised = Image.MAX_IMAGE_PIXELS = max(pixels, self._raised or 0)
        try:
            yield
        finally:
            with self._lock:
                self._users -= needed
                if needed and self._users == 0 and self._raised == Image.MAX_IMAGE_PIXELS:
                    Image.MAX_IMAGE_PIXELS = self._original


_PILLOW_LIMIT = _PillowLimit()


def _scale_transparent_colour(opened: ImageFile.ImageFile) -> None:
    # Pillow scales a PNG's pixels to 8 bits but leaves the transparent colour at the file's depth.
    key, depth = opened.info.get("transparency"), opened.tile[0].args
    if isinstance(key, int) and depth in ("L;2", "L;4"):
        opened.info["transparency"] = (key & 3) * 85 if depth == "L;2" else (key & 15) * 17
    elif isinstance(key, tuple) and depth == "RGB;16B":
        opened.info["transparency"] = tuple(value >> 8 for value in key)
