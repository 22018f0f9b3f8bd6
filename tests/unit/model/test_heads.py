"""Projection heads: what they follow from, what they keep, and that no global random state is touched."""

from __future__ import annotations

import pytest
import torch

from retrieval_core.model.heads import identity_head, new_head


def test_new_head_follows_from_its_seed_and_touches_no_global_state():
    before = torch.get_rng_state()
    head = new_head(100, 7, 5)
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(99)
    again = new_head(100, 7, 5)
    assert all(torch.equal(a, b) for a, b in zip(head.parameters(), again.parameters(), strict=True))
    assert not torch.equal(head[0].weight, new_head(100, 7, 6)[0].weight)
    assert [tuple(p.shape) for p in head.parameters()] == [(100, 100), (100,), (7, 100), (7,)]


@pytest.mark.parametrize("out_dim", [16, 24])
def test_identity_head_keeps_every_cosine_and_follows_from_its_seed(out_dim):
    features = torch.randn(20, 16, generator=torch.Generator().manual_seed(0))
    before = torch.get_rng_state()
    head = identity_head(16, out_dim, 5)
    assert torch.equal(before, torch.get_rng_state())
    unit, out = (torch.nn.functional.normalize(x, dim=1) for x in (features, head(features)))
    torch.testing.assert_close(out @ out.T, unit @ unit.T, atol=1e-5, rtol=0)
    assert torch.equal(head[2].weight, identity_head(16, out_dim, 5)[2].weight)
    assert not torch.equal(head[2].weight, identity_head(16, out_dim, 6)[2].weight)


def test_identity_head_to_fewer_dimensions_is_an_orthogonal_projection():
    features = torch.randn(20, 16, generator=torch.Generator().manual_seed(0))
    projection = identity_head(16, 6, 5)(torch.eye(16)).T
    torch.testing.assert_close(projection @ projection.T, torch.eye(6), atol=1e-5, rtol=0)
    torch.testing.assert_close(identity_head(16, 6, 5)(features), features @ projection.T, atol=1e-5, rtol=0)


def test_new_head_has_the_distribution_of_a_new_linear_layer():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        torchs = torch.nn.Linear(100, 100).weight.detach()
    ours = new_head(100, 100, 5)[0].weight.detach()
    for weight in (ours, torchs):
        assert weight.abs().max() <= 0.1
    assert abs(ours.std() - torchs.std()) < 0.002  # 1e4 draws: the standard errors are below 0.0006
    assert abs(ours.mean()) < 0.002
