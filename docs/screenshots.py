"""Takes the pictures of docs/images from a finished run: the report and the search page, wide, narrow and dark.

    python docs/screenshots.py --config ray_jobs/configs/demo.yaml

It needs the packages of the extra `test` and Chromium (`make browser`). `--set` takes the options of the run.
"""

from __future__ import annotations

import argparse
import csv
import io
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

from retrieval_core.config.config import Config, load_config
from retrieval_core.data.motif_boxes import load_motif_boxes
from retrieval_core.ranking.candidate_pool import read_pool

TARGET = Path(__file__).with_name("images")
MAX_BYTES = 300_000  # of a picture
WIDE, NARROW = {"width": 1200, "height": 860}, {"width": 390, "height": 844}
VIEWS = (("", WIDE, "light"), ("-narrow", NARROW, "light"), ("-dark", WIDE, "dark"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", default="ray_jobs/configs/demo.yaml")
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="a.b=c")
    parser.add_argument("--browser", default="/usr/bin/chromium")
    options = parser.parse_args()
    config = load_config(options.config, options.overrides)
    with sync_playwright() as playwright, served(options.config, options.overrides) as address:
        browser = playwright.chromium.launch(executable_path=options.browser, args=["--no-sandbox"])
        shoot_report(browser, config)
        shoot_search_page(browser, address, config)
        browser.close()


def folder(config: Config) -> Path:
    return Path(config.run.output_dir) / config.run.name


@contextmanager
def served(config: str, overrides: list[str]) -> Iterator[str]:
    """The search page on a free port; yields its address."""
    words = [word for text in [*overrides, "serve.port=0"] for word in ("--set", text)]
    command = [sys.executable, "-m", "ray_jobs", "serve", "--config", config, *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        found = re.search(r"http://\S+", server.stdout.readline())
        if found is None:
            raise SystemExit("the search page did not start; its lines above say why")
        yield found[0]
        server.terminate()


def shoot_report(browser: Any, config: Config) -> None:
    """The report as it opens; the dark one with the first hit enlarged."""
    address = (folder(config) / "report.html").resolve().as_uri()
    for name, size, scheme in VIEWS:
        page = browser.new_page(viewport=size, color_scheme=scheme)
        page.goto(address)
        if scheme == "dark":
            page.locator(".candidate.hit .open").first.click()
        save(page, f"report{name}")


def answers(config: Config) -> list[dict[str, str]]:
    """Rows of per_query.csv that have figures, of the run's own arm: the last one there."""
    with (folder(config) / "per_query.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [row for row in rows if row["arm"] == rows[-1]["arm"] and row["first_hit"]]


def shoot_search_page(browser: Any, address: str, config: Config) -> None:
    motif, fabric, box = example(config)
    for name, size, scheme in VIEWS:
        page = browser.new_page(viewport=size, color_scheme=scheme)
        page.goto(address)
        part = not name
        page.locator("#file").set_input_files(fabric if part else motif)
        page.wait_for_selector("#sheet .candidate")
        if part:
            width, height = page.locator("#picture").evaluate("(one) => [one.naturalWidth, one.naturalHeight]")
            shown = page.locator("#picture").bounding_box()
            across, down = (box[0] + box[2]) / 2 / width, (box[1] + box[3]) / 2 / height
            page.mouse.click(shown["x"] + across * shown["width"], shown["y"] + down * shown["height"])
            page.get_by_text("part of the picture, in").wait_for()
        if size == NARROW:
            page.locator(".amount").evaluate("(one) => one.scrollIntoView({ behavior: 'instant' })")
        page.wait_for_load_state("networkidle")
        save(page, f"search-page{name}")


def example(config: Config) -> tuple[str, str, tuple[int, int, int, int]]:
    """The query with the best answer, a candidate of it, and the largest box of its motif that is whole there."""
    best = max(answers(config), key=lambda row: float(row[f"AP@{config.evaluate.ks[-1]}"]))
    pool = read_pool(str(folder(config) / "candidate_pool.parquet"))
    found = next(one for one in pool if one.query_path == best["query_path"])
    boxes = load_motif_boxes(config.data, only=set(found.image_paths))
    for fabric in found.image_paths:
        with Image.open(fabric) as image:
            width, height = image.size
        whole = [
            box
            for category, box in boxes.get(fabric, [])
            if category in best["categories"].split(";")
            and 0 < box[0] < box[2] < width
            and 0 < box[1] < box[3] < height
        ]
        if whole:
            box = max(whole, key=lambda one: (one[2] - one[0]) * (one[3] - one[1]))
            return str(Path(config.data.root) / best["query_path"]), fabric, box
    raise SystemExit("no candidate of the best query shows its motif whole; try another run")


def save(page: Any, name: str) -> None:
    """Save what the window shows as a PNG with a palette, in as many colours as stay below ``MAX_BYTES``."""
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    target = TARGET / f"{name}.png"
    for colours in (256, 128, 64):
        picture.quantize(colours, method=Image.Quantize.MEDIANCUT).save(target, optimize=True)
        if target.stat().st_size < MAX_BYTES:
            break
    else:
        raise SystemExit(f"{target}: {target.stat().st_size} bytes; make the window smaller")
    print(f"{target}: {target.stat().st_size / 1000:.0f} kB in {colours} colours")
    page.close()


if __name__ == "__main__":
    main()
