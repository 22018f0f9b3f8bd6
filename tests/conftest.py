"""Settings that all tests share."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# An example takes as long as a busy machine makes it; a temporary folder that examples share is made clean by the test.
settings.register_profile("project", deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
settings.load_profile("project")
