"""Augmentation of training views: as published, or as a fabric is printed and photographed again.

Views are uint8 RGB arrays. Every draw comes from the sample's own stream.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from retrieval_core.simulation.photograph import photographed
from retrieval_core.store.embeddings import Box
from retrieval_core.training.sampling import RECOGNISABLE_SHARE, share_inside


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


class Reprint(NamedTuple):
    """Another print of the same fabric: turned about its middle, perhaps mirrored.

    What is seen is the largest part of the fabric's proportions that has no corner outside, enlarged to its size.
    """

    angle: float  # radians, counter-clockwise
    mirrored: bool

    @classmethod
    def drawn(cls, rng: np.random.Generator) -> Reprint:
        """Any angle, mirrored or not."""
        return cls(rng.uniform(0, 2 * math.pi), bool(rng.random() < 0.5))

    def pixels(self, image: Image.Image) -> Image.Image:
        """The picture (RGB), of the same size."""
        wide, high = image.size
        across, down = self._rows(wide, high)
        corner = (wide / 2 - across @ (wide / 2, high / 2), high / 2 - down @ (wide / 2, high / 2))
        way = (*across.tolist(), corner[0], *down.tolist(), corner[1])
        return image.transform(image.size, Image.Transform.AFFINE, way, Image.Resampling.BICUBIC)

    def boxes(self, boxes: Iterable[tuple[str, Box]], width: int, height: int) -> list[tuple[str, Box]]:
        """Where motifs in boxes of a fabric of width x height pixels come to lie, those that can still be told.

        A motif is taken for the ellipse in its box.
        """
        there = np.linalg.inv(np.stack(self._rows(width, height)))
        middle, found = np.array([width, height]) / 2, []
        for name, box in boxes:
            low, high = np.array(box[:2]), np.array(box[2:])
            centre = there @ ((low + high) / 2 - middle) + middle
            reach = np.hypot(*(there * (high - low) / 2).T)
            turned = (*np.floor(centre - reach).astype(int).tolist(), *np.ceil(centre + reach).astype(int).tolist())
            if share_inside(turned, (0, 0, width, height)) >= RECOGNISABLE_SHARE:
                found.append((name, turned))
        return found

    def _rows(self, width: int, height: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The matrix, row by row, from places about the middle of the reprint to those on the fabric."""
        cosine, sine = math.cos(self.angle), math.sin(self.angle)
        upright, lying = abs(cosine), abs(sine)
        part = min(width / (width * upright + height * lying), height / (width * lying + height * upright))
        side = -1 if self.mirrored else 1
        return part * np.array([side * cosine, -sine]), part * np.array([side * sine, cosine])


def dyed_and_photographed(view: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A square fabric mostly of another dye lot, and often photographed: weave, light, blur and noise."""
    if rng.random() < 0.8:
        view = np.asarray(jitter_colour(Image.fromarray(view), (0.3, 0.3, 0.3, 0.08), rng))
    return photographed(rng, view) if rng.random() < 0.6 else view
