"""Simulated fabrics as files, for benchmarks that decode them."""

from __future__ import annotations

from pathlib import Path

from retrieval_core.config.sections import SimulateConfig
from retrieval_core.simulation.dataset import simulate


def drawn_fabrics(folder: Path, count: int, side: int) -> list[Path]:
    """``count`` PNG files of ``side`` pixels, sorted; those that exist are not drawn again."""
    few = {f"{split}_{what}": 1 for split in ("train", "val") for what in ("motifs", "fabrics")}
    simulate(SimulateConfig(test_motifs=8, test_fabrics=count, fabric_size=side, **few), 0, str(folder))
    return sorted(folder.glob("*/test/img/images/*.png"))
