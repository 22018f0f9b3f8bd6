"""Whole-or-absent files on local disks and object stores.

Paths are local or fsspec URLs (``s3://``, ``gs://``, ``file://``). A writer fills a temporary file; readers see the old
content or the new, never a part: locally by ``rename``, on an object store because a file appears with its last byte.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import fsspec

from retrieval_core.files.credentials import credentials_needed
from retrieval_core.files.fence import before_writing
from retrieval_core.files.retries import PERMANENT_ERRORS, retried


def is_url(path: str) -> bool:
    """True for ``scheme://...``."""
    return "://" in path


def local_path(path: str) -> str | None:
    """The local file system path of ``path``, or None when it lies on another store."""
    if path.startswith("file://"):
        return path.removeprefix("file://")
    return None if is_url(path) else path


def join(base: str, *parts: str) -> str:
    """Join without resolving: ``data.root`` keeps its spelling in every path of the pool."""
    if is_url(base):
        return "/".join([base.rstrip("/"), *parts])
    return os.path.join(base, *parts)  # noqa: PTH118 - Path would normalise the spelling


def absolute(path: str) -> str:
    """A path that means the same in every process; URLs stay as they are."""
    return path if is_url(path) else os.path.abspath(path)  # noqa: PTH100 - symbolic links are kept


def started_in(path: str) -> str:
    """`` in /the/folder``, in which a relative path was looked for; nothing for a path that is whole."""
    return "" if absolute(path) == path or path.startswith("/") else f" in {absolute('.')}"


@contextmanager
def remote(url: str) -> Iterator[tuple[Any, str]]:
    """The fsspec file system of a URL, and the key of the file in it, to be used in the block.

    Raises ValueError if no installed package opens such URLs, CredentialsError if the store wants credentials and finds
    none.
    """
    try:
        # Listings are not cached: other processes write into these folders while this one runs.
        fs, key = fsspec.url_to_fs(url, use_listings_cache=False)
    except (ImportError, ValueError) as error:
        raise ValueError(f"{url}: this kind of URL cannot be opened here: {error}") from None
    with credentials_needed(url):
        yield fs, str(key)


def exists(path: str) -> bool:
    """True if a file or folder is there."""
    local = local_path(path)
    if local is not None:
        return os.path.exists(local)  # noqa: PTH110
    with remote(path) as (fs, key):
        return bool(fs.exists(key))


def list_names(folder: str) -> list[str]:
    """Base names in a folder, sorted; empty when the folder is absent. O(entries)."""
    local = local_path(folder)
    try:
        if local is not None:
            return sorted(os.listdir(local))  # noqa: PTH208
        with remote(folder) as (fs, key):
            entries = [str(entry).rstrip("/") for entry in fs.ls(key, detail=False)]
    except FileNotFoundError:
        return []
    # Some programs mark a folder of an object store by an empty object, which is then listed in itself.
    return sorted(entry.rsplit("/", 1)[-1] for entry in entries if entry.strip("/") != key.strip("/"))


def irregular_kind(local: str) -> str | None:
    """None for a regular local file; else what it is: "a folder", or "a FIFO, socket or device".

    Raises OSError if nothing is there, or it cannot be looked at.
    """
    mode = os.stat(local).st_mode  # noqa: PTH116
    if stat.S_ISREG(mode):
        return None
    return "a folder" if stat.S_ISDIR(mode) else "a FIFO, socket or device"


def refuse_irregular(path: str, local: str) -> None:
    """Raise OSError if a local file is not regular: a FIFO without a writer blocks for ever, a device never ends."""
    kind = irregular_kind(local)
    if kind is not None:
        raise OSError(errno.EINVAL, f"is {kind}, not a regular file", path)


def open_read(path: str) -> IO[bytes]:
    """Open for reading bytes. Raises OSError if it cannot be opened, or is no regular file."""
    return retried(lambda: open_once(path))


def open_once(path: str) -> IO[bytes]:
    """``open_read`` with a single try, for callers that retry the whole read."""
    local = local_path(path)
    if local is not None:
        refuse_irregular(path, local)
        return Path(local).open("rb")
    with remote(path) as (fs, key):
        return fs.open(key, "rb")  # type: ignore[no-any-return]


def read_object(url: str, max_bytes: int) -> bytes:
    """The first ``max_bytes`` bytes behind a URL, by one request that does not ask for the size first.

    There is a single try; callers retry the whole read. Raises OSError if it cannot be read.
    """
    with remote(url) as (fs, key):
        try:
            return bytes(fs.cat_file(key, start=0, end=max_bytes))
        except PERMANENT_ERRORS:
            raise
        except Exception:  # stores refuse a range of an empty object, each with its own error
            if fs.info(key)["size"] == 0:
                return b""
            raise


def read_bytes(path: str, max_bytes: int | None = None) -> bytes:
    """The whole content. Raises ValueError before reading if it is longer than ``max_bytes``."""

    def read() -> bytes:
        with open_once(path) as file:
            if max_bytes is not None:
                size = file.seek(0, os.SEEK_END)
                if size > max_bytes:
                    raise ValueError(f"is larger than {max_bytes:,} bytes ({size:,})")
                file.seek(0)
            return file.read()

    return retried(read)


@contextmanager
def atomic_write(path: str) -> Iterator[IO[bytes]]:
    """Write a file that appears whole when the block ends, and not at all when it raises.

    Folders are made as needed. The temporary file of a killed writer has a name that starts with a dot and ends in
    ``.tmp``; no reader of ours looks at such names.
    """
    local = local_path(path)
    if local is None:
        # The upload starts only when every byte is there, so that an interrupted writer uploads nothing.
        with tempfile.NamedTemporaryFile(suffix=".tmp") as spool:
            yield spool
            spool.flush()
            before_writing()
            with remote(path) as (fs, key):
                fs.put_file(spool.name, key)
        return
    target = Path(local)
    temporary = _temporary(target)
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        before_writing()
        temporary.replace(target)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:
            error.filename = path  # a full disk does not say where it is
        raise


def _temporary(target: Path) -> Path:
    """A new name beside the target, whose folder is made."""
    target.parent.mkdir(parents=True, exist_ok=True)
    return target.with_name(f".{target.name[:100]}.{os.getpid()}-{secrets.token_hex(4)}.tmp")


def write_bytes(path: str, content: bytes) -> None:
    """Write a file whole."""
    with atomic_write(path) as file:
        file.write(content)


def create(path: str, content: bytes) -> bool:
    """Write a file whole, or return False if there is one already. Of several writers one succeeds.

    Locally by a hard link, or by opening it where there are none (the file is then not whole from the first moment on);
    on an object store by a condition of the upload.
    """
    before_writing()
    local = local_path(path)
    if local is None:
        try:
            with remote(path) as (fs, key):
                fs.pipe_file(key, content, mode="create")
        except FileExistsError:
            return False
        return True
    target = Path(local)
    temporary = _temporary(target)
    try:
        temporary.write_bytes(content)
        try:
            target.hardlink_to(temporary)
        except FileExistsError:
            return False
        except OSError:  # a file system without hard links; each kind has an errno of its own
            with target.open("xb") as file:
                file.write(content)
    except FileExistsError:
        return False
    finally:
        temporary.unlink(missing_ok=True)
    return True


def write_json(path: str, value: Any) -> None:
    """Write indented UTF-8 JSON whole."""
    write_bytes(path, (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode())


def read_json(path: str, max_bytes: int | None = None) -> Any:
    """Read JSON.

    Raises FileNotFoundError if it is absent, and ValueError if it is not JSON, naming the file, or longer than
    ``max_bytes``.
    """
    content = read_bytes(path, max_bytes)
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not valid JSON ({error}); delete it to have it made again") from None


def copy(source: str, target: str) -> None:
    """Copy a file of any size; the target appears whole."""
    with open_read(source) as reader, atomic_write(target) as writer:
        shutil.copyfileobj(reader, writer, 1 << 20)


def remove(path: str) -> None:
    """Remove a file or a folder of ours; absent is fine."""
    before_writing()
    local = local_path(path)
    if local is not None:
        if os.path.isdir(local) and not os.path.islink(local):  # noqa: PTH112, PTH114
            shutil.rmtree(local, ignore_errors=True)
        else:
            Path(local).unlink(missing_ok=True)
        return
    with remote(path) as (fs, key):
        if fs.exists(key):
            fs.rm(key, recursive=True)
