"""A data set with every fault shows every fault at once; a sound one shows none; nothing crashes the check."""

from __future__ import annotations

import json
import os
from pathlib import Path

import fsspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval_core.config.sections import DataConfig
from retrieval_core.data import datasets
from retrieval_core.data.check import Problem, check_data
from retrieval_core.data.datasets import DataError
from retrieval_core.data.motif_boxes import load_motif_boxes


def write(root: Path, **files: str) -> None:
    for name, content in files.items():
        (root / name.replace("__", ".")).write_text(content)


def images(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def by_kind(problems: list[Problem]) -> dict[tuple[str, str], Problem]:
    return {(problem.severity, problem.kind): problem for problem in problems}


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    """A published data set without a fault: two motifs a split, a query and a fabric each."""
    for number, (split, query_list, split_file) in enumerate(
        [
            ("train", "train_sub.txt", "Train_split.json"),
            ("validation", "val_sub.txt", "Validation_split.json"),
            ("test", "test.txt", "Test_split.json"),
        ]
    ):
        ids = [2 * number, 2 * number + 1]
        queries = [f"element img/{i},motif {i}.png" for i in ids]
        images(tmp_path, *queries, *(f"Set/{split}/img/images/{i}.png" for i in ids))
        (tmp_path / query_list).write_text(
            "".join(f"{query} motif {i}\n" for query, i in zip(queries, ids, strict=True))
        )
        (tmp_path / split_file).write_text(json.dumps([[i, str(i), i, f"motif {i}"] for i in ids]))
    write(tmp_path, Test_element__csv="4.png,motif 4\n5.png,motif 5\n", TestAll_index__csv="motif 4,motif 5\n4,5\n")
    write(tmp_path, motif_boxes__csv="image_path,category,x0,y0,x1,y1\nSet/train/img/images/0.png,motif 0,0,0,9,9\n")
    return tmp_path


def test_a_sound_data_set_has_no_problem(sound: Path) -> None:
    problems, counts = check_data(DataConfig(root=str(sound)), training=True)
    assert problems == []
    assert counts == {
        f"{split}.{what}": 2
        for split in ("test", "train", "validation")
        for what in ("queries", "fabrics", "categories")
    }
    problems, counts = check_data(DataConfig(root=str(sound), gallery_split="train"), training=False)
    assert problems == []
    assert counts == {"train.queries": 2, "train.fabrics": 2, "train.categories": 2}


def test_every_fault_of_the_published_layout_is_found_at_once(sound: Path) -> None:
    fabrics = "Set/test/img/images"
    images(sound, *(f"{fabrics}/{name}" for name in ("8.png", "8.x.png", "sub/5.jpg", "readme.md", "bare.png")))
    with open(os.fsencode(sound / fabrics) + b"/\xe9.png", "wb"):  # noqa: PTH123
        pass
    images(
        sound, "element img/5,other.png", "element img/6,unknown.png", "element img/7,lonely.png", "element img/8.png"
    )
    queries = ["5,motif 5", "5,other", "4,motif 4", "4,motif 4", "6,unknown", "7,lonely", "8", "9,gone"]
    lines = [f"element img/{name}.png ignored\n" for name in queries]
    (sound / "test.txt").write_text("".join([*lines, "no image in this line\n"]))
    classes = [(4, "motif 4"), (5, "motif 5"), (6, "unkown"), (7, "lonely"), (9, "motif 5")]
    (sound / "Test_element.csv").write_text("".join(f"{number}.png,{name}\n" for number, name in classes) + "bad row\n")
    (sound / "TestAll_index.csv").write_text(
        "motif 4,motif 5,lonely\n4,5,missing\n8,8.x\n,,,stray\né,,\n", encoding="utf-8"
    )
    (sound / "Validation_split.json").write_text(json.dumps([[0, "2", 2, "motif 2"], [1, "3", 1, "motif 0"], [2]]))
    (sound / "Train_split.json").write_text(
        json.dumps([[0, "0", 0, "motif 0"], [1, "1", 1, "motif 1"], [2, "77", 1, "motif 1"]])
    )
    (sound / "motif_boxes.csv").write_text(
        "image_path,category,x0,y0,x1,y1\nelsewhere/0.png,motif 0,0,0,9,9\na.png,b,1,1,1,1\n"
    )
    problems, counts = check_data(DataConfig(root=str(sound)), training=True)
    found = by_kind(problems)
    expected = {
        ("error", "malformed"): 5,  # a line, a row, a cell, an item, a box
        ("warning", "missing-query"): 1,
        ("warning", "duplicate-query"): 1,
        ("warning", "duplicate-query-id"): 1,
        ("warning", "query-without-class"): 1,
        ("warning", "query-without-relevant"): 3,
        ("warning", "unknown-category"): 2,
        ("warning", "fabric-without-label"): 2,
        ("warning", "label-without-image"): 3,
        ("warning", "duplicate-fabric-id"): 1,
        ("warning", "colliding-fabric-id"): 1,
        ("warning", "name-not-utf8"): 1,
        ("warning", "ignored-file"): 1,
        ("warning", "shared-categories"): 1,
        ("warning", "boxes-without-image"): 1,
    }
    assert {key: problem.count for key, problem in found.items()} == expected
    assert [problem.severity for problem in problems] == ["error"] + ["warning"] * 14
    assert "element img/9,gone.png" in found["warning", "missing-query"].examples[0]
    assert found["warning", "colliding-fabric-id"].examples == ("test: 8.png and 8.x.png",)
    assert found["warning", "unknown-category"].examples == ("test: unkown", "validation: motif 3")
    assert found["warning", "shared-categories"].examples == ("motif 0 (train and validation)",)
    assert found["warning", "label-without-image"].examples == ("test: missing", "test: é", "train: 77")
    assert all(problem.remedy and 1 <= len(problem.examples) <= 5 for problem in problems)
    assert counts["test.queries"] == 8
    assert counts["test.fabrics"] == 7


def test_examples_are_five_but_everything_is_counted(sound: Path) -> None:
    with (sound / "test.txt").open("a") as file:
        file.writelines(f"element img/{number},gone.png x\n" for number in range(100, 140))
    problems, _ = check_data(DataConfig(root=str(sound)), training=False)
    assert {(problem.kind, problem.count, len(problem.examples)) for problem in problems} == {
        ("missing-query", 40, 5),
        ("query-without-class", 40, 5),
    }


@pytest.mark.parametrize(
    ("remove", "training", "errors"),
    [
        (["test.txt"], False, {"missing-file", "no-queries"}),
        (["train_sub.txt"], True, {"missing-file", "no-queries"}),
        (["train_sub.txt"], False, set()),
        (["Train_split.json"], True, {"missing-file", "no-labels"}),
        (["val_sub.txt"], True, {"missing-file", "no-queries"}),
        (["val_sub.txt"], False, set()),
        (["TestAll_index.csv", "Test_split.json"], True, set()),
        (["Set/test/img/images/4.png", "Set/test/img/images/5.png"], False, {"no-gallery"}),
        (["Set/train/img/images/0.png", "Set/train/img/images/1.png"], True, {"no-gallery"}),
        (["element img/4,motif 4.png", "element img/5,motif 5.png"], False, {"no-queries"}),
    ],
)
def test_errors_are_what_makes_a_run_pointless(
    sound: Path, remove: list[str], training: bool, errors: set[str]
) -> None:
    for name in remove:
        (sound / name).unlink()
    data = DataConfig(root=str(sound))
    problems, _ = check_data(data, training=training)
    assert {problem.kind for problem in problems if problem.severity == "error"} == errors
    # What is no error here must not stop the run either.
    if not errors:
        assert list(datasets.iter_gallery(data)) and list(datasets.iter_queries(data))
        assert not training or datasets.labelled_split(data, "train")


def test_a_data_set_without_labels_has_one_problem_not_one_for_each_image(sound: Path) -> None:
    for name in ("TestAll_index.csv", "Test_split.json"):
        (sound / name).unlink()
    problems, _ = check_data(DataConfig(root=str(sound)), training=False)
    assert [(problem.severity, problem.kind, problem.examples) for problem in problems] == [
        ("warning", "no-labels", ("test: none of the fabrics has a category",))
    ]


def test_manifests_are_checked_against_the_disk(tmp_path: Path) -> None:
    images(tmp_path, "q.png", "f.png", "g.png")
    write(
        tmp_path,
        queries__csv="query_path,category\nq.png,bear\nno.png,bear\nq.png,\n",
        fabrics__csv="image_path,categories\nf.png,bear\ng.png,\nf.png,owl\ngone.png,owl\ntoo,many,cells\n",
        train__csv="image_path,categories\nf.png,owl\n",
    )
    keys = {"root": str(tmp_path), "format": "manifest", "queries": "queries.csv", "gallery": "fabrics.csv"}
    problems, counts = check_data(DataConfig(**keys), training=False)
    assert {(problem.severity, problem.kind): problem.count for problem in problems} == {
        ("error", "malformed"): 1,
        ("warning", "duplicate-fabric"): 1,
        ("warning", "missing-fabric"): 1,
        ("warning", "missing-query"): 1,
        ("warning", "duplicate-query"): 1,
        ("warning", "fabric-without-label"): 1,
        ("warning", "query-without-class"): 1,
    }
    assert counts == {"test.queries": 3, "test.fabrics": 4, "test.categories": 2}
    trained = DataConfig(**keys, train_queries="queries.csv", train_gallery="train.csv", val_queries="gone.csv")
    found = by_kind(check_data(trained, training=True)[0])
    assert found["error", "no-labels"].examples == ("train: no fabric holds the category of any query",)
    assert found["warning", "shared-categories"].count == 2
    assert found["error", "unset-key"].examples[0].startswith("data.val_gallery is not set")
    assert "gone.csv" in found["error", "missing-file"].examples[0]


def test_a_folder_has_no_labels_to_miss_but_none_to_train_with(tmp_path: Path) -> None:
    images(tmp_path, "cloth/a/1.png", "cloth/b/1.png", "cloth/Thumbs.db", "q/1.png")
    data = DataConfig(format="folder", gallery=f"{tmp_path}/cloth", queries=f"{tmp_path}/q")
    problems, counts = check_data(data, training=False)
    assert [(problem.severity, problem.kind, problem.examples) for problem in problems] == [
        ("warning", "ignored-file", ("test: Thumbs.db",))
    ]
    assert counts == {"test.queries": 1, "test.fabrics": 2, "test.categories": 0}
    assert check_data(data, training=True)[0][0].kind == "no-labels"
    assert by_kind(check_data(DataConfig(format="folder"), training=False)[0])["error", "unset-key"].count == 2


def test_images_on_an_object_store_are_looked_for() -> None:
    memory = fsspec.filesystem("memory")
    for name, content in {
        "f.csv": b"image_path,categories\n" + b"".join(b"%d.png,bear\n" % number for number in range(3000)),
        "q.csv": b"query_path,category\n0.png,bear\n",
        "0.png": b"",
        "2999.png": b"",
    }.items():
        memory.pipe(f"/check/{name}", content)
    data = DataConfig(root="memory://check", format="manifest", queries="q.csv", gallery="f.csv")
    problems, counts = check_data(data, training=False)
    assert [(problem.kind, problem.count) for problem in problems] == [("missing-fabric", 2998)]
    assert problems[0].examples[0] == "test: memory://check/1.png"
    assert counts["test.fabrics"] == 3000
    memory.rm("/check", recursive=True)


@pytest.mark.parametrize("form", ["published", "manifest", "folder"])
def test_a_store_that_cannot_be_opened_is_an_error_like_any_other(form: str) -> None:
    data = DataConfig.model_validate({"root": "nope://x", "format": form, "queries": "q", "gallery": "g"})
    found = by_kind(check_data(data, training=True)[0])
    assert "nope://x" in found["error", "missing-file"].examples[0]
    for read in (datasets.iter_gallery, datasets.iter_queries):
        with pytest.raises(DataError, match="nope://x"):
            list(read(data))


PIECES = [
    *',"\n\r;. []0',
    "4",
    "5",
    ".png",
    ".png ",
    "element img/4,motif 4.png",
    "motif 4",
    "[[0,",
    ' "4", 4, "m"]]',
    "é",
]
FILES = ["test.txt", "Test_element.csv", "TestAll_index.csv", "Train_split.json", "motif_boxes.csv", "val_sub.txt"]


@settings(max_examples=50)
@given(st.data())
def test_the_check_never_crashes_and_tells_what_would_stop_a_run(sound: Path, draw: st.DataObject) -> None:
    text = st.lists(st.sampled_from(PIECES), max_size=30).map(lambda parts: "".join(parts).encode())
    for name in draw.draw(st.lists(st.sampled_from(FILES), min_size=1, unique=True)):
        (sound / name).write_bytes(draw.draw(text | st.binary(max_size=40)))
    data = DataConfig(root=str(sound))
    problems, _ = check_data(data, training=True)
    try:
        list(datasets.iter_queries(data))
        list(datasets.iter_gallery(data))
        datasets.labelled_split(data, "train")
        datasets.labelled_split(data, "validation")
        load_motif_boxes(data)
    except DataError as error:
        assert [problem for problem in problems if problem.severity == "error"], error


def test_one_file_under_several_names_is_told(tmp_path: Path) -> None:
    images(tmp_path, "cloth/2024/a.png", "cloth/2024/b.png", "q/1.png", "cloth/.c.png", "cloth/@eaDir/a.png/thumb.jpg")
    (tmp_path / "cloth/latest").symlink_to("2024")
    (tmp_path / "cloth/copy.png").hardlink_to(tmp_path / "cloth/2024/a.png")
    (tmp_path / "cloth/gone.png").symlink_to("nowhere.png")
    (tmp_path / "q/2.png").symlink_to("../cloth/2024/a.png")  # a fabric may be a query as well
    data = DataConfig(format="folder", gallery=f"{tmp_path}/cloth", queries=f"{tmp_path}/q")
    found = by_kind(check_data(data, training=False)[0])
    assert {kind: problem.examples for (_, kind), problem in found.items()} == {
        "hidden-file": ("test: .c.png",),
        "excluded-file": ("test: @eaDir",),
        "linked-file": ("test: latest",),
        "same-file": (f"test: {tmp_path}/cloth/copy.png",),
        "missing-fabric": (f"test: {tmp_path}/cloth/gone.png (is a link that leads nowhere)",),
    }
    write(tmp_path, q__csv="query_path,category\nq/1.png,a\nq/../q/1.png,a\n")
    rows = ["cloth/2024/a.png,a", "./cloth//2024/a.png,a", f"{tmp_path}/cloth/latest/a.png,a", "cloth/2024\\b.png,a"]
    write(tmp_path, f__csv="image_path,categories\n" + "\n".join(rows))
    data = DataConfig(format="manifest", root=str(tmp_path), gallery="f.csv", queries="q.csv")
    found = by_kind(check_data(data, training=False)[0])
    assert {kind: problem.examples for (_, kind), problem in found.items()} == {
        "duplicate-fabric": (f"test: {tmp_path}/cloth/2024/a.png",),
        "same-file": (f"test: {tmp_path}/cloth/latest/a.png", "test: q/../q/1.png"),
        "missing-fabric": (f"test: {tmp_path}/cloth/2024\\b.png (is there as {tmp_path}/cloth/2024/b.png)",),
    }


def test_a_pointer_in_place_of_an_image_is_told(tmp_path: Path) -> None:
    images(tmp_path, "cloth/a.png", "q/1.png", "q/2.png")
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 48213\n"
    for name in ("cloth/a.png", "q/2.png"):
        (tmp_path / name).write_text(pointer)
    (tmp_path / "q/1.png").write_bytes(bytes(130))
    data = DataConfig(format="folder", gallery=f"{tmp_path}/cloth", queries=f"{tmp_path}/q")
    (problem,), _ = check_data(data, training=False)
    assert (problem.kind, problem.examples) == (
        "git-lfs-pointer",
        (f"test: {tmp_path}/cloth/a.png", f"test: {tmp_path}/q/2.png"),
    )


@pytest.mark.parametrize("name", ["TestAll_index.csv", "Test_element.csv", "Test_split.json", "test.txt"])
def test_a_label_file_of_another_format_is_named(sound: Path, name: str) -> None:
    (sound / name).write_bytes(b"\x1f\x8b\x08\0")
    if name == "Test_split.json":
        (sound / "TestAll_index.csv").unlink()
    found = by_kind(check_data(DataConfig(root=str(sound)), training=False)[0])
    assert f"{sound}/{name}: is a gzip file, not " in found["error", "other-format"].examples[0]
    assert found["error", "other-format"].examples[0].endswith(f"unpack it: gunzip -k {sound}/{name}")


def test_a_label_names_the_image_that_is_spelt_otherwise(sound: Path) -> None:
    images(sound, "Set/test/img/images/Bl\u00fcte.png")
    write(sound, TestAll_index__csv="motif 4,motif 5\n4,5\nBlu\u0308te,\nbl\u00fcte.PNG,\n")
    found = by_kind(check_data(DataConfig(root=str(sound)), training=False)[0])
    assert found["warning", "label-without-image"].examples == (
        "test: Blu\u0308te (there is Bl\u00fcte.png)",
        "test: bl\u00fcte.PNG (there is Bl\u00fcte.png)",
    )
