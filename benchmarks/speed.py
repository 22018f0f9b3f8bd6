"""The speed suite: each part in its own process, one after the other; results as JSON and as a table.

    embedding   the job against a bare forward pass and the published loop, one vector a fabric
    windows     the default embedding, ten vectors a fabric, against the bare pass through the same blocks
    retrieval   the kernel against the matrix product and FAISS, the stage against the kernel
    rescoring   the second look against the bare product of the same pairs
    training    the step against a plain torch loop, with and without kept activations
    growth      seconds and memory against the size of the data

`summary.json` has a flat object `ratios` and the raw figures; `speed.md` has the ratios as a table. If a part fails,
its message goes into `summary.json`, the other parts run, and then the suite fails.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from machine import machine

HERE = Path(__file__).resolve().parent
PARTS = ("retrieval", "embedding", "windows", "rescoring", "training", "growth")
FULL = {
    "retrieval": ["--gallery", "4000000", "--queries", "10000", "--repeats", "1"],
    "embedding": ["--repeats", "5", "--base-shards", "16", "--tiny-shards", "128"],
    "windows": ["--repeats", "5", "--base-shards", "16", "--small-shards", "24"],
    "rescoring": ["--fabrics", "17920", "--queries", "480"],
    "training": ["--repeats", "15"],
    "growth": ["--images", "1024", "--gallery", "524288", "--gallery-block", "32768", "--fabrics", "40000"],
}
"""Options of each part with `--full`."""
INFINITY = float("inf")
TARGETS = {
    "embed_base_vs_forward": (0.95, INFINITY),
    "embed_tiny_vs_forward": (0.85, INFINITY),
    "embed_base_vs_published": (1.0, INFINITY),
    "embed_tiny_vs_published": (1.15, INFINITY),
    "embed_windows_vs_forward_base": (0.95, INFINITY),
    "embed_windows_vs_forward_small": (0.95, INFINITY),
    "embed_windows_stage_vs_work_base": (0.95, INFINITY),
    "embed_windows_stage_vs_work_small": (0.95, INFINITY),
    "retrieve_vs_matmul": (-INFINITY, 1.25),
    "retrieve_vs_faiss": (-INFINITY, 1.05),
    "retrieve_stage_vs_kernel": (-INFINITY, 1.5),
    "rescore_vs_product": (-INFINITY, 1.5),
    "published_vs_retrieve": (500.0, INFINITY),
    "train_vs_plain": (0.95, INFINITY),
    "train_cached_vs_plain": (0.85, INFINITY),
    "slope_embed": (0.95, 1.05),
    "slope_retrieve": (0.95, 1.05),
    "slope_driver_memory": (-INFINITY, 0.05),
    "slope_worker_memory": (-INFINITY, 0.05),
}
"""Lowest and highest value that the project wants of each ratio."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the parts, write their results, and say which targets were missed."""
    options = parse(arguments)
    options.results.mkdir(parents=True, exist_ok=True)
    about, began = machine(), time.perf_counter()
    found: dict[str, Any] = {}
    for part in options.only:
        print(f"{part} ...", file=sys.stderr, flush=True)
        found[part] = run_part(part, options)
    ratios = {name: value for part in found.values() for name, value in part.get("ratios", {}).items()}
    summary = {
        "ratios": ratios,
        "minutes": (time.perf_counter() - began) / 60,
        "machine": about,
        "parts": {part: value.get("raw", value) for part, value in found.items()},
    }
    (options.results / "summary.json").write_text(json.dumps(summary, indent=1))
    text = table(ratios, summary)
    (options.results / "speed.md").write_text(text)
    print(text)
    failed = [part for part, value in found.items() if "error" in value]
    if failed:
        sys.exit(f"failed: {', '.join(failed)}; summary.json has the messages")


def run_part(part: str, options: argparse.Namespace) -> dict[str, Any]:
    """The JSON that a part prints, or its error."""
    words = ["--quick"] if options.quick else FULL[part] if options.full else []
    command = [sys.executable, str(HERE / f"{part}.py"), *words]
    done = subprocess.run(command, cwd=HERE.parent, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        return {"error": f"{' '.join(command[1:])} ended with {done.returncode}"}
    found: dict[str, Any] = json.loads(done.stdout[done.stdout.index("{") :])
    return found


def table(ratios: dict[str, float], summary: dict[str, Any]) -> str:
    """The ratios as Markdown, each beside its target."""
    about = summary["machine"]
    lines = [
        f"{about['processor']}, {about['threads']} threads, torch {about['torch']}, load before "
        f"{about['load_average_before']:.1f}; {summary['minutes']:.0f} minutes.",
        "",
        "| ratio | measured | wanted | |",
        "|---|---|---|---|",
    ]
    for name, value in sorted(ratios.items()):
        low, high = TARGETS.get(name, (-INFINITY, INFINITY))
        wanted = wanted_text(low, high)
        met = "" if not wanted else "met" if low <= value <= high else "missed"
        lines.append(f"| `{name}` | {value:.3g} | {wanted} | {met} |")
    return "\n".join(lines) + "\n"


def wanted_text(low: float, high: float) -> str:
    """A target for people; empty where there is none."""
    if high == INFINITY:
        return "" if low == -INFINITY else f">= {low:g}"
    return f"<= {high:g}" if low == -INFINITY else f"{low:g} to {high:g}"


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Options, each with a default."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="parts to run")
    parser.add_argument("--full", action="store_true", help="more of everything: at most 90 minutes on two cores")
    parser.add_argument("--quick", action="store_true", help="the logic in a minute, on sizes of no use")
    parser.add_argument("--results", type=Path, default=HERE / "results", help="where summary.json and speed.md go")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
