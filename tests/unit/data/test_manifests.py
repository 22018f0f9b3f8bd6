"""Lists, CSV and Parquet: what is written comes back, faults name their line, and no content crashes a reader."""

from __future__ import annotations

import csv
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval_core.data import manifests
from retrieval_core.data.records import DataError
from retrieval_core.files import tables

FEW = settings(max_examples=50)


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
        source: list(manifests.manifest_rows(f"{tmp_path}/{source}", manifests.FABRICS))
        for source in ("fabrics.csv", "fabrics.parquet", "parts")
    }
    assert read["fabrics.csv"] == read["fabrics.parquet"] == read["parts"]
    assert read["parts"][-2:] == [("19998.png", ()), ("19999.png", ("bear",))]
    for source in read:
        assert manifests.manifest_columns(f"{tmp_path}/{source}") == ["image_path", "categories", "extra"]


def test_parquet_categories_may_be_lists_numbers_or_null(tmp_path: Path) -> None:
    for number, (column, expected) in enumerate(
        [
            (pa.array([["owl", "bear"], None, []]), [("owl", "bear"), (), ()]),
            (pa.array([7, None, 12]), [("7",), (), ("12",)]),
            (pa.array(["a;b", None, "a"]).dictionary_encode(), [("a", "b"), (), ("a",)]),
        ]
    ):
        source = str(tmp_path / f"{number}.parquet")
        tables.write_table(source, pa.table({"image_path": ["1.png", "2.png", "3.png"], "categories": column}))
        assert [labels for _, labels in manifests.manifest_rows(source, manifests.FABRICS)] == expected


@pytest.mark.parametrize(
    ("cell", "remedy"),
    [
        ("['rose', 'bear']", "write rose;bear,"),
        ("[rose]", "write rose,"),
        ('["rose"];bear', "write rose;bear,"),
        ("[]", "leave the cell empty,"),
    ],
)
def test_a_list_written_as_text_is_an_error_unless_kept(tmp_path: Path, cell: str, remedy: str) -> None:
    tables.write_table(f"{tmp_path}/f.parquet", pa.table({"image_path": ["1.png"], "categories": [cell]}))
    pyarrow.csv.write_csv(pa.table({"image_path": ["1.png"], "categories": [cell]}), f"{tmp_path}/f.csv")
    kept = tuple(cell.split(";"))
    for source in (f"{tmp_path}/f.parquet", f"{tmp_path}/f.csv"):
        with pytest.raises(DataError) as caught:
            list(manifests.manifest_rows(source, manifests.FABRICS))
        assert f"categories is {cell!r}, a list written as text; {remedy} or set data.list_like" in str(caught.value)
        noted: list[DataError] = []
        rows = list(manifests.manifest_rows(source, manifests.FABRICS, report=noted.append))
        assert rows == [("1.png", kept)]
        assert len(noted) == 1
        assert list(manifests.manifest_rows(source, manifests.FABRICS, keep_lists=True)) == [("1.png", kept)]
    (tmp_path / "q.csv").write_text("query_path,category\n1.png,['rose']\n")
    with pytest.raises(DataError, match="write one name, such as rose, or set"):
        list(manifests.manifest_rows(f"{tmp_path}/q.csv", manifests.QUERIES))


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
        list(manifests.manifest_rows(str(tmp_path / "fabrics.csv"), manifests.FABRICS))
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
        list(manifests.manifest_rows(str(source), manifests.FABRICS))
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
    for read in (
        lambda: list(manifests.manifest_rows(path, manifests.QUERIES)),
        lambda: list(manifests.list_lines(path)),
    ):
        try:
            read()
        except DataError as error:
            assert str(tmp_path) in str(error)


def test_a_faulty_line_is_reported_and_the_others_are_read(tmp_path: Path) -> None:
    path = str(tmp_path / "list.txt")
    Path(path).write_bytes(b"\xef\xbb\xbfa.png\n\xff.png\n\n b.png \r\nc\rd\n\0\ne.png")
    noted: list[DataError] = []
    assert list(manifests.list_lines(path, noted.append)) == [(1, "a.png"), (4, "b.png"), (7, "e.png")]
    problems = ["line 2 is not UTF-8", "line 5 holds a carriage return", "line 6 holds a zero byte"]
    assert [problem in str(error) for problem, error in zip(problems, noted, strict=True)] == [True] * 3


def test_a_line_may_be_as_long_as_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifests, "LONGEST_LINE", 5)
    path = str(tmp_path / "list.txt")
    Path(path).write_bytes(b"abcd\nabcde\n")
    lines = manifests.text_lines(path)
    assert next(lines) == (1, "abcd\n")
    with pytest.raises(DataError, match="line 2 is longer than 5 bytes"):
        next(lines)


def test_columns_come_in_the_order_asked_for(tmp_path: Path) -> None:
    path = str(tmp_path / "table.csv")
    Path(path).write_text("b, a ,c\n1,2,3\n4,5\n6,7,8\n")
    noted: list[DataError] = []
    rows = manifests.csv_records(path, ("a", "b"), ("d", "c"), noted.append)
    assert list(rows) == [(2, ["2", "1", None, "3"]), (4, ["7", "6", None, "8"])]
    assert ["line 3 has 2 cells" in str(error) for error in noted] == [True]


@pytest.mark.parametrize(
    ("cell", "separator", "labels"),
    [
        (None, None, ()),
        (7, None, ("7",)),
        (" a;b ", None, ("a;b",)),
        (" a; ;b ", ";", ("a", "b")),
        (["a", 2, [" b "]], ";", ("a", "2", "b")),
        (True, None, None),
        (1.5, None, None),
        (["a", 1.5], None, None),
        ("a\0", None, None),
        ("\ud800", None, None),
    ],
)
def test_a_cell_holds_text_whole_numbers_or_lists_of_them(
    cell: object, separator: str | None, labels: tuple[str, ...] | None
) -> None:
    assert manifests.labels_of(cell, separator) == labels


def test_a_folder_without_parquet_is_no_manifest(tmp_path: Path) -> None:
    for name in ("_part.parquet", ".x.parquet", "part.csv"):
        (tmp_path / name).touch()
    with pytest.raises(DataError, match="folder without Parquet files"):
        manifests.manifest_files(str(tmp_path))
