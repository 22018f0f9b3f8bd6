"""Boxes of motifs, keyed by the path of their fabric."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval_core.config.sections import DataConfig
from retrieval_core.data.motif_boxes import load_motif_boxes
from retrieval_core.data.records import DataError

HEADER = "image_path,category,x0,y0,x1,y1\n"
BOXES = st.tuples(*[st.integers(-9, 9)] * 4)


def test_without_a_file_there_are_no_boxes(tmp_path: Path) -> None:
    assert load_motif_boxes(DataConfig(root=str(tmp_path))) == {}


@given(st.lists(st.tuples(st.sampled_from(["a.png", "s/b.png"]), st.sampled_from(["bear", "owl"]), BOXES)))
def test_boxes_are_kept_in_order_and_faulty_ones_reported(tmp_path: Path, rows: list) -> None:
    lines = [",".join(map(str, (image, category, *box))) for image, category, box in rows]
    (tmp_path / "motif_boxes.csv").write_text(HEADER + "\n".join(lines))
    noted: list[DataError] = []
    data = DataConfig(root=str(tmp_path))
    expected: dict[str, list] = {}
    for image, category, (x0, y0, x1, y1) in rows:
        if x0 < x1 and y0 < y1:
            expected.setdefault(f"{tmp_path}/{image}", []).append((category, (x0, y0, x1, y1)))
    assert load_motif_boxes(data, noted.append) == expected
    assert len(noted) + sum(map(len, expected.values())) == len(rows)
    only = {f"{tmp_path}/a.png"}
    assert load_motif_boxes(data, noted.append, only) == {
        path: found for path, found in expected.items() if path in only
    }


@pytest.mark.parametrize(
    "row", ["a.png,bear,5,0,5,9", "a.png,bear,0,0,1.5,9", "a.png,,0,0,1,9", ",bear,0,0,1,9", "a.png,bear,,0,1,9"]
)
def test_a_faulty_row_names_its_line(tmp_path: Path, row: str) -> None:
    (tmp_path / "motif_boxes.csv").write_text(f"{HEADER}{row}\n")
    with pytest.raises(
        DataError, match=rf"motif_boxes.csv: line 2: '{row}'; write image_path,category,x0,y0,x1,y1 with"
    ):
        load_motif_boxes(DataConfig(root=str(tmp_path)))


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    (tmp_path / "motif_boxes.csv").write_text("image_path,category,x0,y0,x1\n")
    with pytest.raises(DataError, match="has no column y1"):
        load_motif_boxes(DataConfig(root=str(tmp_path)))
