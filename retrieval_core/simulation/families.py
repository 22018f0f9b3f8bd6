"""What a family of motifs is: a drawing function and the choices it offers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import product
from typing import Any, NamedTuple


class Family(NamedTuple):
    """Motifs that share a way of being drawn; every combination of choices is a motif of its own.

    ``hues`` are the colours nature suggests for it (OKLCH degrees); empty means that any will do.
    """

    name: str
    draw: Callable[..., None]
    choices: Mapping[str, tuple[Any, ...]]
    hues: tuple[float, ...] = ()

    def variants(self) -> list[dict[str, Any]]:
        """Every combination of the choices, in a fixed order."""
        return [dict(zip(self.choices, values, strict=True)) for values in product(*self.choices.values())]
