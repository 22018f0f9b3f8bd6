"""Repeats as the trade names them: how one cell covers the cloth.

A cell is (h, w, ...). ``block`` sets cells side by side; ``half-drop`` drops every other column by half the cell's
height; ``brick`` shifts every other row by half its width; ``mirror`` reflects every other column left to right and
every other row top to bottom. ``toss`` and ``stripe`` are layouts inside a cell (motifs scattered and turned, or in
bands) whose cells are set as blocks.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Repeat = Literal["block", "half-drop", "brick", "mirror", "toss", "stripe"]


def tile(cell: NDArray[Any], kind: Repeat, height: int, width: int, x0: int = 0, y0: int = 0) -> NDArray[Any]:
    """Cut a window out of the endless cloth.

    Args:
        cell: (h, w, ...), both even.
        kind: how cells are set.
        height: of the window in pixels.
        width: of the window in pixels.
        x0: the window's left edge; 0 is that of a cell that is neither shifted nor reflected.
        y0: the window's upper edge, likewise.

    Returns:
        (height, width, ...), a copy. Memory O(height * width).
    """
    h, w = cell.shape[:2]
    assert h % 2 == 0 and w % 2 == 0, "a cell is halved by half-drop and brick"
    column, x = np.divmod(np.arange(x0, x0 + width)[None, :], w)
    row, y = np.divmod(np.arange(y0, y0 + height)[:, None], h)
    if kind == "half-drop":
        y = (y + column % 2 * (h // 2)) % h
    elif kind == "brick":
        x = (x + row % 2 * (w // 2)) % w
    elif kind == "mirror":
        x = np.where(column % 2 == 1, w - 1 - x, x)
        y = np.where(row % 2 == 1, h - 1 - y, y)
    return cell[y, x]


class Frame(NamedTuple):
    """Where a cell lies on the cloth: its point (x, y) is at (dx + x, dy + y), or reflected inside the cell first."""

    dx: int
    dy: int
    flip_x: bool = False
    flip_y: bool = False


def frames(kind: Repeat, h: int, w: int, rows: range, columns: range) -> Iterator[Frame]:
    """The frames of a rectangle of cells, the same arrangement as ``tile``."""
    for row in rows:
        for column in columns:
            if kind == "mirror":
                yield Frame(column * w, row * h, column % 2 == 1, row % 2 == 1)
            else:
                drop = column % 2 * (h // 2) if kind == "half-drop" else 0
                shift = row % 2 * (w // 2) if kind == "brick" else 0
                yield Frame(column * w - shift, row * h - drop)


def neighbours(kind: Repeat, h: int, w: int) -> list[Frame]:
    """Frames from which a motif may reach into the cell at (0, 0); only itself for ``mirror``, cut at its axes."""
    if kind == "mirror":
        return [Frame(0, 0)]
    return list(frames(kind, h, w, range(-1, 3), range(-1, 3)))
