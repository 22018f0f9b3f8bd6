"""The typed configuration of a run: keys (``sections``, ``train_section``), and their reading (``config``).

It imports ``files``. Begin with ``config.load_config``; a new key goes into its section.
"""
