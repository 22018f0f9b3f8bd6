"""The published files: what they mean, how they agree with the published code, and that no content crashes a reader."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval_core.data import published_layout as layout
from retrieval_core.data.records import DataError, full_stem, short_id

FEW = settings(max_examples=50)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("element img/0,waxing moon.png moon", ("element img/0,waxing moon.png", "moon")),
        ("a.png red  flower \t", ("a.png", "red  flower")),
        ("a.png", ("a.png", "")),
        ("a.png b.png c", ("a.png", "b.png c")),  # the first ".png ", as published
        ("a.jpg x/b.png c", ("a.jpg x/b.png", "c")),  # also when another suffix comes earlier
        ("x y/a.JPG bear", ("x y/a.JPG", "bear")),
        ("a.PNG\tbear", ("a.PNG", "bear")),
        ("a.jpeg", ("a.jpeg", "")),
        ("pngs/a.b.webp two words", ("pngs/a.b.webp", "two words")),
    ],
)
def test_a_query_line_is_split_after_the_image_path(line: str, expected: tuple[str, str]) -> None:
    assert layout.split_query_line(line) == expected


@pytest.mark.parametrize("line", ["flower", "", "a.txt bear", "png bear"])
def test_a_line_without_an_image_path_is_an_error(line: str) -> None:
    with pytest.raises(DataError, match="names no image"):
        layout.split_query_line(line)


@given(
    path=st.text(st.characters(exclude_categories=["Cs", "Cc", "Z"]), min_size=1).filter(
        lambda text: ".png " not in text
    ),
    category=st.text(st.characters(exclude_categories=["Cs", "Cc", "Z"]), min_size=1),
)
def test_published_lines_read_as_python_splits_them(path: str, category: str) -> None:
    line = f"{path}.png {category}"
    stem, rest = line.split(".png ", 1)
    assert layout.split_query_line(line) == (stem + ".png", rest)


def test_queries_keep_their_spelling_order_and_repeats(tmp_path: Path) -> None:
    content = "\ufeffelement img/1,bear.png bear\r\n\r\n  element img/0,bear.png  \nelement img/1,bear.png bear\n"
    (tmp_path / "train_sub.txt").write_text(content, encoding="utf-8", newline="")
    queries = list(layout.read_queries(str(tmp_path), "train"))
    assert [query.path for query in queries] == [
        "element img/1,bear.png",
        "element img/0,bear.png",
        "element img/1,bear.png",
    ]
    assert [query.categories for query in queries] == [("bear",), (), ("bear",)]
    assert queries[0].location == str(tmp_path / "element img/1,bear.png")


def test_test_queries_take_their_class_from_the_class_file(tmp_path: Path) -> None:
    (tmp_path / "test.txt").write_text("q/7,x.png wrong\nq/8.png wrong\nq/9,y,z.png wrong\nq/10,n.png wrong\n")
    (tmp_path / "Test_element.csv").write_bytes(
        b'7.png,bear\r\n8,"red, flower"\r\n9.PNG,owl,\r\n9.png,elk\r\n10.png,\r\n'
    )
    queries = layout.read_queries(str(tmp_path), "test")
    assert [query.categories for query in queries] == [("bear",), ("red, flower",), ("elk", "owl"), ()]
    (tmp_path / "Test_element.csv").unlink()
    assert {query.categories for query in layout.read_queries(str(tmp_path), "test")} == {("wrong",)}


@pytest.mark.parametrize(
    ("content", "where"),
    [
        (b"a.png bear\nno image here\n", "line 2: 'no image here' names no image"),
        (b"a.png bear\n\xff\xfe.png bear\n", "line 2 is not UTF-8"),
        (b"a.png bear\rb.png owl\r", "line 1 holds a carriage return"),
        ("a.png bear\n".encode("utf-16-le"), "is UTF-16 text"),
        (b"a\0.png bear\n", "line 1 holds a zero byte"),
    ],
)
def test_a_faulty_list_names_file_and_line(tmp_path: Path, content: bytes, where: str) -> None:
    (tmp_path / "val_sub.txt").write_bytes(content)
    with pytest.raises(DataError) as caught:
        list(layout.read_queries(str(tmp_path), "validation"))
    assert str(tmp_path / "val_sub.txt") in str(caught.value)
    assert where in str(caught.value)


def test_split_file_items_are_ids_then_categories(tmp_path: Path) -> None:
    path = tmp_path / "Train_split.json"
    path.write_text(json.dumps([[0, "17", 834, "824", "pick", " tray "], [1, 18], [2, "17", 5, "owl"]]))
    assert layout.read_split_file(str(path)) == {
        "17": layout.Labels(frozenset({"pick", "tray", "owl"}), frozenset({"834", "824", "5"})),
        "18": layout.Labels(),
    }


@pytest.mark.parametrize(
    ("item", "problem"),
    [
        ([2, "a", 1], "has 3 values"),
        ([], "has 0 values"),
        ("a", "is no list"),
        ([2, "", 1, "bear"], "the file name at place 1 is ''"),
        ([2, "a", 1.5, "bear"], "the element id at place 2 is 1.5"),
        ([2, "a", 1, None], "the category at place 3 is None"),
        ([2, "a", 1, ["bear"]], r"the category at place 3 is \['bear'\]"),
        ([2, "a", 1, True], "the category at place 3 is True"),
        ([2, "a", 1, "\ud800"], "the category at place 3 is"),
    ],
)
def test_a_malformed_item_is_named_by_its_index(tmp_path: Path, item: object, problem: str) -> None:
    path = tmp_path / "Train_split.json"
    path.write_text(json.dumps([[0, "good", 1, "bear"], item]))
    with pytest.raises(DataError, match=rf"Train_split.json: item 1 \(from 0\): .*{problem}"):
        layout.read_split_file(str(path))


def test_the_fabric_index_is_ragged_and_may_carry_suffixes(tmp_path: Path) -> None:
    path = tmp_path / "TestAll_index.csv"
    path.write_bytes(b"\xef\xbb\xbfbear,red flower,owl\r\n1.png,2\r\n3,,\r\n,1,  \r\n")
    index, names = layout.read_fabric_index(str(path))
    assert index == {"1.png": {"bear"}, "2": {"red flower"}, "3": {"bear"}, "1": {"red flower"}}
    assert names == {"bear", "red flower", "owl"}
    path.write_text("bear\n1\n2,3\n")
    with pytest.raises(DataError, match=r"line 3, column 2: '3' stands under no category"):
        layout.read_fabric_index(str(path))


def images(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def test_labels_of_names_that_collide_up_to_the_dot_are_not_mixed(tmp_path: Path) -> None:
    images(tmp_path, *(f"set/test/img/images/{name}" for name in ("a.png", "a.b.png", "c.d.png", "c.e.png", "f.jpg")))
    (tmp_path / "TestAll_index.csv").write_text("bear,owl,elk,cat\na,a.b,c,f.png\ngone,,,\n")
    (tmp_path / "Test_split.json").write_text(json.dumps([[0, "a", 5, "ignored here"], [1, "c.e", 6, "ignored here"]]))
    fabrics = layout.read_fabrics(str(tmp_path), "test")
    folder = f"{tmp_path}/set/test/img/images"
    assert {(record.path, record.categories, record.elements) for record in fabrics.records} == {
        (f"{folder}/a.png", ("bear",), ("5",)),
        (f"{folder}/a.b.png", ("owl",), ()),
        (f"{folder}/c.d.png", ("elk",), ()),  # "c" names no image in full, so the published rule holds
        (f"{folder}/c.e.png", ("elk",), ("6",)),
        (f"{folder}/f.jpg", ("cat",), ()),
    }
    assert fabrics.without_image == ["gone"]


NAMES = st.lists(st.sampled_from(["a", "b", "a.b", "a.b.c", "b.a", "ab"]), unique=True, max_size=6)


@given(stems=NAMES, entries=NAMES, with_suffix=st.booleans())
def test_matching_follows_the_rule_entry_by_entry(stems: list[str], entries: list[str], with_suffix: bool) -> None:
    paths = [f"x.y/{stem}.png" for stem in stems]
    labels = {name + ".PNG" * with_suffix: layout.Labels(frozenset({name})) for name in entries}
    held, unmatched = layout.match_labels(labels, paths)
    for path, entry in zip(paths, held, strict=True):
        expected = set()
        for name in entries:
            named_in_full = name in stems
            if full_stem(path) == name or (not named_in_full and short_id(path) == name):
                expected.add(name)
        assert entry.categories == expected
    means_none = [name for name in entries if name not in stems and name not in [stem.split(".")[0] for stem in stems]]
    assert unmatched == sorted(name + ".PNG" * with_suffix for name in means_none)


@given(stems=NAMES, entries=st.lists(st.sampled_from(["a", "b", "ab", "c"]), unique=True))
def test_matching_agrees_with_the_published_rule_where_no_names_collide(stems: list[str], entries: list[str]) -> None:
    first = {stem.split(".")[0]: stem for stem in stems}  # at most one image for each published id
    paths = [f"{stem}.png" for stem in first.values()]
    held, _ = layout.match_labels({name: layout.Labels(frozenset({name})) for name in entries}, paths)
    assert [entry.categories for entry in held] == [{path.split(".")[0]} & set(entries) for path in paths]


def test_fabrics_are_found_below_the_root_without_looking_into_other_splits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images(
        tmp_path,
        "One/test/img/images/2.png",
        "One/test/img/images/1.jpg",
        "One/test/img/images/deeper/3.png",
        "One/test/img/images/notes.txt",
        "deep/er/Two/test/img/images/4.tif",
        "One/train/img/images/9.png",
        "One/test/img/9.png",
        "element img/test/img/images/9.png",
        ".trash/test/img/images/9.png",
        "@eaDir/test/img/images/9.png",
        "One/test/img/images/@eaDir/1.jpg/thumb.jpg",
    )
    listed: list[str] = []
    scandir = layout.walk_images.__globals__["os"].scandir
    monkeypatch.setattr("os.scandir", lambda path: listed.append(str(path)) or scandir(path))
    told: list[tuple[str, str]] = []
    fabrics = layout.read_fabrics(str(tmp_path), "test", exclude=["@eaDir"], left_out=lambda *why: told.append(why))
    found = [record.path.removeprefix(f"{tmp_path}/") for record in fabrics.records]
    assert found == [
        "One/test/img/images/1.jpg",
        "One/test/img/images/2.png",
        "One/test/img/images/deeper/3.png",
        "deep/er/Two/test/img/images/4.tif",
    ]
    assert sorted(told) == [
        ("excluded-file", "@eaDir"),
        ("excluded-file", "@eaDir"),
        ("hidden-file", ".trash"),
        ("ignored-file", "notes.txt"),
    ]
    assert not [path for path in listed if "train/img/images" in path or "element img" in path or ".trash" in path]


def test_a_link_is_a_fabric_with_labels_of_its_own(tmp_path: Path) -> None:
    images(tmp_path, "test/img/images/1.png")
    (tmp_path / "test/img/images/2.png").symlink_to("1.png")
    (tmp_path / "Test_split.json").write_text(json.dumps([[0, "1", 5, "bear"], [1, "2", 6, "rose"]]))
    found = layout.read_fabrics(str(tmp_path), "test")
    assert [record.categories for record in found.records] == [("bear",), ("rose",)]
    assert found.without_image == []


def test_labels_that_are_needed_name_the_missing_file(tmp_path: Path) -> None:
    images(tmp_path, "train/img/images/1.png")
    assert [record.categories for record in layout.read_fabrics(str(tmp_path), "train").records] == [()]
    with pytest.raises(DataError, match=r"Train_split.json: there is no such file"):
        layout.read_fabrics(str(tmp_path), "train", labels_needed=True)


READERS: list[tuple[str, Callable[[str, layout.Report], object]]] = [
    ("test.txt", lambda folder, report: list(layout.read_queries(folder, "test", report))),
    ("Test_element.csv", lambda folder, report: layout.read_query_classes(f"{folder}/Test_element.csv", report)),
    ("TestAll_index.csv", lambda folder, report: layout.read_fabric_index(f"{folder}/TestAll_index.csv", report)),
    ("Test_split.json", lambda folder, report: layout.read_split_file(f"{folder}/Test_split.json", report)),
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=20,
)
LIKELY = st.lists(st.sampled_from([*',"\n\r;. \0', ".png", ".png ", "a", "1", "\ufeff", "é", "bear"]), max_size=40)
CONTENT = (
    st.binary(max_size=200)
    | LIKELY.map(lambda parts: "".join(parts).encode())
    | JSON.map(lambda value: json.dumps(value).encode())
    | st.integers(1, 4000).map(lambda depth: b"[" * depth)
    | st.just(b"[[0, " + b"9" * 5000 + b"]]")
)


@pytest.mark.parametrize(("name", "read"), READERS, ids=[name for name, _ in READERS])
@FEW
@given(content=CONTENT)
def test_no_content_raises_anything_but_a_data_error(
    tmp_path: Path, name: str, read: Callable[[str, layout.Report], object], content: bytes
) -> None:
    (tmp_path / name).write_bytes(content)
    noted: list[DataError] = []
    read(str(tmp_path), noted.append)
    try:
        read(str(tmp_path), layout.fail)
    except DataError as error:
        assert str(noted[0]) == str(error)  # who notes problems sees the one that stops others, first
        assert name in str(error)
    else:
        assert noted == []
