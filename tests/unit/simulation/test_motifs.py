"""The catalogue of motifs, their drawings and their sprites."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from retrieval_core.simulation import outlines as o
from retrieval_core.simulation.drawing import Drawing, Role, render_labels
from retrieval_core.simulation.motifs import FAMILIES, Motif, catalogue, sprite

DAISY = Motif("daisy", 0)


def test_catalogue_has_hundreds_of_motifs_each_once_under_a_plain_name():
    motifs = list(catalogue(0))
    names = [motif.name for motif in motifs]
    assert len(names) >= 600
    assert len(set(names)) == len(names)
    assert all(set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-") for name in names)
    assert {motif.family for motif in motifs[: len(FAMILIES)]} == set(FAMILIES)  # one of each family first


def test_catalogue_follows_from_the_seed():
    assert list(catalogue(3)) == list(catalogue(3))
    assert list(catalogue(3)) != list(catalogue(4))
    assert set(catalogue(3)) == set(catalogue(4))


@pytest.mark.parametrize("family", FAMILIES.values(), ids=lambda family: family.name)
def test_motifs_of_a_family_differ_clearly(family):
    labels = []
    for choices in family.variants():
        drawing = Drawing()
        family.draw(drawing, **choices)
        labels.append(render_labels(drawing.normalised(), 64, "flat"))
    for left, right in itertools.combinations(labels, 2):
        printed = (left > 0) | (right > 0)
        assert (left != right).sum() >= 0.06 * printed.sum()


def test_normalised_drawing_spans_the_square():
    drawing = Drawing()
    drawing.disc(Role.MAIN, 5, 7, 3, 2)
    drawing.fill(Role.CLEAR, o.box(50, 50, 4, 4))  # prints nothing, so it does not count
    x0, y0, x1, y1 = o.bounds(drawing.normalised()[0].shapes)
    assert (x0, x1) == pytest.approx((-1, 1))
    assert (y0, y1) == pytest.approx((-2 / 3, 2 / 3))


def test_pattern_stays_within_its_body():
    drawing = Drawing()
    body = drawing.disc(Role.MAIN, 0, 0, 1)
    plain = render_labels(drawing.normalised(), 96, "flat")
    drawing.decorate(body, "check")
    checked = render_labels(drawing.normalised(), 96, "flat")
    assert ((plain > 0) == (checked > 0)).all()
    assert 0.2 < (checked == Role.SECOND).sum() / (plain > 0).sum() < 0.8


@pytest.mark.parametrize("size", [6, 24, 97, 700])
def test_sprite_has_the_asked_size_and_soft_edges(size):
    pixels = sprite(DAISY, DAISY.inks, size)
    assert pixels.dtype == np.uint8
    assert abs(max(pixels.shape[:2]) - size) <= 0.08 * size + 2
    assert pixels[..., 3].max() == 255
    assert ((pixels[..., 3] > 0) & (pixels[..., 3] < 255)).any()


def test_sprite_turns_clockwise_and_flips():
    motif = next(m for m in catalogue(0) if m.family == "bird")
    upright = sprite(motif, motif.inks, 90)
    quarter = sprite(motif, motif.inks, 90, turn=90)
    flipped = sprite(motif, motif.inks, 90, flip=True)
    assert mean_difference(quarter, np.rot90(upright, -1)) < 12
    assert mean_difference(quarter, np.rot90(upright, 1)) > 25
    assert mean_difference(flipped, upright[:, ::-1]) < 12
    assert mean_difference(flipped, upright) > 15


def mean_difference(left: np.ndarray, right: np.ndarray) -> float:
    """Of two sprites cut to what is printed, which may differ by a pixel in size."""
    h, w = min(left.shape[0], right.shape[0]), min(left.shape[1], right.shape[1])
    assert abs(left.shape[0] - right.shape[0]) <= 1
    assert abs(left.shape[1] - right.shape[1]) <= 1
    return float(np.abs(left[:h, :w].astype(float) - right[:h, :w]).mean())


def test_sprite_is_printed_with_the_given_inks():
    inks = np.tile([0.0, 0.0, 0.0], (7, 1))  # all black
    pixels = sprite(DAISY, inks, 40)
    assert (pixels[pixels[..., 3] == 255][:, :3] == 0).all()
