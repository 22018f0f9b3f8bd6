"""Every way to select finds the fabrics that a full sort does, in whatever arithmetic the product is computed."""

from __future__ import annotations

from unittest.mock import patch

import faiss
import numpy as np
import pytest
import torch

from retrieval_core.ranking import exact_scores as exact
from retrieval_core.ranking import selection
from retrieval_core.ranking.topk import block_topk
from tests.unit.ranking.naive_ranking import assert_same, fast_naive_rows, quickest, random_unit


@pytest.mark.parametrize("way", ["torch", "numpy", "faiss"])
def test_every_way_selects_the_same(way: str) -> None:
    queries, gallery = random_unit(0, 300, 16), random_unit(1, 9000, 1, 16)
    own = block_topk(queries, gallery, 10)
    with (
        patch.object(selection, "_quickest", quickest(way)),
        patch.object(faiss, "knn", wraps=faiss.knn) as knn,
        patch.object(np, "matmul", wraps=np.matmul) as matmul,
    ):
        assert_same(block_topk(queries, gallery, 10), own)
    assert (knn.call_count, matmul.call_count > 0) == (int(way == "faiss"), way == "numpy")


def test_a_trial_tells_the_quickest_way_where_there_is_enough_to_compute() -> None:
    queries, gallery, regions = torch.zeros(2, 4), torch.zeros(8, 1, 4), torch.zeros(8, 2, 4)
    with patch.object(selection, "_trial", lambda dim, threads: {"torch": 2.0, "numpy": 1.5, "faiss": 1.0}):
        assert selection._quickest(1 << 20, queries, gallery) == "torch"
        assert selection._quickest(1 << 30, queries, gallery) == "faiss"
        assert selection._quickest(1 << 30, queries, regions) == "numpy"


@pytest.mark.parametrize("installed", [True, False])
def test_the_trial_times_what_is_installed(installed: bool) -> None:
    with (
        patch.object(selection, "_faiss", lambda: faiss if installed else None),
        patch.object(selection, "_TRIAL_SHAPE", (8, 64)),
    ):
        several, one = (selection._trial.__wrapped__(16, threads) for threads in (2, 1))
    assert set(several) == {"torch"} | ({"faiss"} if installed else set())
    assert set(one) == {"numpy"} | set(several)
    assert all(0 < seconds < 60 for seconds in one.values())


def test_reduced_precision_of_the_process_changes_no_result() -> None:
    queries, gallery = random_unit(15, 20, 32), random_unit(16, 1500, 2, 32)
    expected = fast_naive_rows(queries, gallery, 10)
    matmul = torch.backends.mkldnn.matmul
    before = matmul.fp32_precision
    try:
        matmul.fp32_precision = "bf16"
        assert exact.matmul_arithmetic(torch.device("cpu")) == "bfloat16"
        assert_same(block_topk(queries, gallery, 10), expected)
    finally:
        matmul.fp32_precision = before
    assert exact.matmul_arithmetic(torch.device("cpu")) == "float32"


@pytest.mark.parametrize("arithmetic", ["tf32", "bfloat16"])
def test_a_product_of_rounded_inputs_selects_no_wrong_fabric(arithmetic: exact.Arithmetic) -> None:
    """What an accelerator would do: truncate the inputs, multiply, and be corrected by the bound of that arithmetic."""
    queries, gallery = random_unit(17, 10, 32), random_unit(18, 3000, 1, 32)
    mask = {"tf32": -(1 << 13), "bfloat16": -(1 << 16)}[arithmetic]
    exact_mm = torch.mm

    def coarse_mm(left: torch.Tensor, right: torch.Tensor, *, out: torch.Tensor) -> torch.Tensor:
        left, right = ((part.contiguous().view(torch.int32) & mask).view(torch.float32) for part in (left, right))
        return exact_mm(left, right, out=out)

    with (
        patch.object(torch, "mm", coarse_mm),
        patch.object(selection, "matmul_arithmetic", lambda device: arithmetic),
    ):
        assert_same(block_topk(queries, gallery, 30), fast_naive_rows(queries, gallery, 30))
