"""One small Ray for all job tests of a session, and tiny weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.tiny_weights import transformers_model

ENVIRONMENT = {
    # What Ray is told there is, whatever the machine has: scheduling on GPUs is tested without any.
    "RAY_OVERRIDE_RESOURCES": '{"CPU": 2, "GPU": 2}',
    # Ray Train looks at its workers every two seconds, and a report waits for that; a watcher is one more process.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
}


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """Ray as the program itself starts it, with two logical CPUs and two logical GPUs."""
    import ray

    from ray_jobs.cluster.connect import connect

    with pytest.MonkeyPatch.context() as patch:
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        assert tuple(connect()) == (2.0, 2)
        try:
            yield
        finally:
            ray.shutdown()


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A transformers directory of a DINOv2 with two layers of width 32, without a head."""
    folder = tmp_path_factory.mktemp("weights") / "dinov2-tiny"
    transformers_model().save_pretrained(folder)
    return folder
