"""Validation: pool recall as a plain loop computes it, alone or shared by workers."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from PIL import Image

from retrieval_core.data.datasets import Labelled
from retrieval_core.images.resizing import resize
from retrieval_core.images.rgb import read_image
from retrieval_core.model.embedder import normalise
from retrieval_core.training.validation import Validator
from tests.unit import plain_windows
from tests.unit.tiny_split import WINDOWS, make_config, make_model, make_split

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model():
    return make_model().eval()


@pytest.fixture
def split(tmp_path):
    return make_split(tmp_path / "img", queries=9, fabrics=21)


@pytest.fixture(scope="module")
def model_of_patches():
    return make_model(pooling="patches").eval()


def alone(array):
    return [array]


def validate(model, split, *overrides):
    return Validator(make_config("embed.batch_size=4", *overrides), split)(model, CPU, alone)


def embed_whole(model, record):
    """(1, D): the whole image in a square."""
    images = make_config().images
    view = resize(read_image(record.location, images), 28, images.resize)
    with torch.no_grad():
        return model(normalise(torch.from_numpy(view[None]))).numpy().astype(np.float64)


def embed_windows(model, record):
    """(1, D) of a query's motif, and (3, D) of a fabric."""
    with Image.open(record.location) as image:
        if record.path.startswith("img/q"):
            return plain_windows.motif(model, image, 28).double().numpy()[None]
        return plain_windows.fabric(model, image, 56, 3)[0].astype(np.float64)


def naive(model, split, depth, unreadable=(), embed=embed_whole):
    """(recall, mAP) by the definition: embed one by one, sort everything, count."""
    fabrics = [(fabric, embed(model, fabric)) for fabric in split.fabrics if fabric.path not in unreadable]
    recalls, precisions = [], []
    for query in split.queries:
        relevant = sum(bool(set(query.categories) & set(fabric.categories)) for fabric in split.fabrics)
        if not relevant:
            continue
        if query.path in unreadable:
            recalls.append(0.0)
            precisions.append(0.0)
            continue
        vector = embed(model, query)[0]
        ranked = sorted(fabrics, key=lambda pair: -float((pair[1] @ vector).max()))[:depth]
        hits = [bool(set(query.categories) & set(fabric.categories)) for fabric, _ in ranked]
        recalls.append(sum(hits) / relevant)
        at_hits = [sum(hits[: rank + 1]) / (rank + 1) for rank, hit in enumerate(hits) if hit]
        precisions.append(sum(at_hits) / min(relevant, depth))
    return float(np.mean(recalls)), float(np.mean(precisions))


def assert_is(found, recall, precision, depth):
    assert found["k"] == depth
    assert found["pool_recall"] == pytest.approx(recall)
    assert found["mAP"] == pytest.approx(precision)
    assert found["score"] == pytest.approx(recall + 1e-3 * precision)


def test_recall_and_map_are_those_of_a_plain_loop(model, split):
    found = validate(model, split)
    depth = int(found["k"])
    assert depth == 3  # an eighth of 21, rounded up
    recall, precision = naive(model, split, depth)
    assert 0 < recall < 1
    assert_is(found, recall, precision, depth)


def in_other_shapes(split):
    """The split with every third fabric as wide as high, and every third one three times as high as wide."""
    for number, record in enumerate(split.fabrics):
        with Image.open(record.location) as image:
            shown = image.resize([(32, 40), (32, 32), (32, 96)][number % 3], Image.Resampling.NEAREST)
        shown.save(record.location)
    return split


@pytest.mark.parametrize("batch", [1, 4, 100])
def test_with_windows_it_is_that_of_a_plain_loop_too(model_of_patches, split, tmp_path, batch):
    """The fabrics of a batch have different shapes."""
    in_other_shapes(split)
    for name in ("q1.png", "f7.png"):
        (tmp_path / "img" / name).write_bytes(b"torn")
    found = validate(model_of_patches, split, *WINDOWS, f"embed.batch_size={batch}", "retrieve.top_k=2")
    recall, precision = naive(model_of_patches, split, 2, {"img/q1.png", "img/f7.png"}, embed_windows)
    assert 0 < recall < 1
    assert_is(found, recall, precision, 2)


def test_windows_see_more_than_one_vector_of_the_whole(model_of_patches, split):
    """The comparison above could fail: with the first vector alone the figures are others."""
    in_other_shapes(split)
    whole = naive(model_of_patches, split, 2, embed=lambda *asked: embed_windows(*asked)[:1])
    assert whole != naive(model_of_patches, split, 2, embed=embed_windows)


def test_the_pool_is_no_deeper_than_asked_for(model, split):
    assert_is(validate(model, split, "retrieve.top_k=2"), *naive(model, split, 2), 2)
    few = Labelled(split.queries, split.fabrics[:3])
    assert_is(validate(model, few), *naive(model, few, 1), 1)


@pytest.mark.parametrize("batch", [1, 5, 100])
def test_the_batch_size_does_not_matter(model, split, batch):
    expected = validate(model, split)
    assert validate(model, split, f"embed.batch_size={batch}") == pytest.approx(expected, rel=1e-6)


def test_queries_without_a_relevant_fabric_do_not_count(model, split):
    strangers = [split.queries[0]._replace(categories=names) for names in ((), ("unseen",))]
    assert validate(model, Labelled(split.queries + strangers, split.fabrics)) == validate(model, split)


def test_nothing_to_judge_by_scores_zero(model, split):
    queries = [query._replace(categories=("unseen",)) for query in split.queries]
    assert_is(validate(model, Labelled(queries, split.fabrics)), 0.0, 0.0, 3)


def test_what_cannot_be_read_costs_recall(model, split, tmp_path):
    for name in ("q1.png", "f0.png", "f7.png", "f20.png"):
        (tmp_path / "img" / name).write_bytes(b"torn")
    unreadable = {"img/q1.png", "img/f0.png", "img/f7.png", "img/f20.png"}
    assert_is(validate(model, split), *naive(model, split, 3, unreadable), 3)


def test_no_readable_fabric_is_no_recall(model, split, tmp_path):
    for record in split.fabrics:
        (tmp_path / record.path).write_bytes(b"")
    assert_is(validate(model, split), 0.0, 0.0, 3)


def test_no_readable_query_is_no_recall(model, split, tmp_path):
    for record in split.queries:
        (tmp_path / record.path).unlink()
    assert_is(validate(model, split), 0.0, 0.0, 3)


def test_the_weights_are_left_alone(model, split):
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    validate(model, split)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not model.training


@pytest.mark.parametrize(("workers", "keys"), [(2, []), (3, []), (11, []), (3, WINDOWS), (11, WINDOWS)])
def test_workers_that_share_it_find_what_one_finds(split, tmp_path, workers, keys):
    """Each worker is a thread that meets the others where it would gather; 11 workers leave two without a query."""
    (tmp_path / "img" / "q4.png").write_bytes(b"torn")
    model = make_model(pooling="patches" if keys else "cls").eval()
    expected = validate(model, split, *keys)
    meeting, parts, found = threading.Barrier(workers, timeout=60), [None] * workers, {}

    def work(rank):
        def gather(array):
            parts[rank] = array
            meeting.wait()
            everyone = list(parts)
            meeting.wait()
            return everyone

        validator = Validator(make_config("embed.batch_size=4", *keys), split, rank=rank, workers=workers)
        found[rank] = validator(model, CPU, gather)

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == list(range(workers))
    for rank in range(workers):
        assert found[rank] == pytest.approx(expected, rel=1e-6)
