"""Settings that all tests share."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

# An example takes as long as a busy machine makes it; a temporary folder that examples share is made clean by the test.
settings.register_profile("project", deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
settings.load_profile("project")

# Ray starts its workers with a niceness of 15: beside two busy processes they would get a thirtieth of a core each, and
# importing torch would take minutes.
os.environ.setdefault("RAY_worker_niceness", "0")
