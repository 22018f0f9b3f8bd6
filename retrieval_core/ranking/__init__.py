"""Exact ranking by cosine similarity, and the candidate pool's files.

Begin with ``topk.block_topk``, which ranks a block of the gallery: ``selection`` finds the fabrics that may belong to
the first k by fast approximate scores, on a ``shortlist``; ``exact_scores`` scores those few by the rule. ``partials``
merges the rankings of several blocks, ``candidate_pool`` writes and reads the pool. ``expansion`` and ``second_look``
are what ranks a second time, by the similarity of ``window_scores``. ``coarse`` finds in 8 bits what needs to be read.

May import ``files``.
"""
