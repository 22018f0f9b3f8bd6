"""A stamp shows that a file's content may have changed."""

from __future__ import annotations

import pytest

from retrieval_core.files import storage
from retrieval_core.files.stamps import look, stamp, stamp_of


def test_a_stamp_follows_the_content(folder):
    path = storage.join(folder, "image.png")
    with pytest.raises(FileNotFoundError):
        stamp(path)
    storage.write_bytes(path, b"one")
    first = stamp(path)
    assert stamp(path) == first
    storage.write_bytes(path, b"two")
    second = stamp(path)
    storage.write_bytes(path, b"three")
    assert len({first, second, stamp(path)}) == 3


def test_every_name_of_a_local_file_has_its_number(tmp_path):
    first, other = tmp_path / "a.png", tmp_path / "b.png"
    first.write_bytes(b"x")
    other.write_bytes(b"x")
    assert not look(str(first)).linked
    (tmp_path / "link.png").symlink_to(first)
    (tmp_path / "hard.png").hardlink_to(first)
    names = [str(first), f"file://{first}", f"{tmp_path}/./link.png", str(tmp_path / "hard.png")]
    assert len({look(name) for name in names}) == 1
    assert look(str(first)).linked
    assert look(str(other)).file != look(str(first)).file


def test_a_stamp_of_an_object_store_prefers_its_etag(monkeypatch):
    class Bucket:
        def info(self, key):
            return {"size": 5, "ETag": '"abc"', "LastModified": "today", "name": key}

    monkeypatch.setattr("fsspec.url_to_fs", lambda path, **_: (Bucket(), path))
    assert stamp("s3://bucket/a.png") == '5:"abc"'


def test_without_a_time_or_etag_the_size_has_to_do(monkeypatch):
    class Bucket:
        def info(self, key):
            return {"size": 5, "name": key}

    monkeypatch.setattr("fsspec.url_to_fs", lambda path, **_: (Bucket(), path))
    assert stamp("s3://bucket/a.png") == "5:"


def test_a_listing_gives_a_stamp_only_if_it_would_show_a_change():
    assert stamp_of({"size": 7, "ETag": "x", "mtime": 3}) == "7:x"
    assert stamp_of({"size": 7, "created": 3}) == "7:3"
    assert stamp_of({"size": 7}) is None
