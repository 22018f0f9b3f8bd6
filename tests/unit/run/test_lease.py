"""One run at a time in one folder."""

from __future__ import annotations

import errno
import os
import pickle
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from retrieval_core.files import fence, storage
from retrieval_core.run import lease as lease_module
from retrieval_core.run.lease import LEASE_SECONDS, Claim, Lease, LeaseLostError
from retrieval_core.run.workspace import RunError

HOLDER = """
import sys, time
from retrieval_core.run.lease import Lease
with Lease(sys.argv[1]):
    print("held", flush=True)
    time.sleep(600)
"""


def wait_until(condition):
    for _ in range(3000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("did not happen")


@pytest.fixture
def lease_file(tmp_path):
    return str(tmp_path / "work" / "lease.json")


def left_behind(path, **changes):
    """A lease as this very process would hold it, but for the changes."""
    with Lease(path):
        content = storage.read_json(path)
    storage.write_json(path, content | {"token": "other"} | changes)


def test_a_lease_is_there_while_it_is_held(lease_file):
    with Lease(lease_file):
        holder = storage.read_json(lease_file)
        assert (holder["host"], holder["pid"]) == (socket.gethostname(), os.getpid())
    assert not storage.exists(lease_file)
    with pytest.raises(ZeroDivisionError), Lease(lease_file):
        raise ZeroDivisionError
    assert not storage.exists(lease_file)


def test_the_lease_of_a_living_process_is_refused_until_it_is_dead(lease_file):
    with subprocess.Popen([sys.executable, "-c", HOLDER, lease_file], stdout=subprocess.PIPE) as holder:
        try:
            assert holder.stdout.readline() == b"held\n"
            before = storage.read_bytes(lease_file)
            with pytest.raises(
                RunError, match=rf"process {holder.pid} on .* is running in this folder since .* run\.n"
            ):
                Lease(lease_file).__enter__()
            assert storage.read_bytes(lease_file) == before
        finally:
            holder.kill()
        # Before it is waited for: a zombie holds nothing.
        wait_until(lambda: "Z (zombie)" in Path(f"/proc/{holder.pid}/status").read_text())
        with Lease(lease_file):
            assert storage.read_json(lease_file)["pid"] == os.getpid()


def test_the_lease_of_a_process_whose_number_was_given_away_is_taken_over(lease_file):
    left_behind(lease_file, process_start="1")
    with Lease(lease_file):
        assert storage.read_json(lease_file)["process_start"] != "1"


@pytest.fixture
def soon(monkeypatch):
    """A lease lasts for less than a second."""
    monkeypatch.setattr(lease_module, "LEASE_SECONDS", 0.6)
    return 0.6


ELSEWHERE = [{"host": "another"}, {"boot": "before"}, {"pid_namespace": "pid:[1]", "device": None, "pid": 1 << 22}]
DAY = 86_400


@pytest.mark.parametrize("elsewhere", ELSEWHERE)
def test_elsewhere_a_lease_counts_by_its_time(lease_file, elsewhere, soon):
    left_behind(lease_file, **elsewhere, renewed=time.time() - LEASE_SECONDS / 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lease_module, "LEASE_SECONDS", LEASE_SECONDS)
        with pytest.raises(RunError, match="is running in this folder"):
            Lease(lease_file).__enter__()
    with Lease(lease_file):
        assert storage.read_json(lease_file)["pid"] == os.getpid()


@pytest.mark.parametrize("elsewhere", ELSEWHERE)
@pytest.mark.parametrize("ahead", [-DAY, -LEASE_SECONDS - 1, DAY])
def test_a_clock_that_differs_neither_ends_a_living_lease_nor_keeps_a_dead_one(lease_file, elsewhere, ahead, soon):
    def renewed():
        storage.write_json(lease_file, storage.read_json(lease_file) | {"renewed": time.time() + ahead})

    left_behind(lease_file, **elsewhere, renewed=time.time() + ahead)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lease_module.time, "sleep", lambda _: renewed())
        with pytest.raises(RunError, match="is running in this folder"):
            Lease(lease_file).__enter__()
    with Lease(lease_file):
        assert storage.read_json(lease_file)["pid"] == os.getpid()


@pytest.mark.parametrize("living", [True, False])
def test_a_lease_of_an_earlier_version_counts_by_its_process_and_its_time(lease_file, living, soon):
    left_behind(lease_file, **({} if living else {"process_start": "1"}), renewed=time.time() - DAY)
    content = storage.read_json(lease_file)
    storage.write_json(lease_file, {key: content[key] for key in content if key not in {"pid_namespace", "device"}})
    if living:
        with pytest.raises(RunError, match="is running in this folder"):
            Lease(lease_file).__enter__()
    else:
        with Lease(lease_file):
            assert storage.read_json(lease_file)["token"] != "other"


@pytest.mark.parametrize("content", [b"", b'{"token": ', b"[]", b"\xff\x00", b'{"token": 1, "host": [], "pid": {}}'])
@pytest.mark.parametrize("where", ["disk", "store"])
def test_a_lease_that_cannot_be_read_is_nobodys(tmp_path, monkeypatch, content, where):
    monkeypatch.setattr(lease_module, "STORE_SETTLE_SECONDS", 0.05)
    path = str(tmp_path / "lease.json") if where == "disk" else f"memory://{tmp_path}/lease.json"
    storage.write_bytes(path, content)
    with Lease(path):
        assert storage.read_json(path)["pid"] == os.getpid()


def test_a_lease_that_is_just_being_written_is_somebodys(lease_file, monkeypatch):
    """Without hard links a file is there before its content is."""
    left_behind(lease_file)
    whole = storage.read_bytes(lease_file)
    Path(lease_file).write_bytes(b"")
    monkeypatch.setattr(lease_module.time, "sleep", lambda _: Path(lease_file).write_bytes(whole))
    with pytest.raises(RunError, match="at the same moment"):
        Lease(lease_file).__enter__()
    assert storage.read_bytes(lease_file) == whole


def test_of_two_that_start_at_once_the_later_holds(lease_file, monkeypatch):
    def overtaken(seconds):
        storage.write_json(lease_file, storage.read_json(lease_file) | {"token": "later"})

    monkeypatch.setattr(lease_module.time, "sleep", overtaken)
    with pytest.raises(RunError, match="at the same moment"):
        Lease(lease_file).__enter__()
    assert storage.read_json(lease_file)["token"] == "later"


def test_a_lease_is_renewed_while_it_is_held(lease_file, monkeypatch):
    monkeypatch.setattr(lease_module, "LEASE_SECONDS", 0.06)
    with Lease(lease_file):
        first = storage.read_json(lease_file)["renewed"]
        wait_until(lambda: storage.read_json(lease_file)["renewed"] > first)
    assert not storage.exists(lease_file)


def test_a_renewal_that_fails_is_tried_again(lease_file, monkeypatch, caplog):
    monkeypatch.setattr(lease_module, "LEASE_SECONDS", 0.06)
    write, failures = storage.write_bytes, []

    def fail_twice(path, content):
        if len(failures) < 2:
            failures.append(path)
            raise ConnectionError("no route to the store")
        write(path, content)

    with Lease(lease_file):
        first = storage.read_json(lease_file)
        monkeypatch.setattr(storage, "write_bytes", fail_twice)
        wait_until(lambda: storage.read_json(lease_file)["renewed"] > first["renewed"])
        assert storage.read_json(lease_file)["since"] == first["since"]
    assert failures == [lease_file] * 2
    assert "cannot be renewed now (ConnectionError)" in caplog.text


@pytest.mark.parametrize("kind", ["disk", "store"])
def test_of_two_that_find_a_folder_free_one_gets_it(tmp_path, monkeypatch, kind):
    path = str(tmp_path / "lease.json") if kind == "disk" else f"memory://{tmp_path}/lease.json"
    monkeypatch.setattr(lease_module, "DISK_SETTLE_SECONDS", 0.0)
    monkeypatch.setattr(lease_module, "STORE_SETTLE_SECONDS", 0.0)
    create = storage.create

    def overtaken(path, content):
        create(path, b'{"token": "other"}')
        return create(path, content)

    monkeypatch.setattr(storage, "create", overtaken)
    with pytest.raises(RunError, match="at the same moment"):
        Lease(path).__enter__()
    assert storage.read_json(path)["token"] == "other"


def taken_over(path, **changes):
    """Another run has the folder from now on."""
    storage.write_json(path, storage.read_json(path) | {"token": "other", "pid": 7, "host": "far"} | changes)


@pytest.mark.parametrize("work", [lambda: time.sleep(60), lambda: threading.Event().wait(60)])
def test_the_loss_of_the_lease_ends_the_run(lease_file, soon, work):
    """Also one that writes nothing; the other's lease is neither renewed nor removed."""
    lease, said = Lease(lease_file), "process 7 on far took this folder over; this run has stopped writing"

    def taken():
        taken_over(lease_file)
        return not lease._thread.is_alive()

    with pytest.raises(LeaseLostError, match=said), lease:
        # Written again until it stands: the renewal may be between its look and its own writing.
        wait_until(taken)
        work()
    assert storage.read_json(lease_file)["token"] == "other"


WRITES = {
    "write": lambda path: storage.write_bytes(path, b"new"),
    "create": lambda path: storage.create(f"{path}.new", b"new"),
    "remove": storage.remove,
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
@pytest.mark.parametrize("where", ["disk", "store"])
def test_who_has_lost_the_lease_writes_nothing_more(tmp_path, monkeypatch, write, where):
    monkeypatch.setattr(lease_module, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(lease_module, "STORE_SETTLE_SECONDS", 0.0)
    folder = str(tmp_path) if where == "disk" else f"memory://{tmp_path}"
    lease, file = storage.join(folder, "lease.json"), storage.join(folder, "file")
    with pytest.raises(LeaseLostError, match="process 7 on far took this folder over"), Lease(lease) as held:
        storage.write_bytes(file, b"old")
        token = held.token
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(fence, "_asked", [])  # the other is another process
            taken_over(lease)
        write(file)
    assert storage.read_bytes(file) == b"old"
    assert sorted(storage.list_names(folder)) == ["file", "lease.json"]
    # Nor do its workers, nor itself after the other has ended.
    claim = pickle.loads(pickle.dumps(Claim(lease, token)))
    with fence.fenced(claim), pytest.raises(LeaseLostError):
        write(file)
    storage.remove(lease)
    with fence.fenced(claim), pytest.raises(LeaseLostError):
        write(file)
    assert storage.read_bytes(file) == b"old"


def test_a_loss_hides_what_went_wrong_because_of_it(lease_file):
    with pytest.raises(LeaseLostError) as caught, Lease(lease_file):
        taken_over(lease_file)
        raise FileNotFoundError("the other run has removed it")
    assert caught.value.__cause__ is None


def test_a_lease_that_somebody_removed_is_written_again(lease_file, soon):
    with Lease(lease_file) as lease:
        storage.remove(lease_file)
        wait_until(lambda: storage.exists(lease_file))
        assert storage.read_json(lease_file)["token"] == lease.token
    assert not storage.exists(lease_file)


def test_a_lease_that_was_gone_for_longer_than_it_lasts_is_lost(lease_file, monkeypatch):
    """As after a stop in which another run has begun and ended here."""
    claim = Claim(lease_file, "mine")
    claim()
    monkeypatch.setattr(lease_module, "LOOK_SECONDS", 0.0)
    later = time.clock_gettime(time.CLOCK_BOOTTIME) + LEASE_SECONDS + 1
    monkeypatch.setattr(lease_module, "_now", lambda: later)
    with pytest.raises(LeaseLostError, match="gone while this run stood still"):
        claim()


LINKS = [errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV, errno.EIO]


@pytest.mark.parametrize("number", LINKS)
def test_a_file_system_without_hard_links_has_leases(lease_file, monkeypatch, number):
    def refuse(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", refuse)
    with Lease(lease_file):
        assert storage.read_json(lease_file)["pid"] == os.getpid()
        assert not storage.create(lease_file, b"second")
        with pytest.raises(RunError, match="is running in this folder"):
            Lease(lease_file).__enter__()
    assert storage.list_names(str(Path(lease_file).parent)) == []


def test_who_stalls_between_look_and_take_finds_the_folder_taken_or_leaves_one_holder(tmp_path, monkeypatch):
    """On a disk the lock keeps the other out; on a store the one whose lease was removed stops at its next write."""
    monkeypatch.setattr(lease_module, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(lease_module, "STORE_SETTLE_SECONDS", 0.0)
    remove, others, ended = storage.remove, [], []
    for folder in (str(tmp_path), f"memory://{tmp_path}"):
        path = storage.join(folder, "lease.json")
        left_behind(path, process_start="1")

        def stalled(_, path=path):
            monkeypatch.setattr(storage, "remove", remove)
            try:
                others.append(Lease(path).__enter__())
            except RunError as error:
                ended.append(str(error))
            remove(path)

        monkeypatch.setattr(storage, "remove", stalled)
        with Lease(path) as held:
            assert storage.read_json(path)["token"] == held.token
            for other in others:
                with fence.fenced(other._claim), pytest.raises(LeaseLostError, match=f"process {os.getpid()} on"):
                    storage.write_bytes(storage.join(folder, "file"), b"")
                with pytest.raises(LeaseLostError):
                    other.__exit__(None, None, None)
            storage.write_bytes(storage.join(folder, "file"), b"mine")
    assert len(others) == 1
    assert len(ended) == 1
    assert "at the same moment" in ended[0]
