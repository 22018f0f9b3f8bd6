"""TIFF: which layouts of pixels Pillow reads right, and how it is led to read more of them.

Pillow reads uncompressed files by itself and all others by libtiff. By itself it takes the planes of a planar file for
8 bits deep whatever the header says, and a subsampled YCbCr for a whole one. By libtiff it takes the numbers of a
big-endian file as they were in it, though libtiff has turned them. Those are led around; a layout that still comes out
wrong is refused.
"""

from __future__ import annotations

from typing import Any

from PIL import TiffImagePlugin, TiffTags
from PIL.TiffImagePlugin import (
    BITSPERSAMPLE,
    COMPRESSION,
    EXTRASAMPLES,
    FILLORDER,
    PHOTOMETRIC_INTERPRETATION,
    PLANAR_CONFIGURATION,
    SAMPLEFORMAT,
    SAMPLESPERPIXEL,
    YCBCRSUBSAMPLING,
)

_RAW, _BY_LIBTIFF = 1, 32771  # compressions: none, and one that Pillow leaves to libtiff, which reads the header itself
_DECODED = {_RAW, 2, 3, 4, 5, 6, 7, 8, _BY_LIBTIFF, 32773, 32946, 34925, 50000}
_YCBCR, _LAB = 6, 8
_SIGNED = 2
_NATIVE = {"F;32BF": "F;32NF", "I;32BS": "I;32NS", "I;16BS": "I;16NS"}
_UNKNOWN = ("unknown pixel mode", "invalid value for samples per pixel")
_COLOURS = {value: name for name, value in TiffTags.lookup(PHOTOMETRIC_INTERPRETATION).enum.items()}
_FORMATS = {_SIGNED: "signed ", 3: "float ", 5: "complex ", 6: "complex "}


class UnsupportedLayout(Exception):  # noqa: N818 - a file that may be sound
    """A file whose pixels Pillow does not read, or not rightly; the text names its layout."""


class TiffFile(TiffImagePlugin.TiffImageFile):
    """A TIFF whose pixels are those that its header describes; raises UnsupportedLayout at once, or in ``load``."""

    def _open(self) -> None:
        assert self.fp is not None
        if self.fp.read(4) == b"MM\0+":
            raise UnsupportedLayout("big-endian BigTIFF")
        self.fp.seek(0)
        super()._open()

    def _setup(self) -> None:
        tags = self.tag_v2
        if not isinstance(self.info.get("xmp"), bytes):  # of another type, it would fail the search for an orientation
            self.info.pop("xmp", None)
        if tags.get(COMPRESSION, _RAW) == _RAW and (
            _planar(tags) or tags.get(FILLORDER, 1) == 2 or (_ycbcr(tags) and tags.get(YCBCRSUBSAMPLING) != (1, 1))
        ):
            tags[COMPRESSION] = _BY_LIBTIFF
        try:
            super()._setup()
        except (KeyError, SyntaxError) as error:
            if tags.get(COMPRESSION, _RAW) in _DECODED and not str(error).lower().startswith(_UNKNOWN):
                raise
            raise UnsupportedLayout(_described(tags)) from error
        if _comes_out_wrong(tags, len(self.getbands())):
            raise UnsupportedLayout(_described(tags))
        tile = self.tile[0]
        if self.use_load_libtiff and isinstance(tile.args, tuple) and tile.args[0] in _NATIVE:
            self.tile = [tile._replace(args=(_NATIVE[tile.args[0]], *tile.args[1:]))]

    def load(self) -> Any:
        try:
            return super().load()
        except OSError as error:
            if self.tag_v2.get(COMPRESSION, _RAW) in _DECODED:
                raise
            raise UnsupportedLayout(_described(self.tag_v2)) from error  # libtiff was built without it


def _planar(tags: TiffImagePlugin.ImageFileDirectory_v2) -> bool:
    return bool(tags.get(PLANAR_CONFIGURATION, 1) == 2)


def _ycbcr(tags: TiffImagePlugin.ImageFileDirectory_v2) -> bool:
    return bool(tags.get(PHOTOMETRIC_INTERPRETATION) == _YCBCR and tags.get(SAMPLESPERPIXEL, 1) >= 3)


def _comes_out_wrong(tags: TiffImagePlugin.ImageFileDirectory_v2, bands: int) -> bool:
    """Whether Pillow's picture in so many bands would hold other values than the file."""
    if tags.get(SAMPLEFORMAT, (1,))[0] == _SIGNED and tags.get(BITSPERSAMPLE, (1,))[0] == 8:
        return True
    if not _planar(tags) or bands == 1:
        return False
    extra = tags.get(EXTRASAMPLES, ())
    planes = tags.get(SAMPLESPERPIXEL, 1) - (0 if any(extra) else len(extra))  # Pillow leaves out unspecified ones
    # Planes of Lab keep their signs, and of grey with alpha the second one goes to another place than the alpha's.
    lab = tags.get(PHOTOMETRIC_INTERPRETATION) == _LAB
    return lab or bands == 2 or planes != bands or (_ycbcr(tags) and bool(extra))


def _described(tags: TiffImagePlugin.ImageFileDirectory_v2) -> str:
    """What the header says of the pixels, in words."""
    photometric, compression = tags.get(PHOTOMETRIC_INTERPRETATION, 0), tags.get(COMPRESSION, _RAW)
    number = _FORMATS.get(tags.get(SAMPLEFORMAT, (1,))[0], "")
    parts = [
        f"{tags.get(SAMPLESPERPIXEL, 1)} x {tags.get(BITSPERSAMPLE, (1,))[0]} {number}bits",
        str(_COLOURS.get(photometric, f"colours of kind {photometric}")),
        *(["in planes"] if _planar(tags) else []),
        *([f"extra samples {tags[EXTRASAMPLES]}"] if EXTRASAMPLES in tags else []),
        *([] if compression in _DECODED else [f"compression {compression}"]),
    ]
    return f"TIFF of {', '.join(parts)}"
