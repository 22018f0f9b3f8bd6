"""Tiny weights, and nothing of the small Ray that the job tests share: these tests start clusters of their own."""

from tests.jobs.conftest import weights

__all__ = ["weights"]
