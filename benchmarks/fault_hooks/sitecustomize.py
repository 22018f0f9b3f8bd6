"""Python imports this in every process that has this folder on its path: those of `make bench-faults`."""

import os

if "FAULT_CONTROL" in os.environ:
    import fault_hooks

    fault_hooks.install()
