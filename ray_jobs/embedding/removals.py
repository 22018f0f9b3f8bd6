"""A gallery that vanishes is refused: a share that is not mounted looks like a catalogue that was emptied."""

from __future__ import annotations

from collections.abc import Iterable

from retrieval_core.config.sections import DataConfig
from retrieval_core.data.shard_plan import Removals

FEW = 100
"""Removals below this are believed unless nothing is left: to embed so many again takes a minute."""


def removal_problem(data: DataConfig, buckets: Iterable[Removals], most: float) -> str:
    """Why the removals from a stored gallery are not believed; empty if they are.

    They are not if more than the share ``most`` is gone, at least ``FEW`` images unless nothing is left, and the
    gallery has become smaller: a catalogue that was moved or replaced lists as many new images. So 9 of 10 images may
    be deleted by hand, and all 10 only on demand.
    """
    before, gone, there = (sum(counts) for counts in zip(*buckets, strict=True))
    if gone <= most * before or (gone < FEW and there) or there >= before:
        return ""
    source = f"data.gallery = {data.gallery!r}" if data.gallery else f"data.root = {data.root!r}"
    return (
        f"{source}: {gone:,} of the {before:,} fabrics embedded before are gone at once, {there:,} are there; vectors "
        "and pool stay. See that the storage is mounted, and the same command goes on; if they are meant to be gone, "
        "add --accept-removals (embed.max_removed is the share that may go)"
    )
