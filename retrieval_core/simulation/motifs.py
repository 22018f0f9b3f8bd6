"""The catalogue of motifs, and a motif as a sprite of any size, turn and colouring."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from retrieval_core.simulation import (
    animals,
    creatures,
    faces,
    florals,
    foliage,
    fruits,
    household,
    objects,
    ornaments,
    sea,
    trees,
)
from retrieval_core.simulation.colours import Colours, motif_palette, to_rgb
from retrieval_core.simulation.drawing import INKS, STYLES, Drawing, Style, render_labels
from retrieval_core.simulation.families import Family

FAMILIES: dict[str, Family] = {
    family.name: family
    for module in (florals, foliage, trees, ornaments, animals, faces, creatures, sea, fruits, household, objects)
    for family in module.FAMILIES
}
_OVERSAMPLING = 3
_CACHED_SIDE = 512


class Motif(NamedTuple):
    """One drawing of a family. Its name says all: the same name is the same motif in every data set."""

    family: str
    variant: int

    @property
    def choices(self) -> dict[str, Any]:
        """What its family draws it with."""
        return FAMILIES[self.family].variants()[self.variant]

    @property
    def name(self) -> str:
        """``family-choice-number``, for example ``daisy-7-petals-03``; the category of the data set."""
        key, value = next(iter(self.choices.items()))
        phrase = value if isinstance(value, str) else f"{value:g}-{key}"
        return f"{self.family}-{phrase}-{self.variant + 1:02d}"

    def _stream(self, purpose: str) -> np.random.Generator:
        return np.random.default_rng(zlib.crc32(f"{purpose} {self.name}".encode()))

    @property
    def style(self) -> Style:
        """Most prints are flat; some carry a dark line, on or off register."""
        return STYLES[int(self._stream("style").choice(3, p=[0.56, 0.28, 0.16]))]

    @property
    def inks(self) -> Colours:
        """(INKS, 3) OKLCH, its own palette."""
        return motif_palette(self._stream("palette"), FAMILIES[self.family].hues)


def catalogue(seed: int) -> Iterator[Motif]:
    """Every motif in an order drawn from ``seed``: first one of each family, then a second of each, and so on."""
    rng = np.random.default_rng([seed, 1])
    orders = {name: rng.permutation(len(family.variants())) for name, family in FAMILIES.items()}
    for turn in range(max(map(len, orders.values()))):
        names = [name for name in FAMILIES if len(orders[name]) > turn]
        for i in rng.permutation(len(names)):
            yield Motif(names[i], int(orders[names[i]][turn]))


def _labels(motif: Motif, side: int) -> Image.Image:
    drawing = Drawing()
    FAMILIES[motif.family].draw(drawing, **motif.choices)
    return Image.fromarray(render_labels(drawing.normalised(), side, motif.style))


_cached_labels = lru_cache(maxsize=256)(_labels)  # at most 64 MiB: larger ones are drawn each time


def sprite(motif: Motif, inks: Colours, size: float, turn: float = 0.0, flip: bool = False) -> NDArray[np.uint8]:
    """Print a motif on a transparent ground.

    Args:
        motif: which one.
        inks: (INKS, 3) OKLCH, its own or a colouring of it.
        size: pixels along the motif's longer side before it is turned.
        turn: degrees clockwise.
        flip: left to right, before the turn.

    Returns:
        (H, W, 4) uint8 RGBA with straight alpha, cut to what is printed; antialiased by 3 x 3 samples a pixel. Its
        centre is the motif's to within a pixel. Memory O(size^2).
    """
    assert inks.shape == (INKS, 3)
    side = max(2, int(np.ceil(size * 1.06 * (abs(np.cos(np.radians(turn))) + abs(np.sin(np.radians(turn)))))))
    fine = side * _OVERSAMPLING
    wanted = size * 1.06 * _OVERSAMPLING
    label_side = 64
    while label_side < wanted:
        label_side *= 2
    labels = (_cached_labels if label_side <= _CACHED_SIDE else _labels)(motif, label_side)
    scale, angle = label_side / wanted, np.radians(turn)
    cos, sin = np.cos(angle) * scale, np.sin(angle) * scale
    sign = -1.0 if flip else 1.0
    a, b, d, e = sign * cos, sign * sin, -sin, cos
    mid, centre = fine / 2, label_side / 2
    matrix = (a, b, centre - (a + b) * mid, d, e, centre - (d + e) * mid)
    fine_labels = labels.transform((fine, fine), Image.Transform.AFFINE, matrix, Image.Resampling.NEAREST)
    table = np.zeros((INKS, 4), dtype=np.uint8)
    table[1:, :3] = to_rgb(inks)[1:]
    table[1:, 3] = 255
    fine_labels.putpalette(table.tobytes(), "RGBA")
    coloured = fine_labels.convert("RGBA").reduce(_OVERSAMPLING)
    box = coloured.getbbox(alpha_only=True)
    assert box is not None, f"{motif.name} prints nothing"
    return np.asarray(coloured.crop(box))
