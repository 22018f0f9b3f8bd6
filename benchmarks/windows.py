"""The default embedding, windows of patches, against the bare pass through the same blocks.

    forward    the blocks that are used, 7 of 12, as transformers runs them on pixels in memory; nothing is pooled
    own        the same blocks as our encoder runs them: on a CPU the weights are folded (`folding.py`)
    actor      an embedding actor's work: views in memory become the vectors and boxes that are stored
    stage      the embedding stage on Ray Data, decoding and commits included, as `embedding.py` times it
    decode     decoding alone, one process per core

`embed_windows_vs_forward_...` is actor / forward; `embed_windows_vs_own_...` shows what normalised pixels, windows and
clusters cost on top of the same arithmetic. The stage also decodes, on the cores that compute, so
`embed_windows_stage_vs_work_...` compares it with 1 / (1 / forward + 1 / decode).

Weights are random, in the shapes of DINOv2 base and small without a head, whose width the clusters then have. All ways
have the same batches, threads and precision, and this process keeps the memory it frees, as an actor's does; the bare
pass in `embedding.py` runs without that.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from embedding import Case, decode, draw, forward, ours, own_ray, seconds, settings
from machine import machine
from timing import in_turns, ratio, show
from training_cases import BASE, MINIATURE

from retrieval_core.config.config import load_config
from retrieval_core.encoding.arms import model_arm
from retrieval_core.encoding.views import views_of
from retrieval_core.images.patches import grid_of_view, window_weights
from retrieval_core.model.devices import pick_device, resolve_precision
from retrieval_core.model.embedder import normalise
from retrieval_core.model.folding import fold
from retrieval_core.model.weights import load_model

SMALL = BASE | {"hidden_size": 384, "num_attention_heads": 6}

Rates = dict[str, list[float]]
"""Images per second of each way in every turn."""


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Time all ways.

    Returns:
        ``ratios``: medians over the turns of ours / theirs in images per second; ``raw``: every rate, and what the
        figures depend on.
    """
    ratios: dict[str, float] = {}
    raw: dict[str, Any] = {**machine(), "repeats": options.repeats}
    with tempfile.TemporaryDirectory() as folder, own_ray():
        scratch = Path(folder)
        for case in cases(options, scratch):
            pictures = draw(scratch, case)
            ways = ways_of(case, pictures, scratch)
            alone = rates_alone(ways, case, options.repeats)
            whole = rates_of_stage(ways["forward"], case, pictures, scratch, options.repeats)
            found = {f"vs_{other}": ratio(alone["actor"], alone[other]) for other in ("forward", "own")}
            found |= {f"stage_vs_{other}": ratio(whole["stage"], whole[other]) for other in ("forward", "work")}
            named = ("vs_forward", "vs_own", "stage_vs_work")
            ratios |= {f"embed_windows_{name}_{case.name}": found[name]["median"] for name in named}
            raw[case.name] = {"images_per_second": {"alone": alone, "stage": whole}, "ratios": found}
    return {"ratios": ratios, "raw": raw}


def cases(options: argparse.Namespace, scratch: Path) -> list[Case]:
    """DINOv2 base and small on fabrics of 336 px, ``config.json`` alone; with --quick one of no use."""
    shapes = {"small": MINIATURE} if options.quick else {"base": BASE, "small": SMALL}
    for name, shape in shapes.items():
        (scratch / name).mkdir()
        values = {"model_type": "dinov2", "patch_size": 14, **shape}
        (scratch / name / "config.json").write_text(json.dumps(values))
    if options.quick:
        return [Case("small", str(scratch / "small"), 112, 4, 4, 4, 1, 0, windows=True)]
    return [
        Case("base", str(scratch / "base"), 336, 8, 8, options.base_shards, 1, 0, windows=True),
        Case("small", str(scratch / "small"), 336, 16, 16, options.small_shards, 2, 0, windows=True),
    ]


def ways_of(case: Case, pictures: Sequence[Path], scratch: Path) -> dict[str, Callable[[], Any]]:
    """What is timed in this process, each on the same ``passes`` batches; the actor's vectors are checked."""
    config, device = load_config(None, settings(case, scratch, "any")), pick_device()
    views = views_of(config, config.model, "gallery")
    assert views.windows is not None
    encoder: Any = model_arm(case.name, config.model, 0).build(case.batch, 0)  # makes freed memory stay
    plain, folded = (load_model(config.model, 0, with_head=False).to(device) for _ in range(2))
    if device.type == "cpu":
        fold(folded)
    cuts = [views.of(path.read_bytes(), config.images) for path in pictures[: case.batch]]
    pixels = normalise(torch.from_numpy(np.concatenate([cut.pixels for cut in cuts])).to(device))
    low = resolve_precision(config.model.precision, device) == torch.bfloat16
    blocks: Any = plain.dinov2

    def as_written(pixels: torch.Tensor) -> torch.Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=low):
            return blocks.encoder(blocks.embeddings(pixels)).last_hidden_state

    def as_ours(pixels: torch.Tensor) -> torch.Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=low):
            return folded.tokens_before(len(blocks.encoder.layer), pixels)

    with torch.inference_mode():
        weights = torch.from_numpy(window_weights(grid_of_view(*cuts[0].pixels.shape[1:3]), views.windows)).to(device)
        windows = F.normalize(weights @ as_written(pixels)[:, 1:].float(), dim=2)
    whole = F.normalize(windows.mean(dim=1), dim=1).cpu().numpy()
    np.testing.assert_allclose(views.embed(encoder, cuts)[0][:, 0], whole, rtol=0, atol=1e-2 if low else 1e-4)
    return {
        "forward": partial(forward, as_written, pixels, case.passes),
        "actor": partial(views.embed, encoder, cuts * case.passes),
        "own": partial(forward, as_ours, pixels, case.passes),
    }


def rates_alone(ways: dict[str, Callable[[], Any]], case: Case, repeats: int) -> Rates:
    """Rates of what one process does."""
    images = case.batch * case.passes
    return {name: [images / time for time in times] for name, times in in_turns(ways, repeats).items()}


def rates_of_stage(bare: Callable[[], Any], case: Case, pictures: Sequence[Path], scratch: Path, repeats: int) -> Rates:
    """Rates of the stage, of the bare pass before and after it, of decoding, and of these two on the same cores."""
    config = load_config(None, settings(case, scratch, "any"))
    rates: Rates = {name: [] for name in ("stage", "forward", "decode", "work")}
    for turn in range(repeats):
        before = seconds(bare)
        rates["stage"].append(ours(case, scratch, f"{case.name}-{turn}")[0])
        rates["forward"].append(2 * case.passes * case.batch / (before + seconds(bare)))
        rates["decode"].append(decode([str(path) for path in pictures[:128]], config.images, case.size))
        rates["work"].append(1 / (1 / rates["forward"][-1] + 1 / rates["decode"][-1]))
    return rates


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Options, each with a default."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3, help="turns; medians are reported")
    parser.add_argument("--base-shards", type=int, default=8, help="shards of 8 pictures a turn of DINOv2 base")
    parser.add_argument("--small-shards", type=int, default=12, help="shards of 16 pictures a turn of DINOv2 small")
    parser.add_argument("--quick", action="store_true", help="the logic in seconds, on a network of no use")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print what was measured as JSON."""
    show(measure(parse(arguments)))


if __name__ == "__main__":
    main()
