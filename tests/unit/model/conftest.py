"""Folders of tiny weights."""

from __future__ import annotations

import pytest

from retrieval_core.model.weights import load_model, save_model
from tests.unit.tiny_weights import config, transformers_model


@pytest.fixture
def folder(tmp_path):
    """Weights without a head, as transformers writes them."""
    transformers_model().save_pretrained(tmp_path / "weights")
    return tmp_path / "weights"


@pytest.fixture
def tuned(folder, tmp_path):
    """Weights with a head, as we write them."""
    save_model(load_model(config(folder), 11, with_head=True), str(tmp_path / "tuned"))
    return tmp_path / "tuned"
