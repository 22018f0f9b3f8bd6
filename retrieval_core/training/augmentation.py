"""Augmentation of training views: as published, or as printing and cutting treat a motif.

All functions take and return uint8 RGB arrays and draw from the sample's own stream.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageEnhance

from retrieval_core.images.resizing import background_of, rotated


def jitter_colour(
    image: Image.Image, strength: tuple[float, float, float, float], rng: np.random.Generator
) -> Image.Image:
    """Change brightness, contrast, saturation and hue, in random order.

    The arithmetic is that of torchvision's ``ColorJitter`` on Pillow images: factors uniform in [1 - s, 1 + s], hue
    shifted by a uniform share of the circle in [-s, s].
    """
    brightness, contrast, saturation, hue = strength
    factors = [rng.uniform(max(0.0, 1 - s), 1 + s) for s in (brightness, contrast, saturation)]
    shift = rng.uniform(-hue, hue)
    for operation in rng.permutation(4):
        if operation == 0:
            image = ImageEnhance.Brightness(image).enhance(factors[0])
        elif operation == 1:
            image = ImageEnhance.Contrast(image).enhance(factors[1])
        elif operation == 2:
            image = ImageEnhance.Color(image).enhance(factors[2])
        else:
            image = _shift_hue(image, shift)
    return image


def _shift_hue(image: Image.Image, shift: float) -> Image.Image:
    hue, saturation, value = image.convert("HSV").split()
    turned = (np.asarray(hue).astype(np.int16) + round(shift * 255)) % 256
    return Image.merge("HSV", (Image.fromarray(turned.astype(np.uint8)), saturation, value)).convert("RGB")


def published(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Horizontal flip with probability 0.5; weak colour jitter (0.1 each) with probability 0.5."""
    if rng.random() < 0.5:
        image = image[:, ::-1]
    if rng.random() < 0.5:
        image = np.asarray(jitter_colour(Image.fromarray(np.ascontiguousarray(image)), (0.1, 0.1, 0.1, 0.1), rng))
    return np.ascontiguousarray(image)


def query_only(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A query turned by up to 20 degrees, as prints turn their motifs; one in seven on dyed cloth."""
    ground = background_of(image)
    image = rotated(image, rng.uniform(-20, 20))
    return _other_ground(image, ground, rng) if rng.random() < 1 / 7 else image


def print_fabric(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What a bolt of cloth undergoes: any of the eight turns and mirrorings, other dye lots."""
    image = _turn(image, int(rng.integers(8)))
    if rng.random() < 0.8:
        image = np.asarray(jitter_colour(Image.fromarray(image), (0.3, 0.3, 0.3, 0.05), rng))
    return image


def print_query(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What a designer's cut-out undergoes: mirrored, a little turned and scaled, other ink and other ground."""
    ground = background_of(image)
    if rng.random() < 0.5:
        image = image[:, ::-1]
    pixels = rotated(np.ascontiguousarray(image), rng.uniform(-25, 25), rng.uniform(0.75, 1.25))
    if rng.random() < 0.8:
        pixels = np.asarray(jitter_colour(Image.fromarray(pixels), (0.3, 0.3, 0.3, 0.05), rng))
    if rng.random() < 0.5:
        pixels = _other_ground(pixels, ground, rng)
    return pixels


def _other_ground(image: np.ndarray, ground: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Multiply by a colour, as ink printed on dyed cloth: white becomes the cloth, dark stays dark."""
    if min(ground) < 200:
        return image
    cloth = rng.uniform(0.4, 1.0, size=3)
    return np.clip(np.rint(image * cloth), 0, 255).astype(np.uint8)


def _turn(image: np.ndarray, which: int) -> np.ndarray:
    image = np.rot90(image, which % 4)
    if which >= 4:
        image = image[:, ::-1]
    return np.ascontiguousarray(image)
