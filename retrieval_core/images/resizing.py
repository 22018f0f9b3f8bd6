"""Pixels (uint8 RGB) resized. Shapes: H, W of an image; S the side of a view."""

from __future__ import annotations

import numpy as np
from PIL import Image


def resize(image: np.ndarray, size: int, mode: str) -> np.ndarray:
    """Resize to a square without keeping the proportions, never cropping: (H, W, 3) to (S, S, 3) uint8, S = ``size``.

    ``antialias`` is Pillow's bilinear filter, whose support grows with the reduction. ``published`` is plain bilinear
    interpolation: output pixel i samples at (i + 0.5) * in / out - 0.5, edges clamped, as ``cv2.resize`` with
    INTER_LINEAR and ``torch.nn.functional.interpolate(align_corners=False)``; it agrees with OpenCV's fixed-point
    arithmetic within one grey level. Raises ValueError for another mode or a side below 1. Memory O(H W) for a cut-out,
    else O(S W + S^2).
    """
    if size < 1:
        raise ValueError(f"size {size}: must be at least 1 pixel a side")
    if mode == "antialias":
        return np.array(Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR))
    if mode != "published":
        raise ValueError(f"resize mode {mode!r}: must be antialias or published")
    top, bottom, weight = _taps(image.shape[0], size)
    columns = _taps(image.shape[1], size)
    upper, lower = _blend_columns(image[top], *columns), _blend_columns(image[bottom], *columns)
    lower -= upper
    lower *= weight[:, None]
    lower += upper
    blend: np.ndarray = np.rint(lower).astype(np.uint8).reshape(size, size, 3)
    return blend


def background_of(view: np.ndarray) -> tuple[int, int, int]:
    """Median colour of the outermost pixels of an image (H, W, 3)."""
    edge = np.concatenate([view[0], view[-1], view[:, 0], view[:, -1]])
    red, green, blue = (int(value) for value in np.median(edge, axis=0))
    return red, green, blue


def _taps(source: int, target: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each output pixel: left neighbour, right neighbour (target,) int64, and the right one's weight float32."""
    position = np.clip((np.arange(target) + 0.5) * (source / target) - 0.5, 0, source - 1)
    left = np.floor(position).astype(np.int64)
    return left, np.minimum(left + 1, source - 1), (position - left).astype(np.float32)


def _blend_columns(rows: np.ndarray, left: np.ndarray, right: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """(h, W, 3) uint8 to (h, w * 3) float32. Flat and in place, as most of the time of many views goes here."""
    flat = rows.reshape(len(rows), -1)
    near, far = (
        flat.take((columns[:, None] * 3 + np.arange(3)).ravel(), axis=1, mode="clip").astype(np.float32)
        for columns in (left, right)
    )
    far -= near
    far *= np.repeat(weight, 3)
    far += near
    return far
