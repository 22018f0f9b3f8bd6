"""Trees of images: order, links, what is no image, and the same on an object store."""

from __future__ import annotations

import os
from pathlib import Path

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval_core.data.image_tree import find_folders, is_folder, walk_images
from retrieval_core.data.records import DataError

PARTS = st.sampled_from(["a", "b.png", "c.PNG", "d.txt", ".e.png"])
TREES = st.lists(st.lists(PARTS, min_size=1, max_size=3).map("/".join), unique=True, max_size=8)


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


@given(TREES)
def test_every_image_is_found_once_in_order(tmp_path_factory: pytest.TempPathFactory, files: list[str]) -> None:
    root = tmp_path_factory.mktemp("tree")
    made = [name for name in files if not any(other.startswith(f"{name}/") for other in files)]
    touch(root, *made)
    ignored: list[str] = []
    found = [name for name, _ in walk_images(str(root), ignored=ignored.append)]
    shown = [name for name in made if not any(part.startswith(".") for part in name.split("/"))]
    assert found == sorted((name for name in shown if name.lower().endswith(".png")), key=lambda name: name.split("/"))
    assert sorted(ignored) == sorted(set(shown) - set(found))


def test_links_are_followed_once_and_broken_ones_are_not_lost(tmp_path: Path) -> None:
    touch(tmp_path, "far/1.png", "far/sub/2.png", "root/a/3.png")
    (tmp_path / "root/loop").symlink_to(tmp_path / "root")
    (tmp_path / "root/a/up").symlink_to(tmp_path)
    (tmp_path / "root/far").symlink_to(tmp_path / "far")
    (tmp_path / "root/far2").symlink_to(tmp_path / "far")
    (tmp_path / "root/itself.png").symlink_to(tmp_path / "root/itself.png")
    (tmp_path / "root/gone.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "root/one.png").symlink_to(tmp_path / "far/1.png")
    os.mkfifo(tmp_path / "root/pipe.png")
    ignored: list[str] = []
    found = [name for name, _ in walk_images(str(tmp_path / "root"), ignored=ignored.append)]
    assert found == [
        "a/3.png",
        "a/up/far/1.png",
        "a/up/far/sub/2.png",
        "gone.png",
        "itself.png",
        "one.png",
    ]
    assert ignored == ["pipe.png"]


def test_a_folder_that_cannot_be_listed_is_reported(tmp_path: Path) -> None:
    noted: list[DataError] = []
    assert list(walk_images(str(tmp_path / "gone"), report=noted.append)) == []
    assert list(walk_images("nope://x", report=noted.append)) == []
    assert "gone: cannot be listed: No such file" in str(noted[0])
    assert "nope://x: this kind of URL cannot be opened" in str(noted[1])


def test_folders_are_found_by_the_end_of_their_path(tmp_path: Path) -> None:
    touch(
        tmp_path, *(f"{name}/x.png" for name in ("b/test/img", "a/test/img/deep/test/img", "test/img", "skip/test/img"))
    )
    touch(tmp_path, "a/img/x.png", "a/test/imgs/x.png")
    found = list(find_folders(str(tmp_path), ("test", "img"), skip=lambda name: name == "skip"))
    assert found == ["a/test/img", "a/test/img/deep/test/img", "b/test/img", "test/img"]


def test_an_object_store_is_walked_like_a_disk_and_tells_stamps() -> None:
    memory = fsspec.filesystem("memory")
    for name in ("b.png", "a/2.png", "a/1.png", "a/.x.png", "a.txt"):
        memory.pipe(f"/tree/{name}", name.encode())
    found = dict(walk_images("memory://tree"))
    assert list(found) == ["a/1.png", "a/2.png", "b.png"]
    assert all(found.values())
    memory.pipe("/tree/b.png", b"changed")
    again = dict(walk_images("memory://tree"))
    assert [name for name in found if found[name] != again[name]] == ["b.png"]
    assert (is_folder("memory://tree/a"), is_folder("memory://tree/b.png")) == (True, False)
    memory.rm("/tree", recursive=True)


def test_a_folder_is_told_from_a_file(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.png")
    assert [is_folder(str(tmp_path / name)) for name in ("a", "a/1.png", "gone")] == [True, False, False]
    with pytest.raises(DataError, match="nope://x: cannot be looked at"):
        is_folder("nope://x")
