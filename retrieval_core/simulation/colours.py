"""Colours: palettes of motifs, and colourways of fabrics.

Colours are (..., 3) float64 in OKLCH (lightness 0-1, chroma, hue in degrees), where equal steps look equal and a hue
can be turned without a change of lightness. Source: B. Ottosson, "A perceptual color space for image processing"
(2020).
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from retrieval_core.simulation.drawing import INKS, Role

Colours = NDArray[np.float64]
Tint = Literal["none", "turned", "toned", "faded"]

_TO_LMS = np.array(
    [[1.0, 0.3963377774, 0.2158037573], [1.0, -0.1055613458, -0.0638541728], [1.0, -0.0894841775, -1.2914855480]]
)
_TO_RGB = np.array(
    [
        [4.0767416621, -3.3077115913, 0.2309699292],
        [-1.2684380046, 2.6097574011, -0.3413193965],
        [-0.0041960863, -0.7034186147, 1.7076147010],
    ]
)


def to_oklab(lch: Colours) -> Colours:
    """OKLCH to OKLab; Euclidean distances there are colour differences."""
    hue = np.radians(lch[..., 2])
    return np.stack([lch[..., 0], lch[..., 1] * np.cos(hue), lch[..., 1] * np.sin(hue)], axis=-1)


def to_rgb(lch: Colours) -> NDArray[np.uint8]:
    """OKLCH to 8-bit sRGB; chroma is lowered until the colour exists on a screen."""
    lch = np.atleast_2d(np.asarray(lch, dtype=np.float64)).copy()
    for _ in range(32):
        linear = (to_oklab(lch) @ _TO_LMS.T) ** 3 @ _TO_RGB.T
        outside = ((linear < -1e-4) | (linear > 1.0001)).any(axis=-1)
        if not outside.any():
            break
        lch[outside, 1] *= 0.88
    linear = np.clip(linear, 0, 1)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    rgb: NDArray[np.uint8] = np.round(encoded * 255).astype(np.uint8)
    return rgb


def motif_palette(rng: np.random.Generator, hues: tuple[float, ...]) -> Colours:
    """The inks of one motif: (INKS, 3) OKLCH, a row a ``Role``; row 0 (CLEAR) is not printed.

    Args:
        rng: a stream of the motif's own.
        hues: what nature suggests for MAIN; empty for any hue.
    """
    hue = float(rng.choice(hues)) + rng.uniform(-12, 12) if hues else rng.uniform(0, 360)
    muted = 0.6 if rng.random() < 0.25 else 1.0
    main = (rng.uniform(0.42, 0.76), rng.uniform(0.13, 0.21) * muted)
    relation = float(rng.choice([0, 35, -35, 60, 120, 180, -120]))
    step = 0.2 if main[0] < 0.6 else -0.2
    inks = np.zeros((INKS, 3))
    inks[Role.MAIN] = (*main, hue)
    inks[Role.SECOND] = (
        main[0] + step * (1.0 if relation == 0 else 0.7),
        rng.uniform(0.08, 0.16) * muted,
        hue + relation,
    )
    inks[Role.ACCENT] = (
        rng.uniform(0.68, 0.84),
        rng.uniform(0.1, 0.17),
        hue + float(rng.choice([180, 150, 210, 80, -80])),
    )
    if abs((hue - 88 + 180) % 360 - 180) > 50 and rng.random() < 0.45:
        inks[Role.ACCENT] = (0.83, 0.15, rng.uniform(75, 98))  # yellow hearts are what a flower most often has
    inks[Role.LEAF] = (rng.uniform(0.42, 0.64), rng.uniform(0.06, 0.13), rng.uniform(115, 172))
    inks[Role.LIGHT] = (0.955, 0.02, rng.uniform(60, 110))
    inks[Role.DARK] = (rng.uniform(0.2, 0.34), 0.05, hue + rng.uniform(-30, 30))
    for role in (Role.MAIN, Role.SECOND):  # a dark yellow is a brown: yellows are bright where other colours are deep
        off = (inks[role, 2] - 92 + 180) % 360 - 180
        inks[role, 0] += (0.86 - inks[role, 0]) * 0.8 * np.exp(-((off / 38) ** 2)) * (inks[role, 0] < 0.86)
    return inks


class Colourway(NamedTuple):
    """One colouring of a design."""

    ground: Colours  # (3,)
    second: Colours  # (3,) of the ground's stripes, checks and dots
    filler: Colours  # (3,)
    tint: Tint
    turn: float  # degrees, for "turned"
    tone: Colours  # (3,) ink the others are pulled to, for "toned"


def draw_colourway(rng: np.random.Generator, inks: Colours) -> Colourway:
    """Choose a ground on which the motifs' main inks can be seen, and what goes with it.

    Args:
        rng: the stream of this colouring.
        inks: (motifs, INKS, 3) OKLCH of the motifs printed on it, as their own palettes have them.
    """
    key = to_oklab(inks.reshape(-1, INKS, 3)[:, [Role.MAIN, Role.MAIN, Role.SECOND, Role.LEAF]])
    hue = float(inks.reshape(-1, INKS, 3)[0, Role.MAIN, 2])
    best, ground = -1.0, np.zeros(3)
    for _ in range(3):
        depth = rng.random()
        if depth < 0.42:
            candidate = np.array([rng.uniform(0.86, 0.96), rng.uniform(0.015, 0.06), 0.0])
        elif depth < 0.76:
            candidate = np.array([rng.uniform(0.58, 0.84), rng.uniform(0.05, 0.14), 0.0])
        else:
            candidate = np.array([rng.uniform(0.2, 0.36), rng.uniform(0.02, 0.09), 0.0])
        candidate[2] = hue + float(rng.choice([0, 30, -30, 120, 180, -120])) + rng.uniform(-15, 15)
        if candidate[0] < 0.4 and 40 < candidate[2] % 360 < 135:
            candidate[2] += 160  # navy and wine rather than mud
        distance = np.linalg.norm(key - to_oklab(candidate), axis=-1)
        contrast = float(distance.min(axis=0).mean() + distance.min())
        if contrast > best:
            best, ground = contrast, candidate
    light = ground[0] > 0.5
    away = rng.uniform(0.05, 0.13) * (-1 if light else 1)
    second = ground + np.array([away, rng.uniform(0.0, 0.05), float(rng.choice([0, 0, 40, -40]))])
    filler = ground + np.array([-0.26 if light else 0.3, 0.05, float(rng.choice([0, 60, 180]))])
    tint: Tint = "none"
    chance = rng.random()
    if chance > 0.36:
        tint = "turned" if chance < 0.62 else "toned" if chance < 0.84 else "faded"
    turn = float(rng.choice([-1, 1])) * rng.uniform(15, 42)
    tone = np.array([0.45 if light else 0.85, rng.uniform(0.06, 0.12), ground[2] + float(rng.choice([0, 40, 180]))])
    return Colourway(ground, second, filler, tint, turn, tone)


def print_inks(inks: Colours, colourway: Colourway) -> Colours:
    """A motif's palette as this colouring prints it; the change is moderate, so that the motif stays itself."""
    if colourway.tint == "none":
        return inks
    if colourway.tint == "turned":
        moved: Colours = inks + np.array([0.0, 0.0, colourway.turn])
        return moved
    if colourway.tint == "faded":
        pale: Colours = inks * np.array([0.85, 0.6, 1.0]) + np.array([0.13, 0.0, 0.0])
        return pale
    lab = to_oklab(inks) * 0.62 + to_oklab(colourway.tone) * 0.38 * np.array([0.3, 1.0, 1.0])
    lab[..., 0] = inks[..., 0] * 0.9 + colourway.tone[0] * 0.1
    chroma = np.hypot(lab[..., 1], lab[..., 2])
    return np.stack([lab[..., 0], chroma, np.degrees(np.arctan2(lab[..., 2], lab[..., 1]))], axis=-1)
