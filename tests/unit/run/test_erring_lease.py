"""A lease on a store that fails: a bad moment costs nobody his folder, and a longer one is told as it is."""

from __future__ import annotations

import time

import pytest

from retrieval_core.files import retries, storage
from retrieval_core.run import lease as lease_module
from retrieval_core.run.lease import LEASE_SECONDS, Claim, Lease
from tests.erring_store import BUSY, DENIED, ErringStore, ServerDisconnectedError, erring, plan

LEASE, FILE = "erring://run/work/lease.json", "erring://run/file"
LOST = ServerDisconnectedError("Server disconnected")


@pytest.fixture(autouse=True)
def store(monkeypatch):
    monkeypatch.setattr(retries.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(lease_module, "LOOK_SECONDS", 0.0)
    erring()
    yield
    erring()


@pytest.mark.parametrize("schedule", [{}, {"read": [BUSY]}, {"read": [BUSY, BUSY]}])
def test_a_bad_moment_passes(schedule):
    plan(**schedule)
    with Lease(LEASE) as lease:
        assert storage.read_json(LEASE)["token"] == lease.token
    assert not storage.exists(LEASE)


@pytest.mark.parametrize(
    "schedule", [{"read": [BUSY] * 3}, {"read": [DENIED]}, {"read": [LOST]}, {"write": [BUSY]}, {"write": [LOST]}]
)
def test_a_run_does_not_start_without_its_lease(schedule):
    (error,) = {entry for entries in schedule.values() for entry in entries}
    plan(**schedule)
    with pytest.raises(type(error), match=str(error.args[-1])):
        Lease(LEASE).__enter__()
    assert not storage.exists(LEASE)
    with Lease(LEASE):
        assert storage.exists(LEASE)


@pytest.mark.parametrize("error", [BUSY, DENIED, LOST])
def test_a_store_that_does_not_answer_keeps_nobody_from_writing_while_the_lease_lasts(monkeypatch, error):
    with Lease(LEASE):
        plan(read=[error] * 9)
        storage.write_bytes(FILE, b"content")
        plan()
        assert storage.read_bytes(FILE) == b"content"
        later = time.clock_gettime(time.CLOCK_BOOTTIME) + LEASE_SECONDS + 1
        monkeypatch.setattr(lease_module, "_now", lambda: later)
        plan(read=[error] * 9)
        with pytest.raises(type(error)):
            storage.write_bytes(FILE, b"after the lease's time")
        plan()
        storage.write_bytes(FILE, b"it was still ours")
    assert storage.read_bytes(FILE) == b"it was still ours"


@pytest.mark.parametrize("operation", ["read", "write"])
@pytest.mark.parametrize("error", [BUSY, LOST])
def test_a_renewal_is_tried_until_it_works(monkeypatch, caplog, operation, error):
    monkeypatch.setattr(lease_module, "LEASE_SECONDS", 0.15)
    with Lease(LEASE) as lease:
        plan(**{operation: [error] * 9})
        while any(ErringStore.schedule.values()):
            assert lease._thread.is_alive()
        before = storage.read_json(LEASE)["renewed"]
        while storage.read_json(LEASE)["renewed"] == before:
            assert lease._thread.is_alive()
    assert f"cannot be renewed now ({type(error).__name__}); trying again" in caplog.text
    assert not storage.exists(LEASE)


@pytest.mark.parametrize("schedule", [{"read": [BUSY] * 9}, {"read": [LOST]}, {"remove": [BUSY]}, {"remove": [LOST]}])
@pytest.mark.parametrize("failure", [ZeroDivisionError, KeyboardInterrupt, None])
def test_a_lease_that_cannot_be_removed_does_not_hide_how_the_run_ended(caplog, schedule, failure):
    def run():
        with Lease(LEASE):
            plan(**schedule)
            if failure:
                raise failure

    if failure:
        with pytest.raises(failure):
            run()
    else:
        run()
    assert f"{LEASE}: cannot be removed now" in caplog.text
    plan()
    assert storage.exists(LEASE)


def test_a_claim_of_a_worker_is_as_old_as_its_arrival(monkeypatch):
    """The driver that sent it holds the lease; its file may be on its way."""
    claim = Claim(LEASE, "mine")
    assert claim.look() is False
    plan(read=[BUSY] * 3)
    claim()
