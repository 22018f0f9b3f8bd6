"""What a run says of labels that do not meet and of one file under several names."""

from __future__ import annotations

from pathlib import Path

import pytest

from ray_jobs.__main__ import main
from tests.jobs.small_data import as_options, settings, write_png


def messages(folder: Path) -> list[str]:
    latest = max((folder / "work" / "logs").glob("*-run-*.txt"))
    return [line.partition("fabric_retrieval: ")[2] for line in latest.read_text().splitlines()]


@pytest.fixture
def options(ray_cluster: None, weights: Path, tmp_path: Path) -> list[str]:
    for number in range(4):
        write_png(tmp_path / f"cloth/{number}.png", number)
    (tmp_path / "cloth/same.png").hardlink_to(tmp_path / "cloth/0.png")
    (tmp_path / "cloth/old").mkdir()
    (tmp_path / "cloth/old/1.png").symlink_to("../1.png")
    rows = [
        "cloth/0.png,1",
        "./cloth//0.png,3|4",
        "cloth/same.png,",
        "cloth/1.png,",
        "cloth/old/1.png,",
        "cloth/2.png,",
    ]
    (tmp_path / "g.csv").write_text("\n".join(["image_path,categories", *rows]))
    (tmp_path / "q.csv").write_text("query_path,category\ncloth/0.png,1.0\ncloth/1.png,3\n")
    keys = {"data__format": "manifest", "data__gallery": "g.csv", "data__queries": "q.csv"}
    return as_options(settings(tmp_path, weights, tmp_path / "out", **keys))


def test_a_run_says_what_no_fabric_answers_and_which_file_is_there_twice(options: list[str], tmp_path: Path) -> None:
    unmet = [
        "evaluate: no fabric answers 2 of 2 queries, which enter no figure; no fabric holds '1.0', '3'",
        "evaluate: queries say '1.0', fabrics '1': write them alike; "
        "'3|4' of the fabrics looks like several, one of them '3': write ; between them",
    ]
    assert main(["run", *options]) == 0
    said = messages(tmp_path / "out" / "trial")
    assert [line for line in said if line.startswith("evaluate: ") and ("fabrics" in line or "quer" in line)] == unmet
    assert not any("mAP" in line for line in said)
    assert (
        "gallery: 5 images, 5 embedded, 2 of them the same file as another under another name; left out: 1 listed twice"
    ) in said
    assert main(["run", *options]) == 0  # evaluated before, and told again
    assert [line for line in messages(tmp_path / "out" / "trial") if line in unmet] == unmet


def test_a_folder_says_what_it_left_out(options: list[str], tmp_path: Path) -> None:
    for name in (".hidden.png", "@eaDir/0.png/thumb.jpg", "notes.txt"):
        (tmp_path / "cloth" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "cloth" / name).touch()
    folder = [f"data.gallery={tmp_path}/cloth", f"data.queries={tmp_path}/cloth/0.png", "data.format=folder"]
    assert main(["run", *options, *(word for key in folder for word in ("--set", key))]) == 0
    assert (
        "gallery: 5 images, 5 embedded, 1 of them the same file as another under another name; left out: "
        "1 without an image suffix, 1 hidden, 1 by data.exclude, 1 links to images listed anyway"
    ) in messages(tmp_path / "out" / "trial")
