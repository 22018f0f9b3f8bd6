"""A real S3 server on this machine's loopback address, and the requests it got."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple
from urllib.parse import unquote

import fsspec

from tests.jobs.processes import free_ports

SECRET = "MarkedSecretThatNoFileMayHold"
BUCKET = "catalogue"


class Request(NamedTuple):
    """One line of the server's log."""

    method: str
    path: str
    """Bucket, slash, key; without the query."""
    query: str
    status: int


class S3Server:
    """moto's server in a process of its own; it keeps objects in its memory and logs each request."""

    def __init__(self, log: Path) -> None:
        self.log = log
        (port,) = free_ports(1)
        self.endpoint = f"http://127.0.0.1:{port}"
        self._file = log.open("wb")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
            stdout=self._file,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
        )

    @property
    def environment(self) -> Mapping[str, str]:
        """Variables that send boto, s3fs and pyarrow to this server, with credentials."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "somebody",
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "eu-west-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def __enter__(self) -> S3Server:
        try:
            until = time.monotonic() + 60
            while b"Running on" not in self.log.read_bytes():
                assert self._process.poll() is None, self.log.read_text()
                assert time.monotonic() < until, "the server does not start"
                time.sleep(0.05)
            self.files().mkdir(BUCKET)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._end()

    def _end(self) -> None:
        self._process.kill()
        self._process.wait()
        self._file.close()

    def files(self) -> Any:
        """The file system, without cached listings."""
        names = self.environment
        return fsspec.filesystem(
            "s3",
            key=names["AWS_ACCESS_KEY_ID"],
            secret=names["AWS_SECRET_ACCESS_KEY"],
            client_kwargs={"endpoint_url": self.endpoint, "region_name": names["AWS_DEFAULT_REGION"]},
            use_listings_cache=False,
            skip_instance_cache=True,
        )

    def seen(self) -> int:
        """Bytes of the log so far, from which ``requests`` may start."""
        return self.log.stat().st_size

    def requests(self, start: int = 0) -> list[Request]:
        """Requests since ``seen`` returned ``start``, in the order in which they were answered."""
        size = -1
        while size != self.seen():  # a line is written after its answer
            size = self.seen()
            time.sleep(0.3)
        text = self.log.read_bytes()[start:].decode()
        found = re.findall(r'"([A-Z]+) /([^ ?]*)\??([^ ]*) HTTP/[\d.]+" (\d+)', text)
        return [Request(method, unquote(path), query, int(status)) for method, path, query, status in found]
