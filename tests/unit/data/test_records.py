"""Records: ids, spellings, where files are looked for, and names that nothing can hold."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval_core.config.sections import DataConfig
from retrieval_core.data import datasets, records
from retrieval_core.data.records import DataError, Record, full_stem, name_problem, query_id, short_id
from retrieval_core.files import stamps, storage

LABELS = st.lists(st.sampled_from("abc"), max_size=3)


@pytest.mark.parametrize(
    ("path", "ids"),
    [
        ("x/12,bear.png", ("12,bear", "12,bear", "12")),
        ("x.y/a.b.png", ("a", "a.b", "a.b")),
        ("a", ("a", "a", "a")),
        ("s3://b/c/9.PNG", ("9", "9", "9")),
        ("q/7,a,b.c.png", ("7,a,b", "7,a,b.c", "7")),
    ],
)
def test_ids(path: str, ids: tuple[str, str, str]) -> None:
    assert (short_id(path), full_stem(path), query_id(path)) == ids


@pytest.mark.parametrize(("name", "bare"), [("1800.png", "1800"), ("1800", "1800"), ("a.b", "a.b"), ("a.b.JPG", "a.b")])
def test_only_the_suffix_of_an_image_is_taken_off(name: str, bare: str) -> None:
    assert records.without_image_suffix(name) == bare
    assert records.has_image_suffix(name) == (name != bare)


@pytest.mark.parametrize(
    ("root", "path", "joined"),
    [
        ("", "a.png", "a.png"),
        ("../data", "a.png", "../data/a.png"),
        ("s3://b/x", "a.png", "s3://b/x/a.png"),
        ("../data", "/a.png", "/a.png"),
        ("../data", "s3://b/a.png", "s3://b/a.png"),
    ],
)
def test_paths_are_joined_to_the_root_as_they_are_spelled(root: str, path: str, joined: str) -> None:
    assert records.from_root(root, path) == joined


def test_a_query_is_looked_for_here_then_in_the_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for name in ("here/both.png", "root.png", "both.png"):
        (tmp_path / name).touch()
    places = {"both.png": "here/both.png", "root.png": "root.png", "gone.png": "gone.png"}
    for path, place in places.items():
        found = records.query_record("..", path, ["b", "a", "b"])
        assert found == Record(path, f"{tmp_path}/{place}", ("a", "b"))


@given(st.lists(st.tuples(st.sampled_from(["x", "y", "z"]), LABELS, LABELS)))
def test_repeats_are_united_with_all_their_labels(rows: list[tuple[str, list[str], list[str]]]) -> None:
    united = records.unite(records.fabric_record(*row) for row in rows)
    assert [record.path for record in united] == sorted({path for path, *_ in rows})
    for record in united:
        assert record.categories == tuple(
            sorted({name for path, names, _ in rows if path == record.path for name in names})
        )
        assert record.elements == tuple(
            sorted({name for path, _, names in rows if path == record.path for name in names})
        )


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
        assert storage.exists(record.location) == (name_problem(record) is None) == ("fine" in record.path)
    with pytest.raises(FileNotFoundError):
        stamps.stamp(records[0].location)


def test_a_source_is_where_its_key_says_or_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "root").mkdir()
    for name in ("here.csv", "root/here.csv", "root/there.csv"):
        (tmp_path / name).touch()
    for spelled, place in {"here.csv": "here.csv", "there.csv": "root/there.csv"}.items():
        assert records.find_source(DataConfig(root="root", queries=spelled), "queries") == place
    with pytest.raises(DataError, match=r"data.queries = 'x': nothing is at x or at root/x") as caught:
        records.find_source(DataConfig(root="root", queries="x"), "queries")
    assert caught.value.kind == "missing-file"
    with pytest.raises(DataError, match=r"data.gallery is not set") as caught:
        records.find_source(DataConfig(), "gallery")
    assert caught.value.kind == "unset-key"


def test_a_source_that_is_spelt_otherwise_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "Fabrics.CSV").touch()
    with pytest.raises(DataError, match=rf"nothing is at fabrics.csv or at r/fabrics.csv; it is there as {tmp_path}/"):
        records.find_source(DataConfig(root="r", gallery="fabrics.csv"), "gallery")


@pytest.mark.parametrize(
    ("root", "spelled", "path"),
    [
        ("", "./a/b.png", "a/b.png"),
        ("", "././a//b.png", "a/b.png"),
        ("./r/", "a///b.png", "./r/a/b.png"),
        ("r", "a/./b.png", "r/a/b.png"),
        ("r", "//x//a.png", "/x/a.png"),
        ("r", "file:///x//a.png", "file:///x/a.png"),
        ("r", "a/../b.png", "r/a/../b.png"),  # a link would lead elsewhere
        ("r", "a./b.png", "r/a./b.png"),
        ("r", "s3://b/x//a.png", "s3://b/x//a.png"),  # another object
        ("s3://b/r", "./a//b.png", "s3://b/r/a/b.png"),
    ],
)
def test_a_fabric_has_one_path_however_its_table_spells_it(root: str, spelled: str, path: str) -> None:
    assert records.fabric_path(root, spelled) == path


def test_a_long_message_keeps_its_start_and_end() -> None:
    short, long = "a" * 1100, "start" + "x" * 2000 + "end"
    assert str(DataError(short)) == short
    assert str(DataError(long)) == f"{long[:700]} ... {long[-300:]}"
