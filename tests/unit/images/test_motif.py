"""The motif of a query: which pixels are found, and that what is cut is a picture of them alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from retrieval_core.images.motif import cut_motif, motif_mask

WHITE, BEIGE, NAVY, RED = (255, 255, 255), (214, 190, 150), (20, 30, 80), (200, 30, 40)
BOX = (60, 50, 150, 170)
"""Where the motif is drawn on a picture of 240 x 200."""


def plain(colour):
    return Image.new("RGB", (240, 200), colour)


def graded(*slopes):
    """A ground that darkens to the right and to the bottom, as under a lamp."""
    y, x = np.mgrid[0:200, 0:240]
    shade = 250 - slopes[0] * x / 240 - slopes[1] * y / 200
    return Image.fromarray(np.repeat(shade[:, :, None], 3, axis=2).astype(np.uint8))


def patterned():
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (200, 240, 3), np.uint8))


def woven(pattern, *colours):
    """A ground in colours; ``pattern(x, y)`` says which a pixel has."""
    y, x = np.mgrid[0:200, 0:240]
    return Image.fromarray(np.array(colours, np.uint8)[pattern(x, y)])


STRIPES = woven(lambda x, y: x // 12 % 2, NAVY, BEIGE)
CHECKS = woven(lambda x, y: (x // 20 + y // 20) % 2, (240, 160, 60), (200, 90, 170))
TARTAN = woven(lambda x, y: x // 20 % 2 + y // 20 % 2, (30, 90, 40), (60, 140, 70), (200, 220, 90))


def with_motif(ground, colour=RED, box=BOX):
    """The picture, and a mask of the motif that is drawn on it, an ellipse."""
    picture, drawn = ground.copy(), Image.new("L", ground.size, 0)
    ImageDraw.Draw(picture).ellipse(box, fill=colour)
    ImageDraw.Draw(drawn).ellipse(box, fill=255)
    return picture, drawn


def agreement(one, other):
    """Intersection over union of two masks, at the size of the first."""
    first, second = (np.asarray(mask.resize(one.size)) >= 128 for mask in (one, other))
    return (first & second).sum() / (first | second).sum()


def is_all(mask):
    return bool((np.asarray(mask) == 255).all())


class TestMask:
    @pytest.mark.parametrize(
        ("ground", "colour"),
        [
            (plain(WHITE), RED),
            (plain(WHITE), (215, 215, 215)),
            (plain(BEIGE), RED),
            (plain(NAVY), (230, 220, 40)),
            (graded(0, 90), RED),
            (graded(80, 60), NAVY),
            (STRIPES, RED),
            (CHECKS, NAVY),
            (TARTAN, WHITE),
        ],
        ids=[
            *("white", "light grey on white", "beige", "navy", "graded downwards", "graded in both directions"),
            *("stripes", "checks", "tartan"),
        ],
    )
    @pytest.mark.parametrize("size", [(240, 200), (1200, 1000), (60, 50)])
    def test_a_motif_is_found_on_its_ground(self, ground, colour, size):
        picture, drawn = (part.resize(size) for part in with_motif(ground, colour))
        assert agreement(motif_mask(picture, None, "auto"), drawn) > 0.93
        assert is_all(motif_mask(picture, None, "alpha")) and is_all(motif_mask(picture, None, "none"))

    def test_a_motif_that_is_cut_off_at_the_edge_is_found(self):
        picture, drawn = with_motif(graded(60, 0), box=(-40, 60, 90, 150))
        assert agreement(motif_mask(picture, None, "auto"), drawn) > 0.93

    @pytest.mark.parametrize(
        "picture", [plain(WHITE), plain(NAVY), graded(90, 30), STRIPES, TARTAN, patterned(), Image.new("RGB", (2, 90))]
    )
    def test_without_a_ground_or_without_a_motif_it_is_all(self, picture):
        assert is_all(motif_mask(picture, None, "auto"))

    def test_few_spots_on_a_pattern_are_no_motif(self):
        """They may be a rare colour of a crop of cloth."""
        picture, _ = with_motif(CHECKS, NAVY, box=(100, 80, 140, 120))
        assert is_all(motif_mask(picture, None, "auto"))

    @pytest.mark.parametrize("mask", ["auto", "alpha"])
    def test_transparency_decides_whatever_the_colours(self, mask):
        picture, drawn = with_motif(plain(WHITE), WHITE)
        assert agreement(motif_mask(picture, drawn, mask), drawn) > 0.98
        assert is_all(motif_mask(picture, drawn, "none"))

    @pytest.mark.parametrize("level", [0, 255])
    def test_transparency_that_says_nothing_counts_for_none(self, level):
        picture, _ = with_motif(plain(WHITE))
        assert is_all(motif_mask(picture, Image.new("L", picture.size, level), "auto"))


def shares_of(picture, alpha=None, size=98, mask="auto"):
    view, shares = cut_motif(picture, alpha, size, mask)
    assert (view.shape, view.dtype, shares.dtype) == ((size, size, 3), np.uint8, np.float32)
    return view, shares.reshape(size // 14, size // 14)


class TestView:
    @pytest.mark.parametrize(("box", "upright"), [((20, 70, 220, 130), False), ((90, 5, 150, 195), True)])
    def test_proportions_are_kept_and_the_padding_has_no_share(self, box, upright):
        view, shares = shares_of(with_motif(plain(BEIGE), box=box)[0])
        if upright:
            view, shares = view.transpose(1, 0, 2), shares.T
        assert shares.sum() == pytest.approx(1, abs=1e-6)
        assert (shares[:2] == 0).all() and (shares[-2:] == 0).all() and (shares[2:5, 2:5] > 0).all()
        assert (view[:28] == BEIGE).all() and (view[-28:] == BEIGE).all()
        red = np.abs(view.astype(int) - RED).max(axis=2) < 40
        high, wide = red.any(axis=1).sum(), red.any(axis=0).sum()
        long, short = max(box[2] - box[0], box[3] - box[1]), min(box[2] - box[0], box[3] - box[1])
        assert high / wide == pytest.approx(short / long, abs=0.04)

    def test_a_small_motif_in_a_corner_fills_the_view(self):
        picture = Image.new("RGB", (1000, 800), WHITE)
        view, shares = shares_of(with_motif(picture, box=(20, 30, 80, 90))[0])
        assert (np.abs(view.astype(int) - RED).max(axis=2) < 40).mean() > 0.5
        assert (shares > 0.005).sum() > 30

    def test_the_middle_of_a_motif_has_full_shares_and_its_edge_parts(self):
        _, shares = shares_of(with_motif(plain(WHITE))[0])
        assert shares[3, 3] == shares.max()
        assert 0 <= shares[0, 0] < shares[0, 3] < shares[3, 3]

    def test_a_transparent_picture_is_padded_with_white(self):
        drawn = Image.new("L", (240, 200), 0)
        ImageDraw.Draw(drawn).rectangle((20, 90, 220, 110), fill=255)
        picture = Image.composite(plain(NAVY), plain(WHITE), drawn)
        view, shares = shares_of(picture, drawn)
        assert (view[:14] == 255).all() and (view[49] == NAVY).mean() > 0.8
        assert shares[3].sum() > 0.9

    @pytest.mark.parametrize("picture", [patterned(), plain(BEIGE)])
    def test_the_whole_is_seen_where_there_is_no_motif(self, picture):
        view, shares = shares_of(picture, size=84)
        expected = picture.resize((84, 70), Image.Resampling.BILINEAR)
        np.testing.assert_array_equal(view[7:77], expected)
        np.testing.assert_allclose(shares[1:5], 1 / 30, atol=1e-6)
        np.testing.assert_allclose(shares[[0, 5]], 1 / 60, atol=1e-6)

    @pytest.mark.parametrize(("level", "spots"), [(3, [(50, 60)]), (130, [(10, 10), (190, 230)])])
    def test_a_motif_too_faint_or_scattered_to_be_seen_leaves_all(self, level, spots):
        alpha = np.zeros((200, 240), np.uint8)
        for spot in spots:
            alpha[spot] = level
        _, shares = shares_of(plain(WHITE), Image.fromarray(alpha), size=14)
        assert shares.tolist() == [[1.0]]

    @settings(max_examples=60)
    @given(
        st.integers(1, 300),
        st.integers(1, 300),
        st.integers(0, 99),
        st.sampled_from([1, 2, 256]),
        st.booleans(),
        st.sampled_from([14, 28, 98]),
        st.sampled_from(["auto", "alpha", "none"]),
    )
    @example(1, 1, 0, 2, False, 98, "auto")
    @example(300, 1, 0, 256, True, 14, "auto")
    def test_any_picture_has_shares(self, width, height, seed, levels, transparent, size, mask):
        rng = np.random.default_rng(seed)
        pixels = rng.integers(0, levels, (height, width, 3), np.uint8) * (255 // levels)
        alpha = Image.fromarray(rng.integers(0, 256, (height, width), np.uint8)) if transparent else None
        _, shares = shares_of(Image.fromarray(pixels), alpha, size, mask)
        assert np.isfinite(shares).all() and (shares >= 0).all()
        assert shares.sum() == pytest.approx(1, abs=1e-5)
