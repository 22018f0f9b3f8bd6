"""The API: what it answers, what it refuses and how, and that nothing outside the catalogue can be had from it."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from retrieval_core.serving import app as app_module
from retrieval_core.serving.app import build_app
from retrieval_core.serving.guard import HEADERS
from retrieval_core.serving.search_index import SearchIndex, open_index
from tests.unit.serving.served import HOST, Served
from tests.unit.serving.small_store import FABRICS, NAMES, as_file, config, embed, picture, write_fabrics


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    serve = {"max_upload_mb": 1, "top": 4, "thumbnail": 32, "preview": 64}
    images = {"max_pixels": 100_000}
    yield Served(tmp_path_factory.mktemp("served"), serve=serve, images=images)


def test_info_says_what_is_searched(served: Served) -> None:
    info = served.client.get("/api/info").json()
    assert (info["fabrics"], info["vectors"], info["dimensions"], info["top"]) == (FABRICS, 1, 512, 4)
    assert (info["max_upload_bytes"], info["max_pixels"]) == (1_000_000, 100_000)


def test_search_ranks_the_fabrics(served: Served) -> None:
    answer = served.search(as_file(picture(3)), top="6").json()
    hits = served.index.rank(served.index.encode(picture(3)), 6)
    assert [(hit["row"], hit["path"], hit["similarity"]) for hit in answer["results"]] == [
        (hit.row, hit.path, hit.similarity) for hit in hits
    ]
    assert [hit["rank"] for hit in answer["results"]] == [1, 2, 3, 4, 5, 6]
    first = answer["results"][0]
    assert (first["path"], first["width"], first["height"], first["box"]) == (served.paths[3], 64, 48, None)
    assert answer["query"] == {"width": 64, "height": 48, "crop": None}
    assert answer["fabrics"] == FABRICS


def test_top_has_a_default_and_more_than_all_is_all(served: Served) -> None:
    assert len(served.search(as_file(picture(1))).json()["results"]) == 4
    assert len(served.search(as_file(picture(1)), top="1000").json()["results"]) == FABRICS


def test_crop_is_searched_as_if_it_were_the_picture(served: Served) -> None:
    pixels = np.concatenate([picture(7), picture(5)], axis=1)
    cut = served.search(as_file(pixels), crop="64,0,128,48").json()
    alone = served.search(as_file(picture(5))).json()
    assert cut["results"] == alone["results"]
    assert cut["results"][0]["path"] == served.paths[5]
    assert cut["query"] == {"width": 128, "height": 48, "crop": [64, 0, 128, 48]}


def test_crop_counts_in_pixels_of_the_upright_picture(served: Served) -> None:
    pixels = np.concatenate([picture(7), picture(5)], axis=1)
    exif = Image.Exif()
    exif[0x0112] = 6  # stored turned a quarter to the left
    buffer = io.BytesIO()
    Image.fromarray(pixels).transpose(Image.Transpose.ROTATE_90).save(buffer, "PNG", exif=exif)
    answer = served.search(buffer.getvalue(), crop="64,0,128,48").json()
    assert answer["query"]["width"] == 128
    assert answer["results"] == served.search(as_file(picture(5))).json()["results"]


def test_crop_takes_its_transparency_along(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    layer, seen = Image.fromarray(picture(5)).convert("RGBA"), []
    layer.putalpha(Image.fromarray(np.arange(48 * 64, dtype=np.uint16).reshape(48, 64).astype(np.uint8)))
    buffer = io.BytesIO()
    layer.save(buffer, "PNG")
    encode = served.index.encode
    monkeypatch.setattr(served.index, "encode", lambda image: seen.append(image) or encode(image))
    assert served.search(buffer.getvalue(), crop="3,5,40,25").status_code == 200
    (found,) = seen
    assert found.rgb.size == found.whole == (37, 20)
    np.testing.assert_array_equal(found.alpha, layer.getchannel("A").crop((3, 5, 40, 25)))


def test_regions_that_match_are_named(tmp_path: Path) -> None:
    served = Served(tmp_path, embed={"regions": [1, 2], "region_overlap": 0.0})
    answer = served.search(as_file(picture(2)[24:, 32:])).json()
    assert answer["results"][0]["path"] == served.paths[2]
    assert answer["results"][0]["box"] == [32, 24, 64, 48]


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        (b"", 400, "empty"),
        (b"no picture at all", 400, "not_an_image"),
        (as_file(picture(1))[:200], 400, "truncated"),
        (as_file(np.zeros((400, 400, 3), np.uint8)), 413, "too_large"),
        (bytes(999_999), 400, "not_an_image"),
        (bytes(1_000_001), 413, "upload_too_large"),
        (bytes(3_000_000), 413, "upload_too_large"),
    ],
)
def test_uploads_that_are_no_use(served: Served, content: bytes, status: int, code: str) -> None:
    assert served.complaint(served.search(content), status)[0] == code


def test_a_body_of_unknown_length_is_bounded_too(served: Served) -> None:
    head = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
    taken = []

    def body() -> Iterator[bytes]:
        yield head
        for number in range(100):
            taken.append(number)
            yield bytes(100_000)

    answer = served.client.post(
        "/api/search", content=body(), headers={"content-type": "multipart/form-data; boundary=x"}
    )
    assert served.complaint(answer, 413)[0] == "upload_too_large"


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"crop": "1,2,3"}, "bad_crop"),
        ({"crop": "0,0,0,5"}, "bad_crop"),
        ({"crop": "-1,0,5,5"}, "bad_crop"),
        ({"crop": "a,b,c,d"}, "bad_crop"),
        ({"crop": "0,0,65,48"}, "bad_crop"),
        ({"crop": "0,0,99999999999999999999,5"}, "bad_crop"),
        ({"top": "0"}, "bad_top"),
        ({"top": "1001"}, "bad_top"),
        ({"top": "ten"}, "bad_top"),
        ({"top": "4", "crop": "", "at": "", "fourth": "x"}, "bad_request"),
        ({"crop": "0,0,9,9", "at": "4,4"}, "bad_request"),
        ({"at": "1,1"}, "sees_no_patches"),
    ],
)
def test_fields_that_make_no_sense(served: Served, fields: dict[str, str], code: str) -> None:
    assert served.complaint(served.search(as_file(picture(1)), **fields), 400)[0] == code


def test_forms_that_are_none(served: Served) -> None:
    post = served.client.post
    assert served.complaint(post("/api/search", json={"image": "x"}), 400)[0] == "bad_request"
    assert served.complaint(post("/api/search", files={"picture": b"x"}), 400)[0] == "no_image"
    torn = post("/api/search", content=b"--x", headers={"content-type": "multipart/form-data"})
    assert served.complaint(torn, 400)[0] == "bad_request"
    two = [("image", ("a", b"x")), ("image", ("b", b"y"))]
    assert served.complaint(post("/api/search", files=two), 400)[0] == "bad_request"
    assert served.complaint(served.client.get("/api/search"), 405)[0] == "method_not_allowed"


def test_thumbnails_are_of_rows_and_reduced(served: Served) -> None:
    first = served.search(as_file(picture(3))).json()["results"][0]
    for address, side in ((first["thumbnail"], 32), (first["preview"], 64)):
        answer = served.client.get(address)
        assert answer.headers["content-type"] == "image/jpeg"
        assert "immutable" in answer.headers["cache-control"]
        with Image.open(io.BytesIO(answer.content)) as found:
            assert max(found.size) == side
            assert np.abs(np.asarray(found.resize((8, 6))).mean() - picture(3).mean()) < 8
    # An address that does not name this store is answered, but not to be kept.
    assert served.client.get(f"/thumbnails/{first['row']}?v=other").headers["cache-control"] == "no-store"


@pytest.mark.parametrize("row", ["9", "-1", "1e0", "²", "x", "99999999999999999999", "0.0", "0x1"])
@pytest.mark.parametrize("kind", ["thumbnails", "previews"])
def test_rows_that_are_not_there(served: Served, kind: str, row: str) -> None:
    assert served.complaint(served.client.get(f"/{kind}/{row}"), 404)[0] == "no_such_fabric"


@pytest.mark.parametrize(
    "path",
    [
        "/thumbnails/..%2F..%2Fetc%2Fpasswd",
        "/thumbnails//etc/passwd",
        "/thumbnails/%2e%2e/%2e%2e/etc/passwd",
        "/static/../app.py",
        "/static/..%2Fapp.py",
        "/static/page.html",
        "/static/",
        "/static/%00",
        "/etc/passwd",
        "/thumbnails/0/../../x",
    ],
)
def test_no_file_outside_the_catalogue_is_served(served: Served, path: str) -> None:
    request = served.client.build_request("GET", HOST)
    request.url = request.url.copy_with(raw_path=path.encode())
    answer = served.client.send(request)
    assert served.complaint(answer, 404)[0] in {"not_found", "no_such_fabric"}


def test_a_fabric_that_is_gone_or_no_picture_any_more(tmp_path: Path) -> None:
    served = Served(tmp_path)
    rows = {served.index.path(row): row for row in range(FABRICS)}
    Path(served.paths[0]).unlink()
    Path(served.paths[1]).write_text("secret")
    assert served.complaint(served.client.get(f"/thumbnails/{rows[served.paths[0]]}"), 404)[0] == "missing"
    assert served.complaint(served.client.get(f"/thumbnails/{rows[served.paths[1]]}"), 404)[0] == "not_an_image"


def test_every_answer_carries_the_headers(served: Served) -> None:
    for path in ("/", "/static/page.js", "/api/info", "/thumbnails/0", "/nothing"):
        answer = served.client.get(path)
        assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS
    assert "unsafe" not in HEADERS["Content-Security-Policy"]
    assert served.client.get("/", headers={"host": "evil.example"}).headers["x-content-type-options"] == "nosniff"


def test_page_has_no_inline_code_and_names_are_text(served: Served) -> None:
    text = served.client.get("/").text
    assert "<h1>&lt;trial&gt;</h1>" in text
    assert "<trial>" not in text
    assert text.count("<script") == text.count('<script type="module" src="/static/page.js"></script>') == 1
    assert "<style" not in text
    assert " style=" not in text
    assert " on" not in {word[:3] for word in text.split("<")}
    assert "http" not in text
    script = served.client.get("/static/page.js")
    assert script.headers["content-type"].startswith("text/javascript")
    assert "innerHTML" not in script.text
    assert served.client.get("/static/page.css").headers["content-type"].startswith("text/css")
    assert any("<script>" in name for name in NAMES)  # in JSON, which no browser takes for a page
    answer = served.search(as_file(picture(4)))
    assert answer.headers["content-type"] == "application/json"


def test_another_store_is_searched_as_soon_as_it_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app_module, "RENEW_SECONDS", 0.0)
    keys, paths = config(), write_fabrics(tmp_path / "fabrics")
    indexes = []
    for count in (5, FABRICS):
        arm = embed(keys, paths[:count], tmp_path / f"store{count}", fingerprint=f"{count:064}"[::-1])
        indexes.append(open_index(str(tmp_path / f"store{count}"), arm, keys))
    stored = indexes[:1]
    client = TestClient(build_app(indexes[0], keys.serve, "trial", lambda _: stored[0]), base_url=HOST)

    def searched() -> Any:
        return client.post("/api/search", files={"image": ("x.png", as_file(picture(FABRICS - 1)))}).json()

    before = searched()
    assert before["fabrics"] == 5
    stored[0] = indexes[1]
    until = time.monotonic() + 30
    while (after := searched())["fabrics"] == 5:
        assert time.monotonic() < until
    assert (after["fabrics"], after["results"][0]["path"]) == (FABRICS, paths[-1])
    assert client.get("/api/info").json()["fabrics"] == FABRICS
    assert f"{FABRICS} fabrics" in client.get("/").text
    # A page that is open shows the fabrics that it found.
    for result in (*before["results"], *after["results"]):
        shown = Image.open(io.BytesIO(client.get(result["thumbnail"]).content)).convert("RGB")
        with Image.open(result["path"]) as fabric:
            expected = np.asarray(fabric.resize(shown.size)).astype(int)
        assert np.abs(np.asarray(shown).astype(int) - expected).mean() < 12
    answer = client.get("/thumbnails/0?v=of-long-ago")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "no_such_fabric")


def test_a_search_that_takes_too_long_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    served = Served(tmp_path, serve={"timeout": 0.2})
    held = threading.Event()
    monkeypatch.setattr(SearchIndex, "rank", lambda *_: held.wait(30) and [])
    answer = served.search(as_file(picture(1)))
    held.set()
    assert served.complaint(answer, 503)[0] == "took_too_long"


def test_a_failure_says_nothing_of_the_inside(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("at /some/where")

    monkeypatch.setattr(SearchIndex, "rank", broken)
    answer = served.search(as_file(picture(1)))
    assert served.complaint(answer, 500)[0] == "failed"
    assert "/some/where" not in answer.text
    assert answer.headers["x-content-type-options"] == "nosniff"
