"""From an image to the vectors that are stored: which views, which encoder, how many vectors.

``arms`` names what a run compares, and computes the fingerprint that tells whether stored vectors can be reused;
``views`` says how an image becomes views, and these the vectors that are kept; ``encoders`` turns views into
embeddings; ``region_pooling`` pools those of tiles, as ``model.clusters`` does those of windows. Imports ``files``,
``config``, ``images``, ``model`` and ``process``. Begin with ``views``.
"""
