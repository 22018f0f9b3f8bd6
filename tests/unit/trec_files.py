"""A pool with spaces in its names, many ties, rejected and unanswerable queries, as TREC files, and its figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from retrieval_core.evaluation.metrics import arm_metrics
from retrieval_core.evaluation.relevance import Queries, judge_bucket, outcomes_of, unite
from retrieval_core.evaluation.trec import join_qrels, write_bucket_qrels, write_run
from retrieval_core.files import tables
from retrieval_core.ranking.candidate_pool import write_pool

KS = [1, 5, 100]
DEPTH = 120


def write_trec_files(folder: Path, work: Path) -> dict[str, Any]:
    """Write candidate_pool.parquet, run.trec and qrels.trec of 40 queries over two buckets of 160 fabrics.

    Returns:
        Our own figures at ``KS``.
    """
    rng = np.random.default_rng(0)
    motifs = [f"motif {index}" for index in range(8)]
    paths = [f"my fabrics/f {index:03d}.png" for index in range(160)]
    held = [sorted({motifs[motif] for motif in rng.integers(0, 7, 2)}) for _ in paths]  # no fabric holds the last
    plans = [str(work / f"plan-{bucket}.parquet") for bucket in range(2)]
    for bucket, plan in enumerate(plans):
        tables.write_table(plan, pa.table({"path": paths[bucket::2], "categories": held[bucket::2]}))
    queries = Queries([f"q {index}.png" for index in range(40)], [(motifs[index % 8],) for index in range(40)])
    rejected = {queries.paths[3]}
    parts = [_part(work, row, paths, rng) for row, path in enumerate(queries.paths) if path not in rejected]
    pool = str(folder / "candidate_pool.parquet")
    write_pool(parts, queries.paths, pool, str(work / "pool.json"), with_boxes=False)
    write_run(pool, str(folder / "run.trec"), "trial")
    judged = [str(work / f"qrels-{bucket}.trec") for bucket in range(2)]
    for plan, target in zip(plans, judged, strict=True):
        write_bucket_qrels(plan, queries, target)
    join_qrels(judged, str(folder / "qrels.trec"))
    judgements = [judge_bucket(plan, queries, {"own": pool}) for plan in plans]
    return arm_metrics(outcomes_of(queries, unite(judgements), "own", rejected), KS, {}, 0, 0)


def _part(work: Path, row: int, paths: list[str], rng: np.random.Generator) -> str:
    scores = np.round(rng.uniform(-1, 1, len(paths)), 1).astype(np.float32)
    order = np.lexsort((np.array(paths), -scores))[:DEPTH]
    columns = {"query": [row] * DEPTH, "similarity": scores[order], "image_path": [paths[place] for place in order]}
    part = str(work / f"part-{row}.parquet")
    tables.write_table(part, pa.table(columns))
    return part
