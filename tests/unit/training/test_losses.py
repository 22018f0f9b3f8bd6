"""Losses: the formulas by hand (``test_workers`` shares them between processes)."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from retrieval_core.training.losses import gather_rows, info_nce, similarities, triplet_loss


def unit(count, dim=5, seed=0):
    rows = np.random.default_rng(seed).normal(size=(count, dim))
    return torch.from_numpy(rows / np.linalg.norm(rows, axis=1, keepdims=True))


# ---- triplets


def test_triplets_by_hand():
    anchor = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    positive = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
    negative = torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.8, 0.6]])
    near, far = (anchor * positive).sum(dim=1), (anchor * negative).sum(dim=1)
    assert near.tolist() == pytest.approx([1, 0, 0.8]) and far.tolist() == pytest.approx([0, 1, 0.6])
    # max(0, 0.2 - 1 + 0) = 0; max(0, 0.2 - 0 + 1) = 1.2; max(0, 0.2 - 0.8 + 0.6) = 0
    assert triplet_loss(near, far, 0.2).item() == pytest.approx(1.2 / 3)
    # max(0, 0.5 - 1 + 0) = 0; 1.5; 0.3
    assert triplet_loss(near, far, 0.5).item() == pytest.approx(1.8 / 3)


def test_triplets_against_cosine_similarity_of_torch():
    rows = [torch.randn(7, 5, generator=torch.Generator().manual_seed(seed)) for seed in range(3)]
    cosine = torch.nn.functional.cosine_similarity
    expected = torch.clamp(0.2 - cosine(rows[0], rows[1]) + cosine(rows[0], rows[2]), min=0).mean()
    query, near, far = (torch.nn.functional.normalize(row, dim=1) for row in rows)
    torch.testing.assert_close(triplet_loss((query * near).sum(dim=1), (query * far).sum(dim=1), 0.2), expected)


# ---- several vectors a fabric


@given(count=st.integers(1, 6), vectors=st.integers(1, 5), seed=st.integers(0, 99))
def test_similarities_against_a_double_loop(count, vectors, seed):
    queries, fabrics = unit(count, seed=seed), unit(count * vectors, seed=seed + 100).view(count, vectors, -1)
    expected = [[max(float(query @ vector) for vector in fabric) for fabric in fabrics] for query in queries]
    torch.testing.assert_close(similarities(queries, fabrics), torch.tensor(expected, dtype=torch.float64))


def test_only_the_most_similar_vector_of_a_fabric_is_pulled():
    queries = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    fabrics = torch.tensor([[[0.6, 0.8], [0.8, 0.6]], [[-1.0, 0.0], [0.0, -1.0]]], requires_grad=True)
    similarities(queries, fabrics).sum().backward()
    # Query 0 is nearest to (0.8, 0.6) and (0, -1), query 1 to (0.6, 0.8) and (-1, 0).
    assert fabrics.grad.tolist() == [[[0, 1], [1, 0]], [[0, 1], [1, 0]]]


def test_one_vector_a_fabric_is_the_matrix_product():
    queries, fabrics = unit(4), unit(4, seed=1)
    assert torch.equal(similarities(queries, fabrics[:, None]), queries @ fabrics.T)


# ---- InfoNCE


def naive_info_nce(queries, fabrics, holds, temperature):
    """Double loop over the definition."""
    count = len(queries)
    scores = [[float(q @ f) / temperature for f in fabrics] for q in queries]
    total = 0.0
    for i in range(count):
        row = [scores[i][j] for j in range(count) if j == i or not holds[i][j]]
        column = [scores[j][i] for j in range(count) if j == i or not holds[j][i]]
        for competitors in (row, column):
            total -= scores[i][i] - math.log(sum(math.exp(score) for score in competitors))
    return total / (2 * count)


@given(count=st.integers(1, 6), seed=st.integers(0, 99), temperature=st.sampled_from([0.05, 0.07, 1.0]), data=st.data())
def test_info_nce_against_a_double_loop(count, seed, temperature, data):
    holds = data.draw(st.lists(st.lists(st.booleans(), min_size=count, max_size=count), min_size=count, max_size=count))
    queries, fabrics = unit(count, seed=seed), unit(count, seed=seed + 100)
    found = info_nce(queries @ fabrics.T, torch.tensor(holds), temperature)
    assert found.item() == pytest.approx(naive_info_nce(queries, fabrics, holds, temperature), rel=1e-9, abs=1e-9)


def test_a_masked_fabric_is_not_pushed_away():
    queries, fabrics = unit(3), unit(3, seed=1).requires_grad_()
    holds = torch.eye(3, dtype=torch.bool)
    holds[0, 2] = holds[1, 2] = True
    info_nce(queries @ fabrics.T, holds, 0.1).backward()
    # Fabric 2 meets only its own query: it is already the best of one, so nothing moves it in its column.
    row = fabrics.grad.clone()
    fabrics.grad = None
    own = torch.softmax(queries[2] @ fabrics.detach().T / 0.1, dim=0)
    expected = queries[2] * (own[2] - 1) / 0.1 / 6
    torch.testing.assert_close(row[2], expected)


def test_the_diagonal_is_a_pair_whatever_the_mask_says():
    queries, fabrics = unit(4), unit(4, seed=1)
    with_diagonal, without = torch.eye(4, dtype=torch.bool), torch.zeros(4, 4, dtype=torch.bool)
    assert info_nce(queries @ fabrics.T, with_diagonal, 0.1) == info_nce(queries @ fabrics.T, without, 0.1)


def test_all_masked_is_no_loss_and_a_finite_gradient():
    queries = unit(3).requires_grad_()
    loss = info_nce(queries @ unit(3, seed=1).T, torch.ones(3, 3, dtype=torch.bool), 0.07)
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(queries.grad, torch.zeros_like(queries))


def test_alone_rows_are_the_rows_themselves():
    rows = torch.ones(2, 3)
    assert gather_rows(rows, [2], 0) is rows
