"""Windows of a fabric clustered to the vectors that are stored, and patches of a motif to its parts.

Shapes: N images, W windows of a fabric or patches of a motif, V vectors kept, D dimensions.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_ROUNDS = 8
"""Rounds of k-means; memberships hardly change after five."""


def cluster(windows_NWD: Tensor, vectors: int) -> tuple[Tensor, Tensor]:
    """Pool the windows of each fabric, rows of L2 norm 1, to V = ``vectors`` such rows, one of the whole.

    Vector 0 is the mean of all windows, the others are means of clusters: a print repeats, so most windows look like
    others. Returns (N, V, D), and (N, V) int64 the window most like each mean, -1 for the whole. Gradients flow into
    the means. Memory O(N W (D + V)); ValueError unless 1 <= V <= W + 1.

    Spherical k-means (Dhillon and Modha, Machine Learning 42, 2001) from seeds chosen one by one, each the window least
    similar to those before it (Gonzalez, Theoretical Computer Science 38, 1985). No random number is drawn.
    """
    count = windows_NWD.shape[1]
    if not 1 <= vectors <= count + 1:
        raise ValueError(f"embed.vectors = {vectors}: must lie between 1 and 1 + the {count} windows of a fabric")
    whole_N1D = F.normalize(windows_NWD.mean(dim=1, keepdim=True), dim=2)
    nowhere_N1 = torch.full((len(windows_NWD), 1), -1, device=windows_NWD.device)
    if vectors == 1:
        return whole_N1D, nowhere_N1
    with torch.no_grad():
        fixed_NWD = windows_NWD.detach()
        means_NVD = _seeds(fixed_NWD, vectors - 1, fixed_NWD.mean(dim=1))
        for _ in range(_ROUNDS):
            member_NVW = _members(fixed_NWD, means_NVD)
            means_NVD = _means(member_NVW, fixed_NWD, means_NVD)
    if windows_NWD.requires_grad:
        means_NVD = _means(member_NVW, windows_NWD, means_NVD)
    nearest_NV = (means_NVD.detach() @ fixed_NWD.transpose(1, 2)).argmax(dim=2)
    return torch.cat([whole_N1D, means_NVD], dim=1), torch.cat([nowhere_N1, nearest_NV], dim=1)


def cluster_motif(patches_NWD: Tensor, shares_NW: Tensor, parts: int) -> Tensor:
    """Pool the patches of each motif, rows of L2 norm 1, to (N, V, D) such rows, V = ``parts``.

    Each is the mean of a cluster, as in ``cluster``, weighted by the shares of its patches in the motif. Patches
    without a share are left out; at least one has a share. Memory O(N W (D + V)).
    """
    never_NW = torch.where(shares_NW > 0, 0.0, torch.inf)
    means_NVD = _seeds(patches_NWD, parts, (shares_NW[:, None] @ patches_NWD)[:, 0], never_NW)
    for _ in range(_ROUNDS):
        member_NVW = _members(patches_NWD, means_NVD) * shares_NW[:, None]
        means_NVD = _means(member_NVW, patches_NWD, means_NVD)
    return means_NVD


def _members(windows_NWD: Tensor, means_NVD: Tensor) -> Tensor:
    nearest_NW = (windows_NWD @ means_NVD.transpose(1, 2)).argmax(dim=2)
    return F.one_hot(nearest_NW, means_NVD.shape[1]).to(windows_NWD.dtype).transpose(1, 2)


def _means(member_NVW: Tensor, windows_NWD: Tensor, before_NVD: Tensor) -> Tensor:
    """Means of the clusters; one that lost all its windows keeps the mean it had."""
    means_NVD = F.normalize(member_NVW @ windows_NWD, dim=2)
    return torch.where(member_NVW.any(dim=2, keepdim=True), means_NVD, before_NVD)


def _seeds(windows_NWD: Tensor, count: int, mean_ND: Tensor, never_NW: Tensor | float = 0.0) -> Tensor:
    """(N, count, D) windows far from each other, the first one the least typical of its fabric.

    ``never_NW`` is infinite for windows that are not to be chosen, and else 0.
    """
    rows = torch.arange(len(windows_NWD), device=windows_NWD.device)
    chosen = [((windows_NWD @ mean_ND[:, :, None])[:, :, 0] + never_NW).argmin(dim=1)]
    closest_NW = torch.full(windows_NWD.shape[:2], -torch.inf, dtype=windows_NWD.dtype, device=windows_NWD.device)
    while len(chosen) < count:
        last_ND = windows_NWD[rows, chosen[-1]]
        closest_NW = torch.maximum(closest_NW, (windows_NWD @ last_ND[:, :, None])[:, :, 0])
        chosen.append((closest_NW + never_NW).argmin(dim=1))
    return windows_NWD[rows[:, None], torch.stack(chosen, dim=1)]
