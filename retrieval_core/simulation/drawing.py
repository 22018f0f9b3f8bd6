"""A motif as a list of marks, and how the list becomes pixels.

A mark is a set of outlines printed with one ink. Inks are roles (MAIN, SECOND, ...), so that the same drawing can be
printed in any colouring: drawing yields a *label image* (H, W) uint8 that holds a role a pixel, and a sprite is that
image turned, coloured and reduced.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw

from retrieval_core.simulation import outlines as o
from retrieval_core.simulation.outlines import Outline

Style = Literal["flat", "keyline", "offset"]
Decor = Literal["plain", "spots", "stripes", "blossoms", "zigzag", "check", "scales"]
STYLES: tuple[Style, ...] = ("flat", "keyline", "offset")
INKS = 7


class Role(IntEnum):
    """What an ink is for; CLEAR lets the ground show through."""

    CLEAR = 0
    MAIN = 1
    SECOND = 2
    ACCENT = 3
    LEAF = 4
    LIGHT = 5
    DARK = 6


class Mark(NamedTuple):
    """Outlines printed with one ink, only inside ``within`` when it is given."""

    role: Role
    shapes: tuple[Outline, ...]
    within: Outline | None = None


class Drawing:
    """Marks in printing order; later ones cover earlier ones."""

    def __init__(self) -> None:
        self.marks: list[Mark] = []

    def fill(self, role: Role, *shapes: Outline, within: Outline | None = None) -> Outline:
        """Print outlines; returns the first one, to decorate it or to draw inside it."""
        self.marks.append(Mark(role, shapes, within))
        return shapes[0]

    def blob(self, role: Role, *corners: tuple[float, float]) -> Outline:
        """Print a smooth closed shape through the corners."""
        return self.fill(role, o.smooth(o.outline(*corners)))

    def both(self, role: Role, *corners: tuple[float, float]) -> Outline:
        """Print a smooth symmetric shape from its right half, top to bottom."""
        return self.fill(role, o.smooth(o.mirrored(o.outline(*corners))))

    def disc(self, role: Role, x: float, y: float, rx: float, ry: float | None = None, turn: float = 0.0) -> Outline:
        """Print a circle or an ellipse."""
        return self.fill(role, o.ellipse(x, y, rx, ry, turn))

    def line(self, role: Role, width: float, *corners: tuple[float, float], taper: float = 1.0) -> Outline:
        """Print a smooth line through the corners."""
        path = o.smooth(o.outline(*corners), closed=False) if len(corners) > 2 else o.outline(*corners)
        return self.fill(role, o.ribbon(path, width, taper))

    def eye(self, x: float, y: float, size: float) -> None:
        """Print an eye with a glint."""
        self.disc(Role.LIGHT, x, y, size * 1.5)
        self.disc(Role.DARK, x, y, size)

    def decorate(self, body: Outline, decor: Decor, role: Role = Role.SECOND, pitch: float = 0.32) -> None:
        """Fill a body with a small pattern, clipped to it; ``pitch`` is a share of its longer side."""
        if decor == "plain":
            return
        x0, y0, x1, y1 = o.bounds([body])
        step = pitch * max(x1 - x0, y1 - y0, 1.0) * 0.75
        if decor in ("stripes", "zigzag"):
            self.fill(role, *_bands(x0, y0, x1, y1, step, decor), within=body)
            return
        spots: list[Outline] = []
        rows = np.arange(y0 - step, y1 + step, step * (0.5 if decor in ("check", "scales") else 0.8))
        for row, y in enumerate(rows):
            xs = np.arange(x0 - step + row % 2 * step / 2, x1 + step, step)
            spots += [_small(decor, step, float(x), float(y)) for x in xs]
        self.fill(role, *spots, within=body)

    def normalised(self) -> list[Mark]:
        """The marks moved and scaled so that the longer side of what is printed spans [-1, 1]."""
        assert self.marks, "an empty drawing"
        x0, y0, x1, y1 = o.bounds([s for m in self.marks if m.role and m.within is None for s in m.shapes])
        centre, scale = np.array([x0 + x1, y0 + y1]) / 2, 2 / max(x1 - x0, y1 - y0)
        return [
            Mark(
                m.role,
                tuple((s - centre) * scale for s in m.shapes),
                None if m.within is None else (m.within - centre) * scale,
            )
            for m in self.marks
        ]


def _bands(x0: float, y0: float, x1: float, y1: float, step: float, decor: Decor) -> list[Outline]:
    if decor == "stripes":
        reach = y1 - y0
        return [
            o.ribbon(o.outline((float(x), y0), (float(x) + 0.5 * reach, y1)), 0.42 * step)
            for x in np.arange(x0 - 0.5 * reach, x1 + step, step)
        ]
    xs = np.arange(x0 - step, x1 + step, step / 3)
    swing = np.where(np.arange(len(xs)) % 2, step / 6, -step / 6)
    return [o.ribbon(np.stack([xs, y + swing], axis=1), 0.22 * step) for y in np.arange(y0, y1 + step, 0.7 * step)]


def _small(decor: Decor, step: float, x: float, y: float) -> Outline:
    if decor == "blossoms":
        return o.place(o.wavy(0.3 * step, 5, 0.35), x, y)
    if decor == "check":
        return o.box(x, y, step / 2, step / 2)
    if decor == "scales":
        return o.place(o.ribbon(o.arc(0, 0, 0.46 * step, 90, 270), 0.12 * step), x, y)
    return o.ellipse(x, y, 0.24 * step)


def render_labels(marks: list[Mark], size: int, style: Style) -> NDArray[np.uint8]:
    """Draw normalised marks on a square that shows [-1.06, 1.06] in both directions.

    Args:
        marks: from ``Drawing.normalised``.
        size: side of the result in pixels.
        style: flat inks; a dark line around every mark; or that line with the inks printed off register beside it.

    Returns:
        (size, size) uint8, a ``Role`` a pixel. Time O(size^2) a mark.
    """
    image = Image.new("L", (size, size), 0)
    draw = ImageDraw.Draw(image)
    scale = size / 2.12
    line = max(1, round(size * 0.011))
    slip = np.array([0.035, 0.03]) if style == "offset" else np.zeros(2)
    for mark in marks:
        fills = [((s + slip + 1.06) * scale).ravel().tolist() for s in mark.shapes]
        if mark.within is None:
            for fill in fills:
                draw.polygon(fill, fill=int(mark.role))
        else:
            _print_within(image, fills, ((mark.within + slip + 1.06) * scale).ravel().tolist(), int(mark.role))
        if style == "keyline" and mark.within is None and mark.role not in (Role.CLEAR, Role.DARK):
            for fill in fills:
                draw.line([*fill, *fill[:4]], fill=int(Role.DARK), width=line, joint="curve")
    if style == "offset":
        for mark in marks:
            if mark.within is None and mark.role not in (Role.CLEAR, Role.DARK, Role.LIGHT):
                for shape in mark.shapes:
                    edge = ((shape + 1.06) * scale).ravel().tolist()
                    draw.line([*edge, *edge[:4]], fill=int(Role.DARK), width=line, joint="curve")
    return np.asarray(image)


def _print_within(image: Image.Image, fills: list[list[float]], within: list[float], ink: int) -> None:
    inside, pattern = Image.new("L", image.size, 0), Image.new("L", image.size, 0)
    ImageDraw.Draw(inside).polygon(within, fill=255)
    draw = ImageDraw.Draw(pattern)
    for fill in fills:
        draw.polygon(fill, fill=255)
    image.paste(ink, (0, 0), ImageChops.darker(inside, pattern))
