"""The network: a DINOv2 backbone, its pooling and head, and the files that its weights come from and go to.

Imports ``files`` and ``config`` only. Begin with ``embedder``; ``weights`` loads and saves one. ``clusters``
pools the windows of a fabric.
"""
