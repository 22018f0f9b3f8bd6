"""A small Hugging Face Hub on loopback: it answers what huggingface_hub asks for models, from files in memory.

huggingface_hub reads HF_ENDPOINT, HF_HOME and HF_HUB_OFFLINE when it is imported: ``HubServer.environment`` is for
programs that a test starts, ``ask`` for the test's own process.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from retrieval_core.files import hub

REVISION = re.compile(r"/api/models/([^/]+/[^/]+)/revision/([^/?]+)")
RESOLVE = re.compile(r"/([^/]+/[^/]+)/resolve/([^/]+)/([^?]+)")
TOKEN = "hf_let_me_in"


class HubServer(ThreadingHTTPServer):
    """Repositories with commits and branches; ``gated`` ones want TOKEN, ``status`` is answered instead of all else."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.commits: dict[str, dict[str, dict[str, bytes]]] = {}  # repository -> commit -> name -> content
        self.branches: dict[tuple[str, str], str] = {}
        self.gated: set[str] = set()
        self.status: int | None = None
        self.asked: Counter[str] = Counter()  # method and path -> requests
        self.endpoint = f"http://127.0.0.1:{self.server_address[1]}"

    def push(self, repo: str, files: dict[str, bytes], branch: str = "main") -> str:
        """Put the next commit of a branch, whose hash is returned."""
        held = self.commits.setdefault(repo, {})
        commit = hashlib.sha1(f"{repo} {len(held)}".encode()).hexdigest()
        held[commit], self.branches[repo, branch] = files, commit
        return commit

    def push_folder(self, repo: str, folder: Path, branch: str = "main") -> str:
        """``push`` the files of a folder."""
        return self.push(repo, {file.name: file.read_bytes() for file in folder.iterdir()}, branch)

    def downloads(self) -> list[str]:
        """Base names of the files that were read, with those read in part."""
        return [
            path.rpartition("/")[2]
            for path in self.asked.elements()
            if path.startswith("GET /") and "/resolve/" in path
        ]

    def environment(self, home: Path) -> dict[str, str]:
        """What a program's environment needs so that it asks this Hub, with its cache in ``home``."""
        return {"HF_ENDPOINT": self.endpoint, "HF_HOME": str(home)}


def ask(monkeypatch: pytest.MonkeyPatch, endpoint: str, home: Path, *, offline: bool = False) -> None:
    """Let this process ask the Hub at an address as a program would that is started now, with its cache in ``home``."""
    from huggingface_hub import constants

    template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    hub.pinned.cache_clear()


@contextmanager
def serving() -> Iterator[HubServer]:
    """A Hub without repositories, until the block ends."""
    server = HubServer()
    thread = threading.Thread(target=server.serve_forever, args=[0.02])
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: HubServer

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, *_: Any) -> None:
        pass

    def _answer(self) -> None:
        self.server.asked[f"{self.command} {self.path}"] += 1
        found = REVISION.match(self.path) or RESOLVE.match(self.path)
        if self.server.status is not None or found is None:
            self._send(self.server.status or 501)
            return
        repo, revision = found[1], unquote(found[2])
        commit = self.server.branches.get((repo, revision), revision)
        files = self.server.commits.get(repo, {}).get(commit)
        if repo not in self.server.commits:
            self._send(401, error="RepoNotFound")
        elif repo in self.server.gated and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._send(403, error="GatedRepo")
        elif files is None:
            self._send(404, error="RevisionNotFound")
        elif found.re is REVISION:
            siblings = [{"rfilename": name} for name in files]
            self._send(200, json.dumps({"id": repo, "sha": commit, "siblings": siblings}).encode())
        elif (content := files.get(unquote(found[3]))) is None:
            self._send(404, commit=commit, error="EntryNotFound")
        else:
            self._send(200, content, commit=commit)

    def _send(self, status: int, content: bytes = b"", commit: str = "", error: str = "") -> None:
        etag = hashlib.sha256(content).hexdigest()
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if wanted and status == 200:
            status, content = 206, content[int(wanted[1]) : int(wanted[2]) + 1]
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        for name, value in (("ETag", f'"{etag}"'), ("X-Repo-Commit", commit), ("X-Error-Code", error)):
            if value:
                self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)
