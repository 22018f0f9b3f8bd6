"""No fabric that belongs to the first k is left out, and few others are kept."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from retrieval_core.ranking import coarse as module
from retrieval_core.ranking.coarse import coarse, contenders
from retrieval_core.ranking.topk import block_topk

NUMBERS = st.one_of(
    st.sampled_from([0.0, 1.0, -1.0, 127.0, 127.5, 1e-30, -1e-42]), st.floats(-1e3, 1e3, width=32, allow_subnormal=True)
)


def may_be_first(query: np.ndarray, fabrics: np.ndarray, k: int) -> set[int]:
    """All fabrics that score at least as much as the k-th."""
    top = block_topk(query[None], fabrics, len(fabrics))
    return set(top.rows[0][top.scores[0] >= top.scores[0][min(k, len(fabrics)) - 1]].tolist())


@settings(max_examples=300)
@given(st.data())
def test_the_first_k_and_those_that_tie_with_the_last_are_kept(data: st.DataObject) -> None:
    fabrics, regions, dim = (data.draw(st.integers(1, most)) for most in (12, 3, 9))
    vectors_FRD = data.draw(arrays.arrays(np.float32, (fabrics, regions, dim), elements=NUMBERS))
    query_D = data.draw(arrays.arrays(np.float32, dim, elements=NUMBERS))
    k = data.draw(st.integers(1, 14))
    kept = contenders(query_D, coarse(vectors_FRD), k)
    assert kept.tolist() == sorted(set(kept.tolist()))
    assert may_be_first(query_D, vectors_FRD, k) <= set(kept.tolist())


@pytest.mark.parametrize("size", [1, 1e-15, 1e-25, 1e-30, 1e-38])
def test_ties_of_vectors_whose_squares_underflow_are_kept(size: float) -> None:
    vectors_FRD = np.array([[[1, 2]], [[1, 1]], [[1, 0]]], np.float32)
    query_D = np.array([size, 0], np.float32)
    assert contenders(query_D, coarse(vectors_FRD), 1).tolist() == [0, 1, 2]
    assert contenders(vectors_FRD[2, 0], coarse(vectors_FRD * query_D[0]), 1).tolist() == [0, 1, 2]


@pytest.mark.parametrize("dim", [64, 384, 1024])
def test_near_ties_of_the_kth_are_kept(dim: int) -> None:
    """Fabrics nearer to each other than the 8 bits can tell."""
    rng = np.random.default_rng(dim)
    query = rng.normal(size=dim)
    query /= np.linalg.norm(query)
    noise = rng.normal(size=(300, 2, dim)) * 1e-4
    far = rng.normal(size=(300, 2, dim))
    vectors = np.where(np.arange(300)[:, None, None] % 3 == 0, query + noise, far)
    vectors_FRD = (vectors / np.linalg.norm(vectors, axis=2, keepdims=True)).astype(np.float32)
    for k in (1, 5, 100, 101, 299):
        kept = set(contenders(query.astype(np.float32), coarse(vectors_FRD), k).tolist())
        assert may_be_first(query.astype(np.float32), vectors_FRD, k) <= kept
        assert k > 100 or len(kept) == 100


def test_few_of_many_are_kept() -> None:
    rng = np.random.default_rng(5)
    vectors_FRD = rng.normal(size=(5000, 3, 256)).astype(np.float32)
    vectors_FRD /= np.linalg.norm(vectors_FRD, axis=2, keepdims=True)
    assert 20 <= len(contenders(vectors_FRD[7, 1], coarse(vectors_FRD), 20)) < 100


@pytest.mark.parametrize("instructions", ["DEFAULT", "AVX512_CORE", "AVX2", "SSE41"])
def test_products_are_whole_numbers_on_every_processor(instructions: str) -> None:
    """Some add products in 16 bits, which larger numbers would overflow; oneDNN reads its choice when it is loaded."""
    code = """
        import numpy as np
        import torch
        from retrieval_core.ranking.coarse import coarse

        rng = np.random.default_rng(0)
        for dim in (5, 64, 256, 384, 1024):
            drawn = rng.choice([-1.0, 1.0, 0.5], (200, 1, dim))
            drawn[:2] = [[[1.0] * dim], [[-1.0] * dim]]
            codes = coarse(drawn).codes_FRD[:, 0]
            for query in codes[:6]:
                found = torch._int_mm(torch.from_numpy(codes), torch.from_numpy(query)[:, None])[:, 0].numpy()
                assert (found == codes.astype(np.int64) @ query.astype(np.int64)).all(), dim
    """
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": instructions}
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], env=environment, check=True)


@pytest.mark.parametrize("tile", [1, 7, 100])
def test_tiles_do_not_change_what_is_kept(tile: int, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors_FRD = np.random.default_rng(2).normal(size=(30, 3, 8)).astype(np.float32)
    copies, query = coarse(vectors_FRD), vectors_FRD[4, 1]
    expected = contenders(query, copies, 6).tolist()
    monkeypatch.setattr(module, "_TILE", tile)
    assert contenders(query, copies, 6).tolist() == expected
