"""The page is one sound, self-contained HTML file that says what the data says, whatever the names hold."""

from __future__ import annotations

import base64
import hashlib
import itertools
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from retrieval_core.config.sections import ImagesConfig, ReportConfig
from retrieval_core.evaluation import metrics
from retrieval_core.evaluation.depth import depth_figures
from retrieval_core.evaluation.outcomes import QueryOutcome
from retrieval_core.report import page as page_module
from retrieval_core.report.data import Fabric, Missed, QueryCard, Reject, RejectCount, ReportData, StageTime
from retrieval_core.report.page import write_report
from tests.unit.report.parsed_page import Page

MINUS, NONE = page_module.MINUS, page_module.NONE
EVIL = '"><script>alert(1)</script><img src=x onerror=alert(2)><!--'


def written(tmp_path: Path, data: ReportData, **keys: int) -> tuple[str, Page]:
    target = tmp_path / "report.html"
    size = write_report(str(target), data, ImagesConfig(), ReportConfig(thumbnail=32, **keys))
    assert size == target.stat().st_size <= keys.get("max_megabytes", 30) * 1_000_000
    text = target.read_text(encoding="utf-8")
    return text, Page(text)


def png(folder: Path, name: str, width: int = 20, height: int = 20, colour: str = "red") -> str:
    Image.new("RGB", (width, height), colour).save(folder / name)
    return str(folder / name)


def arm(ranks: list[list[int]], answered: bool = True) -> dict[str, Any]:
    outcomes = [QueryOutcome(f"q{i}", (f"m{i}",), 4, np.array(row, dtype=np.int64)) for i, row in enumerate(ranks)]
    if not answered:
        outcomes.append(QueryOutcome("torn", ("torn",), 4, np.empty(0, dtype=np.int64), answered=False))
    return metrics.arm_metrics(outcomes, [1, 4], {"no_file": ["gone.png"]}, 20, 0)


@pytest.fixture
def full(tmp_path: Path) -> ReportData:
    weak, strong = arm([[4], []]), arm([[1, 2], [1]])
    strong["versus"] = {"histogram": {"recall@4": {"difference": -0.25, "interval": [-0.5, -0.1]}}}
    for one in (weak, strong):
        sizes = [{"from": 0.0, "to": 0.01, "queries": 4, "fabrics": 9, "recall@1": 0.25, "recall@4": 0.5}]
        one["motif_sizes"] = [*sizes, {**sizes[0], "from": 0.1, "to": None, "recall@4": 1.0}]
    motif, cloth, other = (png(tmp_path, name) for name in ("motif.png", "cloth.png", "other.png"))
    candidates = [
        Fabric("g/cloth.png", cloth, 0.98765, 1, True, (2, 3, 12, 15)),
        Fabric("g/other.png", other, -0.0126, 2, False),
    ]
    cards = [QueryCard(f"q/{n}.png", motif, ("bear",), 4, {"recall@4": 0.25}, candidates) for n in range(4)]
    return ReportData(
        "trial",
        facts=[("Gallery", "2 fabrics")],
        arms={"fine_tuned": strong, "mine": weak, "histogram": weak, "random": weak},
        ks=[1, 4],
        curves={"fine_tuned": [(1, 0.5), (4, 0.75)], "random": [(1, 0.0), (4, 0.125)]},
        precisions={"fine_tuned": [(1, 0.5), (4, 0.25)], "random": [(1, 0.0), (4, 0.125)]},
        stages=[StageTime("embed", 30.0, "12 images/s"), StageTime("retrieve", 90.0)],
        reject_counts=[RejectCount("gallery", "not_an_image", 1200)],
        reject_rows=[Reject("g/torn.png", "gallery", "embed", "not_an_image", "no format")],
        cards=cards,
    )


def test_full_page_is_self_contained_and_sound(tmp_path: Path, full: ReportData) -> None:
    text, page = written(tmp_path, full)
    links = [value for _, found in page.elements for name, value in found.items() if name in ("href", "src")]
    assert links
    assert all(link and link.startswith("#") for link in links)
    # The namespace of SVG is a name, not an address that is asked for.
    assert re.findall(r"https?:(?!//www\.w3\.org/2000/svg)|url\(|@import|fetch\(|XMLHttp", text) == []
    ids = [found["id"] for _, found in page.elements if "id" in found]
    assert len(ids) == len(set(ids))
    targets = {link[1:] for link in links if link}
    labels = {name for _, found in page.elements for name in (found.get("aria-labelledby") or "").split()}
    assert targets | labels <= set(ids)


def test_only_our_own_script_and_style_may_run(tmp_path: Path, full: ReportData) -> None:
    text, page = written(tmp_path, full)
    (policy,) = [found["content"] or "" for found in page.all("meta") if "http-equiv" in found]
    assert policy.startswith("default-src 'none'; img-src data:; ")
    (style,) = re.findall(r"<style>(.*?)</style>", text, re.S)
    (script,) = [content for found, content in page.scripts if not found]
    for kind, content in (("style", style), ("script", script)):
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert not any(name.startswith("on") or name == "style" for _, found in page.elements for name in found)


def test_headings_do_not_skip_a_level_and_pictures_have_a_text(tmp_path: Path, full: ReportData) -> None:
    _, page = written(tmp_path, full)
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(deeper - level <= 1 for level, deeper in itertools.pairwise(levels))
    pictures = page.all("svg", role="img")
    assert len(pictures) == 3
    assert all(picture.get("aria-label") or picture.get("aria-labelledby") for picture in pictures)


def test_what_the_run_found_is_on_the_page(tmp_path: Path, full: ReportData) -> None:
    _, page = written(tmp_path, full)
    for expected in (
        "trial",
        "Gallery 2 fabrics",
        "4 queries with their first candidates (Fine-tuned).",
        "under 1 % 0.500 0.500 0.500 0.500 4 9",
        f"{MINUS}0.250 {MINUS}0.500 to {MINUS}0.100",
        "1 no file",
        "embed 30.0 s 25 % 12 images/s",
        "Together 2 min 00 s",
        "gallery not an image 1,200",
        "The first 1, one by one",
    ):
        assert expected in page.text


def test_pictures_come_first_then_figures_then_what_the_run_was_made_of(tmp_path: Path, full: ReportData) -> None:
    _, page = written(tmp_path, full)
    sections = ["queries", "figures", "curve", "shape", "run", "stages", "images"]
    assert [found["id"] for found in page.all("section")] == sections
    links = [found["href"] for found in page.all("a") if found.get("class") != "skip"]
    assert links == ["#queries", "#queries", *(f"#{name}" for name in sections[1:])]  # the second shows the worst


def test_the_rule_that_chooses_the_first_query_stands_there(tmp_path: Path) -> None:
    def card(number: int, value: float) -> QueryCard:
        return QueryCard(f"q{number}", "/none", ("bear",), 4, {"recall@4": 0.5, "AP@4": value})

    data = ReportData("x", cards=[card(number, value) for number, value in enumerate((0.125, 0.25, 0.75))])
    _, page = written(tmp_path, data)
    assert "Typical first: nearest to the median average precision, 0.250." in page.text
    _, part = written(tmp_path, replace(data, queries=9))
    assert "Typical first: nearest to the median average precision of those shown, 0.250." in part.text
    (first, *_) = page.all("option")
    assert first["value"] == "typical"


def test_arms_stand_in_one_order_and_the_best_is_bold(tmp_path: Path, full: ReportData) -> None:
    text, _ = written(tmp_path, full)
    rows = re.findall(r'<th scope="row">(.*?)</th>', text)
    assert rows[:4] == ["Random ranking", "Colour histogram", "Fine-tuned", "mine"]
    table = text[text.index('<table class="figures">') : text.index("</table>")]
    bold = re.findall(r"<strong>(.*?)</strong>", table)
    assert bold[0] == f"{full.arms['fine_tuned']['recall@1']:.3f}"
    # Six figures at two depths, and one arm is better in all of them.
    assert len(bold) == 12


def test_arms_that_print_alike_are_equally_bold(tmp_path: Path) -> None:
    same = arm([[1], [2]])
    text, _ = written(tmp_path, ReportData("tie", arms={"a": same, "b": same}, ks=[4]))
    assert text.count("<strong>") == 12
    alone, _ = written(tmp_path, ReportData("alone", arms={"a": same}, ks=[4]))
    assert "<strong>" not in alone


def test_rejected_queries_are_told_apart(tmp_path: Path) -> None:
    _, page = written(tmp_path, ReportData("x", arms={"a": arm([[1, 2, 3, 4]], answered=False)}, ks=[4]))
    assert "evaluated, 1 of them answered" in page.text
    assert "Over the 1 answered queries alone, a has recall@4 1.000" in page.text
    assert "recall@4 0.500" not in page.text
    assert "Recall@4 0.500" in page.text


def test_no_evaluated_query_shows_dashes(tmp_path: Path) -> None:
    _, page = written(tmp_path, ReportData("x", arms={"a": arm([])}, ks=[4]))
    assert f"Recall@4 {NONE}" in page.text


def test_candidates_needed_stand_under_the_curve(tmp_path: Path) -> None:
    rising, flat, silent = (arm([[1]]) for _ in range(3))
    rising["depth"] = depth_figures(np.arange(1, 2001) / 4000, 2000, 90_000)
    flat["depth"] = depth_figures(np.full(2000, 0.25), 2000, 90_000)
    silent["depth"] = depth_figures(np.zeros(2000), 2000, 90_000)
    data = ReportData("x", arms={"fine_tuned": rising, "frozen": flat, "random": silent}, ks=[4])
    text, page = written(tmp_path, data)
    for row in (
        "Arm for 90 % for 95 % for 99 % Recall of the pool Gained by the last tenth",
        f"Random ranking {NONE} {NONE} {NONE} 0.000 0.000",
        "Frozen backbone 1 1 1 0.250 0.000",
        "Fine-tuned 1,800 1,900 1,980 0.500 +0.050",
    ):
        assert row in page.text
    assert "(2,000 a query); where its last tenth still gains much, a deeper pool would find more." in page.text
    assert 'href="#curve"' in text
    assert page.all("svg", role="img") == []  # no curve was given


def test_a_pool_of_the_whole_gallery_needs_no_more_depth(tmp_path: Path) -> None:
    whole = arm([[1]])
    whole["depth"] = depth_figures(np.array([0.25, 1.0]), 2, 2)
    _, page = written(tmp_path, ReportData("x", arms={"a": whole}, ks=[4]))
    assert "a 2 2 2 1.000 +0.750" in page.text
    assert "the pool holds the whole gallery, so a deeper one would find no more." in page.text


def test_no_evaluated_query_no_candidates_needed(tmp_path: Path) -> None:
    nothing = arm([])
    nothing["depth"] = depth_figures(np.empty(0), 4, 9)
    text, page = written(tmp_path, ReportData("x", arms={"a": nothing}, ks=[4], curves={"a": []}))
    assert "Candidates needed" not in page.text
    assert "#curve" not in text


def test_names_are_text_not_markup(tmp_path: Path) -> None:
    location = png(tmp_path, "a.png")
    figures = arm([[1]])
    figures["left_out"] = {EVIL: {"count": 1, "queries": [EVIL]}}
    figures["versus"] = {EVIL: {"recall@4": {"difference": 0.0, "interval": None}}}
    candidates = [Fabric(EVIL, location, 0.5, 1, True), Fabric(EVIL, EVIL, 0.5, 2, False)]
    data = ReportData(
        EVIL,
        [(EVIL, EVIL)],
        {EVIL: figures},
        [4],
        {EVIL: [(1, 0.5)]},
        {EVIL: [(1, 0.5)]},
        [StageTime(EVIL, 1.0, EVIL)],
        [RejectCount(EVIL, EVIL, 1)],
        [Reject(EVIL, EVIL, EVIL, EVIL, EVIL)],
        [QueryCard(EVIL, EVIL, (EVIL,), 1, {EVIL: 0.5}, candidates, missed=Missed(4, [(EVIL, 2)]))],
    )
    _, page = written(tmp_path, data)
    assert page.all("img") == []
    assert len([found for found in page.all("script") if not found]) == 1
    assert not any("onerror" in found for _, found in page.elements)
    assert page.text.count("<script>alert(1)</script>") >= 15
    ((card,),) = page.data(id="cards-data")
    assert card["why"] == f"Mistaken for {EVIL} (2 of 4 wrong candidates)."
    assert card["path"] == card["candidates"][0][3] == card["metrics"][0][0] == EVIL


def test_unlabelled_run_shows_no_hits_and_no_figures(tmp_path: Path) -> None:
    location = png(tmp_path, "a.png")
    card = QueryCard("q/rose.png", location, candidates=[Fabric("g/a.png", location, 0.25, 1)])
    _, page = written(tmp_path, ReportData("search", cards=[card]))
    for absent in ("hit", "miss", "relevant", "Recall", "Figures", "Stages", "worst", "Worst", "ypical"):
        assert absent not in page.text
    ((shown,),) = page.data(id="cards-data")
    assert shown["title"] == "rose.png"  # the file name stands for the missing category
    assert shown["candidates"] == [[1, 0.25, None, "g/a.png", 0, None]]


def test_the_page_says_what_it_takes_and_what_that_cost(tmp_path: Path) -> None:
    location = png(tmp_path, "a.png")
    text, page = written(tmp_path, ReportData("x", cards=[QueryCard("q.png", location)]))
    assert f"This file is {len(text.encode()) / 1e6:.1f} MB large; report.max_megabytes allows 30. It asks" in page.text
    noisy = [str(tmp_path / f"{number}.png") for number in range(300)]
    for number, name in enumerate(noisy):
        pixels = np.random.default_rng(number).integers(0, 256, (120, 120, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(name)
    cards = [QueryCard(name, name) for name in noisy]
    target = tmp_path / "full.html"
    size = write_report(str(target), ReportData("x", cards=cards), ImagesConfig(), ReportConfig(max_megabytes=1))
    assert 800_000 < size == target.stat().st_size <= 1_000_000
    full = Page(target.read_text())
    assert "To stay below that, pictures are 64 instead of 256 pixels wide, and" in full.text
    places = full.data(**{"class": "places"})[0]
    left_out = sum(place == "no room" for place in places)
    assert f"and {left_out} of 300 are left out." in full.text
    assert places.index("no room") == 300 - left_out > 0  # the first have room
    assert sum(map(len, full.data(**{"class": "pictures"}))) == 300 - left_out


def test_a_summary_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    rows = [Reject("x" * 10_000, "gallery", "embed", "empty", "") for _ in range(120)]
    with pytest.raises(ValueError, match=r"report\.max_megabytes = 1: "):
        written(tmp_path, ReportData("x", reject_counts=[RejectCount("g", "e", 1)], reject_rows=rows), max_megabytes=1)


def test_a_page_that_fails_half_way_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "report.html"
    target.write_text("old")
    data = ReportData("x", cards=[QueryCard("q", png(tmp_path, "a.png"))])
    monkeypatch.setattr(page_module, "_size_note", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_report(str(target), data, ImagesConfig(), ReportConfig())
    assert target.read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "report.html"]


def test_a_name_that_is_no_text_does_not_stop_the_page(tmp_path: Path) -> None:
    name = b"caf\xe9.png".decode(errors="surrogateescape")
    _, page = written(tmp_path, ReportData(name, cards=[QueryCard(name, png(tmp_path, "a.png"))]))
    assert "caf?.png" in page.text
    assert page.data(id="cards-data")[0][0]["path"] == name


def test_unknown_own_arm_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="own_arm = mine: not among the arms a, b"):
        written(tmp_path, ReportData("x", arms={"a": arm([[1]]), "b": arm([[1]])}, ks=[4], own_arm="mine"))


def test_empty_report_is_a_page(tmp_path: Path) -> None:
    _, page = written(tmp_path, ReportData("empty"))
    assert "Rejected images None: every image could be read." in page.text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (59.9, "59.9 s"), (60, "1 min 00 s"), (3599.7, "1 h 00 min"), (7380, "2 h 03 min")],
)
def test_durations(seconds: float, text: str) -> None:
    assert page_module._duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.25, "+0.250"), (-0.1, f"{MINUS}0.100"), (-0.0001, "0.000"), (0.0, "0.000")]
)
def test_signed_differences(value: float, text: str) -> None:
    assert page_module._signed(value) == text


def test_a_figure_that_rounds_to_zero_has_no_sign() -> None:
    assert page_module._figure(-0.0001) == "0.000"


def test_known_arms_keep_their_line_style() -> None:
    assert page_module._style("frozen", ["frozen"]) == page_module._style("frozen", ["random", "frozen", "x"]) == 2
    assert [page_module._style(name, ["frozen", *"abcde"]) for name in "abcde"] == [4, 5, 6, 7, 4]
