"""An application over a small store, asked by a client in this process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
from starlette.testclient import TestClient

from retrieval_core.config.config import Config
from retrieval_core.encoding.arms import Arm, histogram_arm
from retrieval_core.serving.app import build_app
from retrieval_core.serving.search_index import SearchIndex, open_index
from tests.unit.serving.small_store import config, embed, write_fabrics

HOST = "http://127.0.0.1:8000"


class Served:
    """An application over a small store, and a client of it."""

    def __init__(self, folder: Path, arm_of: Callable[[Config], Arm] = histogram_arm, **sections: Any) -> None:
        self.keys: Config = config(**sections)
        self.paths = write_fabrics(folder / "fabrics")
        arm = embed(self.keys, self.paths, folder / "store", arm=arm_of(self.keys))
        self.index: SearchIndex = open_index(str(folder / "store"), arm, self.keys)
        self.client = TestClient(build_app(self.index, self.keys.serve, "<trial>"), base_url=HOST)

    def search(self, content: bytes, **fields: str) -> httpx.Response:
        return self.client.post("/api/search", files={"image": ("x.png", content)}, data=fields)

    def complaint(self, answer: httpx.Response, status: int) -> tuple[str, str]:
        """(code, detail) of an answer that must be an error."""
        assert answer.status_code == status, answer.text
        assert answer.headers["content-type"] == "application/json"
        (error,) = answer.json().values()
        assert set(error) == {"code", "detail"}
        return error["code"], error["detail"]
