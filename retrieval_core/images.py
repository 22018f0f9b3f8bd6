"""From a file to the pixels a model sees: to 8-bit RGB, upright, cut into regions, resized.

An image that cannot be decoded whole raises ``ImageRejected`` (see ``decoding``).

Shapes: H, W of the image after orientation; S the side a model sees; R regions. Pixels are uint8 RGB.

How the unusual becomes 8-bit RGB:

- Transparency is composited on white, or with ``alpha: published`` dropped as ``Image.convert("RGB")`` drops it.
- 16-bit grey (``I;16``, and ``I`` as read from 16-bit PGM): 0..65535 becomes 0..255, rounded. 12-bit TIFF: 0..4095.
  ``convert`` would clip at 255, so this holds for both values of ``alpha``. Colour of 16 bits keeps its high byte.
- Other ``I``: 0..65535, widened to the image's minimum and maximum where they lie outside. ``F``: 0..1, widened alike,
  so that black stays black; an image with NaN or infinity is rejected.
- CMYK, YCbCr, LAB, palettes and 1-bit as Pillow converts them. The first frame of what moves, the largest of an icon.
- ``exif: apply`` turns by the orientation tag (an unreadable tag counts as none). ``ignore`` leaves the pixels as
  Pillow's decoder gives them, like the published code; for TIFF that decoder has then already applied the tag.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from PIL import ExifTags, Image, ImageFile, TiffImagePlugin

from retrieval_core.config_sections import ImagesConfig
from retrieval_core.decoding import REASONS, ImageRejected, Reason, decode, pillow_call, read_content

__all__ = [
    "REASONS",
    "ImageRejected",
    "Reason",
    "cut_views",
    "load_views",
    "pixels_of",
    "read_image",
    "read_reduced",
    "region_boxes",
    "resize",
    "turned",
    "turned_views",
]

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = {_TURNS[tag] for tag in (5, 6, 7, 8)}


def read_image(location: str, images: ImagesConfig) -> np.ndarray:
    """Read one image as 8-bit RGB, by the conventions at the top of this module.

    Thread safe; Pillow releases the interpreter while it decodes. Memory O(file + pixels), both bounded through
    ``images.max_pixels``.

    Args:
        location: absolute path or URL.
        images: the ``images`` section.

    Returns:
        (H, W, 3) uint8, writable, contiguous.

    Raises:
        ImageRejected: for whatever is wrong with this file.
        RuntimeError: as ``pixels_of``.
    """
    return pixels_of(read_content(location, images.max_pixels), images)


def read_reduced(location: str, images: ImagesConfig, least: int) -> tuple[np.ndarray, tuple[int, int]]:
    """``read_image``, but a JPEG at 1/2, 1/4 or 1/8 of its size where both sides keep ``least`` pixels.

    Returns:
        (H, W, 3) uint8, and width and height at whole size, after orientation.
    """
    return _pixels(read_content(location, images.max_pixels), images, least)


def pixels_of(content: bytes, images: ImagesConfig) -> np.ndarray:
    """``read_image`` of a file that is in memory.

    Raises:
        ImageRejected: for whatever is wrong with the content.
        RuntimeError: if other code told Pillow to load truncated images, which would paint what is missing.
    """
    return _pixels(content, images, None)[0]


def _pixels(content: bytes, images: ImagesConfig, least: int | None) -> tuple[np.ndarray, tuple[int, int]]:
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise RuntimeError("PIL.ImageFile.LOAD_TRUNCATED_IMAGES is on: damaged images would pass; set it to False")
    opened, (width, height) = decode(content, images.max_pixels, least)
    turn = _turn(opened) if images.exif == "apply" else None
    scale = round(width / opened.width)
    if turn is not None and (width % scale or height % scale):
        # Turned, the pixel that is only partly picture would be the first: few cameras give such sides.
        return _pixels(content, images, None)
    picture = _to_rgb(opened, images.alpha, content)
    if turn is not None:
        picture = picture.transpose(turn)
    return np.array(picture), (height, width) if turn in _SIDEWAYS else (width, height)


def resize(image: np.ndarray, size: int | tuple[int, int], mode: str) -> np.ndarray:
    """Resize without keeping the proportions, never cropping.

    ``antialias`` is Pillow's bilinear filter, whose support grows with the reduction. ``published`` is plain bilinear
    interpolation: output pixel i samples at (i + 0.5) * in / out - 0.5, edges clamped, as ``cv2.resize`` with
    INTER_LINEAR and ``torch.nn.functional.interpolate(align_corners=False)``; it agrees with OpenCV's fixed-point
    arithmetic within one grey level.

    Args:
        image: (H, W, 3) uint8.
        size: side, or (height, width), in pixels.
        mode: ``antialias`` or ``published``.

    Returns:
        (height, width, 3) uint8. Memory O(H * W) for a cut-out, else O(height * W + height * width).

    Raises:
        ValueError: for another mode or a side below 1.
    """
    height, width = (size, size) if isinstance(size, int) else size
    if height < 1 or width < 1:
        raise ValueError(f"size {size}: must be at least 1 pixel a side")
    if mode == "antialias":
        resized = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR, reducing_gap=None)
        return np.array(resized)
    if mode != "published":
        raise ValueError(f"resize mode {mode!r}: must be antialias or published")
    y0, y1, down = _taps(image.shape[0], height)
    taps = _taps(image.shape[1], width)
    upper, lower = _blend_columns(image[y0], *taps), _blend_columns(image[y1], *taps)
    lower -= upper
    lower *= down[:, None]
    lower += upper
    blend: np.ndarray = np.rint(lower).astype(np.uint8).reshape(height, width, 3)
    return blend


def region_boxes(width: int, height: int, grids: Sequence[int], overlap: float) -> np.ndarray:
    """The regions of an image that get an embedding each.

    Grid 1 is the whole image. Grid n is n x n tiles that cover it; the tile's side t satisfies
    ``n * t - (n - 1) * overlap * t = side``, separately for width and height. Edges are rounded half up to pixels; a
    tile has at least one pixel, so tiles repeat where the image has fewer pixels than tiles.

    Args:
        width: of the oriented image, in pixels, at least 1.
        height: likewise.
        grids: at least one; each at least 1.
        overlap: of neighbouring tiles as a share of the tile's side, in [0, 1).

    Returns:
        (R, 4) int32 of x0, y0, x1, y1 (ends exclusive); R = sum of n * n. Grids in the given order, rows from the top,
        each from the left.

    Raises:
        ValueError: for a value out of these ranges.
    """
    if width < 1 or height < 1:
        raise ValueError(f"image of {width} x {height} pixels: both must be at least 1")
    if len(grids) == 0 or min(grids) < 1:
        raise ValueError(f"grids {list(grids)}: must name at least one grid, each at least 1")
    if not 0 <= overlap < 1:
        raise ValueError(f"overlap {overlap}: must lie in [0, 1)")
    boxes = [
        (x0, y0, x1, y1)
        for grid in grids
        for y0, y1 in _intervals(height, grid, overlap)
        for x0, x1 in _intervals(width, grid, overlap)
    ]
    return np.array(boxes, dtype=np.int32)


def load_views(
    location: str, images: ImagesConfig, size: int, grids: Sequence[int] = (1,), overlap: float = 0.25
) -> tuple[np.ndarray, np.ndarray]:
    """``cut_views`` of an image that is read first; ImageRejected as ``read_image``."""
    return cut_views(read_image(location, images), images, size, grids, overlap)


def cut_views(
    image: np.ndarray,
    images: ImagesConfig,
    size: int,
    grids: Sequence[int] = (1,),
    overlap: float = 0.25,
    whole: tuple[int, int] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Cut an image into what the model sees.

    Each region is cropped from the oriented image as it was read, then resized by itself: no pixel outside it takes
    part.

    Args:
        image: (H, W, 3) uint8, oriented.
        images: the ``images`` section.
        size: S, the side of a view in pixels.
        grids: as in ``region_boxes``.
        overlap: as in ``region_boxes``.
        whole: width and height of what the image is a reduced copy of; boxes are in its pixels.

    Returns:
        views (R, S, S, 3) uint8 and boxes (R, 4) int32. Memory O(R S^2) beside the image.

    Raises:
        ValueError: as ``region_boxes``.
    """
    width, height = whole or (image.shape[1], image.shape[0])
    boxes = region_boxes(width, height, grids, overlap)
    views = np.empty((len(boxes), size, size, 3), dtype=np.uint8)
    scale = round(width / image.shape[1])
    if scale > 1:
        # A reduced side is rounded up, so its last pixel is only partly picture: the boxes say to which part.
        picture = Image.fromarray(image)
        for view, (x0, y0, x1, y1) in zip(views, (boxes / scale).tolist(), strict=True):
            left, top = math.floor(x0), math.floor(y0)
            region = picture.crop((left, top, math.ceil(x1), math.ceil(y1)))
            inside = (x0 - left, y0 - top, x1 - left, y1 - top)
            view[...] = np.asarray(region.resize((size, size), Image.Resampling.BILINEAR, inside))
        return views, boxes
    for view, (x0, y0, x1, y1) in zip(views, boxes.tolist(), strict=True):
        view[...] = resize(image[y0:y1, x0:x1], size, images.resize)
    return views, boxes


def turned_views(
    image: np.ndarray,
    images: ImagesConfig,
    size: int,
    turns: Sequence[float] = (0.0,),
    whole: tuple[int, int] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Turned copies of a query image, as prints turn their motifs.

    Args:
        image: (H, W, 3) uint8, oriented.
        images: the ``images`` section.
        size: S, the side of a view in pixels.
        turns: degrees, see ``turned``.
        whole: as in ``cut_views``.

    Returns:
        views (len(turns), S, S, 3) uint8; boxes (len(turns), 4) int32, each the whole image.
    """
    views, boxes = cut_views(image, images, size, whole=whole)
    return np.stack([turned(views[0], degrees) for degrees in turns]), np.repeat(boxes, len(turns), axis=0)


def turned(view: np.ndarray, degrees: float, scale: float = 1.0) -> np.ndarray:
    """A view turned about its centre and scaled, on a ground of the median colour of its edge.

    Args:
        view: (S, S, 3) uint8.
        degrees: counter-clockwise; bilinear between pixels. 0 at scale 1 returns the view itself.
        scale: above 1 enlarges.

    Returns:
        (S, S, 3) uint8.
    """
    if degrees == 0 and scale == 1:
        return view
    cos, sin = np.cos(np.deg2rad(degrees)) / scale, np.sin(np.deg2rad(degrees)) / scale
    centre = view.shape[0] / 2
    matrix = (
        cos, -sin, centre - cos * centre + sin * centre,
        sin, cos, centre - sin * centre - cos * centre,
    )  # fmt: skip
    picture = Image.fromarray(view)
    affine, bilinear = Image.Transform.AFFINE, Image.Resampling.BILINEAR
    return np.asarray(picture.transform(picture.size, affine, matrix, bilinear, fillcolor=ground_of(view)))


def ground_of(view: np.ndarray) -> tuple[int, int, int]:
    """Median colour of the outermost pixels of a view (S, S, 3)."""
    edge = np.concatenate([view[0], view[-1], view[:, 0], view[:, -1]])
    red, green, blue = (int(value) for value in np.median(edge, axis=0))
    return red, green, blue


def _turn(opened: ImageFile.ImageFile) -> Image.Transpose | None:
    try:
        orientation = opened.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # hostile metadata can raise anything, and says nothing about the pixels
        return None
    return _TURNS.get(orientation) if isinstance(orientation, int) else None


def _to_rgb(opened: ImageFile.ImageFile, alpha: str, content: bytes) -> Image.Image:
    key = opened.info.get("transparency")
    if opened.mode == "F" or opened.mode.startswith("I"):
        with pillow_call(content):
            values = np.asarray(opened)
        grey = _to_8_bits(values, *_tiff_grey(opened))
        if alpha == "white" and isinstance(key, int):
            grey[values == key] = 255
        return Image.fromarray(grey).convert("RGB")
    with pillow_call(content):
        if alpha == "white" and opened.has_transparency_data:
            layer = opened.convert("RGBA")
            white = Image.new("RGB", opened.size, "white")
            white.paste(layer, mask=layer)
            return white
        opened.info.pop("transparency", None)  # dropped in any case; Pillow would warn about some kinds
        return opened.convert("RGB")


def _to_8_bits(values: np.ndarray, full: int, inverted: bool) -> np.ndarray:
    """(H, W) of any number type to uint8, by the convention at the top of this module."""
    if values.dtype.kind == "u" and values.dtype.itemsize == 2:
        table = np.rint(np.arange(65536) * (255 / full)).clip(0, 255).astype(np.uint8)
        scaled: np.ndarray = table[values]
        return 255 - scaled if inverted else scaled
    exact = values.astype(np.float64)
    if not np.isfinite(exact).all():
        raise ImageRejected("corrupt", "pixels are NaN or infinite")
    low, high = min(0.0, exact.min()), max(float(full), exact.max())
    scaled = np.rint((exact - low) * (255 / (high - low))).astype(np.uint8)
    return 255 - scaled if inverted else scaled


def _tiff_grey(opened: ImageFile.ImageFile) -> tuple[int, bool]:
    """The value of full scale, and whether it means black: Pillow leaves both to the caller for deep TIFF."""
    full, inverted = (1 if opened.mode == "F" else 65535), False
    if isinstance(opened, TiffImagePlugin.TiffImageFile):
        inverted = opened.tag_v2.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0
        if opened.tag_v2.get(TiffImagePlugin.BITSPERSAMPLE) == (12,):
            full = 4095
    return full, inverted


def _taps(source: int, target: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each output pixel: left neighbour, right neighbour (target,) int64, and the right one's weight float32."""
    position = np.clip((np.arange(target) + 0.5) * (source / target) - 0.5, 0, source - 1)
    left = np.floor(position).astype(np.int64)
    return left, np.minimum(left + 1, source - 1), (position - left).astype(np.float32)


def _blend_columns(rows: np.ndarray, left: np.ndarray, right: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """(h, W, 3) uint8 to (h, w * 3) float32. Flat and in place: the views of a fabric are many, and this their cost."""
    flat = rows.reshape(len(rows), -1)
    near, far = (
        flat.take((columns[:, None] * 3 + np.arange(3)).ravel(), axis=1, mode="clip").astype(np.float32)
        for columns in (left, right)
    )
    far -= near
    far *= np.repeat(weight, 3)
    far += near
    return far


def _intervals(side: int, grid: int, overlap: float) -> list[tuple[int, int]]:
    tile = side / (grid - (grid - 1) * overlap)
    intervals = []
    for i in range(grid):
        start = i * tile * (1 - overlap)
        first = min(int(start + 0.5), side - 1)
        intervals.append((first, min(max(int(start + tile + 0.5), first + 1), side)))
    return intervals
