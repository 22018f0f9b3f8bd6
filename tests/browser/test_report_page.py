"""The report in a real browser, from disk: nothing leaves the file, and sorting and filtering do what they say."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from retrieval_core.config.sections import ImagesConfig, ReportConfig
from retrieval_core.report.data import Fabric, Missed, QueryCard, ReportData
from retrieval_core.report.explain import explanation
from retrieval_core.report.page import write_report
from tests.browser.conftest import Watched, barriers

pytestmark = pytest.mark.browser
EVIL = "<img src=x onerror=alert(1)></script><script>alert(2)</script><!--"
QUERIES, FABRICS, PER_PAGE = 45, 30, 20
DEPTH = 100
CONTRAST = """() => [...document.querySelectorAll('.mark, .rank, .name, .path, .status, .why, .lead')].map((node) => {
  const light = (colour) => {
    const parts = colour.match(/[\\d.]+/g).map(Number).slice(0, 3).map((value) => value / 255);
    const linear = parts.map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4));
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
  };
  let ground = node;
  while (getComputedStyle(ground).backgroundColor === 'rgba(0, 0, 0, 0)') ground = ground.parentElement;
  const pair = [getComputedStyle(node).color, getComputedStyle(ground).backgroundColor].map(light);
  return (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
})"""


def picture(folder: Path, name: str, number: int) -> str:
    Image.new("RGB", (90, 60), (number * 5 % 256, number * 11 % 256, 255 - number)).save(folder / name, "PNG")
    return str(folder / name)


def make_cards(folder: Path, queries: int) -> list[QueryCard]:
    """Query i of category i % 7, with hits where the rank divides by i % 5 + 2."""
    fabrics = [picture(folder, f"fabric {number}.png", number) for number in range(FABRICS)]
    motifs = [picture(folder, f"motif {number}.png", 100 + number) for number in range(9)]
    cards = []
    for number in range(queries):
        candidates = [
            Fabric(
                fabrics[(number + rank) % FABRICS],
                fabrics[(number + rank) % FABRICS],
                1 - rank / 50,
                rank,
                rank % (number % 5 + 2) == 0,
                (0, 0, 45, 30) if rank == 1 else None,
            )
            for rank in range(1, 7)
        ]
        hits = [rank for rank in range(1, 41) if rank % (number % 5 + 2) == 0]
        lost = [Fabric(fabrics[number % FABRICS], fabrics[number % FABRICS], 0.1, 1234 + number)] * (number % 2)
        relevant = len(hits) + len(lost)
        figures = {f"recall@{DEPTH}": len(hits) / relevant, f"AP@{DEPTH}": (number * 7 % 11) / 11}
        name = f"q/{number:04}.png"
        cards.append(
            QueryCard(
                name,
                motifs[number % 9],
                (f"motif-{number % 7}",),
                relevant,
                figures,
                candidates,
                hits,
                len(lost),
                lost,
                Missed(DEPTH - len(hits), [(f"motif-{number % 7 + 1}", 9)], 0.0123) if lost else None,
            )
        )
    return cards


@pytest.fixture(scope="module")
def cards(tmp_path_factory: pytest.TempPathFactory) -> list[QueryCard]:
    folder = tmp_path_factory.mktemp("pictures")
    made = make_cards(folder, QUERIES)
    evil = picture(folder, EVIL.replace("/", "_"), 7)
    named = Fabric(f"g/{EVIL}", evil, 0.9, 1, True)
    torn = Fabric("g/torn.png", str(folder / "torn.png"), None, None)
    made[3] = QueryCard(EVIL, evil, (EVIL,), 2, {f"recall@{DEPTH}": 0.5, f"AP@{DEPTH}": 0.25}, [named], [1], 1, [torn])
    made[4] = QueryCard("q/rejected.png", str(folder / "none.png"), ("motif-4",), 2, {f"recall@{DEPTH}": 0.0})
    made[5] = QueryCard("q/irrelevant.png", evil, ("motif-5",), 0, {}, [named._replace(hit=False)])
    return made


@pytest.fixture(scope="module")
def report(cards: list[QueryCard], tmp_path_factory: pytest.TempPathFactory) -> str:
    data = ReportData(
        f"trial {EVIL}",
        curves={"fine_tuned": [(1, 0.1), (DEPTH, 0.5)]},
        precisions={"fine_tuned": [(1, 0.5), (DEPTH, 0.1)]},
        cards=cards,
        pool_depth=DEPTH,
    )
    target = tmp_path_factory.mktemp("report") / "report.html"
    write_report(str(target), data, ImagesConfig(), ReportConfig())
    return f"file://{target}"


@pytest.fixture
def page(browser: Any, report: str) -> Iterator[Any]:
    """A page of 20 queries as listed; it must end without a complaint, and ask for its own file alone."""
    opened = browser.new_page(viewport={"width": 1280, "height": 900})
    watched = Watched(opened)
    opened.goto(report)
    opened.locator("#sort").select_option("list")
    opened.locator("#per-page").select_option(str(PER_PAGE))
    yield opened
    opened.close()
    assert watched.complaints == []
    assert {address for address in watched.addresses if not address.startswith("data:")} == {report}


def paths(page: Any) -> list[str]:
    """Query paths of all pages, turning them."""
    found = page.locator(".card .path").all_text_contents()
    while page.locator("#later").is_visible() and page.locator("#later").is_enabled():
        page.locator("#later").click()
        found += page.locator(".card .path").all_text_contents()
    return found


def test_all_queries_are_there_a_page_at_a_time(page: Any, cards: list[QueryCard]) -> None:
    assert page.locator(".card").count() == PER_PAGE
    assert page.locator("#status").text_content() == f"Queries: 1 to {PER_PAGE} of {QUERIES}"
    assert page.locator("#earlier").is_disabled()
    assert paths(page) == [card.query_path for card in cards]
    assert page.locator("#page-name").text_content() == "3 / 3"
    assert page.locator(".card").count() == QUERIES % PER_PAGE
    assert page.evaluate("() => document.activeElement.id") == "status"
    page.locator("#earlier").click()
    assert page.locator("#page-name").text_content() == "2 / 3"


def test_it_opens_with_what_is_typical_a_few_at_a_time(browser: Any, report: str, cards: list[QueryCard]) -> None:
    page = browser.new_page()
    page.goto(report)
    assert page.locator("#sort").input_value() == "typical"
    assert page.locator("#status").text_content() == f"Queries: 1 to 5 of {QUERIES}"
    known = sorted(card.metrics[f"AP@{DEPTH}"] for card in cards if f"AP@{DEPTH}" in card.metrics)
    first = {card.query_path: card for card in cards}[page.locator(".card .path").first.text_content()]
    assert first.metrics[f"AP@{DEPTH}"] == known[(len(known) - 1) // 2]
    page.locator("#later").click()
    page.locator("#later").click()
    page.locator("#per-page").select_option("20")  # the page that has the eleventh
    assert page.locator("#status").text_content() == f"Queries: 1 to 20 of {QUERIES}"
    page.locator("#filter").fill("motif-2")
    assert page.locator("#pager").is_visible()  # or nobody could choose fewer a page again
    page.close()


def test_the_worst_queries_explain_themselves(page: Any, cards: list[QueryCard]) -> None:
    page.get_by_role("link", name="Worst queries").click()
    assert page.locator("#sort").input_value() == "worst"
    assert page.locator(".card .path").first.text_content() == "q/rejected.png"  # a recall of 0
    explained = {card.query_path: explanation(card) for card in cards if card.missed}
    shown = page.locator(".card:has(.why)").evaluate_all(
        "(all) => all.map((one) => [one.querySelector('.path').textContent, one.querySelector('.why').textContent])"
    )
    assert len(shown) > 5
    assert dict(shown) == {path: explained[path] for path, _ in shown}


@pytest.mark.parametrize("order", ["typical", "worst", "best", "name"])
def test_sorting_does_what_it_says(page: Any, cards: list[QueryCard], order: str) -> None:
    known = sorted(card.metrics[f"AP@{DEPTH}"] for card in cards if f"AP@{DEPTH}" in card.metrics)
    median = known[(len(known) - 1) // 2]

    def key(card: QueryCard) -> tuple[Any, ...]:
        name = (card.categories[0].lower(), card.query_path)
        if order == "name":
            return name
        if order == "typical":
            value = card.metrics.get(f"AP@{DEPTH}")
            return (value is None, round(abs((value or 0) - median), 6), *name)
        sign = 1 if order == "worst" else -1
        recall, precision = (card.metrics.get(f"{figure}@{DEPTH}") for figure in ("recall", "AP"))
        return (recall is None, sign * (recall or 0), precision is None, sign * (precision or 0), *name)

    page.locator("#sort").select_option(order)
    assert paths(page) == [card.query_path for card in sorted(cards, key=key)]
    page.locator("#sort").select_option("list")
    assert page.locator(".card .path").first.text_content() == "q/0000.png"


def test_filtering_does_what_it_says(page: Any, cards: list[QueryCard]) -> None:
    page.locator("#later").click()
    page.locator("#filter").fill("motif-2")
    wanted = [card.query_path for card in cards if card.categories == ("motif-2",)]
    assert paths(page) == wanted
    assert page.locator("#status").text_content() == f"Queries: {len(wanted)}, filtered from {QUERIES}"
    page.locator("#filter").fill("Q/001")  # a part of a name, in any case
    assert paths(page) == [f"q/{number:04}.png" for number in range(10, 20)]
    page.locator("#filter").fill("no such motif")
    assert page.locator(".card").count() == 0
    assert page.locator("#status").text_content() == "No query matches this filter."
    page.locator("#filter").fill("")
    assert page.locator(".card").count() == PER_PAGE
    options = page.locator("#categories option").evaluate_all("(all) => all.map((one) => one.value)")
    assert options == sorted({card.categories[0] for card in cards})


def test_hits_misses_and_lost_ones_are_told_apart_without_colour(page: Any) -> None:
    card = page.locator(".card").nth(1)  # hits at ranks 3, 6, ..., and a lost one
    assert card.locator(".sheet").first.locator(".mark").all_text_contents() == [
        "✕ miss", "✕ miss", "✓ hit", "✕ miss", "✕ miss", "✓ hit",
    ]  # fmt: skip
    assert card.locator(".sheet.lost .mark").all_text_contents() == ["○ lost"]
    borders = {
        kind: card.locator(f".candidate.{kind} .picture").first.evaluate("(one) => getComputedStyle(one).borderStyle")
        for kind in ("hit", "miss", "lost")
    }
    assert borders == {"hit": "solid", "miss": "dashed", "lost": "dotted"}
    assert card.locator(".rank").all_text_contents() == ["1", "2", "3", "4", "5", "6", "1,235"]
    assert card.locator(".score").first.text_content() == "0.980"
    named = card.locator(".open").evaluate_all("(all) => all.map((one) => one.ariaLabel)")
    assert named[2] == "Rank 3, similarity 0.940, hit, fabric 4.png: enlarge"
    assert named[6] == "Rank 1,235, similarity 0.100, lost, fabric 1.png: enlarge"


def test_what_is_not_shown_is_counted(page: Any) -> None:
    card = page.locator(".card").nth(1)
    assert card.locator(".further").text_content() == (
        "Further hits at ranks 9, 12, 15, 18, 21, 24, 27, 30, 33, 36, 39."
    )
    assert card.locator("h4").text_content() == "Not in the pool: 1 of 14 relevant fabrics"
    assert card.locator(".strip").get_attribute("aria-label").startswith("Hits in the pool at ranks 3, 6, 9, 12,")
    assert card.locator(".strip .fill").count() == 13
    assert card.locator(".about dd").all_text_contents() == ["14", "13", "0.929", "0.636"]


def test_queries_and_fabrics_without_a_result_say_so(page: Any) -> None:
    rejected, irrelevant = page.locator(".card").nth(4), page.locator(".card").nth(5)
    assert rejected.locator(".none").text_content() == "No candidates: the query image was rejected."
    assert rejected.locator(".motif .missing").get_attribute("aria-label") == "The motif motif-4: no picture, missing"
    assert irrelevant.locator(".about dd").all_text_contents() == ["0"]
    torn = page.locator(".card").nth(3).locator(".sheet.lost .open")
    assert torn.get_attribute("aria-label") == "No rank, lost, torn.png: enlarge"
    torn.click()
    assert page.locator("#compare-title").text_content() == "No rank · the image was rejected ○ lost"


def test_names_are_text(page: Any) -> None:
    assert EVIL in page.locator("h1").text_content()
    card = page.locator(".card").nth(3)
    assert card.locator("h3").text_content() == EVIL
    assert card.locator(".path").text_content() == EVIL
    card.locator(".open").first.click()
    assert page.locator("#compare-path").text_content() == f"g/{EVIL}"
    assert page.locator("#compare-query").text_content() == f"{EVIL} · {EVIL}"
    assert page.locator("img[src='x']").count() == 0


def test_a_fabric_is_enlarged_beside_its_motif_with_the_region(page: Any) -> None:
    page.locator(".card").first.locator(".open").first.click()
    assert page.locator("#compare-title").text_content() == "Rank 1 · similarity 0.980 ✕ miss"
    motif, fabric = page.locator("#compare-motif img"), page.locator("#compare-fabric img")
    assert motif.evaluate("(one) => one.complete && one.naturalWidth") == 90
    image, box = fabric.bounding_box(), page.locator("#compare-fabric .box.over").bounding_box()
    # Of 90 x 60 pixels, fitted into the frame, the upper left quarter.
    width = min(image["width"], image["height"] * 1.5)
    left, top = image["x"] + (image["width"] - width) / 2, image["y"] + (image["height"] - width / 1.5) / 2
    for found, wanted in zip(
        (box["x"], box["y"], box["width"], box["height"]), (left, top, width / 2, width / 3), strict=True
    ):
        assert found == pytest.approx(wanted, abs=4)
    page.locator("#next").click()
    assert page.locator("#compare-title").text_content().startswith("Rank 2 ")
    assert page.locator("#compare-fabric .box").count() == 0
    page.locator("#close").click()
    assert not page.locator("#compare").is_visible()


def test_everything_by_keyboard(page: Any) -> None:
    page.locator("#filter").focus()
    page.keyboard.press("Tab")
    first = "() => document.activeElement.ariaLabel"
    assert page.evaluate(first).startswith("Rank 1,")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert page.evaluate(first).startswith("Rank 3,")
    page.keyboard.press("Enter")
    assert page.locator("#compare-title").text_content().startswith("Rank 3 ")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    assert page.locator("#compare-title").text_content().startswith("Rank 2 ")
    page.keyboard.press("Escape")
    assert not page.locator("#compare").is_visible()
    page.wait_for_function("() => document.activeElement.ariaLabel?.startsWith('Rank 2,')")
    page.keyboard.press("End")
    page.keyboard.press("Tab")  # one stop a sheet: on to the next query
    assert page.evaluate(first).startswith("Rank 1,")


def test_headings_lead_through_the_page(page: Any) -> None:
    levels = page.evaluate("() => [...document.querySelectorAll('main h2, main h3, main h4')].map((h) => h.tagName)")
    assert all(int(after[1]) - int(before[1]) <= 1 for before, after in pairwise(levels))
    assert page.get_by_role("article", name="motif-0").count() == 3
    assert page.get_by_role("img", name="The motif motif-0").first.is_visible()
    assert page.locator("button").evaluate_all("(all) => all.every((one) => one.innerText || one.ariaLabel)")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_narrow_screens_and_contrast(page: Any, scheme: str) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    page.emulate_media(color_scheme=scheme)
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 360
    ground = page.evaluate("() => getComputedStyle(document.body).backgroundColor")
    assert (max(int(part) for part in re.findall(r"\d+", ground)) < 64) == (scheme == "dark")
    ratios = page.evaluate(CONTRAST)
    assert len(ratios) > 100
    assert min(ratios) >= 4.5
    page.locator(".open").first.click()
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 360


@pytest.mark.parametrize(("width", "scheme"), [(360, "dark"), (1280, "light")])
def test_no_barrier_for_people_with_disabilities(page: Any, width: int, scheme: str) -> None:
    page.set_viewport_size({"width": width, "height": 740})
    page.emulate_media(color_scheme=scheme)
    page.locator("#sort").select_option("worst")
    assert barriers(page) == []
    page.locator(".found .open").first.click()
    assert barriers(page) == []


def test_paper_is_white_and_has_no_controls(page: Any) -> None:
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("() => getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.locator("#toolbar").is_visible()
    assert not page.locator("#pager").is_visible()
    assert page.locator(".card").first.is_visible()
    assert len(page.pdf(format="A4")) > 10_000


def test_without_javascript_the_summary_is_there(browser: Any, report: str) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(report)
    assert page.get_by_role("img", name="Mean recall against the number of candidates").is_visible()
    assert page.get_by_text("The queries need JavaScript").is_visible()
    context.close()


def test_thousands_of_queries_open_like_a_few(browser: Any, tmp_path: Path) -> None:
    cards = make_cards(tmp_path, 5000)
    target = tmp_path / "report.html"
    size = write_report(str(target), ReportData("many", cards=cards, pool_depth=DEPTH), ImagesConfig(), ReportConfig())
    assert size < 10_000_000
    page = browser.new_page()
    watched = Watched(page)
    page.goto(f"file://{target}")
    assert page.locator("#status").text_content() == "Queries: 1 to 5 of 5,000"
    page.locator("#sort").select_option("worst")
    page.locator("#filter").fill("motif-3")
    expected = sum(card.categories == ("motif-3",) for card in cards)
    assert page.locator("#status").text_content() == f"Queries: 1 to 5 of {expected}, filtered from 5,000"
    assert page.locator("*").count() < 3000
    assert watched.complaints == []
    page.close()


def test_pictures_that_were_left_out_are_named(browser: Any, tmp_path: Path) -> None:
    import numpy as np

    names = [str(tmp_path / f"{number}.png") for number in range(300)]
    for number, name in enumerate(names):
        noise = np.random.default_rng(number).integers(0, 256, (80, 80, 3), dtype=np.uint8)
        Image.fromarray(noise).save(name)
    cards = [QueryCard(name, name, candidates=[Fabric(name, name, 0.5, 1)]) for name in names]
    target = tmp_path / "report.html"
    size = write_report(str(target), ReportData("full", cards=cards), ImagesConfig(), ReportConfig(max_megabytes=1))
    assert size <= 1_000_000
    page = browser.new_page()
    page.goto(f"file://{target}")
    assert "are left out." in page.locator("footer").text_content()
    page.locator("#filter").fill("299.png")
    assert "left out to keep this page small" in page.locator(".card .missing").last.text_content()
    page.close()
