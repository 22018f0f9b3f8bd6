"""A process that may not write any more writes nothing, however it writes, and so does what it sends to others."""

from __future__ import annotations

import pytest

from retrieval_core.files import fence, storage


class NotAnyMoreError(Exception):
    pass


def refuse():
    raise NotAnyMoreError


WRITES = {
    "write": lambda path: storage.write_bytes(path, b"new"),
    "write json": lambda path: storage.write_json(path, {}),
    "create": lambda path: storage.create(path + ".new", b"new"),
    "copy": lambda path: storage.copy(path, path + ".new"),
    "remove": storage.remove,
    "remove folder": lambda path: storage.remove(path.rpartition("/")[0]),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_nothing_is_written_and_nothing_goes(folder, write):
    path = storage.join(folder, "file")
    storage.write_bytes(path, b"old")
    with fence.fenced(refuse), pytest.raises(NotAnyMoreError):
        write(path)
    assert storage.list_names(folder) == ["file"]
    assert storage.read_bytes(path) == b"old"
    write(path)


def test_it_is_asked_when_the_file_would_appear(folder):
    """A process may be stopped for any time while it fills the file."""
    path, allowed = storage.join(folder, "file"), [None]
    asked = fence.fenced(lambda: None if allowed else refuse())
    with asked, pytest.raises(NotAnyMoreError), storage.atomic_write(path) as file:
        file.write(b"content")
        allowed.clear()
    assert storage.list_names(folder) == []


def test_the_inner_question_counts_and_the_outer_one_afterwards(tmp_path):
    path = str(tmp_path / "file")
    with fence.fenced(refuse):
        with fence.fenced(lambda: None):
            storage.write_bytes(path, b"inner")
        with fence.fenced(None), pytest.raises(NotAnyMoreError):
            storage.write_bytes(path, b"outer")
    assert fence.question() is None
    assert storage.read_bytes(path) == b"inner"


def test_a_task_takes_the_question_with_it(tmp_path):
    def write(name):
        storage.write_bytes(str(tmp_path / name), b"")
        return name

    assert fence.carried(write) is write
    with fence.fenced(refuse):
        task = fence.carried(write)
    assert task.__name__ == "write"
    with pytest.raises(NotAnyMoreError):
        task("file")
    assert write("file") == "file"
