"""Colours: known values, and what a colouring may change."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval_core.simulation.colours import Colourway, draw_colourway, motif_palette, print_inks, to_oklab, to_rgb
from retrieval_core.simulation.drawing import INKS, Role


@pytest.mark.parametrize(
    ("lch", "rgb"),
    [
        ((1.0, 0.0, 0.0), (255, 255, 255)),
        ((0.0, 0.0, 0.0), (0, 0, 0)),
        ((0.627955, 0.257683, 29.2339), (255, 0, 0)),  # sRGB's primaries, as published with OKLCH
        ((0.866440, 0.294827, 142.4953), (0, 255, 0)),
        ((0.452014, 0.313214, 264.0520), (0, 0, 255)),
    ],
)
def test_known_colours(lch, rgb):
    assert np.abs(to_rgb(np.array(lch))[0].astype(int) - rgb).max() <= 2


@given(st.floats(0, 1), st.floats(0, 1), st.floats(-720, 720))
def test_greys_are_grey_and_lighter_is_brighter(one, other, hue):
    low, high = to_rgb(np.array([[min(one, other), 0.0, hue], [max(one, other), 0.0, hue]])).astype(int)
    assert (low <= high).all()
    assert np.ptp(low) <= 1


def to_lch(rgb: np.ndarray) -> tuple[float, float, float]:
    """The published transform the other way round: 8-bit sRGB to OKLCH."""
    value = rgb / 255
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    lms = np.cbrt(
        np.array(
            [
                [0.4122214708, 0.5363325363, 0.0514459929],
                [0.2119034982, 0.6806995451, 0.1073969566],
                [0.0883024619, 0.2817188376, 0.6299787005],
            ]
        )
        @ linear
    )
    lightness, a, b = (
        np.array(
            [
                [0.2104542553, 0.7936177850, -0.0040720468],
                [1.9779984951, -2.4285922050, 0.4505937099],
                [0.0259040371, 0.7827717662, -0.8086757660],
            ]
        )
        @ lms
    )
    return float(lightness), float(np.hypot(a, b)), float(np.degrees(np.arctan2(b, a)))


@pytest.mark.parametrize("hue", range(0, 360, 15))
@pytest.mark.parametrize("lightness", [0.3, 0.5, 0.7, 0.9])
@pytest.mark.parametrize("chroma", [0.04, 0.15, 0.5])
def test_colours_a_screen_cannot_show_lose_chroma_only(lightness, chroma, hue):
    found, strength, angle = to_lch(to_rgb(np.array([lightness, chroma, hue]))[0])
    assert found == pytest.approx(lightness, abs=0.01)
    assert strength <= chroma + 0.01
    assert abs((angle - hue + 180) % 360 - 180) < 6


def test_palette_follows_the_hues_of_its_family():
    for seed in range(20):
        inks = motif_palette(np.random.default_rng(seed), (145.0,))
        assert inks.shape == (INKS, 3)
        assert abs(inks[Role.MAIN, 2] - 145) <= 12


def test_main_inks_stand_out_from_the_ground():
    distances = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        inks = motif_palette(rng, ())
        colourway = draw_colourway(rng, inks)
        distances.append(np.linalg.norm(to_oklab(inks[Role.MAIN]) - to_oklab(colourway.ground)))
    assert np.quantile(distances, 0.02) > 0.08
    assert np.median(distances) > 0.25


@pytest.mark.parametrize("tint", ["none", "turned", "toned", "faded"])
def test_tint_is_moderate(tint):
    grey = np.array([0.5, 0.1, 40.0])
    for seed in range(50):
        inks = motif_palette(np.random.default_rng(seed), ())
        printed = print_inks(inks, Colourway(grey, grey, grey, tint, 42.0, np.array([0.45, 0.12, 200.0])))
        moved = np.linalg.norm(to_oklab(printed) - to_oklab(inks), axis=-1)[1:]
        assert moved.max() <= 0.17
        assert (moved.max() > 0.02) == (tint != "none")
