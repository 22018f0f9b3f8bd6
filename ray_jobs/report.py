"""The page people look at: gathers figures, candidates and thumbnails of a few queries. Needs no cluster."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from ray_jobs.evaluate import HITS
from ray_jobs.run import Run
from retrieval_core import storage
from retrieval_core.catalogue import plan_file
from retrieval_core.depth import RECALL_BY_DEPTH, read_recall_by_depth
from retrieval_core.metrics import average_precision_at, recall_at
from retrieval_core.report.page import Candidate, QueryCard, Reject, RejectCount, ReportData, StageTime, write_report
from retrieval_core.workspace import POOL_PARQUET

log = logging.getLogger("fabric_retrieval")
REJECTS_SHOWN = 50


def report(run: Run) -> dict[str, Any]:
    """Write report.html from what the run left. Memory O(queries shown + top_k), and the rejects' reasons."""
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
    config, workspace = run.config, run.workspace
    judged = run.labelled and storage.exists(workspace.path("metrics.json"))
    arms = storage.read_json(workspace.path("metrics.json")) if judged else {}
    curves = read_recall_by_depth(workspace.path(RECALL_BY_DEPTH)) if judged else {}
    counts, rows = _rejects(run)
    data = ReportData(
        name=config.run.name,
        facts=_facts(run),
        arms=arms,
        ks=config.evaluate.ks,
        curves=curves,
        stages=[_stage_time(record) for record in run.records() if record["stage"] != "report"],
        reject_counts=counts,
        reject_rows=rows,
        cards=_cards(run, judged=judged),
        own_arm=run.main if judged else None,
    )
    write_report(path, data, config.images, config.report.thumbnail)
    return {"queries": len(data.cards)}


def _facts(run: Run) -> list[tuple[str, str]]:
    config = run.config
    gallery = run.done(f"embed.gallery{run.suffix(run.main)}")["counts"]
    queries = run.done(f"embed.queries{run.suffix(run.main)}")["counts"]
    return [
        ("Catalogue", f"{gallery['embedded']:,} fabrics of {gallery['inputs']:,}"),
        ("Queries", f"{queries['embedded']:,} of {queries['inputs']:,}"),
        ("Data", config.data.root or config.data.gallery or ""),
        ("Weights", config.model.checkpoint or config.model.weights),
        ("Image side", f"{config.model.image_size} px"),
        ("Candidates", f"{config.retrieve.top_k} a query"),
    ]


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


def _cards(run: Run, *, judged: bool) -> list[QueryCard]:
    """Queries evenly spread over the list, the same ones in every run."""
    table = storage.read_table(plan_file(run.plan(run.main, "queries"), 0)).sort_by("position")
    chosen = np.unique(np.linspace(0, len(table) - 1, min(len(table), run.config.report.queries)).astype(int))
    rows = table.take(chosen).to_pylist() if run.config.report.queries else []
    found = _candidates(run, [row["path"] for row in rows])
    hits: dict[int, list[int]] = defaultdict(list)
    relevant: list[int] = []
    if judged:
        relevant = storage.read_table(run.workspace.work("relevant.parquet")).column("relevant").to_pylist()
        shown = storage.read_table(run.workspace.work(HITS))
        wanted = set(chosen.tolist())
        for query, rank in zip(*(column.to_pylist() for column in shown.columns), strict=True):
            if query in wanted:
                hits[query].append(rank)
    return [
        _card(run, row, found.get(row["path"], []), hits[index], relevant[index] if judged else None)
        for index, row in zip(chosen.tolist(), rows, strict=True)
    ]


def _card(
    run: Run, row: dict[str, Any], candidates: list[dict[str, Any]], hits: list[int], relevant: int | None
) -> QueryCard:
    known = relevant is not None and bool(row["categories"])
    metrics = {}
    if known and relevant:
        k = run.config.evaluate.ks[-1]
        metrics = {
            f"recall@{k}": recall_at(hits, relevant, k),
            f"mAP@{k}": average_precision_at(hits, relevant, k),
        }
    cards = [
        Candidate(
            entry["image_path"],
            storage.absolute(entry["image_path"]),
            entry["similarity"],
            entry["rank"],
            entry["rank"] in hits if known else None,
            tuple(entry["box"]) if entry.get("box") else None,
        )
        for entry in candidates[: run.config.report.candidates]
    ]
    return QueryCard(
        row["path"], row["location"], tuple(row["categories"]), relevant if known else None, metrics, cards
    )


def _candidates(run: Run, paths: list[str]) -> dict[str, list[dict[str, Any]]]:
    if not paths:
        return {}
    with storage.open_read(storage.join(run.folder(run.main), POOL_PARQUET)) as file:
        depth = run.config.report.candidates
        table = pq.read_table(file, filters=[("query_path", "in", paths), ("rank", "<=", depth)], partitioning=None)
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in table.to_pylist():
        found[row["query_path"]].append(row)
    return found
