"""Judging a candidate pool by the categories of queries and fabrics: figures, curves, intervals, TREC files.

Imports ``files``, ``store`` and ``ranking``. Begin with ``relevance`` (which candidates are hits) and ``metrics``
(every formula, in one function). ``depth`` says how many candidates are worth keeping, ``lost`` what the pool misses,
``mistaken`` what it holds instead.
"""
