"""The parts of the retrieval stage, which ``ray_jobs/retrieve.py`` puts together.

``blocks`` cuts the stores into blocks, loads them and merges the rankings of several; ``second_look`` ranks what was
found first anew by all windows. May import ``console``, ``cluster``, ``ray_jobs/run.py`` and anything of
``retrieval_core``.
"""
