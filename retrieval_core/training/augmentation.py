"""Augmentation of training views: as published, or as printing and cutting treat a motif.

Views are uint8 RGB arrays. Every draw comes from the sample's own stream.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageEnhance

from retrieval_core.images.resizing import background_of, rotated


def jitter_colour(
    image: Image.Image, strength: tuple[float, float, float, float], rng: np.random.Generator
) -> Image.Image:
    """Change brightness, contrast, saturation and hue in random order, as torchvision's ``ColorJitter`` does.

    Factors are uniform in [1 - s, 1 + s]. The hue is shifted by a uniform share of the circle in [-s, s].
    """
    *strengths, hue = strength
    factors = [rng.uniform(max(0.0, 1 - s), 1 + s) for s in strengths]
    shift = rng.uniform(-hue, hue)
    enhancers = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
    for operation in rng.permutation(4):
        image = enhancers[operation](image).enhance(factors[operation]) if operation < 3 else _shift_hue(image, shift)
    return image


def _shift_hue(image: Image.Image, shift: float) -> Image.Image:
    hue, saturation, value = image.convert("HSV").split()
    shifted = (np.asarray(hue).astype(np.int16) + round(shift * 255)) % 256
    return Image.merge("HSV", (Image.fromarray(shifted.astype(np.uint8)), saturation, value)).convert("RGB")


def published(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Horizontal flip with probability 0.5; weak colour jitter (0.1 each) with probability 0.5."""
    if rng.random() < 0.5:
        image = image[:, ::-1]
    if rng.random() < 0.5:
        image = np.asarray(jitter_colour(Image.fromarray(np.ascontiguousarray(image)), (0.1, 0.1, 0.1, 0.1), rng))
    return np.ascontiguousarray(image)


def query_only(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A query rotated by up to 20 degrees, as prints rotate their motifs; one in seven on dyed cloth."""
    background = background_of(image)
    image = rotated(image, rng.uniform(-20, 20))
    return _dyed(image, background, rng) if rng.random() < 1 / 7 else image


def print_fabric(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A fabric in any of the eight orientations (quarter rotations, mirrored or not), mostly of another dye lot."""
    orientation = int(rng.integers(8))
    image = np.rot90(image, orientation % 4)
    if orientation >= 4:
        image = image[:, ::-1]
    image = np.ascontiguousarray(image)
    if rng.random() < 0.8:
        image = np.asarray(jitter_colour(Image.fromarray(image), (0.3, 0.3, 0.3, 0.05), rng))
    return image


def print_query(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A designer's cut-out as it may be printed: mirrored, a little rotated and scaled, in other ink, on dyed cloth."""
    background = background_of(image)
    if rng.random() < 0.5:
        image = image[:, ::-1]
    pixels = rotated(np.ascontiguousarray(image), rng.uniform(-25, 25), rng.uniform(0.75, 1.25))
    if rng.random() < 0.8:
        pixels = np.asarray(jitter_colour(Image.fromarray(pixels), (0.3, 0.3, 0.3, 0.05), rng))
    return _dyed(pixels, background, rng) if rng.random() < 0.5 else pixels


def _dyed(image: np.ndarray, background: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Multiply by a colour, as ink printed on dyed cloth: white becomes the cloth, dark stays dark."""
    if min(background) < 200:
        return image
    cloth = rng.uniform(0.4, 1.0, size=3)
    return np.clip(np.rint(image * cloth), 0, 255).astype(np.uint8)
