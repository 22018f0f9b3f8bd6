"""Where motifs are looked for when the data set does not say: colours stand for motifs, so the right tile is known."""

from __future__ import annotations

import numpy as np
import pytest

from retrieval_core.data.datasets import Labelled, Record
from retrieval_core.images.regions import region_boxes
from retrieval_core.training.loader import TrainingData
from retrieval_core.training.pseudo_boxes import TILE_OVERLAP, TILES_PER_SIDE, find_pseudo_boxes, needs_pseudo_boxes
from tests.unit.tiny_split import COLOURS, make_config, save

CONFIG = make_config("train.crop_start=0.3", "train.crop_end=0.3", "train.locate=true")
PLACES = {"red": (0, 0), "green": (60, 10), "blue": (20, 70)}


def mean_colour(views):
    """An encoder that knows colours: the mean pixel less grey, and a little of grey, as a unit vector."""
    means = views.reshape(len(views), -1, 3).mean(axis=1) - 128
    rows = np.concatenate([means, np.full((len(means), 1), 20.0)], axis=1)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    folder = tmp_path_factory.mktemp("img")
    listed = Labelled([], [])
    for name in PLACES:
        listed.queries.append(save(folder / f"{name}.png", np.full((20, 20, 3), COLOURS[name], np.uint8), name))
    for number, names in enumerate((["red", "green"], ["blue"], ["green", "yellow"])):
        pixels = np.full((96, 96, 3), 128, np.uint8)
        for name in names:
            x, y = PLACES.get(name, (0, 0))
            pixels[y : y + 26, x : x + 26] = COLOURS[name]
        listed.fabrics.append(save(folder / f"f{number}.png", pixels, *names))
    return listed


def overlap(box, place):
    return max(0, min(box[2], place[0] + 26) - max(box[0], place[0])) * max(
        0, min(box[3], place[1] + 26) - max(box[1], place[1])
    )


def test_the_best_tile_holds_the_motif(split):
    found = find_pseudo_boxes(mean_colour, CONFIG, split, range(3))
    assert set(found) == {fabric.path for fabric in split.fabrics}
    tiles = region_boxes(96, 96, (TILES_PER_SIDE,), TILE_OVERLAP).tolist()
    for fabric in split.fabrics:
        known = set(fabric.categories) & set(PLACES)
        assert {name for name, _ in found[fabric.path]} == known
        for name, box in found[fabric.path]:
            assert list(box) in tiles
            assert overlap(box, PLACES[name]) > 0
        for name in known:
            best = max(tiles, key=lambda tile: overlap(tile, PLACES[name]))
            assert tuple(best) in [box for other, box in found[fabric.path] if other == name]


def test_shares_of_workers_make_up_the_whole(split):
    whole = find_pseudo_boxes(mean_colour, CONFIG, split, range(3))
    shares = [find_pseudo_boxes(mean_colour, CONFIG, split, range(3)[rank::2]) for rank in range(2)]
    assert shares[0] | shares[1] == whole


def test_what_cannot_be_read_or_is_not_asked_for_has_no_place(split, tmp_path):
    (tmp_path / "torn.png").write_bytes(b"no image")
    torn = Record("torn.png", str(tmp_path / "torn.png"), ("red",))
    gone = Record("gone.png", str(tmp_path / "gone.png"), ("green",))
    fabrics = Labelled(split.queries, [torn, *split.fabrics])
    assert "torn.png" not in find_pseudo_boxes(mean_colour, CONFIG, fabrics, range(4))
    queries = Labelled([gone, *split.queries], split.fabrics)
    assert find_pseudo_boxes(mean_colour, CONFIG, queries, range(3)) == find_pseudo_boxes(
        mean_colour, CONFIG, split, range(3)
    )
    assert find_pseudo_boxes(mean_colour, CONFIG, Labelled([gone], split.fabrics), range(3)) == {}


def test_crops_go_where_the_motif_was_found_and_still_show_all_labels(split):
    boxes = find_pseudo_boxes(mean_colour, CONFIG, split, range(3))
    data = TrainingData(CONFIG, split, pseudo_boxes=boxes)
    names = sorted({name for fabric in split.fabrics for name in fabric.categories})
    for batch in data.batches(0, 0):
        views = batch.parts[1].views
        for query, positive, view, held in zip(batch.queries, batch.positives, views, batch.held, strict=True):
            assert [names[number] for number in held if number >= 0] == list(split.fabrics[positive].categories)
            colour = np.array(COLOURS[split.queries[query].categories[0]])
            assert (np.abs(view.astype(int) - colour).max(axis=2) < 40).mean() > 0.03


@pytest.mark.parametrize(
    ("keys", "needed"),
    [
        (["train.locate=true", "train.crop_start=0.5"], True),
        (["train.locate=true"], False),
        (["train.crop_start=0.5"], False),
    ],
)
def test_motifs_are_looked_for_only_where_crops_need_it(keys, needed, tmp_path):
    assert needs_pseudo_boxes(make_config(*keys, f"data.root={tmp_path}")) == needed
    (tmp_path / "motif_boxes.csv").write_text("image_path,category,x0,y0,x1,y1\nf.png,red,0,0,5,5\n")
    assert not needs_pseudo_boxes(make_config(*keys, f"data.root={tmp_path}"))
