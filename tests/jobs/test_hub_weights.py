"""Weights on the Hub in a run: read by every process that needs them, recorded by commit, the same as in a folder."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from ray_jobs.__main__ import main
from ray_jobs.cluster.probe import look_from_node
from retrieval_core.files import hub, storage
from tests.hub_server import HubServer, ask, serving
from tests.jobs.processes import Processes
from tests.jobs.small_data import as_options, settings, write_catalogue

ADDRESS = "hf://owner/tiny"
REMEDY = "name a branch, a tag or a whole commit, or leave it out"
KEYS: dict[str, Any] = {
    "train__enabled": True,
    "train__num_workers": 0,
    "train__max_steps": 2,
    "train__batch_size": 4,
    "evaluate__baselines": ["frozen"],
}
"""The driver trains from the weights; actors of the baseline embed with them as they are."""


@pytest.fixture
def hub_server(tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A Hub with tiny weights; its caches are empty."""
    with serving() as server:
        server.push_folder("owner/tiny", weights)
        ask(monkeypatch, server.endpoint, tmp_path / "hf")
        yield server
    hub.pinned.cache_clear()


def options(tmp_path: Path, weights: str, **keys: Any) -> list[str]:
    root = tmp_path / "data"
    if not root.exists():
        write_catalogue(root, training=6)
    return as_options([*settings(root, Path("unused"), tmp_path / "out", **keys), f"model.weights={weights}"])


def test_the_check_and_the_plan_fetch_no_tensors(
    hub_server: HubServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = options(tmp_path, ADDRESS, train__enabled=None)
    assert main(["check", *given]) == 0
    assert main(["run", "--dry-run", *given]) == 0
    assert "fine-tuning: yes" in capsys.readouterr().out
    assert not list(tmp_path.glob("hf/**/model.safetensors"))


@pytest.mark.parametrize(
    ("address", "code", "message"),
    [
        ("hf://owner/none", 1, "hf://owner/none: no such repository at http://127.0.0.1"),
        ("hf://owner/tiny@v2", 1, "hf://owner/tiny@v2: has no revision v2; name a branch, a tag or a whole commit"),
        ("hf://tiny", 2, "model.weights = 'hf://tiny': must read hf://owner/name or hf://owner/name@revision"),
    ],
)
def test_a_wrong_address_ends_a_command_with_one_line(
    hub_server: HubServer, tmp_path: Path, capfd: pytest.CaptureFixture[str], address: str, code: int, message: str
) -> None:
    given = options(tmp_path, address)
    for command in (["run"], ["run", "--dry-run"], ["check"]):
        assert main([*command, *given]) == code
        (line,) = [line for line in "".join(capfd.readouterr()).splitlines() if "hf://" in line]
        assert message in line
    assert not (tmp_path / "out" / "trial" / "work" / "stages").exists()


def test_every_node_of_a_cluster_is_asked_whether_it_gets_them(hub_server: HubServer, tmp_path: Path) -> None:
    storage.write_bytes(str(tmp_path / "driver"), b"")
    for address, problems in ((ADDRESS, 0), (f"{ADDRESS}@v2", 1)):
        found = look_from_node(str(tmp_path), "node", {"model.weights": (address, address)})
        assert found == [f"model.weights = {address}: has no revision v2; {REMEDY}"] * problems


def test_a_run_takes_up_what_was_made_from_the_hub_with_a_copy_in_a_folder(
    hub_server: HubServer, weights: Path, tmp_path: Path
) -> None:
    with Processes(tmp_path / "log", **hub_server.environment(tmp_path / "home")) as processes:

        def run(given: Sequence[str]) -> str:
            before = len(processes.log.read_text()) if processes.log.exists() else 0
            assert processes.start_program(["run", *given]).wait(300) == 0
            return processes.log.read_text()[before:]

        run(options(tmp_path, ADDRESS, **KEYS))
        folder = tmp_path / "out" / "trial"
        commit = hub_server.branches["owner/tiny", "main"]
        recorded = json.loads((folder / "run.json").read_text())
        assert recorded["config"]["model"]["weights"] == f"{ADDRESS}@{commit}"
        card = (folder / "model" / "README.md").read_text()
        assert "base_model: owner/tiny" in card and commit in card
        assert hub_server.downloads().count("model.safetensors") == 1, "one download a machine, whoever asks"
        hub_server.asked.clear()

        said = run(options(tmp_path, str(weights), **KEYS))
        assert said.count("done before, skipped") == len(recorded["stages"]) > 6
        assert not hub_server.asked
        assert (folder / "model" / "README.md").read_text() == card
