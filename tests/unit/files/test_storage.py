"""Files appear whole or not at all, on local disks and other stores alike."""

from __future__ import annotations

import errno
import math
import os
import signal
import subprocess
import sys

import fsspec
import pytest
from fsspec import AbstractFileSystem

from retrieval_core.files import storage

KILLED_WRITER = """
import sys, time
from retrieval_core.files import storage
with storage.atomic_write(sys.argv[1]) as file:
    file.write(b"half")
    file.flush()
    print("written", flush=True)
    time.sleep(600)
"""


class StopWritingError(Exception):
    pass


def interrupted_write(path):
    with pytest.raises(StopWritingError), storage.atomic_write(path) as file:
        file.write(b"part of something longer")
        raise StopWritingError


def test_what_is_written_is_read(folder):
    path = storage.join(folder, "a b,c.bin")
    assert not storage.exists(path)
    storage.write_bytes(path, b"one")
    storage.write_bytes(path, b"two")
    assert storage.exists(path)
    assert storage.read_bytes(path) == b"two"
    assert storage.list_names(folder) == ["a b,c.bin"]
    with storage.open_read(path) as file:
        assert file.read(1) == b"t"


class Strict(AbstractFileSystem):
    """Refuses a range of an empty object, as S3 does, and counts the requests."""

    protocol, objects, asked = "strict", {"a.png": b"content", "empty.png": b""}, []

    def cat_file(self, path, start=None, end=None, **_):
        self.asked.append("get")
        content = self.objects.get(path)
        if content is None:
            raise FileNotFoundError(path)
        if start is not None and not content:
            raise OSError(errno.EINVAL, "InvalidRange")
        return content[start:end]

    def info(self, path, **_):
        self.asked.append("head")
        return {"name": path, "size": len(self.objects[path]), "type": "file"}


def test_an_object_is_read_by_one_request_and_no_further_than_asked():
    fsspec.register_implementation("strict", Strict, clobber=True)
    assert storage.read_object("strict://a.png", 4) == b"cont"
    assert storage.read_object("strict://a.png", 40) == b"content"
    with pytest.raises(FileNotFoundError):
        storage.read_object("strict://b.png", 4)
    assert Strict.asked == ["get"] * 3
    assert storage.read_object("strict://empty.png", 4) == b""


def test_names_are_sorted_base_names(folder):
    assert storage.list_names(folder) == []
    for name in ("b", "a", "sub/c"):
        storage.write_bytes(storage.join(folder, name), b"x")
    assert storage.list_names(folder) == ["a", "b", "sub"]


def test_an_interrupted_writer_leaves_nothing(folder):
    path = storage.join(folder, "file")
    interrupted_write(path)
    assert not storage.exists(path)
    assert storage.list_names(folder) == []


def test_an_interrupted_writer_leaves_the_old_content(folder):
    path = storage.join(folder, "file")
    storage.write_bytes(path, b"old")
    interrupted_write(path)
    assert storage.read_bytes(path) == b"old"
    assert storage.list_names(folder) == ["file"]


def test_readers_see_the_old_content_until_the_new_is_whole(folder):
    path = storage.join(folder, "file")
    storage.write_bytes(path, b"old")
    with storage.atomic_write(path) as file:
        file.write(b"new")
        file.flush()
        assert storage.read_bytes(path) == b"old"
    assert storage.read_bytes(path) == b"new"


@pytest.mark.parametrize("old", [None, b"old"])
def test_a_killed_writer_leaves_no_part(tmp_path, old):
    target = tmp_path / "out" / "results.json"
    if old is not None:
        storage.write_bytes(str(target), old)
    writer = subprocess.Popen([sys.executable, "-c", KILLED_WRITER, str(target)], stdout=subprocess.PIPE)
    assert writer.stdout.readline() == b"written\n"
    writer.send_signal(signal.SIGKILL)
    assert writer.wait(30) == -signal.SIGKILL
    writer.stdout.close()
    assert (target.read_bytes() if target.exists() else None) == old
    left = [name for name in storage.list_names(str(target.parent)) if name != target.name]
    assert left, "the writer was killed in the middle"
    assert all(name.startswith(".") and name.endswith(".tmp") for name in left)
    storage.write_bytes(str(target), b"whole")
    assert target.read_bytes() == b"whole"


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)])
def test_permissions_are_those_of_the_umask(tmp_path, mask, mode):
    before = os.umask(mask)
    try:
        storage.write_bytes(str(tmp_path / "file"), b"x")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == mode


def test_an_object_that_marks_a_folder_is_not_in_it(monkeypatch):
    class Bucket:
        def ls(self, key, detail):
            return [f"{key}/", f"{key}/b", f"{key}/a"]

    monkeypatch.setattr("fsspec.url_to_fs", lambda path, **_: (Bucket(), path.removeprefix("s3://")))
    assert storage.list_names("s3://bucket/folder") == ["a", "b"]


def test_of_several_creators_one_succeeds(folder):
    path = storage.join(folder, "file")
    assert storage.create(path, b"first")
    assert not storage.create(path, b"second")
    assert storage.read_bytes(path) == b"first"
    assert storage.list_names(folder) == ["file"]
    storage.remove(path)
    assert storage.create(path, b"third")


def test_a_disk_without_hard_links_will_do(tmp_path, monkeypatch):
    def refuse(self, target):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("pathlib.Path.hardlink_to", refuse)
    path = str(tmp_path / "file")
    assert storage.create(path, b"first")
    assert not storage.create(path, b"second")
    assert storage.read_bytes(path) == b"first"
    assert storage.list_names(str(tmp_path)) == ["file"]


def test_listings_are_not_remembered(monkeypatch):
    """Other processes write into the same folders: what a store answered once says nothing about now."""
    s3fs = pytest.importorskip("s3fs")
    objects = ["a"]

    async def listed(self, path, refresh=False, **_):
        if path not in self.dircache or refresh:
            entries = [{"name": f"bucket/folder/{name}", "type": "file", "size": 1} for name in objects]
            self.dircache[path] = entries
            return entries
        return self.dircache[path]

    monkeypatch.setattr(s3fs.S3FileSystem, "_lsdir", listed)
    assert storage.list_names("s3://bucket/folder") == ["a"]
    objects.append("b")
    assert storage.list_names("s3://bucket/folder") == ["a", "b"]


def test_a_long_name_can_be_written(tmp_path):
    name = "n" * 250
    storage.write_bytes(str(tmp_path / name), b"x")
    assert storage.list_names(str(tmp_path)) == [name]


def test_json_round_trip(folder):
    path = storage.join(folder, "value.json")
    value = {"z": ["ünicode", 0.1, None, True], "a": {"b": 1}}
    storage.write_json(path, value)
    assert storage.read_json(path) == value
    assert list(storage.read_json(path)) == ["z", "a"]
    assert "ünicode".encode() in storage.read_bytes(path)


def test_json_that_is_none_is_named(folder):
    path = storage.join(folder, "value.json")
    for content in (b"", b"{", b"\xff\xfe"):
        storage.write_bytes(path, content)
        with pytest.raises(ValueError, match=r"value\.json: not valid JSON .*delete it"):
            storage.read_json(path)
    with pytest.raises(FileNotFoundError):
        storage.read_json(storage.join(folder, "absent.json"))


def test_json_holds_no_numbers_that_json_lacks(folder):
    path = storage.join(folder, "value.json")
    storage.write_json(path, [1])
    with pytest.raises(ValueError, match="JSON"):
        storage.write_json(path, [math.nan])
    assert storage.read_json(path) == [1]


def test_copy_and_remove(folder):
    source, target = storage.join(folder, "source"), storage.join(folder, "sub", "target")
    storage.write_bytes(source, bytes(range(256)) * 10_000)
    storage.copy(source, target)
    assert storage.read_bytes(target) == storage.read_bytes(source)
    storage.remove(storage.join(folder, "sub"))
    assert not storage.exists(target)
    storage.remove(source)
    storage.remove(source)
    assert storage.list_names(folder) == []


def test_removing_a_link_to_a_folder_leaves_the_folder(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_bytes(b"x")
    (tmp_path / "link").symlink_to(tmp_path / "mine")
    storage.remove(str(tmp_path / "link"))
    assert storage.list_names(str(tmp_path)) == ["mine"]
    assert (tmp_path / "mine" / "file").exists()


@pytest.mark.parametrize(
    ("parts", "joined"),
    [
        (("data", "a", "b.png"), "data/a/b.png"),
        (("./data/../x", "b.png"), "./data/../x/b.png"),
        (("/data/", "b.png"), "/data/b.png"),
        (("", "b.png"), "b.png"),
        (("s3://bucket/", "a", "b.png"), "s3://bucket/a/b.png"),
        (("s3://bucket", "a"), "s3://bucket/a"),
    ],
)
def test_join_keeps_the_spelling(parts, joined):
    assert storage.join(*parts) == joined


def test_absolute_leaves_urls_and_links_alone(tmp_path, monkeypatch):
    (tmp_path / "link").symlink_to(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert storage.absolute("link/x") == f"{tmp_path}/link/x"
    assert storage.absolute("s3://bucket/x") == "s3://bucket/x"


def test_an_unknown_kind_of_url_is_named():
    with pytest.raises(ValueError, match=r"^nowhere://x: this kind of URL cannot be opened here"):
        storage.exists("nowhere://x")
