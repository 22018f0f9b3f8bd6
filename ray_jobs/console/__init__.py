"""What a user types and reads: commands, progress, logs, signals to stop.

Begin with ``command_line`` (every command and its help). ``progress`` writes bars and log lines, ``run_log`` decides
what goes to the screen and what into the run's log file, ``interrupt`` handles signals, ``streams`` keeps closed
ones harmless. May import anything of ``retrieval_core``, and nothing that needs Ray.
"""
