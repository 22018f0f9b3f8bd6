"""The report stage: report.html from what the other stages left; Ray tasks look for the fabrics that the pool lost."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq

from ray_jobs.evaluate import HITS
from ray_jobs.lost import lost_fabrics, mistaken_for
from ray_jobs.run import Run
from retrieval_core.data.motif_boxes import load_motif_boxes
from retrieval_core.data.shard_plan import plan_file
from retrieval_core.evaluation.depth import PRECISION_BY_DEPTH, RECALL_BY_DEPTH, read_by_depth
from retrieval_core.evaluation.lost import Lost
from retrieval_core.evaluation.metrics import average_precision_at, recall_at
from retrieval_core.evaluation.mistaken import most_frequent
from retrieval_core.evaluation.motif_size import Boxes, motif_share
from retrieval_core.files import storage, tables
from retrieval_core.report.data import Fabric, Missed, QueryCard, Reject, RejectCount, ReportData, StageTime
from retrieval_core.report.page import write_report
from retrieval_core.run.workspace import POOL_PARQUET
from retrieval_core.store.embeddings import read_manifest

log = logging.getLogger("fabric_retrieval")
REJECTS_SHOWN = 50
MISTAKEN_NAMED = 3  # categories that a query was mistaken for


def report(run: Run) -> dict[str, Any]:
    """Write report.html. Memory O(queries shown * candidates + hits)."""
    workspace = run.workspace
    pool = run.done(f"retrieve{run.suffix(run.main)}")
    evaluated = workspace.record("evaluate") if run.labelled else None
    inputs = {
        "pool": pool["fingerprint"],
        "evaluated": evaluated and evaluated["fingerprint"],
        "report": run.config.report.model_dump(),
        "stages": [record["fingerprint"] for record in run.records() if record["stage"] != "report"],
    }
    path = workspace.path("report.html")
    record = workspace.stage("report", inputs, [path], lambda: _report(run, path), overwrite=run.overwrite)
    log.info("report: %s", path)
    return record


def _report(run: Run, path: str) -> dict[str, Any]:
    config = run.config
    metrics = run.workspace.path("metrics.json")
    judged = run.labelled and storage.exists(metrics)
    counts, rows = _rejects(run)
    data = ReportData(
        name=config.run.name,
        facts=_facts(run),
        arms=storage.read_json(metrics) if judged else {},
        ks=config.evaluate.ks,
        curves=_curves(run, RECALL_BY_DEPTH) if judged else {},
        precisions=_curves(run, PRECISION_BY_DEPTH) if judged else {},
        stages=[_stage_time(record) for record in run.records() if record["stage"] != "report"],
        reject_counts=counts,
        reject_rows=rows,
        cards=_cards(run, judged=judged),
        queries=_counts(run, "queries")["inputs"],
        pool_depth=_pool_depth(run),
        own_arm=run.main if judged else None,
    )
    size = write_report(path, data, config.images, config.report)
    log.info("report: %d queries, %.1f MB", len(data.cards), size / 1e6)
    return {"queries": len(data.cards), "bytes": size}


def _curves(run: Run, name: str) -> dict[str, list[tuple[int, float]]]:
    """One figure by depth, arm by arm; empty for a run that an older version evaluated."""
    path = run.workspace.path(name)
    return read_by_depth(path) if storage.exists(path) else {}


def _counts(run: Run, role: str) -> dict[str, int]:
    counts: dict[str, int] = run.done(f"embed.{role}{run.suffix(run.main)}")["counts"]
    return counts


def _pool_depth(run: Run) -> int:
    return min(run.config.retrieve.top_k, _counts(run, "gallery")["embedded"])


def _facts(run: Run) -> list[tuple[str, str]]:
    data, model, train = run.config.data, run.config.model, run.config.train
    gallery, queries = _counts(run, "gallery"), _counts(run, "queries")
    vectors = read_manifest(run.store(run.main, "gallery"))["regions"]
    whole, size = model.pooling != "patches", run.config.embed.fabric_size
    head = {"trained": "head trained", "stored": "head from the weights", "none": "no head"}[run.head]
    trained = run.trains and run.workspace.record("train")
    ranks = "; ranks of lost fabrics are those of the first look" if run.labelled else ""
    second_look = f"at the first {run.config.retrieve.depth}{ranks}"
    facts = [
        ("Catalogue", f"{gallery['embedded']:,} fabrics of {gallery['inputs']:,}"),
        ("Queries", f"{queries['embedded']:,} of {queries['inputs']:,}"),
        ("Data", data.root or data.gallery or ""),
        ("Layout", f"published, {data.gallery_split}" if data.format == "published" else data.format),
        ("Weights", model.checkpoint or model.weights),
        ("Model", f"{'fine-tuned' if run.trains else 'as given'}, {head}"),
        ("Training", f"{train.epochs} epochs, {train.loss}, batch {train.batch_size}" if trained else ""),
        ("Image side", f"{model.image_size} px" if whole else f"{model.image_size} px, fabrics {size} px"),
        ("Vectors", f"{vectors} a fabric" if vectors > 1 else "one a fabric"),
        ("Candidates", f"{run.config.retrieve.top_k} a query"),
        ("Second look", second_look if run.looks_twice(run.main) else ""),
        ("Seed", str(run.config.run.seed)),
    ]
    return [(label, value) for label, value in facts if value]


def _stage_time(record: dict[str, Any]) -> StageTime:
    rate = record.get("images_per_second")
    return StageTime(record["stage"], record["seconds"], f"{rate:,.1f} images/s" if rate else "")


def _rejects(run: Run) -> tuple[list[RejectCount], list[Reject]]:
    counts: Counter[tuple[str, str]] = Counter()
    first: list[Reject] = []
    with storage.open_read(run.workspace.path("rejects.parquet")) as file:
        for batch in pq.ParquetFile(file).iter_batches():
            for row in batch.to_pylist():
                counts[row["role"], row["reason"]] += 1
                if len(first) < REJECTS_SHOWN:
                    first.append(Reject(row["path"], row["role"], row["stage"], row["reason"], row["detail"]))
    return [RejectCount(role, reason, count) for (role, reason), count in sorted(counts.items())], first


class _Labels(NamedTuple):
    hits: dict[int, list[int]]  # ranks, by position of the query
    relevant: list[int]  # numbers of fabrics, by position
    lost: dict[str, list[Lost]]  # by path
    mistaken: dict[str, Counter[str]]  # categories of wrong candidates, by path, where fabrics are lost
    boxes: Boxes  # of the nearest lost fabrics


def _cards(run: Run, *, judged: bool) -> list[QueryCard]:
    """Queries evenly spread over the list, the same ones in every run."""
    table = tables.read_table(plan_file(run.plan(run.main, "queries"), 0)).sort_by("position")
    shown = min(len(table), run.config.report.queries)
    chosen = np.unique(np.linspace(0, len(table) - 1, shown).astype(int))
    rows = dict(zip(chosen.tolist(), table.take(chosen).to_pylist(), strict=True))
    found = _candidates(run, [row["path"] for row in rows.values()])
    labels = _labels(run, rows, found) if judged else None
    return [_card(run, position, row, found.get(row["path"], []), labels) for position, row in rows.items()]


def _labels(run: Run, rows: dict[int, dict[str, Any]], found: dict[str, list[dict[str, Any]]]) -> _Labels:
    hits: dict[int, list[int]] = defaultdict(list)
    relevant = tables.read_table(run.workspace.work("relevant.parquet")).column("relevant").to_pylist()
    for query, rank in zip(*tables.read_table(run.workspace.work(HITS)).to_pydict().values(), strict=True):
        if query in rows:
            hits[query].append(rank)
    # Looking for lost fabrics reads the gallery's vectors, so queries that found all of theirs do not ask.
    asked = {row["path"]: frozenset(row["categories"]) for at, row in rows.items() if relevant[at] > len(hits[at])}
    in_pool = {path: frozenset(entry["image_path"] for entry in found.get(path, ())) for path in asked}
    lost = lost_fabrics(run, asked, in_pool, run.config.report.lost) if run.config.report.lost else {}
    nearest = {fabrics[0].path for fabrics in lost.values() if fabrics}
    boxes = load_motif_boxes(run.config.data, only=nearest) if nearest and run.config.data.root else {}
    return _Labels(hits, relevant, lost, mistaken_for(run, asked, in_pool), boxes)


def _card(
    run: Run, position: int, row: dict[str, Any], candidates: list[dict[str, Any]], labels: _Labels | None
) -> QueryCard:
    known = labels is not None and bool(row["categories"])
    hits = labels.hits[position] if labels else []
    relevant = labels.relevant[position] if labels and known else None
    metrics = {}
    if relevant:
        k = run.config.evaluate.ks[-1]
        metrics = {f"recall@{k}": recall_at(hits, relevant, k), f"AP@{k}": average_precision_at(hits, relevant, k)}
    shown = [
        Fabric(
            entry["image_path"],
            storage.absolute(entry["image_path"]),
            entry["similarity"],
            entry["rank"],
            entry["rank"] in hits if known else None,
            tuple(entry["box"]) if entry.get("box") else None,
        )
        for entry in candidates
        if entry["rank"] <= run.config.report.candidates
    ]
    nearest = labels.lost.get(row["path"], []) if labels else []
    return QueryCard(
        row["path"],
        row["location"],
        tuple(row["categories"]),
        relevant,
        metrics,
        shown,
        hits,
        (relevant or 0) - len(hits) if candidates else 0,
        [Fabric(one.path, one.location, one.similarity, one.rank, box=one.box) for one in nearest],
        _missed(run, row, len(candidates) - len(hits), labels) if labels else None,
    )


def _missed(run: Run, row: dict[str, Any], wrong: int, labels: _Labels) -> Missed | None:
    """What explains the lost fabrics of a query; None where there are none."""
    mistaken = labels.mistaken.get(row["path"])
    if mistaken is None:
        return None
    nearest, share = labels.lost.get(row["path"]), None
    if nearest and nearest[0].pixels:
        share = motif_share(labels.boxes.get(nearest[0].path, ()), row["categories"], nearest[0].pixels)
    return Missed(wrong, most_frequent(mistaken, MISTAKEN_NAMED), share, run.looks_twice(run.main))


def _candidates(run: Run, paths: list[str]) -> dict[str, list[dict[str, Any]]]:
    """The candidates of some queries."""
    if not paths:
        return {}
    with storage.open_read(storage.join(run.folder(run.main), POOL_PARQUET)) as file:
        table = pq.read_table(file, filters=[("query_path", "in", paths)], partitioning=None)
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in table.to_pylist():
        found[row["query_path"]].append(row)
    return found
