"""The search page: one process that holds a finished store and its model. Ray is not started."""

from __future__ import annotations

import logging
import socket
from functools import partial

from ray_jobs.run import Run
from ray_jobs.search import open_run
from retrieval_core.files import storage
from retrieval_core.images.rgb import ImageRejected, read_image
from retrieval_core.run.workspace import RunError
from retrieval_core.serving.catalogue import identity
from retrieval_core.serving.search_index import SearchIndex
from retrieval_core.store.embeddings import read_manifest

log = logging.getLogger("fabric_retrieval")


def serve(run: Run) -> int:
    """Answer until Ctrl-C, then return 0. SIGTERM ends the process by that signal. Running requests are finished."""
    try:
        import uvicorn

        from retrieval_core.serving.app import build_app
        from retrieval_core.serving.guard import is_loopback
    except ImportError as error:
        raise RunError(f"the search page needs more packages ({error}): pip install -e '.[serve]'") from None
    keys = run.config.serve
    with _listen(keys.host, keys.port) as listener:
        index = open_run(run)
        _warm_up(index)
        app = build_app(index, keys, run.config.run.name, partial(_renewed, run))
        log.info("%d fabrics of %s", len(index), run.store(run.main, "gallery"))
        if not is_loopback(keys.host):
            log.warning(
                "serve.host = %s: anyone who reaches this port can search the catalogue and see its fabrics; "
                "there is no password and no encryption",
                keys.host,
            )
        print(f"the search page is at {_address(listener)} (Ctrl-C stops it)", flush=True)
        settings = uvicorn.Config(
            app,
            http="h11",
            loop="asyncio",
            lifespan="off",
            ws="none",
            log_level="critical",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=200,  # connections; further ones are refused
            timeout_graceful_shutdown=5,  # seconds for running requests when the server is stopped
        )
        try:
            uvicorn.Server(settings).run(sockets=[listener])
        except KeyboardInterrupt:
            print("\nstopped")
    return 0


def _renewed(run: Run, index: SearchIndex) -> SearchIndex:
    """An index of the store as it is now; the same one while it has not changed, or cannot be opened."""
    try:
        if identity(read_manifest(run.store(run.main, "gallery"))) == index.fingerprint:
            return index
        renewed = open_run(run)
    except FileNotFoundError:  # it is being embedded
        return index
    except (RunError, OSError, ValueError) as error:
        log.warning("the store has changed, but does not open (%s); searches go on with the one before", error)
        return index
    log.info("the store has changed: %d fabrics now", len(renewed))
    return renewed


def _listen(host: str, port: int) -> socket.socket:
    """A socket on the address, bound before the store is loaded, so that a taken port fails at once."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise RunError(f"serve.host = {host}: {error.strerror or error}") from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise RunError(
            f"serve.host = {host}, serve.port = {port}: {error.strerror}; choose another port, or 0 for a free one"
        ) from None
    return listener


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"


def _warm_up(index: SearchIndex) -> None:
    """Search once, as the first search is slower than the others; warn if the fabrics' files are gone."""
    path = index.path(0)
    try:
        index.rank(index.encode(read_image(storage.absolute(path), index.images)), 1)
    except ImageRejected as rejected:
        log.warning(
            "%s: %s; the ranking will lack pictures. Paths are as the run was given them: start in the same folder",
            path,
            rejected,
        )
