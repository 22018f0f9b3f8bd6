"""Which relevant fabrics the pool lost, and where they stand: tasks over the buckets of the store.

    ask every bucket what each query lost -> the nearest few of each -> ask every bucket what stands before them

Only for the queries that are shown. The driver holds O(queries shown * limit) of the lost ones, whatever the gallery.
"""

from __future__ import annotations

from collections.abc import Mapping

from ray_jobs.cluster.connect import run_tasks
from ray_jobs.run import Run
from retrieval_core.data.shard_plan import bucket_shards, plan_file
from retrieval_core.evaluation.lost import Lost, Question, count_before, lost_in_bucket, query_vectors
from retrieval_core.files import storage
from retrieval_core.store.embeddings import read_manifest


def lost_fabrics(
    run: Run, categories: Mapping[str, frozenset[str]], last: Mapping[str, tuple[float, str]], limit: int
) -> dict[str, list[Lost]]:
    """Look for what the pool lost of some queries.

    Args:
        run: with a store and a pool.
        categories: of the queries, by path.
        last: similarity and path of the last candidate of each; a query without one is left out.
        limit: fabrics named a query, at least 1.

    Returns:
        For each query that has candidates the nearest relevant fabrics that are not among them, with their ranks.
        Every vector of the gallery is read twice, or once where nothing is lost.
    """
    vectors = query_vectors(run.store(run.main, "queries"), [path for path in categories if path in last])
    asked = list(vectors)
    if not asked:
        return {}
    questions = [Question(categories[path], vectors[path], last[path]) for path in asked]
    store = run.store(run.main, "gallery")
    manifest, buckets = read_manifest(store), run.done(f"embed.gallery{run.suffix(run.main)}")["buckets"]
    names, regions = [entry["file"] for entry in manifest["shards"]], manifest["regions"]
    shards = [[storage.join(store, name) for name in bucket_shards(names, bucket)] for bucket in range(buckets)]
    plans = (plan_file(run.plan(run.main, "gallery"), bucket) for bucket in range(buckets))
    calls = ((plan, files, regions, questions, limit) for plan, files in zip(plans, shards, strict=True))
    nearest = [list[Lost]() for _ in asked]
    for found in run_tasks(lost_in_bucket, calls):
        for number, part in enumerate(found):
            nearest[number] = sorted([*nearest[number], *part], key=lambda one: one.place)[:limit]
    return dict(zip(asked, _ranked(shards, regions, questions, nearest), strict=True))


def _ranked(
    shards: list[list[str]], regions: int, questions: list[Question], nearest: list[list[Lost]]
) -> list[list[Lost]]:
    places = {
        number: [(one.similarity, one.path) for one in lost if one.similarity is not None]
        for number, lost in enumerate(nearest)
    }
    places = {number: found for number, found in places.items() if found}
    before = {number: [0] * len(found) for number, found in places.items()}
    if places:
        for counts in run_tasks(count_before, ((files, regions, questions, places) for files in shards)):
            for number, found in counts.items():
                before[number] = [sum(pair) for pair in zip(before[number], found, strict=True)]
    # Those with a score come first, so the counts are theirs, and the rejected ones after them get no rank.
    return [
        [
            one._replace(rank=before[number][place] + 1) if one.similarity is not None else one
            for place, one in enumerate(lost)
        ]
        for number, lost in enumerate(nearest)
    ]
