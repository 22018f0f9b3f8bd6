"""Whole-or-absent files on local disks and object stores.

Paths are local or fsspec URLs (``s3://``, ``gs://``, ``file://``). A writer sees a temporary file; readers see the
old content or the new, never a part: locally by ``rename``, on an object store because a file appears with its last
byte.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TypeVar

import fsspec

from retrieval_core.files.credentials import credentials_needed

T = TypeVar("T")
_WAITS = (0.1, 0.4)
"""Seconds before a failed read is tried again."""
_LASTING = (FileNotFoundError, PermissionError, NotADirectoryError, IsADirectoryError)
_LASTING_NUMBERS = {errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL}
"""Failures that waiting does not change, by their class where they have one."""


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
    """A location that means the same in every process; URLs stay as they are."""
    return path if is_url(path) else os.path.abspath(path)  # noqa: PTH100 - symbolic links are kept


def _filesystem(path: str) -> tuple[Any, str]:
    try:
        # Without a memory of listings: other processes write into these folders while this one runs.
        fs, key = fsspec.url_to_fs(path, use_listings_cache=False)
    except (ImportError, ValueError) as error:
        raise ValueError(f"{path}: this kind of URL cannot be opened here: {error}") from None
    return fs, str(key)


def exists(path: str) -> bool:
    """True if a file or folder is there."""
    local = local_path(path)
    if local is not None:
        return os.path.exists(local)  # noqa: PTH110
    fs, key = _filesystem(path)
    with credentials_needed(path):
        return bool(fs.exists(key))


_CHANGE_MARKS = ("ETag", "etag", "mtime", "LastModified", "last_modified", "Last-Modified", "created")
"""What the stores call that which changes with a file's content, the surest first."""


def stamp(path: str) -> str:
    """Size and modification time (or ETag) of a file: what tells that its content may have changed.

    Raises:
        FileNotFoundError: if nothing is there.
        OSError: if it cannot be looked at.
    """
    local = local_path(path)
    if local is not None:
        info = os.stat(local)  # noqa: PTH116
        return f"{info.st_size}:{info.st_mtime_ns}"
    fs, key = _filesystem(path)
    with credentials_needed(path):
        entry = fs.info(key)
    return stamp_of(entry) or f"{entry.get('size')}:"


def stamp_of(entry: Mapping[str, Any]) -> str | None:
    """``stamp`` by what a store says of a file, also as it lists a folder; None where it tells no change by that."""
    mark = next((entry[name] for name in _CHANGE_MARKS if entry.get(name)), None)
    return None if mark is None else f"{entry.get('size')}:{mark}"


def list_names(folder: str) -> list[str]:
    """Base names in a folder, sorted; empty when the folder is absent. O(entries)."""
    local = local_path(folder)
    if local is not None:
        try:
            return sorted(os.listdir(local))  # noqa: PTH208
        except FileNotFoundError:
            return []
    fs, key = _filesystem(folder)
    try:
        with credentials_needed(folder):
            entries = [str(entry).rstrip("/") for entry in fs.ls(key, detail=False)]
    except FileNotFoundError:
        return []
    # Some programs mark a folder of an object store by an empty object, which is then listed in itself.
    return sorted(entry.rsplit("/", 1)[-1] for entry in entries if entry.strip("/") != key.strip("/"))


def odd_kind(local: str) -> str | None:
    """What a local path is if it is no regular file: "a folder", or "a FIFO, socket or device".

    Raises:
        OSError: if nothing is there, or it cannot be looked at.
    """
    kind = os.stat(local).st_mode  # noqa: PTH116
    if stat.S_ISREG(kind):
        return None
    return "a folder" if stat.S_ISDIR(kind) else "a FIFO, socket or device"


def refuse_odd_kind(path: str, local: str) -> None:
    """Ask before a local file is opened: a FIFO without a writer would block for ever, a device never ends.

    Raises:
        OSError: if it is no regular file, or cannot be looked at.
    """
    kind = odd_kind(local)
    if kind is not None:
        raise OSError(errno.EINVAL, f"is {kind}, not a regular file", path)


def retried(read: Callable[[], T]) -> T:
    """Read, and read again half a second later at most where the storage failed: networks and disks have bad moments.

    What will not change by waiting (nothing there, no permission, a folder) is raised at once.
    """
    for seconds in _WAITS:
        try:
            return read()
        except OSError as error:
            if isinstance(error, _LASTING) or error.errno in _LASTING_NUMBERS:
                raise
        time.sleep(seconds)
    return read()


def open_read(path: str) -> IO[bytes]:
    """Open for reading bytes.

    Raises:
        OSError: if it cannot be opened, or is no regular file.
    """
    return retried(lambda: open_once(path))


def open_once(path: str) -> IO[bytes]:
    """The same without a second try: for a read that is ``retried`` as a whole."""
    local = local_path(path)
    if local is not None:
        refuse_odd_kind(path, local)
        return Path(local).open("rb")
    fs, key = _filesystem(path)
    with credentials_needed(path):
        return fs.open(key, "rb")  # type: ignore[no-any-return]


def read_object(url: str, most: int) -> bytes:
    """Of what lies behind a URL the first ``most`` bytes, by one request and without asking for its size before.

    Once only; to be ``retried`` as a whole.

    Raises:
        OSError: if it cannot be read.
    """
    fs, key = _filesystem(url)
    with credentials_needed(url):
        try:
            return bytes(fs.cat_file(key, start=0, end=most))
        except _LASTING:
            raise
        except Exception:  # each store has its own for a range that is refused, as nothing has no first bytes
            if fs.info(key)["size"] == 0:
                return b""
            raise


def read_bytes(path: str, most: int | None = None) -> bytes:
    """The whole content.

    Raises:
        ValueError: if it is longer than ``most`` bytes, before it is read.
    """

    def read() -> bytes:
        with open_once(path) as file:
            if most is not None:
                found = file.seek(0, 2)
                if found > most:
                    raise ValueError(f"is larger than {most:,} bytes ({found:,})")
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
            fs, key = _filesystem(path)
            with credentials_needed(path):
                fs.put_file(spool.name, key)
        return
    target = Path(local)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(target)
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:
            error.filename = path  # a full disk does not say where it is
        raise


def _temporary(target: Path) -> Path:
    return target.with_name(f".{target.name[:100]}.{os.getpid()}-{secrets.token_hex(4)}.tmp")


def write_bytes(path: str, content: bytes) -> None:
    """Write a file whole."""
    with atomic_write(path) as file:
        file.write(content)


def create(path: str, content: bytes) -> bool:
    """Write a file whole unless there is one; of several writers one succeeds.

    Locally by a hard link, on an object store by a condition of the upload.

    Returns:
        False if a file was there.
    """
    local = local_path(path)
    if local is None:
        fs, key = _filesystem(path)
        try:
            with credentials_needed(path):
                fs.pipe_file(key, content, mode="create")
        except FileExistsError:
            return False
        return True
    target = Path(local)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(target)
    try:
        temporary.write_bytes(content)
        try:
            target.hardlink_to(temporary)
        except PermissionError:  # a file system without hard links
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


def read_json(path: str, most: int | None = None) -> Any:
    """Read JSON.

    Raises:
        FileNotFoundError: if it is absent.
        ValueError: if it is not JSON, naming the file, or longer than ``most`` bytes.
    """
    content = read_bytes(path, most)
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
    local = local_path(path)
    if local is not None:
        if os.path.isdir(local) and not os.path.islink(local):  # noqa: PTH112, PTH114
            shutil.rmtree(local, ignore_errors=True)
        else:
            Path(local).unlink(missing_ok=True)
        return
    fs, key = _filesystem(path)
    with credentials_needed(path):
        if fs.exists(key):
            fs.rm(key, recursive=True)
