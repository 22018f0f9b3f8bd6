"""What is seen of the report at once: a query, its first hits, and on each of them the place that matched."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from retrieval_core.config.sections import ImagesConfig, ReportConfig
from retrieval_core.report.data import Fabric, QueryCard, ReportData
from retrieval_core.report.page import write_report

pytestmark = pytest.mark.browser
SCREENS = [(1280, 800), (390, 844)]
BOX = (30, 15, 75, 40)  # of 90 x 60 pixels
SIDEWAYS = 6  # in EXIF: turn it by 90 degrees to see it upright


def marked(folder: Path, name: str) -> tuple[str, tuple[int, int, int, int]]:
    """A red cloth with a blue block, and the place of the block upright: wide, tall, or tall and stored sideways."""
    cloth = Image.new("RGB", (90, 60), (200, 0, 0))
    cloth.paste((0, 0, 200), BOX)
    x0, y0, x1, y1 = BOX
    if name == "wide":
        cloth.save(folder / "wide.png")
        return str(folder / "wide.png"), BOX
    if name == "tall":
        cloth.transpose(Image.Transpose.ROTATE_270).save(folder / "tall.png")
    else:
        exif = Image.Exif()
        exif[0x0112] = SIDEWAYS
        cloth.save(folder / "sideways.png", exif=exif)
    return str(folder / f"{name}.png"), (60 - y1, x0, 60 - y0, x1)


@pytest.mark.parametrize("size", SCREENS)
def test_outlines_on_thumbnails_lie_where_the_match_is(browser: Any, tmp_path: Path, size: tuple[int, int]) -> None:
    places = [marked(tmp_path, name) for name in ("wide", "tall", "sideways")]
    fabrics = [
        Fabric(path, path, 0.5, rank, hit, box)
        for hit in (True, False, None)  # frames of three widths
        for rank, (path, box) in enumerate(places, 1)
    ]
    card = QueryCard("q", places[0][0], candidates=[*fabrics, fabrics[0]._replace(box=None)])
    target = tmp_path / "report.html"
    write_report(str(target), ReportData("x", cards=[card]), ImagesConfig(), ReportConfig())
    page = browser.new_page(viewport={"width": size[0], "height": size[1]})
    page.goto(f"file://{target}")
    shown = page.locator(".candidate")
    assert shown.count() == 10
    assert shown.nth(9).locator(".box").count() == 0
    for place, fabric in enumerate(fabrics):
        one = shown.nth(place)
        image = one.locator("img").bounding_box()
        width, height = (90, 60) if place % 3 == 0 else (60, 90)
        scale = min(image["width"] / width, image["height"] / height)  # the picture is fitted, and centred
        left = image["x"] + (image["width"] - scale * width) / 2
        top = image["y"] + (image["height"] - scale * height) / 2
        x0, y0, x1, y1 = fabric.box
        for layer in ("under", "over"):
            outline = one.locator(f".box.{layer}")
            half = float(outline.evaluate("(one) => parseFloat(getComputedStyle(one).strokeWidth)")) / 2
            wanted = (left + x0 * scale - half, top + y0 * scale - half)
            wanted += ((x1 - x0) * scale + 2 * half, (y1 - y0) * scale + 2 * half)
            box = outline.bounding_box()  # with the line, half of which lies outside
            assert tuple(box[key] for key in ("x", "y", "width", "height")) == pytest.approx(wanted, abs=0.5)
        one.scroll_into_view_if_needed()
        pixels = Image.open(io.BytesIO(one.locator("img").screenshot())).convert("RGB")
        middle = left - image["x"] + (x0 + x1) / 2 * scale, top - image["y"] + (y0 + y1) / 2 * scale
        red, _, blue = pixels.getpixel((round(middle[0]), round(middle[1])))
        assert red < 60
        assert blue > 150  # the block itself is in the outline, not painted over
    strokes = page.locator(".box").evaluate_all("(all) => all.map((one) => getComputedStyle(one).stroke)")
    assert set(strokes) == {"rgb(255, 255, 255)", "rgb(17, 17, 17)"}  # one shows on dark cloth, the other on light
    page.close()


@pytest.mark.parametrize("size", SCREENS)
def test_a_query_and_its_first_hits_are_seen_at_once(browser: Any, tmp_path: Path, size: tuple[int, int]) -> None:
    cloth, box = marked(tmp_path, "wide")
    candidates = [Fabric(f"g/{rank}.png", cloth, 1 - rank / 50, rank, True, box) for rank in range(1, 13)]
    figures = {"recall@100": 0.5, "AP@100": 0.25}
    cards = [
        QueryCard(f"element img/{number},aubergine-long.png", cloth, ("aubergine-long",), 24, figures, candidates, [1])
        for number in range(7)
    ]
    data = ReportData("demo", facts=[("Seed", "0")] * 12, cards=cards, queries=5000, pool_depth=100)
    target = tmp_path / "report.html"
    write_report(str(target), data, ImagesConfig(), ReportConfig())
    page = browser.new_page(viewport={"width": size[0], "height": size[1]})
    page.goto(f"file://{target}")
    title, motif = page.locator("h1").bounding_box(), page.locator(".card .motif img").first.bounding_box()
    assert title["height"] < 40  # one line
    assert title["y"] < motif["y"]
    hits = [one.bounding_box() for one in page.locator(".card").first.locator(".candidate").all()]
    row = [hit for hit in hits if hit["y"] == hits[0]["y"]]
    assert len(row) >= 3
    for seen in (motif, *row):
        assert seen["y"] + seen["height"] <= size[1]
        assert seen["x"] + seen["width"] <= size[0]
    assert page.locator("#run").bounding_box()["y"] > size[1]  # what the run was made of comes below
    page.close()
