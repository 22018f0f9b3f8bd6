"""Validation: pool recall as a plain loop computes it, alone or shared by workers."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

from retrieval_core.data.datasets import Labelled
from retrieval_core.images.resizing import resize
from retrieval_core.images.rgb import read_image
from retrieval_core.model.embedder import normalise
from retrieval_core.training.validation import Validator
from tests.unit.tiny_split import make_config, make_model, make_split

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model():
    return make_model().eval()


@pytest.fixture
def split(tmp_path):
    return make_split(tmp_path / "img", queries=9, fabrics=21)


def alone(array):
    return [array]


def validate(model, split, *overrides):
    return Validator(make_config("embed.batch_size=4", *overrides), split)(model, CPU, alone)


def naive(model, split, depth, unreadable=()):
    """(recall, mAP) by the definition: embed one by one, sort everything, count."""
    config = make_config()

    def embed(record):
        view = resize(read_image(record.location, config.images), 28, config.images.resize)
        with torch.no_grad():
            return model(normalise(torch.from_numpy(view[None])))[0].numpy().astype(np.float64)

    fabrics = [(fabric, embed(fabric)) for fabric in split.fabrics if fabric.path not in unreadable]
    recalls, precisions = [], []
    for query in split.queries:
        relevant = sum(bool(set(query.categories) & set(fabric.categories)) for fabric in split.fabrics)
        if not relevant:
            continue
        if query.path in unreadable:
            recalls.append(0.0)
            precisions.append(0.0)
            continue
        vector = embed(query)
        ranked = sorted(fabrics, key=lambda pair: -float(pair[1] @ vector))[:depth]
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


@pytest.mark.parametrize("workers", [2, 3, 11])
def test_workers_that_share_it_find_what_one_finds(model, split, tmp_path, workers):
    """Each worker is a thread that meets the others where it would gather; 11 workers leave two without a query."""
    (tmp_path / "img" / "q4.png").write_bytes(b"torn")
    expected = validate(model, split)
    meeting, parts, found = threading.Barrier(workers, timeout=60), [None] * workers, {}

    def work(rank):
        def gather(array):
            parts[rank] = array
            meeting.wait()
            everyone = list(parts)
            meeting.wait()
            return everyone

        validator = Validator(make_config("embed.batch_size=4"), split, rank=rank, workers=workers)
        found[rank] = validator(model, CPU, gather)

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == list(range(workers))
    for rank in range(workers):
        assert found[rank] == pytest.approx(expected, rel=1e-6)
