"""Everything that can be said of initial retrieval without an engine: torch, numpy, arrow, pillow, never ray.

The wings, from the ground up; each imports from itself and from lower floors only (``tests/unit/test_imports.py``):

1. ``files`` (whole-or-absent files, Parquet, object stores), ``process`` (the allocator, the garbage collector)
2. ``config`` (typed keys), ``store`` (the embedding store), ``ranking`` (exact top-k, the candidate pool)
3. ``images`` (from a file to pixels), ``data`` (data sets, shard plans), ``model`` (the network),
   ``evaluation`` (metrics), ``run`` (the folder of a run, its lease), ``simulation`` (drawn catalogues)
4. ``encoding`` (from an image to vectors), ``training`` (fine-tuning), ``report`` (the page of a run)
5. ``serving`` (the search page and its API)
"""
