"""Augmentation: the published arithmetic, and changes that leave a motif what it is."""

from __future__ import annotations

import colorsys
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from retrieval_core.training.augmentation import Reprint, dyed_and_photographed, jitter_colour, published

KINDS = [published, dyed_and_photographed]


def picture(side=28, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)


def flat(colour, side=28):
    return np.full((side, side, 3), colour, np.uint8)


@pytest.mark.parametrize("kind", KINDS)
def test_a_view_is_a_function_of_image_and_stream(kind):
    image = picture()
    kept = image.copy()
    seen = set()
    for seed in range(20):
        view = kind(image, np.random.default_rng(seed))
        assert (view.dtype, view.shape) == (np.uint8, image.shape)
        np.testing.assert_array_equal(view, kind(image, np.random.default_rng(seed)))
        np.testing.assert_array_equal(image, kept)
        np.stack([view, view])
        seen.add(view.tobytes())
    assert len(seen) > 3


@pytest.mark.parametrize("colour", [(255, 255, 255), (200, 40, 90), (0, 0, 0)])
def test_a_plain_cloth_stays_plain(colour):
    """No seam of a shift."""
    for seed in range(30):
        view = published(flat(colour), np.random.default_rng(seed))
        assert len(np.unique(view.reshape(-1, 3), axis=0)) == 1


def test_published_flips_half_and_jitters_half():
    image = picture(8)
    same = {"plain": 0, "flipped": 0}
    for seed in range(800):
        view = published(image, np.random.default_rng(seed))
        same["plain"] += np.array_equal(view, image)
        same["flipped"] += np.array_equal(view, image[:, ::-1])
    assert 150 < same["plain"] < 250
    assert 150 < same["flipped"] < 250


def test_published_jitter_is_weak():
    image = np.clip(picture(), 60, 190)
    for seed in range(60):
        view = published(image, np.random.default_rng(seed)).astype(int)
        mean = view.mean()
        assert abs(mean - image.mean()) < 0.12 * image.mean() + 2


# ---- reprints

ANGLES = st.floats(0, 2 * math.pi)


@given(ANGLES, st.booleans(), st.integers(20, 90), st.integers(20, 90))
def test_a_reprint_shows_nothing_but_the_fabric(angle, mirrored, width, height):
    turned = Reprint(angle, mirrored).pixels(Image.new("RGB", (width, height), (200, 40, 90)))
    assert turned.size == (width, height)
    assert np.asarray(turned)[1:-1, 1:-1].reshape(-1, 3).min(axis=0).tolist() == [200, 40, 90]


@given(ANGLES, st.booleans(), st.integers(40, 80), st.integers(40, 160))
def test_boxes_go_where_the_motifs_go(angle, mirrored, x, y):
    fabric, reach = Image.new("RGB", (120, 200)), (11, 7)
    box = (x - reach[0], y - reach[1], x + reach[0], y + reach[1])
    ImageDraw.Draw(fabric).ellipse(box, fill=(255, 255, 255))
    reprint = Reprint(angle, mirrored)
    white = np.asarray(reprint.pixels(fabric))[..., 0] > 127
    rows, columns = np.nonzero(white)
    found = reprint.boxes([("rose", box)], 120, 200)
    inside = len(rows) and rows.min() > 1 and rows.max() < 198 and columns.min() > 1 and columns.max() < 118
    if inside:
        [(name, turned)] = found
        assert name == "rose"
        drawn = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert np.abs(np.array(turned) - drawn).max() <= 3
    if not len(rows):
        assert found == []


def test_mirrored_reprints_are_mirror_images():
    image = Image.fromarray(picture(40))
    plain, mirrored = (np.asarray(Reprint(0.0, way).pixels(image)) for way in (False, True))
    np.testing.assert_array_equal(plain, np.asarray(image))
    np.testing.assert_array_equal(mirrored, plain[:, ::-1])


def test_a_quarter_turn_is_one():
    image = Image.fromarray(picture(40))
    found = np.asarray(Reprint(math.pi / 2, False).pixels(image)).astype(int)
    assert min(np.abs(found - np.rot90(np.asarray(image), k)).max() for k in (1, 3)) <= 1


def test_most_reprints_are_dyed_or_photographed():
    image = flat((120, 160, 90), 56)
    found = [dyed_and_photographed(image, np.random.default_rng(seed)) for seed in range(60)]
    assert all((view.dtype, view.shape) == (np.uint8, image.shape) for view in found)
    same = sum(np.array_equal(view, image) for view in found)
    woven = sum(len(np.unique(view.reshape(-1, 3), axis=0)) > 1 for view in found)
    assert 0 < same < 15 and 20 < woven < 55


# ---- jitter


class Fixed:
    """A stream that gives what it is told."""

    def __init__(self, factors, order=(0, 1, 2, 3)):
        self.factors, self.order = list(factors), order
        self.ranges = []

    def uniform(self, low, high):
        self.ranges.append((low, high))
        return self.factors.pop(0)

    def permutation(self, count):
        assert count == 4
        return np.array(self.order)


def jittered(image, brightness=1.0, contrast=1.0, saturation=1.0, hue=0.0, order=(0, 1, 2, 3)):
    rng = Fixed([brightness, contrast, saturation, hue], order)
    return np.asarray(jitter_colour(Image.fromarray(image), (0.4, 0.4, 0.4, 0.5), rng)).astype(int)


def grey_of(image):
    """ITU-R 601-2 luma, as torchvision and Pillow take it."""
    return image @ np.array([0.299, 0.587, 0.114])


def through_hsv(image):
    """What the way to HSV of 8 bits and back costs."""
    return jittered(image)


def test_factors_are_drawn_from_the_ranges_of_torchvision():
    rng = Fixed([1, 1, 1, 0])
    jitter_colour(Image.fromarray(picture()), (0.1, 0.3, 1.5, 0.05), rng)
    assert rng.ranges == [(0.9, 1.1), (0.7, 1.3), (0.0, 2.5), (-0.05, 0.05)]


def test_no_change_is_no_change_but_for_the_rounding_of_hsv():
    image = picture()
    assert np.abs(through_hsv(image) - image).max() <= 6


@pytest.mark.parametrize("factor", [0.6, 1.4])
def test_brightness_contrast_and_saturation_blend_as_torchvision_does(factor):
    image = np.clip(picture(), 80, 170).astype(np.float64)
    colour = image.astype(np.uint8)
    cases = {
        "brightness": image * factor,
        "contrast": np.rint(grey_of(image).mean()) * (1 - factor) + image * factor,
        "saturation": grey_of(image)[..., None] * (1 - factor) + image * factor,
    }
    for name, expected in cases.items():
        # Hue comes first here, so that its rounding is that of an unchanged image.
        blended = jittered(colour, **{name: factor}, order=(3, 0, 1, 2))
        assert np.abs(blended - np.clip(expected, 0, 255)).max() <= 10, name
        assert np.abs(blended - image).max() > 15, name


@pytest.mark.parametrize("shift", [0.25, -0.25, 0.5])
def test_hue_is_turned_by_a_share_of_the_circle(shift):
    for colour in ((220, 60, 60), (60, 200, 90), (30, 60, 180)):
        hue, saturation, value = colorsys.rgb_to_hsv(*(channel / 255 for channel in colour))
        expected = np.array(colorsys.hsv_to_rgb((hue + shift) % 1, saturation, value)) * 255
        assert np.abs(jittered(flat(colour), hue=shift)[0, 0] - expected).max() <= 6


def test_the_order_of_the_changes_counts():
    image = picture()
    one = jittered(image, brightness=1.4, contrast=0.6, order=(0, 1, 2, 3))
    other = jittered(image, brightness=1.4, contrast=0.6, order=(1, 0, 2, 3))
    assert (one != other).any()
