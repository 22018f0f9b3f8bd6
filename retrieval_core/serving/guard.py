"""What every request passes before the application: checks of its host, its origin and the size of its body."""

from __future__ import annotations

import ipaddress
import logging
import socket
from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger("fabric_retrieval")

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_FORM_OVERHEAD = 16_384  # boundaries, part headers and the short fields beside the image


class Refused(Exception):  # noqa: N818 - an answer, not a failure
    """A request that is answered with an error: HTTP status, one word for programs, and one line for a person."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(detail)
        self.status, self.code, self.detail = status, code, detail

    def response(self) -> JSONResponse:
        """The answer: ``{"error": {"code", "detail"}}``."""
        headers = {"Cache-Control": "no-store"}
        if self.status == 503:
            headers["Retry-After"] = "1"
        if self.status in (408, 413):
            headers["Connection"] = "close"  # the rest of the body is not read
        return JSONResponse({"error": {"code": self.code, "detail": self.detail}}, self.status, headers)


def is_loopback(host: str) -> bool:
    """Whether a server that listens on this address can be reached from this machine alone."""
    address = _address(host)
    return host == "localhost" or (address is not None and address.is_loopback)


class Guard:
    """ASGI middleware: checks Host and Origin, bounds the body, and adds the headers that isolate the page.

    An unknown name in the Host header is refused: a foreign page may have pointed its own name at this machine (DNS
    rebinding) to read the answers as its own. An address cannot be rebound, so those of the loopback are accepted, and
    all of them where the server listens to other machines.

    ``host`` is the address that the server listens on. ``allowed_hosts`` are further names of this machine.
    ``max_upload`` is in bytes.
    """

    def __init__(self, app: ASGIApp, host: str, allowed_hosts: Collection[str], max_upload: int) -> None:
        self.app = app
        self.max_upload, self.max_body = max_upload, max_upload + _FORM_OVERHEAD
        self._local = is_loopback(host)
        own = set() if self._local else {socket.gethostname(), socket.getfqdn()}
        self._names = {name.lower().rstrip(".") for name in ("localhost", host, *allowed_hosts, *own)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or hand the request on."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        started = False

        async def send_with_headers(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        headers = Headers(scope=scope)
        try:
            self._check_sender(headers)
            self._check_length(headers)
            await self.app(scope, self._bounded(receive), send_with_headers)
        except Exception as error:
            if not isinstance(error, Refused):
                log.exception("%s failed", scope["path"])
                error = Refused(500, "failed", "the server failed at this request; what it printed says more")
            if not started:
                await error.response()(scope, receive, send_with_headers)

    def _check_sender(self, headers: Headers) -> None:
        hosts = headers.getlist("host")
        name = _host_of(f"//{hosts[0]}") if len(hosts) == 1 else None
        if name is None or not self._knows(name):
            raise Refused(
                421,
                "unknown_host",
                "this host name is not known here; open the page by the address that was printed, or name it in "
                "serve.allowed_hosts",
            )
        origin = headers.get("origin", "").lower()
        foreign = origin and origin.partition("://")[2] != hosts[0].lower()
        # Other sites cannot read an answer, but they could make this machine work.
        if foreign or headers.get("sec-fetch-site") == "cross-site":
            raise Refused(403, "foreign_page", "requests from pages of other sites are not answered")

    def _knows(self, name: str) -> bool:
        if name in self._names:
            return True
        address = _address(name)
        return address is not None and (address.is_loopback or not self._local)

    def _check_length(self, headers: Headers) -> None:
        length = headers.get("content-length", "0")
        if not length.isascii() or not length.isdigit():
            raise Refused(400, "bad_request", "Content-Length must be a number")
        if int(length) > self.max_body:
            raise self._too_large()

    def _too_large(self) -> Refused:
        limit = f"{self.max_upload / 1e6:g} MB"
        return Refused(413, "upload_too_large", f"the upload is larger than {limit} (serve.max_upload_mb)")

    def _bounded(self, receive: Receive) -> Receive:
        received = 0

        async def bounded() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self.max_body:
                raise self._too_large()
            return message

        return bounded


def _host_of(url: str) -> str | None:
    """The host of a URL in lower case, without port; None for what is not a URL."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return None
    if parts.username is not None or parts.path or parts.query or parts.fragment:
        return None
    return parts.hostname.rstrip(".") if parts.hostname else None


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None
