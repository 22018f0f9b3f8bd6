"""trec_eval itself, from the files of a run's folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytrec_eval

NAMES = {"recall": "recall", "map_cut": "mAP_trec", "P": "precision"}
"""trec_eval's name of a figure -> ours."""


def trec_eval(folder: Path, ks: Sequence[int]) -> dict[str, float]:
    """The means that `trec_eval -c` prints: a query without an answer counts as 0."""
    with (folder / "qrels.trec").open() as file:
        qrels = pytrec_eval.parse_qrel(file)
    with (folder / "run.trec").open() as file:
        run = pytrec_eval.parse_run(file)
    measures = {f"{metric}.{','.join(map(str, ks))}" for metric in NAMES}
    found = pytrec_eval.RelevanceEvaluator(qrels, measures).evaluate(run)
    names = [f"{metric}_{k}" for metric in NAMES for k in ks]
    return {name: sum(values[name] for values in found.values()) / len(qrels) for name in names}
