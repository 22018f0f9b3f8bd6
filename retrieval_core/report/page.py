"""One self-contained HTML page: figures, charts and contact sheets, without a request to any network.

Figures and charts are plain HTML. Queries and pictures lie in the page as data, of which its script draws a few at a
time, so that thousands open as fast as five. The Content-Security-Policy admits that script and that style, by their
digests, and pictures that are in the page: nothing else runs, and nothing is loaded.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from retrieval_core.config.sections import ImagesConfig, ReportConfig
from retrieval_core.evaluation.depth import SHARES, share_key
from retrieval_core.evaluation.metrics import METRICS, metric_key
from retrieval_core.files import storage
from retrieval_core.report.assets import asset, environment
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
_PICTURES, _SIZE = "<!-- pictures -->", "<!-- size -->"  # no name holds them: every "<" in one is escaped
_ENTRY = 64  # bytes reserved for what the page knows of a picture besides the picture


def write_report(path: str, data: ReportData, images: ImagesConfig, keys: ReportConfig) -> int:
    """Write the page, whole or not at all, and return its size in bytes. Memory O(texts), and a decoded image a thread.

    The page takes at most ``keys.max_megabytes``. Half of that is for texts: of more queries than fit, an evenly spread
    part is shown. Pictures share the rest: many are made smaller, and where that is not enough the last candidates go
    without; the page says so. An image that cannot be read becomes a labelled empty box. Every text is escaped.

    Raises ValueError if ``own_arm`` is not among the arms, or the summary alone is larger than the page may be.
    """
    limit = keys.max_megabytes * 1_000_000
    sheet = CardSheet(data.cards, limit // 2)
    text = _environment().get_template("report/template.html").render(_context(data, sheet))
    # A file name may hold bytes that are not UTF-8; the page then shows a question mark.
    before, after = text.encode("utf-8", errors="replace").split(_PICTURES.encode())
    locations = sheet.locations()
    room = limit - len(before) - len(after) - _ENTRY * (len(locations) + 12)
    if room < 0:
        raise ValueError(f"report.max_megabytes = {keys.max_megabytes}: the page without pictures is larger; raise it")
    album = Album(images, keys.thumbnail, room)
    with storage.atomic_write(path) as file:
        written = file.write(before)
        for block in album.blocks(locations):
            written += file.write(_data_element("pictures", json.dumps(block, separators=(",", ":"))))
        written += file.write(_data_element("places", sheet.table(album.entries)))
        size = _size_note((written + len(after)) / 1e6, album, keys)
        written += file.write(after.replace(_SIZE.encode(), size.encode()))
    return written


def _size_note(megabytes: float, album: Album, keys: ReportConfig) -> str:
    missing = sum(entry == NO_ROOM for entry in album.entries.values())
    cost = []
    if album.side < keys.thumbnail:
        cost.append(f"pictures are {album.side} instead of {keys.thumbnail} pixels wide")
    if missing:
        cost.append(f"{missing:,} of {len(album.entries):,} are left out")
    note = f"This file is {megabytes:.1f} MB large; report.max_megabytes allows {keys.max_megabytes}. "
    return note + (f"To stay below that, {', and '.join(cost)}. " if cost else "")


def _data_element(kind: str, text: str) -> bytes:
    return f'<script type="application/json" class="{kind}">{text}</script>\n'.encode("ascii")


def _context(data: ReportData, sheet: CardSheet) -> dict[str, Any]:
    arms = {arm: data.arms[arm] for arm in _in_order(data.arms)}
    own_arm = data.own_arm or ("fine_tuned" if "fine_tuned" in arms else next(reversed(arms), None))
    if arms and own_arm not in arms:
        raise ValueError(f"own_arm = {own_arm}: not among the arms {', '.join(arms)}")
    css, script = asset("report/style.css"), asset("report/compare.js") + asset("report/queries.js")
    deepest = max(data.ks, default=None)
    sizes = {arm: figures["motif_sizes"] for arm, figures in arms.items() if figures.get("motif_sizes")}
    curves = {arm: data.curves[arm] for arm in _in_order(data.curves)}
    candidates = [candidate for card in sheet.cards for candidate in card.candidates]
    return {
        "data": data,
        "css": Markup(css),  # not escaped: these two are our own
        "script": Markup(script),
        "digests": {"style": _digest(f"\n{css}\n"), "script": _digest(f"\n{script}\n")},
        "pictures": Markup(_PICTURES),
        "size": Markup(_SIZE),
        "cards": Markup(sheet.json),
        "shown": len(sheet.cards),
        "median": sheet.median,
        "listed": len(data.cards) if data.queries is None else data.queries,
        "categories": sorted({name for card in sheet.cards for name in card.categories}),
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
        "any_box": any(candidate.box for candidate in candidates),
        "any_label": any(candidate.hit is not None for candidate in candidates),
    }


def _digest(text: str) -> str:
    """How a Content-Security-Policy names an inline script or style."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")


def _has_depth(figures: Mapping[str, Any]) -> bool:
    # The recall of the pool is None where no query was evaluated.
    return "depth" in figures and figures["depth"]["pool_recall"] is not None


def _headline(ks: Sequence[int]) -> list[tuple[str, int, str]]:
    """The figures shown large: metric, k and what it means."""
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
    """The best value of each figure as printed, so that arms equal in print are equally bold."""
    if len(arms) < 2:
        return {}
    keys = [metric_key(metric, k) for k in ks for metric in METRICS]
    values = {key: [arm[key] for arm in arms.values() if arm.get(key) is not None] for key in keys}
    return {key: _figure(max(found)) for key, found in values.items() if found}


def _environment() -> Environment:
    made = environment()
    made.filters.update(
        figure=_figure,
        signed=_signed,
        duration=_duration,
        arm_label=lambda arm: ARM_LABELS.get(arm, arm.replace("_", " ")),
        arm_style=_style,
        size_label=size_label,
        count=lambda number: NONE if number is None else f"{number:,}",
    )
    made.globals["key"] = metric_key
    return made


def _style(arm: str, arms: Iterable[str]) -> int:
    """Number of an arm's line style; the known arms have the same one on every page."""
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
