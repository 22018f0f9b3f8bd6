"""Processes that want one folder: stopped, killed, in another PID namespace, or all at once."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from retrieval_core.files import storage
from retrieval_core.run.lease import Lease
from retrieval_core.run.workspace import RunError

WRITER = """
import sys, time
from retrieval_core.files import storage
from retrieval_core.run import holder, lease
lease.LOOK_SECONDS = 0.0
if "unlocked" in sys.argv:
    holder.lock_folder = lease.lock_folder = lambda folder: None
try:
    with lease.Lease(sys.argv[1]):
        print("held", flush=True)
        for number in range(int(sys.argv[3])):
            storage.write_bytes(sys.argv[2], b"%d" % number)
            time.sleep(0.01)
except Exception as error:
    sys.exit(f"{type(error).__name__}: {error}")
"""
ALONE = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]


def start(folder, *words, writes=100_000, before=()):
    command = [*before, sys.executable, "-c", WRITER, str(folder / "lease.json"), str(folder / "file"), str(writes)]
    return subprocess.Popen([*command, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture
def holder(tmp_path):
    """A process that holds the folder and writes a file again and again."""
    with start(tmp_path) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        with suppress(OSError):
            process.kill()


def stopped(process):
    process.send_signal(signal.SIGSTOP)
    while Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
        time.sleep(0.01)


def test_a_stopped_holder_that_lost_the_folder_writes_nothing_when_it_goes_on(tmp_path, holder):
    while not (tmp_path / "file").exists():
        assert holder.poll() is None
    stopped(holder)
    lease = tmp_path / "lease.json"
    # As another host does it that has waited for long enough.
    other = json.loads(lease.read_text()) | {"token": "other", "host": "far", "pid": 7}
    lease.write_text(json.dumps(other))
    (tmp_path / "file").write_bytes(b"the other's")
    holder.send_signal(signal.SIGCONT)
    said = holder.communicate(timeout=60)[1]
    assert holder.returncode == 1
    assert said.startswith(f"LeaseLostError: {lease}: process 7 on far took this folder over; this run has stopped")
    assert said.count("\n") == 1
    assert (tmp_path / "file").read_bytes() == b"the other's"
    assert json.loads(lease.read_text()) == other
    assert sorted(storage.list_names(str(tmp_path))) == ["file", "lease.json"]


def test_a_stopped_holder_on_this_machine_goes_on_holding(tmp_path, holder):
    stopped(holder)
    lease = tmp_path / "lease.json"
    lease.write_text(json.dumps(json.loads(lease.read_text()) | {"renewed": 0.0}))
    with pytest.raises(RunError, match=rf"process {holder.pid} on .* is running in this folder"):
        Lease(str(lease)).__enter__()
    holder.send_signal(signal.SIGKILL)
    holder.send_signal(signal.SIGCONT)
    holder.wait()
    with Lease(str(lease)):
        pass


def can_be_alone():
    return bool(shutil.which("unshare")) and not subprocess.run([*ALONE, "true"], check=False).returncode


@pytest.mark.parametrize("inside", ["the first", "the second", "both"])
def test_a_living_holder_is_refused_and_a_dead_one_replaced_across_pid_namespaces(tmp_path, inside):
    """As containers do that share the host's name; the same numbers mean other processes, or none."""
    if not can_be_alone():
        pytest.skip("no right to make a PID namespace")
    first, second = (ALONE if inside in {place, "both"} else [] for place in ("the first", "the second"))
    with start(tmp_path, before=first) as holder:
        try:
            assert holder.stdout.readline() == "held\n"
            with start(tmp_path, before=second, writes=1) as other:
                said = other.communicate(timeout=60)[1]
            assert "RunError" in said
            assert "is running in this folder since" in said
            assert holder.poll() is None
        finally:
            holder.kill()
        holder.wait()
    with start(tmp_path, before=second, writes=1) as other:
        assert other.communicate(timeout=60) == ("held\n", "")
    # A killed writer may leave its temporary file.
    assert [name for name in storage.list_names(str(tmp_path)) if not name.endswith(".tmp")] == ["file"]


@pytest.mark.parametrize("lock", ["locked", "unlocked"])
@pytest.mark.parametrize("left", ["nothing", "of a dead process", "torn"])
def test_of_many_that_start_at_once_one_goes_on(tmp_path, lock, left):
    lease = tmp_path / "lease.json"
    if left != "nothing":
        with Lease(str(lease)):
            content = json.loads(lease.read_text())
        lease.write_text(json.dumps(content | {"process_start": "1"}) if left == "of a dead process" else "{")
    started = [start(tmp_path, lock, writes=100_000) for _ in range(6)]
    try:
        held = [process for process in started if process.stdout.readline() == "held\n"]
        assert held
        # Of two that took it from the dead at the same moment, the one whose lease was removed ends at its next write.
        token = json.loads(lease.read_text())["pid"]
        for process in started:
            if process.pid != token:
                assert "Error: " in process.communicate(timeout=60)[1]
        assert [process.pid for process in started if process.poll() is None] == [token]
        assert lock == "unlocked" or len(held) == 1
    finally:
        for process in started:
            process.kill()
            process.communicate()


def test_a_program_that_a_run_has_started_does_not_hold_its_folder(tmp_path):
    lease = str(tmp_path / "lease.json")
    with Lease(lease):
        sleeper = subprocess.Popen(["sleep", "600"], close_fds=False)
    try:
        with Lease(lease):
            assert storage.read_json(lease)["pid"] == os.getpid()
    finally:
        sleeper.kill()
        sleeper.wait()
