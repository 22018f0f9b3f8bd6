"""The chart's geometry: where points and ticks lie, and how many points a long curve is drawn with."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from retrieval_core.report import chart as chart_module


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20), st.integers(1, 50))
def test_chart_holds_every_point_and_labels_its_axes(recalls: list[float], step: int) -> None:
    points = [(1 + i * step, recall) for i, recall in enumerate(sorted(recalls))]
    chart = chart_module.recall_chart({"a": points, "none": []})
    assert chart is not None
    (line,) = chart.lines
    drawn = np.array([[float(n) for n in pair.split()] for pair in line.path[1:].split("L")])
    assert len(drawn) == len(points)
    assert (drawn[:, 0] >= chart.left).all() and (drawn[:, 0] <= chart.right).all()
    assert (drawn[:, 1] >= chart.top - 0.01).all() and (drawn[:, 1] <= chart.bottom).all()
    assert 2 <= len(chart.x_ticks) <= 7
    assert 2 <= len(chart.y_ticks) <= 7
    for ticks in (chart.x_ticks, chart.y_ticks):
        assert len({tick.label for tick in ticks}) == len(ticks)
    assert (line.depth, line.recall) == points[-1]


def test_chart_positions_by_hand() -> None:
    chart = chart_module.recall_chart({"a": [(50, 0.5), (100, 1.0)]})
    assert chart is not None
    middle = ((chart.left + chart.right) / 2, (chart.top + chart.bottom) / 2)
    assert chart.lines[0].path == f"M{middle[0]} {middle[1]}L{chart.right} {chart.top}"
    assert [tick.label for tick in chart.x_ticks] == ["0", "20", "40", "60", "80", "100"]
    assert [tick.label for tick in chart.y_ticks] == ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]


def test_a_long_curve_is_drawn_with_few_points_and_both_ends() -> None:
    points = [(k, k / 7000) for k in range(1, 7001)]
    chart = chart_module.recall_chart({"long": points, "short": points[: chart_module.POINTS]})
    assert chart is not None
    for line, last in zip(chart.lines, (points[-1], points[chart_module.POINTS - 1]), strict=True):
        drawn = line.path[1:].split("L")
        assert len(drawn) == len(set(drawn)) == chart_module.POINTS
        assert (line.depth, line.recall) == last
        assert drawn[-1] == f"{line.end_x} {line.end_y}"
        assert drawn[0].startswith(str(round(chart.left + (chart.right - chart.left) / 7000, 2)))


def test_no_curves_no_chart() -> None:
    assert chart_module.recall_chart({}) is chart_module.recall_chart({"a": []}) is None
    assert chart_module.precision_recall_chart({"a": [(1, 0.5)]}, {"b": [(1, 0.5)], "a": []}) is None
    assert chart_module.size_chart({}, "recall@1") is chart_module.size_chart({"a": []}, "recall@1") is None


def test_precision_stands_over_recall() -> None:
    recalls = {"a": [(1, 0.2), (2, 0.4)], "without": [(1, 0.1)]}
    chart = chart_module.precision_recall_chart(recalls, {"a": [(1, 1.0), (2, 0.5)]})
    assert chart is not None
    (line,) = chart.lines
    middle = ((chart.left + chart.right) / 2, (chart.top + chart.bottom) / 2)
    assert line.path == f"M{middle[0]} {chart.top}L{chart.right} {middle[1]}"
    assert (line.depth, line.recall) == (0.4, 0.5)
    assert [tick.label for tick in chart.x_ticks] == ["0.0", "0.1", "0.2", "0.3", "0.4"]


def test_an_arm_that_finds_nothing_is_drawn_all_the_same() -> None:
    chart = chart_module.precision_recall_chart({"a": [(1, 0.0)]}, {"a": [(1, 0.0)]})
    assert chart is not None
    assert chart.lines[0].path == f"M{chart.left} {chart.bottom}"


def test_sizes_stand_in_the_middle_of_their_class() -> None:
    rows = [{"from": 0.0, "to": 0.01, "recall@4": 0.5}, {"from": 0.01, "to": 0.02, "recall@4": 0.0}]
    rows.append({"from": 0.1, "to": None, "recall@4": 1.0})
    chart = chart_module.size_chart({"a": rows}, "recall@4")
    assert chart is not None
    width = (chart.right - chart.left) / 3
    at = [round(chart.left + (place + 0.5) * width, 2) for place in range(3)]
    assert chart.lines[0].dots == [(at[0], (chart.top + chart.bottom) / 2), (at[1], chart.bottom), (at[2], chart.top)]
    assert [tick.label for tick in chart.x_ticks] == ["under 1 %", "1 to 2 %", "over 10 %"]
    assert [tick.at for tick in chart.x_ticks] == at
