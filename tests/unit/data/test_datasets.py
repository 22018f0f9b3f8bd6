"""Queries and fabrics of every format: how their paths are spelled and found, on local disks and elsewhere."""

from __future__ import annotations

from pathlib import Path

import fsspec
import pytest

from retrieval_core.config.sections import DataConfig
from retrieval_core.data import datasets
from retrieval_core.data.datasets import DataError, Record
from retrieval_core.data.motif_boxes import load_motif_boxes


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


@pytest.fixture(autouse=True)
def _working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


# Manifests


def test_a_manifest_keeps_spelling_and_finds_queries_here_then_in_the_root(tmp_path: Path) -> None:
    touch(tmp_path, "here/q 1.png", "root/q 1.png", "root/q2.png")
    rows = ["bear,q 1.png\n", "\n", "owl,q2.png\r\n", ",gone.png\n", f" x;y ,{tmp_path}/abs.png\n", "owl,q2.png"]
    content = "\ufeffcategory , query_path\r\n" + "".join(rows)
    (tmp_path / "root/queries.csv").write_text(content, encoding="utf-8", newline="")
    (tmp_path / "root/fabrics.csv").write_text(
        'image_path,price,categories\n"a, b.png",1, owl;bear ;;owl\n/x/c.png,2,\n'
    )
    data = DataConfig(format="manifest", root="../root", queries="queries.csv", gallery="fabrics.csv")
    q2 = Record("q2.png", f"{tmp_path}/root/q2.png", ("owl",))
    assert list(datasets.iter_queries(data)) == [
        Record("q 1.png", f"{tmp_path}/here/q 1.png", ("bear",)),
        q2,
        Record("gone.png", f"{tmp_path}/root/gone.png"),
        Record(f"{tmp_path}/abs.png", f"{tmp_path}/abs.png", ("x;y",)),
        q2,
    ]
    assert list(datasets.iter_gallery(data)) == [
        Record("../root/a, b.png", f"{tmp_path}/root/a, b.png", ("bear", "owl")),
        Record("/x/c.png", "/x/c.png"),
    ]
    assert datasets.has_labels(data)


def test_without_a_root_paths_start_in_the_working_directory(tmp_path: Path) -> None:
    (tmp_path / "here/queries.csv").write_text("query_path\nq.png\n")
    (tmp_path / "here/fabrics.csv").write_text("image_path\nf/1.png\nf/1.png\n")
    data = DataConfig(format="manifest", queries="queries.csv", gallery="fabrics.csv")
    assert list(datasets.iter_queries(data)) == [Record("q.png", f"{tmp_path}/here/q.png")]
    assert list(datasets.iter_gallery(data)) == [Record("f/1.png", f"{tmp_path}/here/f/1.png")] * 2
    assert not datasets.has_labels(data)


def test_a_manifest_whose_labels_are_all_empty_has_none(tmp_path: Path) -> None:
    (tmp_path / "here/queries.csv").write_text("query_path,category\nq.png,bear\n")
    (tmp_path / "here/fabrics.csv").write_text("image_path,categories\nf.png,\n")
    assert not datasets.has_labels(DataConfig(format="manifest", queries="queries.csv", gallery="fabrics.csv"))


def test_a_training_split_unites_repeated_fabrics_and_names_missing_keys(tmp_path: Path) -> None:
    (tmp_path / "q.csv").write_text("query_path,category\nq.png,bear\nq.png,bear\n")
    (tmp_path / "f.csv").write_text("image_path,categories\nb.png,owl\na.png,\nb.png,bear\n")
    (tmp_path / "unlabelled.csv").write_text("image_path\nb.png\n")
    (tmp_path / "empty.csv").write_text("image_path,categories\n")
    data = DataConfig(
        format="manifest", root=str(tmp_path), train_queries="q.csv", train_gallery="f.csv", val_gallery="f.csv"
    )
    train = datasets.labelled_split(data, "train")
    assert [query.path for query in train.queries] == ["q.png", "q.png"]
    assert [(fabric.path, fabric.categories) for fabric in train.fabrics] == [
        (f"{tmp_path}/a.png", ()),
        (f"{tmp_path}/b.png", ("bear", "owl")),
    ]
    for change, split, message in [
        ({}, "validation", r"data.val_queries is not set"),
        (
            {"train_gallery": "gone.csv"},
            "train",
            rf"'gone.csv': nothing is at gone.csv or at {tmp_path}/gone.csv",
        ),
        ({"train_gallery": "unlabelled.csv"}, "train", r"unlabelled.csv: has no column categories"),
        (
            {"train_gallery": "empty.csv"},
            "train",
            r"has no fabric images .*data.train_gallery = 'empty.csv'",
        ),
        ({"format": "folder"}, "train", r"data.format = 'folder' has no labels"),
        ({"format": "published"}, "train", r"train_sub.txt: there is no such file"),
    ]:
        with pytest.raises(DataError, match=message):
            datasets.labelled_split(data.model_copy(update=change), split)


def test_training_data_is_there_when_every_file_or_key_is(tmp_path: Path) -> None:
    names = ["train_sub.txt", "Train_split.json", "val_sub.txt", "Validation_split.json"]
    data = DataConfig(root=str(tmp_path))
    for name in names:
        assert not datasets.has_training_data(data)
        touch(tmp_path, name)
    assert datasets.has_training_data(data)
    assert not datasets.has_training_data(data.model_copy(update={"format": "folder"}))
    keys = {}
    for key in ("train_queries", "train_gallery", "val_queries", "val_gallery"):
        assert not datasets.has_training_data(DataConfig(format="manifest", **keys))
        keys[key] = "x.csv"
    assert datasets.has_training_data(DataConfig(format="manifest", **keys))


# Folders


def test_a_folder_of_any_depth_is_a_gallery_and_its_spelling_stays(tmp_path: Path) -> None:
    touch(
        tmp_path,
        *(f"root/cloth/{name}" for name in ("b/2.JPG", "b/1.png", "a.webp", "notes.txt", ".x.png", ".h/9.png")),
    )
    touch(tmp_path, "root/cloth/ü ö.png", "root/cloth/folder.png/in.gif")
    data = DataConfig(format="folder", root="../root", gallery="cloth")
    names = ["a.webp", "b/1.png", "b/2.JPG", "folder.png/in.gif", "ü ö.png"]
    found = list(datasets.iter_gallery(data))
    assert found == [Record(f"../root/cloth/{name}", f"{tmp_path}/root/cloth/{name}") for name in names]
    touch(tmp_path, "here/cloth/first.png")
    assert [record.path for record in datasets.iter_gallery(data)] == ["cloth/first.png"]
    whole = DataConfig(format="folder", root=f"file://{tmp_path}/root")
    paths = [f"file://{tmp_path}/root/cloth/{name}" for name in names]
    assert [tuple(record) for record in datasets.iter_gallery(whole)] == [(path, path, (), (), None) for path in paths]
    assert not datasets.has_labels(data)


def test_queries_are_a_folder_an_image_or_a_list(tmp_path: Path) -> None:
    touch(tmp_path, "root/q/1.png", "root/q/0.png", "here/q.jpg")
    (tmp_path / "root/list.txt").write_text("\ufeffq/1.png\r\n\r\nq/gone file.png \r\nq.jpg", encoding="utf-8")
    spelled = {
        "q": ["../root/q/0.png", "../root/q/1.png"],
        "q/1.png": ["../root/q/1.png"],
        "q.jpg": ["q.jpg"],
        "list.txt": ["q/1.png", "q/gone file.png", "q.jpg"],
    }
    for source, paths in spelled.items():
        found = list(datasets.iter_queries(DataConfig(format="folder", root="../root", queries=source)))
        assert [record.path for record in found] == paths
    assert [record.location for record in found] == [
        f"{tmp_path}/root/q/1.png",
        f"{tmp_path}/root/q/gone file.png",
        f"{tmp_path}/here/q.jpg",
    ]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({}, "data.gallery is not set"),
        ({"gallery": "gone"}, "data.gallery = 'gone': nothing is at gone in /.*/here$"),
        ({"gallery": "file.txt"}, "data.gallery = 'file.txt' is not a folder"),
        ({"root": "gone"}, "data.root = 'gone' is not a folder"),
        (
            {"gallery": "empty"},
            "no image lies under empty; left out: 1 without an image suffix, such as 'notes.txt'$",
        ),
        ({"gallery": "bare"}, "the gallery is empty: no image lies under bare$"),
        ({"gallery": "more"}, "lies under more; left out: 2 without an image suffix, such as 'a.tx"),
        (
            {"format": "published", "root": "split"},
            "split/\\*\\*/test/img/images; check .*; left out: 1 without",
        ),
        ({"gallery": "nope://x/y"}, "nope://x/y: "),
        ({"format": "published", "root": "empty"}, "empty: no image lies under empty/\\*\\*/test/img/images"),
        ({"format": "published", "root": "gone"}, "gone: cannot be listed: No such file or directory"),
    ],
)
def test_a_gallery_that_is_not_there_is_an_error_that_names_it(
    tmp_path: Path, keys: dict[str, str], message: str
) -> None:
    touch(tmp_path, "here/file.txt", "here/empty/notes.txt", "here/more/a.txt", "here/more/b.txt")
    touch(tmp_path, "here/split/p/test/img/images/x.txt")
    (tmp_path / "here" / "bare").mkdir()
    with pytest.raises(DataError, match=message):
        list(datasets.iter_gallery(DataConfig(**{"format": "folder", **keys})))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({}, "data.queries is not set"),
        ({"queries": "table.csv"}, "table.csv' is a table, which is read with data.format=manifest"),
        ({"queries": "empty.txt"}, "there are no queries: nothing is in data.queries = 'empty.txt'"),
        ({"format": "published"}, "test.txt: there is no such file"),
    ],
)
def test_queries_that_are_not_there_are_an_error_that_names_them(
    tmp_path: Path, keys: dict[str, str], message: str
) -> None:
    touch(tmp_path, "here/table.csv", "here/empty.txt")
    with pytest.raises(DataError, match=message):
        list(datasets.iter_queries(DataConfig(**{"format": "folder", **keys})))


# Object stores


def test_a_url_is_read_like_a_folder(tmp_path: Path) -> None:
    root = "memory://bucket/data set"
    memory = fsspec.filesystem("memory")
    files = {
        "Set/test/img/images/a.b.png": b"",
        "Set/test/img/images/a.png": b"",
        "Set/train/img/images/z.png": b"",
        "test.txt": b"element img/1,x.png bear\nelsewhere/2,x.png owl\n",
        "TestAll_index.csv": b"bear,owl\na,a.b\n",
        "motif_boxes.csv": b"image_path,category,x0,y0,x1,y1\nSet/test/img/images/a.png,bear,-3,0,4,5\n",
        "table.csv": b"image_path,categories\nSet/test/img/images/a.png,x\n",
    }
    for name, content in files.items():
        memory.pipe(f"/bucket/data set/{name}", content)
    touch(tmp_path, "here/elsewhere/2,x.png")
    data = DataConfig(root=root)
    folder = f"{root}/Set/test/img/images"
    a = Record(f"{folder}/a.png", f"{folder}/a.png", ("bear",))
    a_b = Record(f"{folder}/a.b.png", f"{folder}/a.b.png", ("owl",))
    listed = list(datasets.iter_gallery(data))
    assert [record._replace(stamp=None) for record in listed] == [a_b, a]
    assert list(datasets.iter_gallery(data)) == listed
    memory.pipe("/bucket/data set/Set/test/img/images/a.png", b"changed")
    again = [record.stamp for record in datasets.iter_gallery(data)]
    assert again[0] == listed[0].stamp is not None
    assert again[1] != listed[1].stamp
    assert list(datasets.iter_queries(data)) == [
        Record("element img/1,x.png", f"{root}/element img/1,x.png", ("bear",)),
        Record("elsewhere/2,x.png", f"{tmp_path}/here/elsewhere/2,x.png", ("owl",)),
    ]
    assert load_motif_boxes(data) == {a.path: [("bear", (-3, 0, 4, 5))]}
    tree = [
        f"{root}/Set/{name}" for name in ("test/img/images/a.b.png", "test/img/images/a.png", "train/img/images/z.png")
    ]
    as_folder = list(datasets.iter_gallery(DataConfig(root=root, format="folder")))
    assert [record.path for record in as_folder] == tree
    assert None not in {record.stamp for record in as_folder}
    table = DataConfig(root=root, format="manifest", gallery="table.csv")
    assert list(datasets.iter_gallery(table)) == [a._replace(categories=("x",))]
    memory.rm("/bucket", recursive=True)
