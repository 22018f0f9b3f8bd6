"""Motifs and windows as one would write them by the definition, image by image: what fast paths are compared with.

Shapes: D width of embeddings, V vectors of a fabric.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

from retrieval_core.images.motif import cut_motif
from retrieval_core.images.patches import grid_of
from retrieval_core.model.clusters import cluster
from retrieval_core.model.embedder import normalise

WINDOW = 2  # patches along a side of a window, and from one window to the next


def patches_of(model, view):
    """(rows, columns, H) of a view as transformers computes them, before the layer norm."""
    states = model.dinov2(pixel_values=normalise(torch.from_numpy(view[None])), output_hidden_states=True)
    return states.hidden_states[-1][0, 1:].reshape(len(view) // 14, view.shape[1] // 14, -1)


def cut_patches_of(model, view, cut):
    """The same of a square of patches that is cut out ahead of the last block."""
    states = model.dinov2(pixel_values=normalise(torch.from_numpy(view[None])), output_hidden_states=True)
    tokens = states.hidden_states[-2][0]
    patches = model.dinov2.encoder.layer[-1](torch.stack([tokens[0], *(tokens[1 + place] for place in cut)])[None])
    side = math.isqrt(len(cut))
    return patches[0, 1:].reshape(side, side, -1)


def embedding_of(model, feature):
    """(D,) of a mean of patches (H,)."""
    return F.normalize(feature if model.projection_head is None else model.projection_head(feature), dim=0)


def mean_by(shares, patches):
    """(H,): the mean of patches (P, H), each by its share."""
    return sum(share * patch for share, patch in zip(shares.tolist(), patches, strict=True))


@torch.no_grad()
def motif(model, picture, size, alpha=None):
    """(D,) of a query: the mean of its patches, each by its share of the motif."""
    view, shares = cut_motif(picture, alpha, size, "auto")
    return embedding_of(model, mean_by(shares, patches_of(model, view).flatten(0, 1)))


@torch.no_grad()
def windows(model, picture, size):
    """(W, D) of the windows of a fabric, and their boxes (W, 4).

    Every second patch begins a window of 2 x 2, and the last windows end at the edge.
    """
    rows, columns = grid_of(*picture.size, size)
    patches = patches_of(model, np.array(picture.resize((14 * columns, 14 * rows), Image.Resampling.BILINEAR)))
    places = [
        (x, y)
        for y in sorted({*range(0, rows - 1, WINDOW), rows - WINDOW})
        for x in sorted({*range(0, columns - 1, WINDOW), columns - WINDOW})
    ]
    found = [embedding_of(model, patches[y : y + WINDOW, x : x + WINDOW].mean(dim=(0, 1))) for x, y in places]
    boxes = []
    for x, y in places:
        wide, high = picture.size
        first = x * wide // columns, y * high // rows
        boxes.append([*first, -(-(x + WINDOW) * wide // columns), -(-(y + WINDOW) * high // rows)])
    return torch.stack(found).numpy(), boxes


def fabric(model, picture, size, vectors):
    """(V, D) of a fabric, and the boxes (V, 4): the whole, and V - 1 clusters of windows."""
    found, boxes = windows(model, picture, size)
    means, nearest = cluster(torch.from_numpy(found)[None], vectors)
    return means[0].numpy(), [[0, 0, *picture.size], *(boxes[place] for place in nearest[0, 1:].tolist())]
