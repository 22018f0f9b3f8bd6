"""Training images: what a batch holds, that threads, workers and restarts change nothing, what is unreadable."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from PIL import Image

from retrieval_core.data.datasets import DataError, Labelled
from retrieval_core.images.motif import cut_motif
from retrieval_core.images.resizing import resize
from retrieval_core.images.rgb import read_image
from retrieval_core.training.activation_cache import ViewKey
from retrieval_core.training.loader import MAX_ATTEMPTS, Schedule, TrainingData
from tests.unit.tiny_split import WINDOWS, make_config, make_split


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    return make_split(tmp_path_factory.mktemp("img"), queries=10, fabrics=12)


def batches(split, *overrides, first=0, rank=0, workers=1):
    return list(TrainingData(make_config(*overrides), split, workers=workers).batches(first, rank))


def assert_same(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert (one.step, one.epoch) == (other.step, other.epoch)
        for name in ("queries", "positives", "held"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
        for part, of_other in zip(one.parts, other.parts, strict=True):
            assert part.keys == of_other.keys
            np.testing.assert_array_equal(part.views, of_other.views)
            np.testing.assert_array_equal(part.shares, of_other.shares)


def view(record, config, size=None):
    """The whole image in a square."""
    return resize(read_image(record.location, config.images), size or config.model.image_size, config.images.resize)


# ---- the schedule


def schedule(samples, *overrides, workers=1):
    return Schedule(samples, make_config(*overrides), workers)


@pytest.mark.parametrize(("samples", "workers", "steps"), [(8, 1, 2), (9, 1, 3), (9, 2, 2), (10, 2, 3), (3, 3, 1)])
def test_an_epoch_is_cut_into_batches(samples, workers, steps):
    plan = schedule(samples, "train.epochs=3", workers=workers)
    assert (plan.per_epoch, plan.total) == (steps, 3 * steps)
    for epoch in range(3):
        parts = [plan.positions(epoch * steps + step) for step in range(steps)]
        assert {part[0] for part in parts} == {epoch}
        seen = [position for part in parts for position in part[1]]
        assert seen == list(range(len(seen)))
        assert samples - len(seen) < workers
    for step in range(plan.total):
        assert sum(plan.sizes(step)) == len(plan.positions(step)[1])
        assert min(plan.sizes(step)) >= 1


@pytest.mark.parametrize("left", [1, 2])
def test_steps_stay_the_same_when_workers_are_lost(left):
    whole = schedule(10, "train.epochs=3", workers=3)
    plan = Schedule(10, make_config("train.epochs=3"), left, most=3)
    assert (plan.per_epoch, plan.total) == (whole.per_epoch, whole.total)
    for step in range(plan.total):
        assert plan.positions(step) == whole.positions(step)
        assert (len(plan.sizes(step)), sum(plan.sizes(step))) == (left, sum(whole.sizes(step)))


def test_max_steps_ends_within_an_epoch():
    assert schedule(10, "train.epochs=3", "train.max_steps=4").total == 4
    assert schedule(10, "train.epochs=3", "train.max_steps=400").total == 9


def test_a_batch_smaller_than_the_workers_is_refused_naming_both_keys():
    with pytest.raises(DataError, match=r"train\.batch_size = 2 .*train\.num_workers = 3"):
        schedule(9, "train.batch_size=2", workers=3)


def test_fewer_queries_than_workers_are_refused():
    with pytest.raises(DataError, match=r"2 usable queries are fewer than train\.num_workers = 3"):
        schedule(2, workers=3)


# ---- batches


@pytest.mark.parametrize("loss", ["info_nce", "triplet"])
def test_a_batch_holds_queries_then_positives_then_negatives(split, loss):
    config = make_config(f"train.loss={loss}", "train.epochs=1")
    data = TrainingData(config, split)
    found = list(data.batches(0, 0))
    order = data.sampler.epoch_order(0).tolist()
    assert [row for batch in found for row in batch.queries] == order
    assert sorted(order) == list(range(10))
    position = 0
    for batch in found:
        rows = []
        for query in batch.queries.tolist():
            rows.append(data.sampler.draw(0, position, query))
            position += 1
        assert batch.positives.tolist() == [draw.positive for draw in rows]
        expected = [
            [split.queries[draw.query] for draw in rows],
            [split.fabrics[draw.positive] for draw in rows],
            [split.fabrics[draw.negative] for draw in rows],
        ]
        assert len(batch.parts) == (3 if loss == "triplet" else 2)
        assert batch.images == len(batch.parts) * len(rows)
        for part, records in zip(batch.parts, expected, strict=False):
            assert (part.views.dtype, part.views.shape) == (np.uint8, (len(records), 28, 28, 3))
            for pixels, record in zip(part.views, records, strict=True):
                np.testing.assert_array_equal(pixels, view(record, config))
            assert part.shares is None and not part.cached.any() and not len(part.tokens)
    assert data.rejects == {}


AUGMENTED = ["train.augmentation=published", "train.loss=triplet", "train.crop_start=0.5"]
WAYS = pytest.mark.parametrize("way", [[], WINDOWS], ids=["whole", "windows"])


@WAYS
def test_batches_do_not_depend_on_threads(split, way):
    alone = batches(split, *AUGMENTED, *way, "train.loader_threads=1")
    assert_same(batches(split, *AUGMENTED, *way, "train.loader_threads=7"), alone)
    for batch, other in zip(alone, batches(split, *way, "train.loss=triplet"), strict=True):
        for part, of_other in zip(batch.parts, other.parts, strict=True):
            assert not np.array_equal(part.views, of_other.views)


@pytest.mark.parametrize("first", [1, 3, 5, 6])
@WAYS
def test_batches_from_the_middle_are_those_of_the_whole(split, first, way):
    assert_same(batches(split, *AUGMENTED, *way, first=first), batches(split, *AUGMENTED, *way)[first:])


@WAYS
def test_the_parts_of_the_workers_make_up_the_batch(split, way):
    whole = batches(split, *AUGMENTED, *way, "train.max_steps=2")
    parts = [batches(split, *AUGMENTED, *way, "train.max_steps=2", rank=rank, workers=3) for rank in range(3)]
    for step, batch in enumerate(whole):
        mine = [worker[step] for worker in parts]
        assert np.concatenate([part.queries for part in mine]).tolist() == batch.queries.tolist()
        for kind, part in enumerate(batch.parts):
            np.testing.assert_array_equal(np.concatenate([one.parts[kind].views for one in mine]), part.views)
            assert (part.shares is not None) == (bool(way) and kind == 0)
            if part.shares is not None:
                np.testing.assert_array_equal(np.concatenate([one.parts[kind].shares for one in mine]), part.shares)


def test_seeds_and_epochs_differ(split):
    one, other = batches(split), batches(split, "run.seed=1")
    assert one[0].queries.tolist() != other[0].queries.tolist()
    assert one[0].queries.tolist() != one[3].queries.tolist()
    assert one[3].epoch == 1


def test_batches_that_are_not_asked_for_leave_no_threads(split):
    before = threading.active_count()
    stream = TrainingData(make_config(), split).batches(0, 0)
    next(stream)
    stream.close()
    assert threading.active_count() == before


# ---- windows


@pytest.mark.parametrize("loss", ["info_nce", "triplet"])
def test_with_windows_queries_are_motifs_and_fabrics_large_squares(split, loss):
    config = make_config(*WINDOWS, f"train.loss={loss}")
    for batch in TrainingData(config, split).batches(0, 0):
        queries, *fabrics = batch.parts
        assert (queries.views.dtype, queries.views.shape) == (np.uint8, (len(batch.queries), 28, 28, 3))
        assert (queries.shares.dtype, queries.shares.shape) == (np.float32, (len(batch.queries), 2 * 2))
        np.testing.assert_allclose(queries.shares.sum(axis=1), 1, rtol=1e-6)
        for row, pixels, shares in zip(batch.queries, queries.views, queries.shares, strict=True):
            with Image.open(split.queries[row].location) as image:
                expected, expected_shares = cut_motif(image, None, 28, "auto")
            np.testing.assert_array_equal(pixels, expected)
            np.testing.assert_array_equal(shares, expected_shares)
        for part in fabrics:
            assert (part.views.dtype, part.views.shape) == (np.uint8, (len(batch.queries), 56, 56, 3))
            assert part.shares is None
            for key, pixels in zip(part.keys, part.views, strict=True):
                np.testing.assert_array_equal(pixels, view(split.fabrics[key.row], config, 56))


def test_an_augmented_query_is_a_motif_with_shares(split):
    found = batches(split, *WINDOWS, "train.augmentation=published")
    queries = [batch.parts[0] for batch in found]
    for part in queries:
        assert part.views.shape[1:] == (28, 28, 3)
        np.testing.assert_allclose(part.shares.sum(axis=1), 1, rtol=1e-6)
        assert (part.shares >= 0).all()
    plain = [batch.parts[0] for batch in batches(split, *WINDOWS)]
    assert any((part.views != of_plain.views).any() for part, of_plain in zip(queries, plain, strict=True))


@pytest.mark.parametrize(
    ("mask", "expected"), [("auto", [1 / 3] * 3 + [0]), ("alpha", [1 / 3] * 3 + [0]), ("none", [1 / 4] * 4)]
)
def test_a_transparent_picture_says_itself_where_its_motif_is(tmp_path, mask, expected):
    """The lower right of a picture of noise is transparent."""
    split = make_split(tmp_path / "img", queries=4, fabrics=4)
    for record in split.queries:
        pixels = np.random.default_rng(0).integers(0, 256, (56, 56, 4), dtype=np.uint8)
        pixels[..., 3] = 255
        pixels[28:, 28:, 3] = 0
        Image.fromarray(pixels).save(record.location)
    (batch,) = batches(split, *WINDOWS, f"images.query_mask={mask}", "train.epochs=1")
    np.testing.assert_allclose(batch.parts[0].shares, [expected] * 4, atol=0.02)


# ---- reprints


REPRINT = ["train.augmentation=reprint", "train.epochs=8"]


@WAYS
def test_some_fabrics_are_reprinted_each_always_in_the_same_way(split, way):
    shown = {}
    for batch, plain in zip(batches(split, *REPRINT, *way), batches(split, *way, "train.epochs=8"), strict=True):
        np.testing.assert_array_equal(batch.parts[0].views, plain.parts[0].views)
        for key, pixels in zip(batch.parts[1].keys, batch.parts[1].views, strict=True):
            shown.setdefault(key, set()).add(pixels.tobytes())
    assert all(len(views) == 1 for views in shown.values())
    kinds = [key.reprinted for key in shown]
    assert sum(kinds) >= 4 and len(kinds) - sum(kinds) >= 4
    both = {key.row for key in shown if key.reprinted} & {key.row for key in shown if not key.reprinted}
    assert both
    for row in both:
        assert shown[ViewKey("fabric", row, True)] != shown[ViewKey("fabric", row)]


@WAYS
def test_a_part_of_a_reprint_holds_the_motif(tmp_path, way):
    """One white motif on black cloth, at the edge, where a turn may take it away; then the fabric is shown as it is."""
    split, keys = of_white_motifs(tmp_path, [(20 * number, 20) for number in range(4)])
    found = batches(split, *keys, *REPRINT, "train.crop_start=0.5", "train.crop_end=0.5", *way, "embed.fabric_size=280")
    kinds = [key.reprinted for batch in found for key in batch.parts[1].keys]
    assert 5 < sum(kinds) < len(kinds) - 5
    for batch in found:
        lit = seen(batch.parts[1], 60)
        assert (lit.reshape(len(lit), -1).mean(axis=1) > 0.02).all()


# ---- crops


def seen(part, level=127):
    """(b, ...) whether each pixel that is seen is white, of views of 20 x 20 patches if they are cut."""
    white = part.views.mean(axis=3) > level
    if part.cuts is None:
        return white
    patches = white.reshape(-1, 20, 14, 20, 14).swapaxes(2, 3).reshape(len(white), 400, 196)
    return np.take_along_axis(patches, part.cuts[:, :, None], axis=1)


def of_white_motifs(folder, places):
    """Four fabrics of black cloth with one white motif; the boxes say where. Also the key that names their folder."""
    split = make_split(folder / "img", queries=4, fabrics=4)
    rows = ["image_path,category,x0,y0,x1,y1"]
    for fabric, (x0, y0) in zip(split.fabrics, places, strict=True):
        pixels = np.zeros((100, 100, 3), np.uint8)
        pixels[y0 : y0 + 16, x0 : x0 + 16] = 255
        Image.fromarray(pixels).save(fabric.location)
        box = f"{x0},{y0},{x0 + 16},{y0 + 16}"
        rows += [f"{fabric.path},{category},{box}" for category in fabric.categories]
    (folder / "motif_boxes.csv").write_text("\n".join(rows) + "\n")
    fabrics = [fabric._replace(path=f"{folder}/{fabric.path}") for fabric in split.fabrics]
    return Labelled(split.queries, fabrics), [f"data.root={folder}"]


@WAYS
def test_crops_hold_the_motif_and_widen(tmp_path, way):
    split, keys = of_white_motifs(tmp_path, [(20 * number, 70 - 20 * number) for number in range(4)])
    keys += ["train.crop_start=0.2", "train.crop_end=1.0", "train.epochs=5", *way, "embed.fabric_size=280"]
    found = batches(split, *keys)
    white = [float(seen(batch.parts[1]).mean()) for batch in found]
    shares = np.linspace(0.2, 1.0, 5)
    assert white == pytest.approx(list((16 / (100 * shares)) ** 2), rel=0.15)


# ---- unreadable images


@pytest.fixture
def damaged(tmp_path):
    """Queries 2 and 5 and fabric 1 cannot be read."""
    split = make_split(tmp_path / "img", queries=10, fabrics=12)
    (tmp_path / "img" / "q2.png").write_bytes(b"torn")
    (tmp_path / "img" / "q5.png").unlink()
    (tmp_path / "img" / "f1.png").write_bytes(b"")
    return split


def test_unreadable_images_are_recorded_and_replaced(damaged):
    config = make_config("train.epochs=6", "train.loss=triplet")
    data = TrainingData(config, damaged)
    found = list(data.batches(0, 0))
    unreadable = {damaged.queries[2].location, damaged.queries[5].location, damaged.fabrics[1].location}
    assert set(data.rejects) == unreadable
    paths = {path: (reason, bool(detail)) for path, reason, detail in data.rejects.values()}
    assert paths["img/q5.png"] == ("missing", True)
    assert paths["img/f1.png"] == ("empty", True)
    assert paths["img/q2.png"][1]
    for batch in found:
        assert not {2, 5} & set(batch.queries.tolist())
        assert 1 not in batch.positives
        records = [damaged.queries[row] for row in batch.queries], [damaged.fabrics[row] for row in batch.positives]
        for part, shown in zip(batch.parts, records, strict=False):
            for pixels, record in zip(part.views, shown, strict=True):
                np.testing.assert_array_equal(pixels, view(record, config))
    assert [len(batch.queries) for batch in found] == [4, 4, 2] * 6


def test_replacements_do_not_depend_on_threads_workers_or_a_restart(damaged):
    whole = batches(damaged, *AUGMENTED)
    assert_same(batches(damaged, *AUGMENTED, "train.loader_threads=5"), whole)
    assert_same(batches(damaged, *AUGMENTED, first=2), whole[2:])
    second = batches(damaged, *AUGMENTED, rank=1, workers=2)
    assert second[0].queries.tolist() == whole[0].queries[2:].tolist()


def test_nothing_readable_is_an_error(damaged):
    for record in damaged.queries:
        with open(record.location, "wb"):  # noqa: PTH123
            pass
    with pytest.raises(DataError, match=rf"{MAX_ATTEMPTS} draws in a row .* img/q\d\.png: empty; see `fabric-ret"):
        batches(damaged)
