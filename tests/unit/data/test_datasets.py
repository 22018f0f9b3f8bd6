"""Manifests, folders and lists; how paths are spelled and found, on local disks and elsewhere."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.csv
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval_core.config.sections import DataConfig
from retrieval_core.data import datasets, manifests
from retrieval_core.data.datasets import DataError, Record
from retrieval_core.data.image_tree import walk_images
from retrieval_core.files import storage, tables

FEW = settings(max_examples=50)


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


def test_parquet_reads_as_csv_does(tmp_path: Path) -> None:
    rows = [
        {"image_path": f"{n}.png", "categories": ["", "bear", "bear;owl"][n % 3], "extra": n} for n in range(20_000)
    ]
    table = pa.Table.from_pylist(rows)
    tables.write_table(f"{tmp_path}/fabrics.parquet", table, row_group_size=7_000)
    pyarrow.csv.write_csv(table, f"{tmp_path}/fabrics.csv")
    half = len(table) // 2
    tables.write_table(f"{tmp_path}/parts/part-0.parquet", table.slice(0, half))
    tables.write_table(f"{tmp_path}/parts/part-1.parquet", table.slice(half))
    (tmp_path / "parts/_SUCCESS").touch()
    read = {
        source: list(datasets.iter_gallery(DataConfig(format="manifest", root=str(tmp_path), gallery=source)))
        for source in ("fabrics.csv", "fabrics.parquet", "parts")
    }
    assert read["fabrics.csv"] == read["fabrics.parquet"] == read["parts"]
    assert read["parts"][-1] == Record(f"{tmp_path}/19999.png", f"{tmp_path}/19999.png", ("bear",))


def test_parquet_categories_may_be_lists_numbers_or_null(tmp_path: Path) -> None:
    for number, (column, expected) in enumerate(
        [
            (pa.array([["owl", "bear"], None, []]), [("bear", "owl"), (), ()]),
            (pa.array([7, None, 12]), [("7",), (), ("12",)]),
            (pa.array(["a;b", None, "a"]).dictionary_encode(), [("a", "b"), (), ("a",)]),
        ]
    ):
        source = str(tmp_path / f"{number}.parquet")
        tables.write_table(source, pa.table({"image_path": ["1.png", "2.png", "3.png"], "categories": column}))
        data = DataConfig(format="manifest", gallery=source)
        assert [record.categories for record in datasets.iter_gallery(data)] == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("path,categories\na,b\n", "no column image_path; columns found: path, categories; needed: image_path"),
        ("", "no column image_path; columns found: none"),
        ("image_path,image_path\na,b\n", "has the column image_path twice"),
        ("image_path,categories\na.png,b\nc.png\n", "line 3 has 1 cells where the header has 2"),
        ('image_path,categories\na.png,"b\nc.png,d\n', "is not valid CSV"),
        ("image_path,categories\n,b\n", "line 2: image_path is ''"),
        ("image_path,categories\na\0.png,b\n", "line 2 holds a zero byte"),
        ("image_path\rx.png\r", "is not valid CSV"),
    ],
)
def test_a_faulty_csv_manifest_names_file_and_line(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "fabrics.csv").write_text(content, newline="")
    with pytest.raises(DataError) as caught:
        list(datasets.iter_gallery(DataConfig(format="manifest", gallery=str(tmp_path / "fabrics.csv"))))
    assert message in str(caught.value)
    assert "fabrics.csv" in str(caught.value)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (pa.table({"path": ["a.png"]}), "no column image_path; columns found: path"),
        (pa.table({"image_path": ["a.png", None]}), "row 2: image_path is None"),
        (pa.table({"image_path": ["a.png"], "categories": [1.5]}), "row 1: categories is 1.5"),
        (pa.table({"image_path": [b"a.png"]}), "row 1: image_path is b'a.png'"),
        (pa.table({"image_path": ["a\0.png"]}), "row 1: image_path is 'a\\x00.png'"),
        (None, "cannot be read as Parquet"),
    ],
)
def test_a_faulty_parquet_manifest_names_file_and_row(tmp_path: Path, table: pa.Table | None, message: str) -> None:
    source = tmp_path / "fabrics.parquet"
    if table is None:
        source.write_bytes(b"PAR1 and nothing else")
    else:
        tables.write_table(str(source), table)
    with pytest.raises(DataError) as caught:
        list(datasets.iter_gallery(DataConfig(format="manifest", gallery=str(source))))
    assert message in str(caught.value)
    assert "fabrics.parquet" in str(caught.value)


@FEW
@given(
    rows=st.lists(
        st.tuples(
            st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1).filter(lambda text: text.strip()),
            st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters=";")), max_size=3),
        ),
        min_size=1,
    )
)
def test_any_manifest_comes_back_as_it_was_written(tmp_path: Path, rows: list[tuple[str, list[str]]]) -> None:
    with (tmp_path / "fabrics.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["image_path", "categories"])
        writer.writerows([path, ";".join(labels)] for path, labels in rows)
    read = list(manifests.manifest_rows(str(tmp_path / "fabrics.csv"), manifests.FABRICS))
    assert read == [(path.strip(), tuple(x.strip() for x in labels if x.strip())) for path, labels in rows]


@FEW
@given(
    content=st.binary(max_size=200).map(lambda tail: b"PAR1" + tail)
    | st.lists(st.sampled_from([*'"\n\r,;\0', "query_path", "category", "a", "\ufeff", "é"]), max_size=40).map(
        lambda parts: b"query_path,category\n" + "".join(parts).encode()
    )
    | st.binary(max_size=200)
)
def test_no_content_of_a_table_raises_anything_but_a_data_error(tmp_path: Path, content: bytes) -> None:
    path = str(tmp_path / "table")
    Path(path).write_bytes(content)
    (tmp_path / "motif_boxes.csv").write_bytes(
        content.replace(b"query_path,category", b"image_path,category,x0,y0,x1,y1")
    )
    for read in (
        lambda: list(manifests.manifest_rows(path, manifests.QUERIES)),
        lambda: list(manifests.list_lines(path)),
        lambda: datasets.load_motif_boxes(DataConfig(root=str(tmp_path))),
    ):
        try:
            read()
        except DataError as error:
            assert str(tmp_path) in str(error)


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


def test_links_are_followed_once_and_broken_ones_are_not_lost(tmp_path: Path) -> None:
    touch(tmp_path, "far/1.png", "far/sub/2.png", "root/a/3.png")
    (tmp_path / "root/loop").symlink_to(tmp_path / "root")
    (tmp_path / "root/a/up").symlink_to(tmp_path)
    (tmp_path / "root/far").symlink_to(tmp_path / "far")
    (tmp_path / "root/far2").symlink_to(tmp_path / "far")
    (tmp_path / "root/itself.png").symlink_to(tmp_path / "root/itself.png")
    (tmp_path / "root/gone.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "root/one.png").symlink_to(tmp_path / "far/1.png")
    os.mkfifo(tmp_path / "root/pipe.png")
    ignored: list[str] = []
    found = [name for name, _ in walk_images(str(tmp_path / "root"), ignored=ignored.append)]
    assert found == [
        "a/3.png",
        "a/up/far/1.png",
        "a/up/far/sub/2.png",
        "gone.png",
        "itself.png",
        "one.png",
    ]
    assert ignored == ["pipe.png"]


def test_a_name_that_is_not_utf8_is_listed_so_that_it_can_be_rejected(tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path / "cloth")
    os.mkdir(folder)  # noqa: PTH102
    for name in (b"caf\xe9.png", b"caf\xe8.png", b"fine.png"):
        with open(os.path.join(folder, name), "wb"):  # noqa: PTH118, PTH123
            pass
    records = list(datasets.iter_gallery(DataConfig(format="folder", gallery=str(tmp_path / "cloth"))))
    assert [record.path for record in records] == [
        f"{tmp_path}/cloth/{n}" for n in ("caf\\xe8.png", "caf\\xe9.png", "fine.png")
    ]
    assert len({record.location for record in records}) == 3
    for record in records:
        record.location.encode()
        assert storage.exists(record.location) == (datasets.name_problem(record) is None) == ("fine" in record.path)
    with pytest.raises(FileNotFoundError):
        storage.stamp(records[0].location)


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
        ({"gallery": "gone"}, "data.gallery = 'gone': nothing is at gone$"),
        ({"gallery": "file.txt"}, "data.gallery = 'file.txt' is not a folder"),
        ({"root": "gone"}, "data.root = 'gone' is not a folder"),
        ({"gallery": "empty"}, "the gallery is empty: no image lies under empty"),
        ({"gallery": "nope://x/y"}, "nope://x/y: "),
        ({"format": "published", "root": "empty"}, "empty: no image lies under empty/\\*\\*/test/img/images"),
        ({"format": "published", "root": "gone"}, "gone: cannot be listed: No such file or directory"),
    ],
)
def test_a_gallery_that_is_not_there_is_an_error_that_names_it(
    tmp_path: Path, keys: dict[str, str], message: str
) -> None:
    touch(tmp_path, "here/file.txt", "here/empty/notes.txt")
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
    assert datasets.load_motif_boxes(data) == {a.path: [("bear", (-3, 0, 4, 5))]}
    tree = [
        f"{root}/Set/{name}" for name in ("test/img/images/a.b.png", "test/img/images/a.png", "train/img/images/z.png")
    ]
    as_folder = list(datasets.iter_gallery(DataConfig(root=root, format="folder")))
    assert [record.path for record in as_folder] == tree
    assert None not in {record.stamp for record in as_folder}
    table = DataConfig(root=root, format="manifest", gallery="table.csv")
    assert list(datasets.iter_gallery(table)) == [a._replace(categories=("x",))]
    memory.rm("/bucket", recursive=True)


# Boxes


def test_boxes_are_keyed_by_the_path_of_the_fabric(tmp_path: Path) -> None:
    data = DataConfig(root=str(tmp_path))
    assert datasets.load_motif_boxes(data) == {}
    header = "image_path,category,x0,y0,x1,y1\n"
    (tmp_path / "motif_boxes.csv").write_text(header + "s/train/img/images/1.png,bear,0,1,5,9\n" * 2)
    box = ("bear", (0, 1, 5, 9))
    assert datasets.load_motif_boxes(data) == {f"{tmp_path}/s/train/img/images/1.png": [box, box]}
    for row in ("a.png,bear,5,0,5,9", "a.png,bear,0,0,1.5,9", "a.png,,0,0,1,9", ",bear,0,0,1,9", "a.png,bear,,0,1,9"):
        (tmp_path / "motif_boxes.csv").write_text(header + row + "\n")
        with pytest.raises(DataError, match=rf"motif_boxes.csv: line 2: '{row}'"):
            datasets.load_motif_boxes(data)
