"""The embedding store: Parquet shards of vectors with their paths and boxes, and a manifest.

Begin with ``embeddings``, which writes and reads shards; ``windows`` does so for what a second look needs beside them;
``vector_files`` is how vectors lie in a Parquet file.

May import ``files``.
"""
