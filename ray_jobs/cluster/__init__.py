"""The cluster: connecting to Ray, checking its machines, reporting to its dashboard.

Begin with ``connect`` (start or join Ray, run bounded numbers of tasks). ``preflight`` says beforehand why Ray could
not, ``cores`` how many there are for it. ``probe`` finds nodes that do not see the run's files, ``memory`` warns of too
little memory, ``gauges`` are the figures for Prometheus. May import ``console`` and anything of ``retrieval_core``.
"""
