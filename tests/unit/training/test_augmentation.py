"""Augmentation: the published arithmetic, and changes that leave a motif what it is."""

from __future__ import annotations

import colorsys

import numpy as np
import pytest
from PIL import Image

from retrieval_core.training.augmentation import jitter_colour, print_fabric, print_query, published, query_only

KINDS = [published, print_fabric, print_query, query_only]


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


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("colour", [(255, 255, 255), (200, 40, 90), (0, 0, 0)])
def test_a_plain_cloth_stays_plain(kind, colour):
    """No black corner of a turn, no seam of a shift."""
    for seed in range(30):
        view = kind(flat(colour), np.random.default_rng(seed))
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


def test_a_query_alone_is_turned_a_little_and_seldom_dyed():
    image = flat((255, 255, 255), 57)
    image[24:33, 40:49] = (180, 30, 60)  # a patch right of the centre
    dyed, angles = 0, []
    for seed in range(280):
        view = query_only(image, np.random.default_rng(seed))
        dyed += view[0, 0].tolist() != [255, 255, 255]
        rows, columns = np.nonzero(view[..., 1] < view[0, 0, 1] * 0.5)
        angles.append(np.degrees(np.arctan2(28 - rows.mean(), columns.mean() - 28)))
    assert 20 < dyed < 65
    assert -21 < min(angles) < -17 and 17 < max(angles) < 21


def test_fabrics_are_turned_and_mirrored_in_all_eight_ways():
    image = picture(6)
    turns = {
        np.rot90(side, k).tobytes(): (name, k) for name, side in (("", image), ("m", image[:, ::-1])) for k in range(4)
    }
    assert len(turns) == 8
    found = {print_fabric(image, np.random.default_rng(seed)).tobytes() for seed in range(400)}
    assert set(turns) <= found


def test_a_white_ground_may_become_cloth_and_a_dark_one_does_not():
    def grounds(colour):
        image = flat(colour)
        image[10:18, 10:18] = 0
        return np.array([print_query(image, np.random.default_rng(seed))[0, 0] for seed in range(60)]).astype(int)

    white = grounds(255)
    assert (white.max(axis=1) - white.min(axis=1) > 30).any(), "dyed"
    assert (white.min(axis=1) > 170).any(), "left"
    grey = grounds(120)
    assert (grey.max(axis=1) - grey.min(axis=1) <= 2).all()


def test_a_motif_stays_in_the_picture():
    image = flat(255, 56)
    image[18:38, 18:38] = (200, 0, 0)
    for seed in range(40):
        view = print_query(image, np.random.default_rng(seed)).astype(int)
        ink = np.abs(view - view[0, 0]).sum(axis=2) > 60
        rows, columns = np.nonzero(ink)
        assert 0.5 * 400 < len(rows) < 1.8 * 400
        assert abs(rows.mean() - 27.5) < 2
        assert abs(columns.mean() - 27.5) < 2


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
