"""Which relevant fabrics the pool lost, where they rank, and what it has instead, for the queries that are shown.

    ask every bucket what each query lost -> the nearest few of each -> ask every bucket what ranks before them
    ask every bucket which categories the wrong candidates hold

The driver holds O(queries shown * limit) lost fabrics and the categories of O(queries shown * candidates) others,
whatever the gallery.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from ray_jobs.cluster.connect import run_tasks
from ray_jobs.retrieve import EXPANDED
from ray_jobs.run import Run
from retrieval_core.data.shard_plan import bucket_shards, plan_file
from retrieval_core.evaluation.lost import Lost, Question, count_before, lost_in_bucket, nearest, query_vectors
from retrieval_core.evaluation.mistaken import wrong_categories
from retrieval_core.files import storage
from retrieval_core.store.embeddings import read_manifest


def lost_fabrics(
    run: Run, categories: Mapping[str, frozenset[str]], found: Mapping[str, frozenset[str]], limit: int
) -> dict[str, list[Lost]]:
    """The ``limit`` (at least 1) nearest relevant fabrics that each query's candidates lack, with their ranks.

    ``categories`` are those of the queries, by path, and ``found`` the paths of their candidates; queries without one
    are left out. Every vector of the gallery is read twice, or once where nothing is lost.
    """
    role = EXPANDED if run.config.retrieve.expand else "queries"
    vectors = query_vectors(run.store(run.main, role), [path for path in categories if found.get(path)])
    asked = list(vectors)
    if not asked:
        return {}
    questions = [Question(categories[path], vectors[path], found[path]) for path in asked]
    store = run.store(run.main, "gallery")
    manifest, plans = read_manifest(store), _plans(run)
    names, regions = [entry["file"] for entry in manifest["shards"]], manifest["regions"]
    shards = [[storage.join(store, name) for name in bucket_shards(names, bucket)] for bucket in range(len(plans))]
    calls = ((plan, files, regions, questions, limit) for plan, files in zip(plans, shards, strict=True))
    lost = [list[Lost]() for _ in asked]
    for in_bucket in run_tasks(lost_in_bucket, calls):
        lost = [nearest([*known, *more], limit) for known, more in zip(lost, in_bucket, strict=True)]
    return dict(zip(asked, _ranked(shards, regions, questions, lost), strict=True))


def mistaken_for(
    run: Run, categories: Mapping[str, frozenset[str]], found: Mapping[str, frozenset[str]]
) -> dict[str, Counter[str]]:
    """How many wrong candidates of each query hold each category; arguments as above. Reads every label once."""
    counts = {path: Counter[str]() for path in categories if found.get(path)}
    if not counts:
        return {}
    wanted, pools = [categories[path] for path in counts], [found[path] for path in counts]
    for in_bucket in run_tasks(wrong_categories, ((plan, wanted, pools) for plan in _plans(run))):
        for count, more in zip(counts.values(), in_bucket, strict=True):
            count.update(more)
    return counts


def _plans(run: Run) -> list[str]:
    buckets = run.done(f"embed.gallery{run.suffix(run.main)}")["buckets"]
    return [plan_file(run.plan(run.main, "gallery"), bucket) for bucket in range(buckets)]


def _ranked(
    shards: list[list[str]], regions: int, questions: list[Question], lost: list[list[Lost]]
) -> list[list[Lost]]:
    """The lost fabrics with their ranks; rejected ones, which are the last of each query, have none."""
    targets = {
        number: [(fabric.similarity, fabric.path) for fabric in fabrics if fabric.similarity is not None]
        for number, fabrics in enumerate(lost)
    }
    targets = {number: found for number, found in targets.items() if found}
    ranks = {number: [1] * len(found) for number, found in targets.items()}
    if targets:
        for counts in run_tasks(count_before, ((files, regions, questions, targets) for files in shards)):
            for number, found in counts.items():
                ranks[number] = [sum(pair) for pair in zip(ranks[number], found, strict=True)]
    return [
        [
            fabric if fabric.similarity is None else fabric._replace(rank=ranks[number][place])
            for place, fabric in enumerate(fabrics)
        ]
        for number, fabrics in enumerate(lost)
    ]
