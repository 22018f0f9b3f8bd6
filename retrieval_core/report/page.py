"""One self-contained HTML page: figures, charts and contact sheets, without a request to any network.

Figures and charts are plain HTML. Queries and pictures lie in the page as data, and the page's own script draws a few
at a time, so that thousands of them open as fast as five. Its Content-Security-Policy admits that script and that
style, known by their digests, and pictures that are in the page: nothing else runs, and nothing is loaded.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from retrieval_core.config.sections import ImagesConfig, ReportConfig
from retrieval_core.evaluation.depth import SHARES, share_key
from retrieval_core.evaluation.metrics import METRICS, metric_key
from retrieval_core.files import storage
from retrieval_core.report.cards import CardSheet
from retrieval_core.report.chart import precision_recall_chart, recall_chart, size_chart, size_label
from retrieval_core.report.data import ReportData
from retrieval_core.report.thumbnails import BLOCK, NO_ROOM, Album

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
_PICTURES, _SIZE, _LOSS = "<!-- pictures -->", "<!-- size -->", "<!-- loss -->"
_ENTRY = 64  # bytes kept free for what the page knows of a picture besides the picture


def write_report(path: str, data: ReportData, images: ImagesConfig, keys: ReportConfig) -> int:
    """Write the page; it appears whole or not at all.

    The page is at most ``keys.max_megabytes`` large. Half of it is for texts: of more queries than that holds an evenly
    spread part is shown. The rest is for pictures, which are made smaller where they are many, and left out from the
    last candidates on where even that is not enough; the page says so. Memory O(texts), and one picture a thread.
    An image that cannot be read becomes a labelled empty box.

    Args:
        path: local path or URL of the HTML file.
        data: what to show; every text in it is escaped.
        images: how a file becomes pixels.
        keys: the ``report`` section; ``thumbnail`` and ``max_megabytes`` are used.

    Returns:
        Bytes written.

    Raises:
        ValueError: if ``own_arm`` is not among the arms, or the summary alone is larger than the page may be.
    """
    limit = keys.max_megabytes * 1_000_000
    sheet = CardSheet(data.cards, limit // 2)
    before, after = _summary(data, sheet, keys.max_megabytes)
    locations = sheet.locations()
    room = limit - sum(len(part) for part in (before, after)) - _ENTRY * (len(locations) + 12)
    if room < 0:
        raise ValueError(f"report.max_megabytes = {keys.max_megabytes}: the page without pictures is larger; raise it")
    album = Album(images, keys.thumbnail, room)
    with storage.atomic_write(path) as file:
        written = file.write(before)
        for block in album.blocks(locations):
            written += file.write(_data_element("pictures", json.dumps(block, separators=(",", ":"))))
        written += file.write(_data_element("places", sheet.table(album.entries)))
        after = after.replace(_SIZE.encode(), f"{(written + len(after)) / 1e6:.1f}".encode())
        after = after.replace(_LOSS.encode(), _loss(album, keys.thumbnail).encode())
        written += file.write(after)
    return written


def _loss(album: Album, side: int) -> str:
    """What it cost to keep the page small, as a sentence."""
    missing = sum(entry.problem == NO_ROOM for entry in album.entries.values())
    smaller = f"pictures are {album.side} instead of {side} pixels wide" if album.side < side else ""
    without = f"{missing:,} of {len(album.entries):,} are left out" if missing else ""
    words = ", and ".join(filter(None, [smaller, without]))
    return f"To stay below that, {words}. " if words else ""


def _data_element(kind: str, text: str) -> bytes:
    """Data for the script; the room that the album was given counts the text and ``_ENTRY`` covers the element."""
    return f'<script type="application/json" class="{kind}">{text}</script>\n'.encode("ascii")


def _summary(data: ReportData, sheet: CardSheet, megabytes: int) -> tuple[bytes, bytes]:
    """The page up to the pictures, and from there on."""
    text = _environment().from_string(_resource("template.html")).render(_context(data, sheet, megabytes))
    # A file name may hold bytes that are no text; the page then shows a question mark. No name holds the mark, as
    # every "<" in one is escaped.
    before, after = text.encode("utf-8", errors="replace").split(_PICTURES.encode())
    return before, after


def _context(data: ReportData, sheet: CardSheet, megabytes: int) -> dict[str, Any]:
    arms = {arm: data.arms[arm] for arm in _in_order(data.arms)}
    own_arm = data.own_arm or ("fine_tuned" if "fine_tuned" in arms else next(reversed(arms), None))
    if arms and own_arm not in arms:
        raise ValueError(f"own_arm = {own_arm}: not among the arms {', '.join(arms)}")
    css, script = _resource("style.css"), _resource("queries.js")
    deepest = max(data.ks, default=None)
    sizes = {arm: figures["motif_sizes"] for arm, figures in arms.items() if figures.get("motif_sizes")}
    curves = {arm: data.curves[arm] for arm in _in_order(data.curves)}
    return {
        "data": data,
        "css": Markup(css),  # ours, and neither may be escaped
        "script": Markup(script),
        "digests": {"style": _digest(f"\n{css}\n"), "script": _digest(f"\n{script}\n")},
        "pictures": Markup(_PICTURES),
        "size": Markup(_SIZE),
        "loss": Markup(_LOSS),
        "cards": Markup(sheet.json),
        "shown": len(sheet.cards),
        "listed": len(data.cards) if data.queries is None else data.queries,
        "categories": sorted({name for card in sheet.cards for name in card.categories}),
        "megabytes": megabytes,
        "arms": arms,
        "own_arm": own_arm,
        "deepest": deepest,
        "headline": _headline(data.ks),
        "metric_labels": METRIC_LABELS,
        "best": _best(arms, data.ks),
        "left_out": next((figures["left_out"] for figures in arms.values() if figures.get("left_out")), {}),
        "depths": {arm: figures["depth"] for arm, figures in arms.items() if _has_depth(figures)},
        "shares": {share_key(share): f"{100 * share:.0f} %" for share in SHARES},
        "chart": recall_chart(curves),
        "precision_chart": precision_recall_chart(curves, data.precisions),
        "sizes": sizes,
        "size_chart": size_chart(sizes, metric_key("recall", deepest)) if deepest else None,
        "total_seconds": sum(stage.seconds for stage in data.stages),
        "rejected": sum(entry.images for entry in data.reject_counts),
        "block": BLOCK,
        "any_metric": any(card.metrics for card in sheet.cards),
        "any_box": any(candidate.box for card in sheet.cards for candidate in card.candidates),
        "any_label": any(candidate.hit is not None for card in sheet.cards for candidate in card.candidates),
    }


def _digest(text: str) -> str:
    """How a Content-Security-Policy names an inline script or style."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")


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
        size_label=size_label,
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
