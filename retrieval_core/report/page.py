"""One self-contained HTML page: figures, charts and contact sheets, without a script or a request to any network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from retrieval_core import storage
from retrieval_core.config import ImagesConfig
from retrieval_core.depth import SHARES, share_key
from retrieval_core.metrics import METRICS, metric_key
from retrieval_core.report.chart import recall_chart
from retrieval_core.report.thumbnails import Thumbnails

ARM_LABELS = {
    "random": "Random ranking",
    "histogram": "Colour histogram",
    "frozen": "Frozen backbone",
    "fine_tuned": "Fine-tuned",
}
METRIC_LABELS = {
    "recall": "Recall",
    "mAP": "mAP",
    "mAP_trec": "mAP (trec)",
    "precision": "Precision",
    "f1": "F1",
    "reachable_recall": "Reachable recall",
}
DECIMALS = 3
MINUS = "\N{MINUS SIGN}"
NONE = "\N{EN DASH}"


class Candidate(NamedTuple):
    """One retrieved fabric.

    Attributes:
        image_path: as in the pool.
        location: absolute path or URL to open.
        similarity: cosine.
        rank: from 1.
        hit: whether it contains the motif; None when nobody knows.
        box: region that matched, (x0, y0, x1, y1) in pixels after orientation; None for the whole image.
    """

    image_path: str
    location: str
    similarity: float
    rank: int
    hit: bool | None = None
    box: tuple[int, int, int, int] | None = None


class StageTime(NamedTuple):
    """How long a stage took; ``detail`` is free text such as ``412 images/s``."""

    stage: str
    seconds: float
    detail: str = ""


class RejectCount(NamedTuple):
    """How many images of a role were rejected for one reason."""

    role: str
    reason: str
    images: int


class Reject(NamedTuple):
    """One rejected image, as in ``rejects.parquet``."""

    path: str
    role: str
    stage: str
    reason: str
    detail: str


@dataclass(frozen=True)
class QueryCard:
    """A query and the candidates shown for it.

    Attributes:
        query_path: as the query list spells it.
        location: absolute path or URL to open.
        categories: () when unlabelled.
        relevant: relevant fabrics in the gallery; None when unlabelled.
        metrics: figures to show, by their names, such as ``{"recall@100": 0.5}``.
        candidates: best first; empty when the query image was rejected.
    """

    query_path: str
    location: str
    categories: tuple[str, ...] = ()
    relevant: int | None = None
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    candidates: Sequence[Candidate] = ()


@dataclass(frozen=True)
class ReportData:
    """All that the page shows. Sections without content are left out.

    Attributes:
        name: of the run.
        facts: (label, value) pairs for the head of the page.
        arms: arm -> figures as ``metrics.arm_metrics`` gives them; an arm may also hold ``versus``:
            other arm -> ``metrics.paired_difference``, and ``depth``: ``depth.depth_figures``, of pools equally deep.
        ks: depths to tabulate, in this order; the largest one makes the headline.
        curves: arm -> (k, recall) points, k ascending.
        stages: in the order they ran.
        reject_counts: all rejected images, counted.
        reject_rows: the first of them.
        cards: queries to show.
        own_arm: the arm that made the candidates shown; by default ``fine_tuned``, else the last one.
    """

    name: str
    facts: Sequence[tuple[str, str]] = ()
    arms: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    ks: Sequence[int] = ()
    curves: Mapping[str, Sequence[tuple[int, float]]] = field(default_factory=dict)
    stages: Sequence[StageTime] = ()
    reject_counts: Sequence[RejectCount] = ()
    reject_rows: Sequence[Reject] = ()
    cards: Sequence[QueryCard] = ()
    own_arm: str | None = None


def write_report(path: str, data: ReportData, images: ImagesConfig, thumbnail: int) -> None:
    """Write the page; it appears whole or not at all.

    The page is written piece by piece, each picture read when its place comes: memory O(one image + locations shown).
    An image that cannot be read becomes a labelled empty box.

    Args:
        path: local path or URL of the HTML file.
        data: what to show; every text in it is escaped.
        images: how a file becomes pixels.
        thumbnail: longer side of the pictures in pixels.

    Raises:
        ValueError: if ``own_arm`` is not among the arms.
    """
    template = _environment().from_string(_resource("template.html"))
    stream = template.stream(**_context(data), place=Thumbnails(images, thumbnail).place)
    with storage.atomic_write(path) as file:
        # A file name may hold bytes that are no text; the page then shows a question mark.
        stream.dump(file, encoding="utf-8", errors="replace")


def _context(data: ReportData) -> dict[str, Any]:
    arms = {arm: data.arms[arm] for arm in _in_order(data.arms)}
    own_arm = data.own_arm or ("fine_tuned" if "fine_tuned" in arms else next(reversed(arms), None))
    if arms and own_arm not in arms:
        raise ValueError(f"own_arm = {own_arm}: not among the arms {', '.join(arms)}")
    return {
        "data": data,
        "css": Markup(_resource("style.css")),  # ours, and CSS must not be escaped
        "arms": arms,
        "own_arm": own_arm,
        "deepest": max(data.ks, default=None),
        "headline": _headline(data.ks),
        "metric_labels": METRIC_LABELS,
        "best": _best(arms, data.ks),
        "left_out": next((figures["left_out"] for figures in arms.values() if figures.get("left_out")), {}),
        "depths": {arm: figures["depth"] for arm, figures in arms.items() if _has_depth(figures)},
        "shares": {share_key(share): f"{100 * share:.0f} %" for share in SHARES},
        "chart": recall_chart({arm: data.curves[arm] for arm in _in_order(data.curves)}),
        "total_seconds": sum(stage.seconds for stage in data.stages),
        "rejected": sum(entry.images for entry in data.reject_counts),
        "any_box": any(candidate.box for card in data.cards for candidate in card.candidates),
        "any_label": any(candidate.hit is not None for card in data.cards for candidate in card.candidates),
    }


def _has_depth(figures: Mapping[str, Any]) -> bool:
    """Whether there is a depth to tell of: none without an evaluated query."""
    return "depth" in figures and figures["depth"]["pool_recall"] is not None


def _headline(ks: Sequence[int]) -> list[tuple[str, int, str]]:
    """The figures shown large: metric, k and what it says."""
    if not ks:
        return []
    first, deepest = min(ks), max(ks)
    figures = [("recall", deepest, f"of a motif's fabrics are among the first {deepest}")]
    if first < deepest:
        figures.append(("recall", first, f"among the first {first}"))
    return [*figures, ("mAP", deepest, "mean average precision")]


def _in_order(arms: Mapping[str, Any]) -> list[str]:
    known = list(ARM_LABELS)
    return sorted(arms, key=lambda arm: known.index(arm) if arm in known else len(known))


def _best(arms: Mapping[str, Mapping[str, Any]], ks: Sequence[int]) -> dict[str, str]:
    """The best value of each figure as it is printed, so that arms equal in print are equally bold."""
    if len(arms) < 2:
        return {}
    keys = [metric_key(metric, k) for k in ks for metric in METRICS]
    values = {key: [arm[key] for arm in arms.values() if arm.get(key) is not None] for key in keys}
    return {key: _figure(max(found)) for key, found in values.items() if found}


def _environment() -> Environment:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(
        figure=_figure,
        signed=_signed,
        duration=_duration,
        arm_label=lambda arm: ARM_LABELS.get(arm, arm.replace("_", " ")),
        arm_style=_style,
        base_name=lambda path: PurePosixPath(path).name or path,
        count=lambda number: NONE if number is None else f"{number:,}",
    )
    environment.globals["key"] = metric_key
    return environment


def _style(arm: str, arms: Iterable[str]) -> int:
    """Number of the line style of an arm: the known ones keep theirs on every page."""
    known = list(ARM_LABELS)
    if arm in known:
        return known.index(arm)
    return len(known) + [other for other in arms if other not in known].index(arm) % 4


def _figure(value: float | None) -> str:
    return NONE if value is None else f"{value:z.{DECIMALS}f}".replace("-", MINUS)


def _signed(value: float) -> str:
    text = f"{value:+.{DECIMALS}f}"
    return text[1:] if float(text) == 0 else text.replace("-", MINUS)


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


def _resource(name: str) -> str:
    return resources.files("retrieval_core.report").joinpath(name).read_text(encoding="utf-8")
