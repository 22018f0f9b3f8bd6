"""The ASGI application: a page, its few files, and a JSON API over a ``SearchIndex``.

    GET  /                   the page
    GET  /static/<name>      its style, script and icon; nothing else is in there
    GET  /api/info           what is searched, and the limits
    POST /api/search         multipart form: image, optional crop "x0,y0,x1,y1" or at "x,y", and top
    GET  /thumbnails/<row>   a fabric of the ranking, reduced
    GET  /previews/<row>     the same, larger

A fabric is named by its row in the store, never by a path. Every error is ``{"error": {"code", "detail"}}``.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from starlette.applications import Starlette
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from retrieval_core.config.sections import ServeConfig
from retrieval_core.files import storage
from retrieval_core.images.rgb import ImageRejected, decode_rgb
from retrieval_core.report.assets import asset, environment
from retrieval_core.serving.guard import Guard, Refused
from retrieval_core.serving.pictures import cached_pictures
from retrieval_core.serving.search_index import Hit, SearchIndex
from retrieval_core.serving.workers import Workers
from retrieval_core.store.embeddings import Box

MAX_TOP = 1000
_KEPT_THUMBNAILS, _KEPT_PREVIEWS = 4096, 64
RENEW_SECONDS = 10.0
"""Seconds between two looks at whether the store has changed, at least."""
_WAITING_PICTURES = 256  # a browser asks for about six at a time: room for many of them
_CACHED_A_DAY = {"Cache-Control": "private, max-age=86400, immutable"}
_NOT_CACHED = {"Cache-Control": "no-store"}


class _Query(NamedTuple):
    content: bytes
    crop: Box | None
    at: tuple[int, int] | None
    top: int


Renew = Callable[[SearchIndex], SearchIndex]


def build_app(index: SearchIndex, keys: ServeConfig, name: str, renew: Renew = lambda index: index) -> Starlette:
    """The Starlette application over an index, by the ``serve`` section; ``name`` is the run's, for people.

    ``renew`` returns an index of the store as it is now: the one that it is given unless the store has changed. It is
    asked in a thread of its own, at most every ``RENEW_SECONDS`` in which there are requests.

    Memory beside the index: O(threads) decoded images, O(threads + waiting) uploads, and the latest pictures.
    """
    site = _Site(index, keys, name, renew)
    routes = [
        Route("/", site.page),
        Route("/static/{name}", site.static),
        Route("/api/info", site.info),
        Route("/api/search", site.search, methods=["POST"]),
        Route("/thumbnails/{row}", site.pictures(keys.thumbnail, _KEPT_THUMBNAILS)),
        Route("/previews/{row}", site.pictures(keys.preview, _KEPT_PREVIEWS)),
    ]
    guard = Middleware(Guard, host=keys.host, allowed_hosts=keys.allowed_hosts, max_upload=site.max_upload)
    handlers: Any = {HTTPException: _http_error}  # a Refused passes to the guard
    return Starlette(routes=routes, middleware=[guard], exception_handlers=handlers)


class _Site:
    def __init__(self, index: SearchIndex, keys: ServeConfig, name: str, renew: Renew) -> None:
        self.index, self.before, self.keys, self.name, self.renew = index, index, keys, name, renew
        self.images = index.images
        self.max_upload = keys.max_upload_mb * 1_000_000
        self.renewer, self.renewing, self.looked = ThreadPoolExecutor(1), False, time.monotonic()
        self.search_workers = Workers(keys.threads, keys.waiting, keys.timeout)
        self.picture_workers = Workers(keys.threads, _WAITING_PICTURES, keys.timeout)
        self.files = {
            # What the report and this page share comes first.
            "page.css": (asset("report/style.css") + asset("serving/page.css"), "text/css"),
            "page.js": (asset("report/compare.js") + asset("serving/page.js"), "text/javascript"),
            "icon.svg": (asset("serving/icon.svg"), "image/svg+xml"),
        }

    def _look_for_another_store(self) -> None:
        """Have the index renewed; what is under way, and this request, go on with the one that there is."""
        if self.renewing or time.monotonic() - self.looked < RENEW_SECONDS:
            return
        self.renewing = True
        asyncio.get_running_loop().run_in_executor(self.renewer, self._renew)

    def _renew(self) -> None:
        try:
            index = self.renew(self.index)
            if index is not self.index:
                self.index, self.before = index, self.index
        finally:
            self.looked, self.renewing = time.monotonic(), False

    def _facts(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "fabrics": len(self.index),
            "vectors": self.index.regions,
            "dimensions": self.index.dim,
            "image_size": self.index.size,
            "sees_patches": self.index.sees_patches,
            "top": self.keys.top,
            "max_top": MAX_TOP,
            "max_upload_bytes": self.max_upload,
            "max_pixels": self.images.max_pixels,
            "exif": self.images.exif,
        }

    async def page(self, request: Request) -> Response:
        self._look_for_another_store()
        html = environment().get_template("serving/page.html").render(info=self._facts())
        return HTMLResponse(html, headers=_NOT_CACHED)

    async def static(self, request: Request) -> Response:
        file = self.files.get(request.path_params["name"])
        if file is None:
            raise Refused(404, "not_found", "there is nothing here")
        return Response(file[0], media_type=file[1], headers={"Cache-Control": "no-cache"})

    async def info(self, request: Request) -> Response:
        return JSONResponse(self._facts(), headers=_NOT_CACHED)

    async def search(self, request: Request) -> Response:
        self._look_for_another_store()
        query, index = await self._query(request), self.index
        if query.at and not index.sees_patches:
            raise Refused(400, "sees_no_patches", "this model sees pictures as a whole; give a crop")
        answer = await self.search_workers.run(lambda: self._answer(index, query))
        return JSONResponse(answer, headers=_NOT_CACHED)

    async def _query(self, request: Request) -> _Query:
        if not request.headers.get("content-type", "").startswith("multipart/form-data"):
            raise Refused(400, "bad_request", "send a multipart/form-data form with the field image")
        try:
            async with asyncio.timeout(self.keys.timeout), request.form(max_files=1, max_fields=3) as form:
                image, crop, at, top = (form.get(name) for name in ("image", "crop", "at", "top"))
                if not isinstance(image, UploadFile):
                    raise Refused(400, "no_image", "the form has no file in its field image")
                if isinstance(crop, UploadFile) or isinstance(at, UploadFile) or isinstance(top, UploadFile):
                    raise Refused(400, "bad_request", "crop, at and top are text, not files")
                content = await image.read(self.max_upload + 1)
                query = _Query(content, _crop(crop), _point(at), _top(top, self.keys.top))
        except TimeoutError:
            raise Refused(408, "upload_timed_out", f"the upload took over {self.keys.timeout:g} seconds") from None
        except ClientDisconnect:
            raise Refused(400, "bad_request", "the upload ended too soon") from None
        if query.crop and query.at:
            raise Refused(400, "bad_request", "crop says which part it is, at where the motif is: give one of them")
        if len(query.content) > self.max_upload:
            raise Refused(413, "upload_too_large", f"the image is larger than {self.keys.max_upload_mb} MB")
        return query

    def _answer(self, index: SearchIndex, query: _Query) -> dict[str, Any]:
        began = time.perf_counter()
        try:
            picture = decode_rgb(query.content, self.images)
        except ImageRejected as rejected:
            status = 413 if rejected.reason == "too_large" else 400
            raise Refused(status, rejected.reason, rejected.detail) from None
        width, height = picture.rgb.size
        crop = query.crop
        if crop and (crop[2] > width or crop[3] > height):
            raise Refused(400, "bad_crop", f"the crop ends outside the image of {width} x {height} pixels")
        if query.at:
            if query.at[0] >= width or query.at[1] >= height:
                raise Refused(400, "bad_point", f"at lies outside the image of {width} x {height} pixels")
            crop = index.part_at(picture, query.at)
        sought = index.encode_part(picture, crop) if crop else index.encode(picture)
        encoded = time.perf_counter()
        hits = index.rank(sought, query.top)
        ranked = time.perf_counter()
        return {
            "fabrics": len(index),
            "query": {"width": width, "height": height, "crop": crop},
            "seconds": {"encode": round(encoded - began, 4), "rank": round(ranked - encoded, 4)},
            "results": [self._result(index, rank, hit) for rank, hit in enumerate(hits, 1)],
        }

    def _result(self, index: SearchIndex, rank: int, hit: Hit) -> dict[str, Any]:
        version = _version(index)
        return {
            "rank": rank,
            "row": hit.row,
            "path": hit.path,
            "similarity": hit.similarity,
            "width": hit.size[0],
            "height": hit.size[1],
            "box": hit.box,
            "occurrences": hit.occurrences,
            "thumbnail": f"/thumbnails/{hit.row}?v={version}",
            "preview": f"/previews/{hit.row}?v={version}",
        }

    def pictures(self, side: int, keep: int) -> Callable[[Request], Awaitable[Response]]:
        """An endpoint that answers with fabrics reduced to ``side`` pixels; the latest ``keep`` stay in memory."""
        picture = cached_pictures(self.images, side, keep)

        async def endpoint(request: Request) -> Response:
            version = request.query_params.get("v")
            location = storage.absolute(self._path(request.path_params["row"], version))
            try:
                content = await self.picture_workers.run(lambda: picture(location))
            except ImageRejected as rejected:
                raise Refused(404, rejected.reason, "the file of this fabric cannot be read") from None
            # Rows of another store are other fabrics, so only an address that names its store may be cached.
            return Response(content, media_type="image/jpeg", headers=_CACHED_A_DAY if version else _NOT_CACHED)

        return endpoint

    def _path(self, row: str, version: str | None) -> str:
        """The path of a row of the store, or of the one before, which a page that is open may still show."""
        indexes = [index for index in (self.index, self.before) if version in (None, _version(index))]
        if not indexes:
            raise Refused(404, "no_such_fabric", "the catalogue has changed since; search again")
        try:
            if not _is_number(row, digits=10):
                raise IndexError(row)
            return indexes[0].path(int(row))
        except IndexError:
            raise Refused(404, "no_such_fabric", f"the catalogue has no row {row!r}"[:200]) from None


def _version(index: SearchIndex) -> str:
    return index.fingerprint[:16]


def _crop(text: str | None) -> Box | None:
    if text is None or not text.strip():
        return None
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != 4 or not all(map(_is_number, parts)):
        raise Refused(400, "bad_crop", "crop must be four whole numbers of pixels: x0,y0,x1,y1")
    x0, y0, x1, y1 = (int(part) for part in parts)
    if x0 >= x1 or y0 >= y1:
        raise Refused(400, "bad_crop", f"crop {x0},{y0},{x1},{y1} is empty: x0 < x1 and y0 < y1 are needed")
    return x0, y0, x1, y1


def _point(text: str | None) -> tuple[int, int] | None:
    if text is None or not text.strip():
        return None
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != 2 or not all(map(_is_number, parts)):
        raise Refused(400, "bad_point", "at must be two whole numbers of pixels: x,y")
    return int(parts[0]), int(parts[1])


def _top(text: str | None, default: int) -> int:
    if text is None or not text.strip():
        return default
    text = text.strip()
    if not _is_number(text) or not 1 <= int(text) <= MAX_TOP:
        raise Refused(400, "bad_top", f"top must be a whole number from 1 to {MAX_TOP}")
    return int(text)


def _is_number(text: str, digits: int = 9) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= digits


def _http_error(request: Request, error: HTTPException) -> Response:
    codes = {400: "bad_request", 404: "not_found", 405: "method_not_allowed"}
    answer = Refused(error.status_code, codes.get(error.status_code, "error"), str(error.detail)).response()
    answer.headers.update(error.headers or {})
    return answer
