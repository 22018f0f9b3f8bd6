"""Who a lease names, and whether that one is known to live: never guessed."""

from __future__ import annotations

import errno
import json
import os
import socket
import subprocess
import sys

import pytest

from retrieval_core.files import storage
from retrieval_core.run import holder as holder_module
from retrieval_core.run.holder import TORN, as_bytes, lives, lock_folder, read_holder, this_process

DEVICE = 7
LOCKED = """
import os, signal, sys
from retrieval_core.run.holder import lock_folder
descriptor = lock_folder(sys.argv[1])
for number in (0, 1, 2):  # as a program does that sends its output elsewhere
    os.dup2(os.open(os.devnull, os.O_RDWR), number)
open(sys.argv[2], "w").write(str(descriptor))
signal.pause()
"""


def dead_pid():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


HERE = {"device": DEVICE, "token": "other"}
OLD = {"device": None, "pid_namespace": None, "token": "other"}
GONE = {"pid": None, "process_start": "1"}


@pytest.mark.parametrize(
    ("changes", "locked", "expected"),
    [
        # Without a lock of one's own the process itself tells, if its number means something here.
        ({**HERE}, None, True),
        ({**HERE, **GONE}, None, False),
        ({**HERE, "process_start": "1"}, None, False),
        ({**HERE, **GONE, "pid_namespace": "pid:[1]"}, None, None),
        ({**HERE, **GONE, "pid_namespace": None}, None, None),
        ({**HERE, "process_start": None}, None, False),
        # With the lock that the holder had, it is gone, wherever it ran; with another one that says nothing.
        ({**HERE, **GONE, "pid_namespace": "pid:[1]"}, DEVICE, False),
        ({**HERE, **GONE, "pid_namespace": "pid:[1]"}, DEVICE + 1, None),
        # Another machine, or this one before it was started again.
        ({**HERE, "host": "another"}, DEVICE, None),
        ({**HERE, "boot": "before"}, DEVICE, None),
        ({**HERE, "boot": ""}, DEVICE, None),
        # Of an earlier version: alive if it is seen, else unknown.
        (OLD, None, True),
        (OLD, DEVICE, True),
        ({**OLD, **GONE}, None, None),
        ({**OLD, **GONE}, DEVICE, None),
    ],
)
def test_only_what_is_certain_is_said(changes, locked, expected):
    changes = {**changes, "pid": dead_pid()} if changes.get("pid", 0) is None else changes
    assert lives(this_process("mine", "now", DEVICE)._replace(**changes), locked) is expected


def test_numbers_of_another_namespaces_proc_say_nothing(monkeypatch):
    """As after ``unshare --pid`` without a /proc of one's own."""
    gone = this_process("mine", "now", None)._replace(pid=dead_pid(), process_start="1")
    assert lives(gone, None) is False
    monkeypatch.setattr(holder_module.os, "getpid", lambda: 1)
    assert this_process("mine", "now", None).pid_namespace is None
    assert lives(gone, None) is None


WHOLE = this_process("mine", "now", DEVICE)._asdict()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        as_bytes(this_process("mine", "now", DEVICE))[:-20],
        b"\xff\xfe\x00",
        b"null",
        b"[]",
        b"7",
        b"{}",
        b"[" * 100_000,
        b" " * (1 << 20),
        *(json.dumps({**WHOLE, key: value}).encode() for key, value in [("pid", "7"), ("host", None), ("token", 1)]),
        json.dumps({**WHOLE, "renewed": float("nan")}).encode(),
        json.dumps({key: value for key, value in WHOLE.items() if key != "since"}).encode(),
    ],
)
def test_what_is_no_lease_is_torn(tmp_path, content):
    (tmp_path / "lease.json").write_bytes(content)
    assert read_holder(str(tmp_path / "lease.json")) == TORN


def test_a_lease_comes_back_as_it_was_written(tmp_path):
    path = str(tmp_path / "lease.json")
    assert read_holder(path) is None
    mine = this_process("mine", "now", DEVICE)
    assert (mine.host, mine.pid) == (socket.gethostname(), os.getpid())
    storage.write_bytes(path, as_bytes(mine))
    assert read_holder(path) == mine


def test_a_lease_of_an_earlier_version_is_read_and_ours_has_all_of_its_keys(tmp_path):
    old = {"token": "t", "host": "h", "boot": "b", "pid": 7, "process_start": "1", "since": "then", "renewed": 1.5}
    storage.write_json(str(tmp_path / "lease.json"), old)
    found = read_holder(str(tmp_path / "lease.json"))
    assert old.items() <= found._asdict().items()
    assert (found.pid_namespace, found.device) == (None, None)
    assert old.keys() <= WHOLE.keys(), "an earlier version takes a lease without them for torn"


def test_a_folder_is_locked_once_until_its_descriptor_is_closed(tmp_path):
    descriptor = lock_folder(str(tmp_path))
    with pytest.raises(BlockingIOError):
        lock_folder(str(tmp_path))
    os.close(descriptor)
    os.close(lock_folder(str(tmp_path)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.EBADF])
def test_a_file_system_without_locks_is_one_without(tmp_path, monkeypatch, number):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    before = len(storage.list_names("/proc/self/fd"))
    monkeypatch.setattr(holder_module.fcntl, "flock", refuse)
    assert lock_folder(str(tmp_path)) is None
    assert len(storage.list_names("/proc/self/fd")) == before


def test_a_folder_that_is_not_there_is_not_locked(tmp_path):
    assert lock_folder(str(tmp_path / "absent")) is None


def test_a_program_without_its_streams_keeps_its_lock(tmp_path):
    """Started with 0, 1 and 2 closed, it would get one of these numbers for the lock, and then write over it."""
    folder, locked = tmp_path / "folder", tmp_path / "locked"
    folder.mkdir()
    words = [sys.executable, "-c", LOCKED, str(folder), str(locked)]
    with subprocess.Popen(["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *words]) as process:
        try:
            while not (locked.exists() and locked.read_text()):
                assert process.poll() is None
            assert int(locked.read_text()) > 2
            with pytest.raises(BlockingIOError):
                lock_folder(str(folder))
        finally:
            process.kill()
        process.wait()
    os.close(lock_folder(str(folder)))
