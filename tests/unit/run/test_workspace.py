"""The folder of a run: stages are done once, and by one run at a time."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from retrieval_core.config.config import load_config
from retrieval_core.files import storage
from retrieval_core.files.fingerprint import fingerprint
from retrieval_core.run import workspace
from retrieval_core.run.lease import LEASE_SECONDS, Lease
from retrieval_core.run.workspace import RunError, Workspace

HOLDER = """
import sys, time
from retrieval_core.run.lease import Lease
with Lease(sys.argv[1]):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def space(tmp_path):
    return Workspace(load_config(None, [f"run.output_dir={tmp_path}", "run.name=trial"]))


class Stage:
    """A stage that counts how often it was done."""

    def __init__(self, space):
        self.space, self.output, self.done = space, space.path("out", "result.txt"), 0

    def action(self):
        self.done += 1
        storage.write_bytes(self.output, b"x")
        return {"images": 3}

    def __call__(self, inputs, **options):
        return self.space.stage("embed.gallery", inputs, [self.output], self.action, **options)


# ---- paths and fingerprints


def test_paths_are_absolute_and_urls_stay(space, tmp_path, monkeypatch):
    assert space.path("model", "config.json") == f"{tmp_path}/trial/model/config.json"
    assert space.work("a") == f"{tmp_path}/trial/work/a"
    assert space.arm_folder("frozen", "frozen") == space.folder
    assert space.arm_folder("histogram", "frozen") == space.work("arms", "histogram")
    monkeypatch.chdir(tmp_path)
    assert Workspace(load_config(None, ["run.name=r"])).folder == f"{tmp_path}/Output/r"
    assert Workspace(load_config(None, ["run.output_dir=s3://b/out"])).path("x") == "s3://b/out/run/x"
    assert storage.list_names(str(tmp_path)) == []


def test_a_fingerprint_follows_content_and_not_the_order_of_keys():
    assert fingerprint({"a": 1, "b": [1, 2]}) == fingerprint({"b": [1, 2], "a": 1})
    values = [{"a": 1}, {"a": "1"}, {"a": 1.5}, {"a": None}, {"b": 1}, {"a": [1, 2]}, {"a": [2, 1]}, {}, []]
    assert len({fingerprint(value) for value in values}) == len(values)
    assert re.fullmatch("[0-9a-f]{64}", fingerprint(values))


# ---- stages


def test_a_finished_stage_is_skipped(space):
    stage = Stage(space)
    first = stage({"k": 1})
    assert (first["skipped"], first["images"], first["stage"], stage.done) == (False, 3, "embed.gallery", 1)
    assert first["seconds"] >= 0
    assert stage({"k": 1}) == first | {"skipped": True}
    assert stage.done == 1
    assert space.record("embed.gallery") == {key: value for key, value in first.items() if key != "skipped"}


def test_a_stage_with_other_inputs_is_redone(space):
    stage = Stage(space)
    marks = {stage({"k": value})["fingerprint"] for value in (1, 2, 1)}
    assert (stage.done, len(marks)) == (3, 2)


def test_two_stages_with_the_same_inputs_have_their_own_records(space):
    facts = [space.stage(name, {}, [], lambda: {})["fingerprint"] for name in ("embed.gallery", "embed.queries")]
    assert facts[0] != facts[1]


def test_overwrite_redoes_what_is_done(space):
    stage = Stage(space)
    stage({})
    assert stage({}, overwrite=True)["skipped"] is False
    assert stage.done == 2


def test_a_missing_output_is_made_again(space):
    stage = Stage(space)
    stage({})
    storage.remove(stage.output)
    stage({})
    assert stage.done == 2
    assert storage.exists(stage.output)


@pytest.mark.parametrize(
    "content", [b"", b'{"stage": ', b"\xff", b"null", b"[1]", b"{}", b'{"stage": "embed.gallery"}']
)
def test_a_corrupt_record_is_no_record(space, content, caplog):
    caplog.set_level("WARNING", "fabric_retrieval")
    stage = Stage(space)
    stage({})
    storage.write_bytes(space.work("stages", "embed.gallery.json"), content)
    assert space.record("embed.gallery") is None
    assert "embed.gallery: its record cannot be read" in caplog.text
    assert stage({})["skipped"] is False
    assert stage({})["skipped"] is True


def test_a_stage_that_fails_leaves_no_record(space):
    stage = Stage(space)
    stage({})

    def fail():
        raise ValueError("no")

    with pytest.raises(ValueError, match=r"^no$"):
        space.stage("embed.gallery", {"k": 2}, [], fail)
    assert space.record("embed.gallery") is None
    # What the failed attempt may have overwritten is not taken for the result of the inputs before.
    stage({})
    assert stage.done == 2


def test_a_stage_that_was_never_done_has_no_record(space):
    assert space.record("train") is None


# ---- the lease


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

    monkeypatch.setattr(workspace.time, "sleep", overtaken)
    with pytest.raises(RunError, match="at the same moment"):
        Lease(lease_file).__enter__()
    assert storage.read_json(lease_file)["token"] == "later"


def test_a_lease_is_renewed_while_it_is_held(lease_file, monkeypatch):
    monkeypatch.setattr(workspace, "LEASE_SECONDS", 0.06)
    with Lease(lease_file):
        first = storage.read_json(lease_file)["renewed"]
        wait_until(lambda: storage.read_json(lease_file)["renewed"] > first)
    assert not storage.exists(lease_file)


def test_a_renewal_that_fails_is_tried_again(lease_file, monkeypatch, caplog):
    monkeypatch.setattr(workspace, "LEASE_SECONDS", 0.06)
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
    monkeypatch.setattr(workspace, "SETTLE_SECONDS", {True: 0.0, False: 0.0})
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
    monkeypatch.setattr(workspace, "LEASE_SECONDS", 0.06)
    lease = Lease(lease_file)
    with lease:
        # Written again until it stands: the renewal may be between its look and its own writing.
        def taken():
            storage.write_json(lease_file, storage.read_json(lease_file) | {"token": "other", "pid": 7, "host": "far"})
            return not lease._thread.is_alive()

        wait_until(taken)
        assert "process 7 on far took this folder over" in caplog.text
    assert storage.read_json(lease_file)["token"] == "other"
