"""The embedding store: Parquet shards of vectors with their paths and boxes, and a manifest.

Begin with ``embeddings``, which writes and reads shards; ``vector_files`` is how their vectors lie in a Parquet file.

May import ``files``.
"""
