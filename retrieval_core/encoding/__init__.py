"""From an image to the vectors that are stored: which views, which encoder, how many vectors.

``arms`` names what a run compares, and computes the fingerprint that tells whether stored vectors can be reused;
``encoders`` turns views into embeddings; ``views`` says how an image becomes views, and ``region_pooling`` pools the
embeddings of a fabric to as many vectors as it keeps. Imports ``files``, ``config``, ``images``, ``model`` and
``process``. Begin with ``views``.
"""
