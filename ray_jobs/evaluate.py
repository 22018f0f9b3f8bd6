"""Metrics of every arm: judged in tasks, bucket by bucket; averaged on the driver in O(queries)."""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ray_jobs.cluster.connect import run_tasks
from ray_jobs.console.progress import Progress, printable, say, track
from ray_jobs.embedding.finish_store import rejects_of
from ray_jobs.run import Run
from retrieval_core.config.sections import ROLES, DataConfig
from retrieval_core.data.labels import advice, resembling
from retrieval_core.data.motif_boxes import MOTIF_BOXES, load_motif_boxes
from retrieval_core.data.problems import EXAMPLES
from retrieval_core.data.records import from_root
from retrieval_core.data.shard_plan import bucket_shards, plan_file
from retrieval_core.encoding.arms import RANDOM
from retrieval_core.evaluation import depth
from retrieval_core.evaluation.metrics import arm_metrics, paired_difference, per_query_rows
from retrieval_core.evaluation.motif_size import recall_by_size, sizes_of
from retrieval_core.evaluation.outcomes import QueryOutcome, random_outcomes
from retrieval_core.evaluation.relevance import Judgement, Queries, judge_bucket, outcomes_of, read_query_plan, unite
from retrieval_core.evaluation.trec import QRELS, RUN, join_qrels, write_bucket_qrels, write_run
from retrieval_core.files import stamps, storage, tables
from retrieval_core.run.workspace import POOL_PARQUET
from retrieval_core.store.embeddings import read_manifest

log = logging.getLogger("fabric_retrieval")
HITS = "hits.parquet"


def evaluate(run: Run) -> dict[str, Any] | None:
    """Write metrics.json, per_query.csv, the curves by depth and the TREC files; None if the data has no labels."""
    if not run.labelled:
        log.info("evaluate: the data has no labels; there is a pool, and nothing to judge it by")
        return None
    config, workspace = run.config, run.workspace
    arms = run.arm_names()
    gallery, queries = (run.done(f"embed.{role}{run.suffix(run.main)}") for role in ROLES)
    inputs = {
        "pools": {arm: run.done(f"retrieve{run.suffix(arm)}")["fingerprint"] for arm in arms},
        "labels": [gallery["labels"], queries["labels"]],
        "motif_boxes": _boxes_stamp(config.data),
        "evaluate": config.evaluate.model_dump(),
        "seed": config.run.seed,
    }
    names = ["metrics.json", "per_query.csv", depth.RECALL_BY_DEPTH, depth.PRECISION_BY_DEPTH]
    names += [RUN, QRELS] if config.evaluate.trec else []
    outputs = [*map(workspace.path, names), workspace.work(HITS)]
    record = workspace.stage(
        "evaluate", inputs, outputs, lambda: _evaluate(run, arms, gallery), overwrite=run.overwrite
    )
    for line in record.get("unmet", []):
        say(f"evaluate: {line}", logging.WARNING)
    return record


def _evaluate(run: Run, arms: list[str], gallery: dict[str, Any]) -> dict[str, Any]:
    config, workspace = run.config, run.workspace
    queries = read_query_plan(plan_file(run.plan(run.main, "queries"), 0))
    pools = {arm: storage.join(run.folder(arm), POOL_PARQUET) for arm in arms}
    judging = run_tasks(_judge, _buckets(run, gallery["buckets"], queries, pools))
    judged = unite(track(judging, Progress("evaluate", gallery["buckets"], "parts of the gallery")))
    rejected = {reject.path for reject in rejects_of(run.store(run.main, "queries"))}
    outcomes = {arm: outcomes_of(queries, judged, arm, rejected) for arm in arms}
    if RANDOM in config.evaluate.baselines:
        # A rejected fabric may be relevant: it keeps its place in the random ranking, as it does in every recall.
        size, top_k = gallery["counts"]["inputs"], config.retrieve.top_k
        outcomes[RANDOM] = random_outcomes(outcomes[run.main], size, top_k, config.run.seed)
    left_out = {"no_category": [path for path, names in zip(*queries, strict=True) if not names]}
    ks, resamples, seed = config.evaluate.ks, config.evaluate.bootstrap, config.run.seed
    others = [arm for arm in outcomes if arm != run.main]
    outcomes = {arm: outcomes[arm] for arm in sorted(outcomes, key=_arm_order)}
    metrics = {arm: arm_metrics(found, ks, left_out, resamples, seed) for arm, found in outcomes.items()}
    metrics[run.main]["versus"] = {
        other: paired_difference(outcomes[run.main], outcomes[other], ks, resamples, seed) for other in others
    }
    for arm, figures in _write_depths(run, outcomes, gallery["counts"]["embedded"]).items():
        metrics[arm]["depth"] = figures
    for arm in arms:
        by_size = recall_by_size(judged.relevant_by_size, *judged.hits[arm], ks)
        if by_size:
            metrics[arm]["motif_sizes"] = by_size
    storage.write_json(workspace.path("metrics.json"), metrics)
    _write_per_query(run, outcomes)
    _write_hits(run, judged)
    for name in (RUN, QRELS):
        storage.remove(workspace.path(name))  # those of another pool must not stay beside these figures
    if config.evaluate.trec:
        _write_trec(run, queries, gallery["buckets"])
    for arm, values in metrics.items() if metrics[run.main]["queries"] else ():
        shown = ", ".join(f"recall@{k} {values[f'recall@{k}']:.4f}" for k in ks if values[f"recall@{k}"] is not None)
        log.info("%-10s %s, mAP@%d %.4f", arm, shown, ks[-1], values[f"mAP@{ks[-1]}"] or 0.0)
    return {
        "queries": metrics[run.main]["queries"],
        "left_out": metrics[run.main]["left_out"],
        "unmet": _unmet(run, gallery["buckets"], outcomes[run.main]),
    }


def _unmet(run: Run, buckets: int, outcomes: list[QueryOutcome]) -> list[str]:
    """What no fabric answers, and which categories of the fabrics may be meant. Memory O(queries)."""
    unanswered = [outcome for outcome in outcomes if not outcome.relevant]
    met = {name for outcome in outcomes if outcome.relevant for name in outcome.categories}
    missed = sorted({name for outcome in unanswered for name in outcome.categories})
    lines = []
    if unanswered:
        count = f"no fabric answers {len(unanswered):,} of {len(outcomes):,} queries"
        lines = [f"{count}, which enter no figure; no fabric holds {_few([repr(name) for name in missed], ', ')}"]
    likes: dict[str, str] = {}
    calls = ((plan_file(run.plan(run.main, "gallery"), bucket), sorted(met.union(missed))) for bucket in range(buckets))
    for found in run_tasks(_likes, calls):
        likes |= {asked: min(held, likes.get(asked, held)) for asked, held in found.items()}
    if texts := advice(dict(sorted(likes.items())), met):
        lines.append(_few(texts, "; "))
    return lines


def _few(texts: list[str], between: str) -> str:
    more = f"{between}and {len(texts) - EXAMPLES:,} more" if len(texts) > EXAMPLES else ""
    return printable(between.join(texts[:EXAMPLES]) + more)


def _likes(plan: str, asked: list[str]) -> dict[str, str]:
    """``resembling`` for the fabrics of one bucket."""
    held = tables.read_table(plan, columns=["categories"]).column("categories")
    return resembling(asked, pc.unique(pc.list_flatten(held)).to_pylist())


def _arm_order(arm: str) -> tuple[int, str]:
    """Baselines first, the run's own arm last."""
    known = [RANDOM, "histogram", "frozen", "fine_tuned"]
    return (known.index(arm) if arm in known else len(known), arm)


def _boxes_stamp(data: DataConfig) -> str | None:
    path = from_root(data.root, MOTIF_BOXES)
    return stamps.stamp(path) if data.root and storage.exists(path) else None


def _buckets(run: Run, buckets: int, queries: Queries, pools: dict[str, str]) -> Iterator[tuple[Any, ...]]:
    """Arguments of ``_judge``, bucket by bucket."""
    store, folder = run.store(run.main, "gallery"), run.plan(run.main, "gallery")
    shards = [entry["file"] for entry in read_manifest(store)["shards"]]
    boxed = run.config.data if _boxes_stamp(run.config.data) else None
    for bucket in range(buckets):
        files = [storage.join(store, name) for name in bucket_shards(shards, bucket)]
        yield plan_file(folder, bucket), files, queries, pools, boxed


def _judge(
    plan: str, shards: list[str], queries: Queries, pools: dict[str, str], boxed: DataConfig | None
) -> Judgement:
    sizes = {}
    if boxed is not None:
        paths = set(tables.read_table(plan, columns=["path"]).column("path").to_pylist())
        sizes = sizes_of(load_motif_boxes(boxed, only=paths), shards)
    return judge_bucket(plan, queries, pools, sizes)


def _write_depths(run: Run, outcomes: dict[str, list[QueryOutcome]], gallery_size: int) -> dict[str, dict[str, Any]]:
    """Write the curves of every arm; returns their figures for metrics.json. Memory O(hits + top_k) for each arm."""
    deepest = min(run.config.retrieve.top_k, gallery_size)
    recalls = {arm: depth.recall_by_depth(found, deepest) for arm, found in outcomes.items()}
    depth.write_by_depth(run.workspace.path(depth.RECALL_BY_DEPTH), recalls, deepest)
    precisions = {arm: depth.precision_by_depth(found, deepest) for arm, found in outcomes.items()}
    depth.write_by_depth(run.workspace.path(depth.PRECISION_BY_DEPTH), precisions, deepest)
    return {arm: depth.depth_figures(recall_K, deepest, gallery_size) for arm, recall_K in recalls.items()}


def _write_per_query(run: Run, outcomes: dict[str, list[QueryOutcome]]) -> None:
    ks = run.config.evaluate.ks
    rows = [{"arm": arm, **row} for arm, found in outcomes.items() for row in per_query_rows(found, ks)]
    text = io.StringIO()
    if rows:
        writer = csv.DictWriter(text, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    storage.write_bytes(run.workspace.path("per_query.csv"), text.getvalue().encode())


def _write_hits(run: Run, judged: Judgement) -> None:
    """Write which candidates of the run's own arm are hits, for the report. O(hits)."""
    rows, ranks, _ = judged.hits[run.main]
    table = pa.table({"query": rows, "rank": ranks}).sort_by([("query", "ascending"), ("rank", "ascending")])
    tables.write_table(run.workspace.work(HITS), table)
    tables.write_table(run.workspace.work("relevant.parquet"), pa.table({"relevant": judged.relevant}))


def _write_trec(run: Run, queries: Queries, buckets: int) -> None:
    """Write the pool of the run's own arm and all judgements for other programs. Memory O(top_k)."""
    workspace, folder = run.workspace, run.plan(run.main, "gallery")
    write_run(workspace.path(POOL_PARQUET), workspace.path(RUN), run.config.run.name)
    parts = [workspace.work("qrels", f"{bucket:05d}.trec") for bucket in range(buckets)]
    calls = ((plan_file(folder, bucket), queries, part) for bucket, part in enumerate(parts))
    for _ in run_tasks(write_bucket_qrels, calls):
        pass
    join_qrels(parts, workspace.path(QRELS))
    storage.remove(workspace.work("qrels"))
