"""The benchmark of picked motifs runs on a small simulated catalogue, and counts what a naive search finds."""

from __future__ import annotations

import json

import numpy as np
import picking
import pytest

from retrieval_core.config.config import load_config
from retrieval_core.data.datasets import iter_gallery
from retrieval_core.encoding.arms import FROZEN, model_arm
from retrieval_core.model.weights import save_model
from retrieval_core.serving.search_index import open_index
from retrieval_core.simulation.dataset import simulate
from tests.unit.serving.small_store import embed
from tests.unit.tiny_split import make_model

SIZES = ["train_motifs=1", "val_motifs=1", "test_motifs=3", "train_fabrics=1", "val_fabrics=1", "test_fabrics=8"]


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """Options of a run, and the index of its gallery."""
    folder = tmp_path_factory.mktemp("picking")
    simulate(load_config(None, [f"simulate.{key}" for key in SIZES]).simulate, 0, str(folder / "data"))
    save_model(make_model(pooling="patches"), str(folder / "weights"))
    keys = [f"data.root={folder / 'data'}", f"model.weights={folder / 'weights'}", "model.image_size=28"]
    keys += ["model.pooling=patches", "embed.fabric_size=112", "embed.vectors=3"]
    config = load_config(None, keys)
    arm = model_arm(FROZEN, config.model, 0)
    embed(config, [record.location for record in iter_gallery(config.data)], folder / "store", arm=arm)
    return [part for key in keys for part in ("--set", key)], config, open_index(str(folder / "store"), arm, config)


def test_every_way_has_its_recall(searched, tmp_path, monkeypatch, capsys):
    options, _, index = searched
    monkeypatch.setattr(picking, "open_run", lambda run: index)
    wanted = [*options, "--motifs", "5", "--depth", "4", "--results", str(tmp_path / "picking.json")]
    assert picking.main(wanted) == 0
    found = json.loads((tmp_path / "picking.json").read_text())
    assert found["motifs"] == 5 and tuple(found["found"]) == picking.WAYS
    for row in found["found"].values():
        assert 0 <= row["interval"][0] <= row["recall"] <= row["interval"][1] <= 1
    assert len(capsys.readouterr().out.splitlines()) == 4


def test_recall_leaves_the_clicked_fabric_out(searched):
    _, config, index = searched
    fabrics = {record.location: set(record.categories) for record in iter_gallery(config.data)}
    wanted = {name for names in fabrics.values() for name in names}
    motifs = picking.drawn(config, wanted, 20, 0)
    assert len(set(motifs)) == len(motifs) == 20 and motifs == picking.drawn(config, wanted, 20, 0)
    motif = next(motif for motif in motifs if sum(motif.category in names for names in fabrics.values()) > 1)
    query = index.encode_part(picking.picture_of(motif.fabric, config.images), motif.box)
    hits = [hit.path for hit in index.rank(query, 8) if hit.path != motif.fabric][:3]
    relevant = [path for path, names in fabrics.items() if motif.category in names and path != motif.fabric]
    expected = len(set(hits) & set(relevant)) / min(3, len(relevant))
    queries = [(motif.fabric, {motif.category})]
    found = picking.recalls_of(index, motif, fabrics, queries, 3)
    assert found[1] == pytest.approx(expected) and len(found) == len(picking.WAYS)
    assert np.isfinite(found).all()
