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
    told: list[tuple[str, str]] = []
    found = [name for name, _ in walk_images(str(root), left_out=lambda *why: told.append(why))]
    shown = [name for name in made if not any(part.startswith(".") for part in name.split("/"))]
    assert found == sorted((name for name in shown if name.lower().endswith(".png")), key=lambda name: name.split("/"))
    ignored = [name for reason, name in told if reason == "ignored-file"]
    assert sorted(ignored) == sorted(set(shown) - set(found))
    hidden = {name for reason, name in told if reason == "hidden-file"}
    assert {name for name in made if any(name == top or name.startswith(f"{top}/") for top in hidden)} == (
        set(made) - set(shown)
    )


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
    told: list[tuple[str, str]] = []
    found = [name for name, _ in walk_images(str(tmp_path / "root"), left_out=lambda *why: told.append(why))]
    assert found == [
        "a/3.png",
        "a/up/far/1.png",
        "a/up/far/sub/2.png",
        "gone.png",
        "itself.png",
        "one.png",
    ]
    assert told == [("ignored-file", "pipe.png")]


def test_a_link_to_what_is_found_anyway_is_passed_over(tmp_path: Path) -> None:
    touch(tmp_path, "root/2024/1.png", "root/2024/blob", "root/.store/2.png", "root/#recycle/3.png", "away/4.png")
    links = {
        "cover.png": "2024/1.png",
        "latest": "2024",
        "up/again": "../2024",
        "whole.png": "../root/2024/1.png",
        "blob.png": "2024/blob",  # its own name is no image's
        "kept.png": ".store/2.png",  # hidden under its own name
        "back": "#recycle",  # excluded under its own name
        "away": "../away",
    }
    (tmp_path / "root/up").mkdir()
    for name, target in links.items():
        (tmp_path / "root" / name).symlink_to(target)
    (tmp_path / "way").symlink_to("root")
    for root in (tmp_path / "root", tmp_path / "way"):
        told: list[tuple[str, str]] = []
        walk = walk_images(str(root), exclude=["#recycle"], left_out=lambda *why, told=told: told.append(why))
        assert [name for name, _ in walk] == ["2024/1.png", "away/4.png", "back/3.png", "blob.png", "kept.png"]
        assert [name for reason, name in told if reason == "linked-file"] == [
            "cover.png",
            "latest",
            "up/again",
            "whole.png",
        ]


@pytest.mark.parametrize(
    ("exclude", "found"),
    [
        ([], ["#recycle/1.png", "Entwürfe/2.png", "a/b/3.png", "a/drafts/4.png", "drafts/5.png", "x.tmp.png"]),
        (["#RECYCLE", "drafts"], ["Entwürfe/2.png", "a/b/3.png", "x.tmp.png"]),
        (["a/drafts", "*.tmp.*"], ["#recycle/1.png", "Entwürfe/2.png", "a/b/3.png", "drafts/5.png"]),
        (["a/*", "entwu\u0308rfe"], ["#recycle/1.png", "drafts/5.png", "x.tmp.png"]),
        (["?", "/drafts/"], ["#recycle/1.png", "Entwürfe/2.png", "x.tmp.png"]),
        (["recycle", "[#]nothing", ""], ["#recycle/1.png", "Entwürfe/2.png", "a/b/3.png", "a/drafts/4.png"]),
    ],
)
def test_excluded_names_are_passed_over_and_told(tmp_path: Path, exclude: list[str], found: list[str]) -> None:
    every = ["#recycle/1.png", "Entwürfe/2.png", "a/b/3.png", "a/drafts/4.png", "drafts/5.png", "x.tmp.png"]
    touch(tmp_path, *every)
    told: list[tuple[str, str]] = []
    walk = walk_images(str(tmp_path), exclude=exclude, left_out=lambda *why: told.append(why))
    taken = [name for name, _ in walk]
    assert taken[: len(found)] == found
    lost = set(every) - set(taken)
    assert all(any(name == top or name.startswith(f"{top}/") for _, top in told) for name in lost)
    assert {reason for reason, _ in told} == ({"excluded-file"} if lost else set())


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every folder")
def test_a_folder_that_nobody_may_read_can_be_excluded(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "lost+found/x.png")
    (tmp_path / "lost+found").chmod(0)
    assert [name for name, _ in walk_images(str(tmp_path), exclude=["lost+found"])] == ["a.png"]
    with pytest.raises(DataError, match=r"or leave it out by data\.exclude"):
        list(walk_images(str(tmp_path)))
    (tmp_path / "lost+found").chmod(0o700)


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
    told: list[tuple[str, str]] = []
    folders = find_folders(
        str(tmp_path),
        ("test", "img"),
        skip=lambda name: name == "skip",
        exclude=["B"],
        left_out=lambda *why: told.append(why),
    )
    assert list(folders) == ["a/test/img", "a/test/img/deep/test/img", "test/img"]
    assert told == [("excluded-file", "b")]


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
