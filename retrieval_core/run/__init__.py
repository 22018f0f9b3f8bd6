"""The folder of a run: paths and stage records (``workspace``), the lease that keeps a second run out
(``lease``), and whom it names (``holder``).

It imports ``config`` and ``files``. Begin with ``workspace``.
"""
