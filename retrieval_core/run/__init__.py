"""The folder of a run: paths and stage records (``workspace``), and the lease that keeps a second run out (``lease``).

It imports ``config`` and ``files``. Begin with ``workspace``.
"""
