"""The data set as files: complete, consistent, and the same bytes however it is drawn."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from retrieval_core.config.sections import SimulateConfig
from retrieval_core.simulation import dataset
from retrieval_core.simulation.cloth import print_cell
from retrieval_core.simulation.dataset import draw_fabric, is_complete, plan_dataset, simulate, write_lists, write_range

SMALL = SimulateConfig(
    train_motifs=6,
    val_motifs=3,
    test_motifs=4,
    train_fabrics=9,
    val_fabrics=4,
    test_fabrics=6,
    fabric_size=48,
    query_size=24,
    photographed=0.3,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("simulated") / "data"
    summary = simulate(SMALL, 7, str(folder))
    assert summary == (str(folder), 13, 19, 26, True)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def query_lines(folder: Path, name: str) -> list[tuple[str, str]]:
    lines = (folder / name).read_text().splitlines()
    return [(line.split(".png ")[0] + ".png", line.split(".png ")[1]) for line in lines]


def test_every_listed_query_is_there_and_no_other(folder):
    listed = {name: query_lines(folder, name) for name in ("train_sub.txt", "val_sub.txt", "test.txt")}
    assert [len(lines) for lines in listed.values()] == [12, 6, 8]
    paths = [path for lines in listed.values() for path, _ in lines]
    assert sorted(paths) == sorted(f"element img/{p.name}" for p in (folder / "element img").iterdir())
    for lines in listed.values():
        for path, category in lines:
            assert path.split(",", 1)[1] == f"{category}.png"
            with Image.open(folder / path) as image:
                assert (image.size, image.mode) == ((24, 24), "RGB")
                corner = np.asarray(image)[[0, 0, -1, -1], [0, -1, 0, -1]]
            assert (corner == 255).all()


def test_splits_share_no_motif_and_no_number(folder):
    categories, fabrics = [], []
    for name, lists in (("train", "train_sub.txt"), ("validation", "val_sub.txt"), ("test", "test.txt")):
        categories.append({category for _, category in query_lines(folder, lists)})
        images = folder / "SimulatedPrintedFabrics" / name / "img" / "images"
        fabrics.append({p.name for p in images.iterdir()})
    assert [len(c) for c in categories] == [6, 3, 4]
    assert len(set.union(*categories)) == 13
    assert [len(f) for f in fabrics] == [9, 4, 6]
    assert len(set.union(*fabrics)) == 19


@pytest.mark.parametrize(
    ("name", "split", "lists"),
    [
        ("Train_split.json", "train", "train_sub.txt"),
        ("Validation_split.json", "validation", "val_sub.txt"),
        ("Test_split.json", "test", "test.txt"),
    ],
)
def test_split_files_agree_with_queries_and_boxes(folder, name, split, lists):
    of_query = {path.split("/")[1].split(",")[0]: category for path, category in query_lines(folder, lists)}
    rows = list(csv.DictReader((folder / "motif_boxes.csv").open(newline="")))
    items = json.loads((folder / name).read_text())
    images = folder / "SimulatedPrintedFabrics" / split / "img" / "images"
    assert [item[0] for item in items] == list(range(len(items)))
    assert {f"{item[1]}.png" for item in items} == {p.name for p in images.iterdir()}
    shown = set()
    for _, fabric, *labels in items:
        half = len(labels) // 2
        ids, categories = labels[:half], labels[half:]
        assert [of_query[str(i)] for i in ids] == categories
        path = f"SimulatedPrintedFabrics/{split}/img/images/{fabric}.png"
        assert {row["category"] for row in rows if row["image_path"] == path} == set(categories)
        shown |= set(categories)
    assert shown == set(of_query.values())  # every query has a fabric to find


def test_test_tables_agree_with_the_split_file(folder):
    with (folder / "Test_element.csv").open(newline="") as file:
        elements = list(csv.reader(file))
    assert elements == [[p.split("/")[1].split(",")[0] + ".png", c] for p, c in query_lines(folder, "test.txt")]
    with (folder / "TestAll_index.csv").open(newline="") as file:
        header, *rows = list(csv.reader(file))
    assert all(len(row) == len(header) for row in rows)
    expected: dict[str, list[str]] = {category: [] for category in header}
    for _, fabric, *labels in json.loads((folder / "Test_split.json").read_text()):
        for category in labels[len(labels) // 2 :]:
            expected[category].append(fabric)
    assert {c: [row[i] for row in rows if row[i]] for i, c in enumerate(header)} == expected


def test_boxes_lie_in_their_images_in_order(folder):
    with (folder / "motif_boxes.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["image_path", "category", "x0", "y0", "x1", "y1"]
    for row in rows:
        x0, y0, x1, y1 = (int(row[key]) for key in ("x0", "y0", "x1", "y1"))
        assert 0 <= x0 < x1 <= 48
        assert 0 <= y0 < y1 <= 48
        assert (folder / row["image_path"]).is_file()
    numbers = [int(Path(row["image_path"]).stem) for row in rows]
    assert numbers == sorted(numbers)


def test_same_seed_same_bytes_in_any_order_of_ranges(folder, tmp_path):
    plan = plan_dataset(SMALL, 7)
    assert not is_complete(str(tmp_path), SMALL, 7)
    assert contents(tmp_path) == {}  # asking writes nothing
    boxes = []
    for start in reversed(range(0, plan.items, 7)):
        boxes += write_range(plan, str(tmp_path), start, start + 7)
    write_lists(plan, str(tmp_path), boxes)
    assert contents(tmp_path) == contents(folder)
    assert is_complete(str(tmp_path), SMALL, 7)


def test_another_seed_gives_other_pictures(folder, tmp_path):
    simulate(SMALL, 8, str(tmp_path))
    assert contents(tmp_path)["test.txt"] != contents(folder)["test.txt"]


def test_a_fabric_does_not_depend_on_how_many_there_are():
    few = plan_dataset(SMALL, 7)
    more = plan_dataset(SMALL.model_copy(update={"train_fabrics": 30, "train_motifs": 12}), 7)
    for i in range(6):
        left = draw_fabric(few, few.splits[2].first_fabric + i)
        right = draw_fabric(more, more.splits[2].first_fabric + i)
        assert np.array_equal(left.pixels, right.pixels)
        assert [row[1:] for row in left.boxes] == [row[1:] for row in right.boxes]


def test_every_fourth_fabric_is_the_design_before_it_in_other_colours(monkeypatch):
    plan = plan_dataset(SMALL.model_copy(update={"photographed": 0.0}), 7)
    printed = []

    def print_and_note(design, colours, ground):
        printed.append((design, ground.bit_generator.state))
        return print_cell(design, colours, ground)

    monkeypatch.setattr(dataset, "print_cell", print_and_note)
    for split in plan.splits:
        assert split.fabrics[3] == split.fabrics[2]
        first, second = draw_fabric(plan, split.first_fabric + 2), draw_fabric(plan, split.first_fabric + 3)
        assert not np.array_equal(first.pixels, second.pixels)
        assert printed[-2] == printed[-1]


def test_photographed_share():
    plain = plan_dataset(SMALL.model_copy(update={"photographed": 0.0}), 7)
    photos = plan_dataset(SMALL.model_copy(update={"photographed": 1.0}), 7)
    for i in range(8):
        assert not np.array_equal(draw_fabric(plain, i).pixels, draw_fabric(photos, i).pixels)


def test_finished_folder_is_left_alone(folder):
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*")}
    assert not simulate(SMALL, 7, str(folder)).drawn
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("*")} == before


def test_interrupted_or_damaged_folder_is_gone_on_with(folder, tmp_path):
    plan = plan_dataset(SMALL, 7)
    write_range(plan, str(tmp_path), 0, 5)
    assert not is_complete(str(tmp_path), SMALL, 7)
    with pytest.raises(ValueError, match="seed 7 instead of 8"):
        is_complete(str(tmp_path), SMALL, 8)
    assert simulate(SMALL, 7, str(tmp_path)).drawn
    (tmp_path / "element img" / next(iter((tmp_path / "element img").iterdir())).name).unlink()
    assert simulate(SMALL, 7, str(tmp_path)).drawn
    assert contents(tmp_path) == contents(folder)


def test_folder_with_other_parameters_is_refused(folder):
    with pytest.raises(ValueError, match=r"seed 7 instead of 8.*simulate\.output"):
        simulate(SMALL, 8, str(folder))
    with pytest.raises(ValueError, match="test_fabrics 6 instead of 5"):
        simulate(SMALL.model_copy(update={"test_fabrics": 5}), 7, str(folder))


def test_folder_of_somebody_else_is_refused_and_untouched(tmp_path):
    (tmp_path / "holiday.png").write_bytes(b"sea")
    with pytest.raises(ValueError, match=r"holiday\.png.*simulate\.output"):
        simulate(SMALL, 7, str(tmp_path))
    assert contents(tmp_path) == {"holiday.png": b"sea"}


def test_impossible_plans_are_refused():
    with pytest.raises(ValueError, match=r"train_motifs \+ val_motifs \+ test_motifs = 100007.*ask for fewer"):
        plan_dataset(SMALL.model_copy(update={"train_motifs": 100_000}), 0)
    with pytest.raises(ValueError, match=r"simulate\.val_fabrics = 4 cannot show simulate\.val_motifs = 21"):
        plan_dataset(SMALL.model_copy(update={"val_motifs": 21}), 0)


def test_few_fabrics_show_many_motifs():
    plan = plan_dataset(SMALL.model_copy(update={"test_motifs": 24, "test_fabrics": 6}), 0)
    assert {motif for shown in plan.splits[2].fabrics for motif in shown} == set(range(24))


def test_motifs_are_shown_equally_often():
    plan = plan_dataset(SMALL.model_copy(update={"test_motifs": 10, "test_fabrics": 200}), 0)
    assert all(len(set(shown)) == len(shown) for shown in plan.splits[2].fabrics)
    shown = np.bincount([m for i, f in enumerate(plan.splits[2].fabrics) if i % 4 != 3 for m in f], minlength=10)
    assert shown.max() - shown.min() <= 2
