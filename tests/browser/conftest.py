"""The machine's own Chromium, and what every page is held to: no complaint, and no request that should not be."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), ""
)


@pytest.fixture(scope="module")  # its event loop would stand in the way of other modules' own
def browser() -> Iterator[Any]:
    if not CHROMIUM:
        reason = "no Chromium on this machine; `make browser` installs it"
        if os.environ.get("REQUIRE_BROWSER"):
            pytest.fail(reason)
        pytest.skip(reason)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # A sandbox needs rights that containers do not give; only our own page is opened.
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


class Watched:
    """A page's complaints and the addresses that it asked for."""

    def __init__(self, page: Any) -> None:
        self.complaints: list[str] = []
        self.addresses: set[str] = set()
        page.on("console", lambda message: self.complaints.append(message.text) if message.type != "log" else None)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("dialog", lambda dialog: (self.complaints.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda request: self.addresses.add(request.url))


def barriers(page: Any) -> list[str]:
    """What axe-core calls serious or critical on a page as it stands: the rule and the elements."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response
    assert found["passes"]  # it has looked at something
    return [
        f"{rule['id']}: {[node['target'] for node in rule['nodes']]}"
        for rule in found["violations"]
        if rule["impact"] in {"serious", "critical"}
    ]
