"""Fine-tuning, without knowing who runs it: the same loop under Ray Train and in a plain process.

Begin with ``loop`` (a step, an epoch, what a checkpoint carries). ``sampling`` decides which query meets which fabric,
``loader`` makes pixels of it (with ``augmentation``), ``losses`` and ``validation`` judge, ``activation_cache`` saves
the frozen blocks' work, ``checkpoints`` the state.

May import ``files``, ``config``, ``store``, ``ranking``, ``images``, ``data``, ``model``, ``evaluation``,
``encoding``.
"""
