"""Hosts, origins and bodies that are refused, and what every answer carries."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send

from retrieval_core.serving.guard import HEADERS, Guard, is_loopback

HOST = "http://127.0.0.1:8000"


async def count_bytes(scope: Scope, receive: Receive, send: Send) -> None:
    body = await Request(scope, receive).body()
    await PlainTextResponse(str(len(body)))(scope, receive, send)


def client(host: str = "127.0.0.1", *names: str) -> TestClient:
    return TestClient(Guard(count_bytes, host, names, 1000), base_url=HOST)


def refused(answer: httpx.Response, status: int) -> str:
    """The code of an answer that must be an error, with the headers of every answer."""
    assert answer.status_code == status, answer.text
    assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS
    (error,) = answer.json().values()
    assert set(error) == {"code", "detail"}
    return str(error["code"])


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost", "LOCALHOST:1", "[::1]:8000", "127.0.0.2"])
def test_hosts_of_this_machine_are_known(host: str) -> None:
    assert client().get("/", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "192.168.1.5:8000", "127.0.0.1@evil.example", "", "[::1", "a/b"]
)
def test_other_hosts_are_refused(host: str) -> None:
    answer = client().get("/", headers={"host": host})
    assert refused(answer, 421) == "unknown_host"
    assert "serve.allowed_hosts" in answer.text


@pytest.mark.parametrize(
    ("host", "status"), [("192.168.1.5:8000", 200), ("fabrics.example", 200), ("[fe80::1]", 200), ("evil.example", 421)]
)
def test_hosts_of_a_server_for_others(host: str, status: int) -> None:
    assert client("0.0.0.0", "Fabrics.Example").get("/", headers={"host": host}).status_code == status


@pytest.mark.parametrize(
    "headers",
    [{"origin": "https://evil.example"}, {"origin": "null"}, {"sec-fetch-site": "cross-site"}, {"origin": "http://[x"}],
)
def test_pages_of_other_sites_are_refused(headers: dict[str, str]) -> None:
    assert refused(client().post("/", headers=headers), 403) == "foreign_page"
    own = {"origin": HOST, "sec-fetch-site": "same-origin"}
    assert client().post("/", headers=own).status_code == 200


def test_bodies_are_bounded_whether_their_length_is_known_or_not() -> None:
    def pieces() -> Iterator[bytes]:
        for _ in range(30):
            yield bytes(1000)

    assert client().post("/", content=bytes(1000)).text == "1000"
    assert refused(client().post("/", content=bytes(30_000)), 413) == "upload_too_large"
    assert refused(client().post("/", content=pieces()), 413) == "upload_too_large"
    assert refused(client().post("/", content=b"", headers={"content-length": "many"}), 400) == "bad_request"


@pytest.mark.parametrize(
    ("host", "local"),
    [("127.0.0.1", True), ("localhost", True), ("::1", True), ("127.9.9.9", True), ("0.0.0.0", False), ("box", False)],
)
def test_loopback(host: str, local: bool) -> None:
    assert is_loopback(host) == local
