"""The search page in a real browser, over simulated fabrics: a motif goes in, ranked fabrics come out."""

from __future__ import annotations

import base64
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
import uvicorn

from retrieval_core.encoding.arms import model_arm
from retrieval_core.serving.app import build_app
from retrieval_core.serving.search_index import open_index
from retrieval_core.simulation.dataset import plan_dataset, write_range
from tests.browser.conftest import Watched, barriers
from tests.unit.serving.small_store import config, embed

pytestmark = pytest.mark.browser
EVIL = "<img src=x onerror=alert(1)><script>alert(2).png"
DROP = """([data, name]) => {
  const bytes = Uint8Array.from(atob(data), (character) => character.charCodeAt(0));
  const files = new DataTransfer();
  files.items.add(new File([bytes], name, { type: "image/png" }));
  for (const kind of ["dragover", "drop"])
    document.body.dispatchEvent(new DragEvent(kind, { dataTransfer: files, bubbles: true, cancelable: true }));
}"""
KEYS = {
    "model": {"weights": "Weight_Path/dinov2-motif-tiny", "image_size": 56, "pooling": "patches"},
    "embed": {"fabric_size": 126, "vectors": 6},
    "simulate": {
        "train_motifs": 1, "val_motifs": 1, "test_motifs": 6, "train_fabrics": 1, "val_fabrics": 1, "test_fabrics": 18,
        "queries_per_motif": 1, "fabric_size": 128, "query_size": 64,
    },
    "serve": {"top": 12},
}  # fmt: skip


class Catalogue:
    """Simulated fabrics, embedded, and a server for them in a thread."""

    def __init__(self, folder: Path) -> None:
        root = Path(__file__).parents[2]
        keys = config(**{**KEYS, "model": {**KEYS["model"], "weights": str(root / "Weight_Path/dinov2-motif-tiny")}})
        plan = plan_dataset(keys.simulate, 0)
        write_range(plan, str(folder), 0, plan.items)
        self.motif = sorted((folder / "element img").iterdir())[-1]  # of the test split
        self.fabrics = sorted(folder.glob("**/test/img/images/*.png"))
        self.fabrics.append(self.fabrics.pop(0).rename(self.fabrics[0].with_name(EVIL)))
        arm = embed(keys, list(map(str, self.fabrics)), folder / "store", 8, model_arm("frozen", keys.model, 0))
        app = build_app(open_index(str(folder / "store"), arm, keys), keys.serve, "simulated fabrics")
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.server = uvicorn.Server(uvicorn.Config(app, lifespan="off", ws="none", log_level="critical"))
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self.listener]})
        self.thread.start()

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join(30)
        self.listener.close()


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Catalogue]:
    served = Catalogue(tmp_path_factory.mktemp("catalogue"))
    yield served
    served.stop()


@pytest.fixture
def page(browser: Any, catalogue: Catalogue) -> Iterator[Any]:
    """A page that must end without a complaint in its console and without a request to another host."""
    opened = browser.new_page()
    watched = Watched(opened)
    opened.goto(catalogue.address)
    yield opened
    opened.close()
    assert watched.complaints == []
    hosts = {urlsplit(address).netloc for address in watched.addresses}
    assert hosts - {""} == {urlsplit(catalogue.address).netloc}  # blob: addresses have no host


def drop(page: Any, file: Path) -> None:
    page.evaluate(DROP, [base64.b64encode(file.read_bytes()).decode(), file.name])
    page.wait_for_selector("#sheet .candidate")


def searched(page: Any, words: str) -> None:
    from playwright.sync_api import expect

    expect(page.locator("#status")).to_contain_text(words)


def drag(page: Any, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Drag over the picture, from and to shares of its sides."""
    box = page.locator("#picture").bounding_box()
    for number, (x, y) in enumerate([start, end, end]):
        page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])
        if number == 0:
            page.mouse.down()
    page.mouse.up()


def test_a_motif_that_is_dropped_gives_ranked_fabrics(page: Any, catalogue: Catalogue) -> None:
    drop(page, catalogue.motif)
    searched(page, "12 of 18 fabrics for the whole picture")
    scores = [float(text) for text in page.locator(".score").all_text_contents()]
    assert scores == sorted(scores, reverse=True)
    assert page.locator(".rank").all_text_contents() == [str(rank) for rank in range(1, 13)]
    assert page.locator(".candidate svg rect").count() > 0  # where a tile matched best, it is outlined
    page.locator("#top").select_option("24")
    searched(page, "18 of 18 fabrics")
    page.wait_for_load_state("networkidle")
    assert page.locator(".lost").count() == 0


def test_a_part_cut_out_with_the_mouse_finds_its_fabric(page: Any, catalogue: Catalogue) -> None:
    fabric = catalogue.fabrics[4]
    page.locator("#file").set_input_files(str(fabric))
    searched(page, "whole picture")
    drag(page, (0.1, 0.1), (0.6, 0.6))
    searched(page, "part of the picture")
    corners = [int(page.locator(f"#{name}").input_value()) for name in ("x0", "y0", "x1", "y1")]
    assert all(abs(corner - wanted) <= 1 for corner, wanted in zip(corners, [13, 13, 77, 77], strict=True)), corners
    assert fabric.name in page.locator(".name").all_text_contents()[:3]
    drag(page, (0.3, 0.3), (0.4, 0.3))  # inside: the frame moves
    searched(page, "part of the picture")
    moved = [int(page.locator(f"#{name}").input_value()) for name in ("x0", "y0", "x1", "y1")]
    assert moved[0] > corners[0] and moved[1] == corners[1] and abs(moved[2] - moved[0] - 64) <= 2
    page.locator("#whole").click()
    searched(page, "whole picture")
    assert page.locator(".name").first.text_content() == fabric.name


def click(page: Any, x: float, y: float) -> None:
    """Click the picture, at shares of its sides."""
    box = page.locator("#picture").bounding_box()
    page.mouse.click(box["x"] + x * box["width"], box["y"] + y * box["height"])


def sides(page: Any) -> list[int]:
    return [int(page.locator(f"#{edge}").input_value()) for edge in ("x0", "y0", "x1", "y1")]


def test_a_click_picks_the_motif_and_steps_make_it_larger_or_smaller(page: Any, catalogue: Catalogue) -> None:
    drop(page, catalogue.fabrics[0])
    click(page, 0.4, 0.6)
    searched(page, "for the part of the picture")
    x0, y0, x1, y1 = picked = sides(page)
    assert 0 <= x0 <= 0.4 * 128 <= x1 <= 128 and 0 <= y0 <= 0.6 * 128 <= y1 <= 128
    assert (x1 - x0) * (y1 - y0) < 128 * 128 / 4
    assert page.locator(".candidate").first.get_attribute("class") and page.locator("#crop").is_visible()
    page.locator("#larger").click()
    larger = sides(page)
    assert (larger[2] - larger[0]) > x1 - x0 and (larger[3] - larger[1]) > y1 - y0
    searched(page, "for the part of the picture")
    page.locator("h1").click()  # the focus leaves the button
    page.keyboard.press("-")
    np.testing.assert_allclose(sides(page), picked, atol=2)
    for _ in range(60):
        page.keyboard.press("-")
    smallest = sides(page)
    assert 1 <= smallest[2] - smallest[0] <= 3 and 1 <= smallest[3] - smallest[1] <= 3
    for _ in range(10):
        page.keyboard.press("+")
    before = sides(page)
    page.locator("#stage").hover()
    page.mouse.wheel(0, -100)
    page.wait_for_function(f"() => Number(document.getElementById('x1').value) > {before[2]}")
    click(page, 0.7, 0.2)
    page.wait_for_function(f"() => Number(document.getElementById('x0').value) > {picked[0]}")
    searched(page, "for the part of the picture")
    page.locator("#whole").click()
    searched(page, "for the whole picture")
    assert page.locator("#larger").is_disabled() and page.locator("#smaller").is_disabled()


def test_a_motif_on_a_fabric_that_was_found_is_picked_where_it_is_enlarged(page: Any, catalogue: Catalogue) -> None:
    drop(page, catalogue.motif)
    page.locator("#sheet .open").nth(1).click()
    page.wait_for_load_state("networkidle")
    name = page.locator("#compare-path").text_content().split("/")[-1]
    box = page.locator("#compare-fabric img").bounding_box()
    page.mouse.click(box["x"] + 0.3 * box["width"], box["y"] + 0.6 * box["height"])
    searched(page, "for the part of the picture")
    assert not page.locator("#compare").is_visible()
    assert page.locator("#motif-name").text_content() == name
    x0, y0, x1, y1 = sides(page)
    assert x0 <= 0.3 * 128 <= x1 and y0 <= 0.6 * 128 <= y1


def test_everything_by_keyboard(page: Any, catalogue: Catalogue) -> None:
    page.locator("#file").set_input_files(str(catalogue.fabrics[2]))
    searched(page, "whole picture")
    page.locator("#x1").fill("60")
    page.keyboard.press("Tab")
    searched(page, "part of the picture")
    page.locator(".open").nth(1).focus()
    page.keyboard.press("Enter")
    title = page.locator("#compare-title")
    assert title.text_content().startswith("Rank 2 ")
    page.keyboard.press("ArrowRight")
    assert title.text_content().startswith("Rank 3 ")
    page.keyboard.press("Escape")
    assert not page.locator("#compare").is_visible()
    # Where the focus returns to is decided when the dialog has closed, a moment later.
    page.wait_for_function("() => (document.activeElement.getAttribute('aria-label') ?? '').startsWith('Rank 3,')")
    page.keyboard.press("Enter")
    page.locator("#search-this").click()
    searched(page, "whole picture")


def test_names_are_text(page: Any, catalogue: Catalogue) -> None:
    drop(page, catalogue.fabrics[-1])
    searched(page, "whole picture")
    place = page.locator(".name").all_text_contents().index(catalogue.fabrics[-1].name)
    page.locator(".open").nth(place).click()
    assert catalogue.fabrics[-1].name in page.locator("#compare-path").text_content()
    assert page.locator("#motif-name").text_content() == catalogue.fabrics[-1].name


def test_narrow_and_dark_screens(page: Any, catalogue: Catalogue) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    page.emulate_media(color_scheme="dark")
    drop(page, catalogue.motif)
    searched(page, "whole picture")
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 360
    ground = page.evaluate("() => getComputedStyle(document.body).backgroundColor")
    assert max(int(part) for part in ground.removeprefix("rgb(").removesuffix(")").split(",")) < 64


@pytest.mark.parametrize(("width", "scheme"), [(360, "dark"), (1280, "light")])
def test_no_barrier_for_people_with_disabilities(page: Any, catalogue: Catalogue, width: int, scheme: str) -> None:
    page.set_viewport_size({"width": width, "height": 740})
    page.emulate_media(color_scheme=scheme)
    assert barriers(page) == []
    drop(page, catalogue.motif)
    drag(page, (0.2, 0.2), (0.8, 0.8))
    searched(page, "for the part of the picture")
    assert barriers(page) == []
    page.locator("#sheet .open").first.click()
    page.wait_for_load_state("networkidle")
    assert barriers(page) == []
    page.keyboard.press("Escape")
    page.evaluate("document.documentElement.dataset.maxUpload = 1")
    page.locator("#file").set_input_files(str(catalogue.motif))
    page.wait_for_selector("#problem:visible")
    assert barriers(page) == []
