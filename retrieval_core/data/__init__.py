"""From a data set on disk or an object store to the list of images to embed.

Imports ``config``, ``files`` and the ``Box`` of ``store``; opens no image. Begin with ``datasets``, which reads every
format: ``published_layout``, ``manifests`` (CSV, Parquet) or ``image_tree`` (folders). ``listing`` gives images their
ids, ``shard_plan`` decides what is embedded again, ``plan_division`` gives a plan more buckets, ``check`` finds the
faults of a data set.
"""
