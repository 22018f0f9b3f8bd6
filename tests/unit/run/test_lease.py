"""One run at a time in one folder."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from retrieval_core.files import storage
from retrieval_core.run import lease as lease_module
from retrieval_core.run.lease import LEASE_SECONDS, Lease
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


@pytest.mark.parametrize("elsewhere", [{"host": "another"}, {"boot": "before"}])
def test_elsewhere_a_lease_counts_by_its_time(lease_file, elsewhere):
    left_behind(lease_file, **elsewhere, renewed=time.time() - LEASE_SECONDS / 2)
    with pytest.raises(RunError, match="is running in this folder"):
        Lease(lease_file).__enter__()
    left_behind_again = storage.read_json(lease_file) | {"renewed": time.time() - LEASE_SECONDS - 1}
    storage.write_json(lease_file, left_behind_again)
    with Lease(lease_file):
        assert storage.read_json(lease_file)["pid"] == os.getpid()


def test_a_lease_that_cannot_be_read_is_nobodys(lease_file):
    storage.write_bytes(lease_file, b'{"token": ')
    with Lease(lease_file):
        assert storage.read_json(lease_file)["pid"] == os.getpid()


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


def test_a_lease_that_was_taken_over_is_neither_renewed_nor_removed(lease_file, monkeypatch, caplog):
    caplog.set_level("ERROR", "fabric_retrieval")
    monkeypatch.setattr(lease_module, "LEASE_SECONDS", 0.06)
    lease = Lease(lease_file)
    with lease:
        # Written again until it stands: the renewal may be between its look and its own writing.
        def taken():
            storage.write_json(lease_file, storage.read_json(lease_file) | {"token": "other", "pid": 7, "host": "far"})
            return not lease._thread.is_alive()

        wait_until(taken)
        assert "process 7 on far took this folder over" in caplog.text
    assert storage.read_json(lease_file)["token"] == "other"
