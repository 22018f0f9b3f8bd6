"""Files are handed out in order, whatever the order in which they arrive, and few are held."""

from __future__ import annotations

import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval_core.images import prefetch
from retrieval_core.images.decoding import ImageRejected
from retrieval_core.images.prefetch import read_ahead


@given(sizes=st.lists(st.integers(0, 4), max_size=60), pauses=st.lists(st.integers(0, 3), min_size=1, max_size=7))
def test_contents_come_in_order_however_they_arrive(sizes, pauses):
    def slow(location, max_pixels):
        number = int(location)
        time.sleep(pauses[number % len(pauses)] / 5000)
        if not sizes[number]:
            raise ImageRejected("empty", location)
        return location.encode() * sizes[number]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prefetch, "read_content", slow)
        for number, found in enumerate(read_ahead([str(number) for number in range(len(sizes))], 9)):
            if sizes[number]:
                assert found.result() == str(number).encode() * sizes[number]
            else:
                with pytest.raises(ImageRejected, match=f"empty: {number}"):
                    found.result()


class Store:
    """Counts the files that were read and not yet taken."""

    def __init__(self, size):
        self.size, self.lock = size, threading.Lock()
        self.begun = self.taken = self.most = 0

    def read(self, location, max_pixels):
        with self.lock:
            self.begun += 1
            self.most = max(self.most, self.begun - self.taken)
        return bytes(self.size)

    def take_all(self, count):
        for found in read_ahead([str(number) for number in range(count)], 9):
            found.result()
            time.sleep(0.001)
            with self.lock:
                self.taken += 1


@pytest.mark.parametrize(("size", "held"), [(10, prefetch.MAX_FILES), (prefetch.MAX_BYTES // 4, 4), (1 << 30, 2)])
def test_few_files_are_held_and_fewer_the_larger_they_are(size, held, monkeypatch):
    store = Store(min(size, 1000))
    monkeypatch.setattr(prefetch, "MAX_BYTES", prefetch.MAX_BYTES * store.size // size)
    monkeypatch.setattr(prefetch, "read_content", store.read)
    store.take_all(100)
    assert store.begun == store.taken == 100
    # One is being worked on while the others wait.
    assert held <= store.most <= held + 1


def test_what_is_not_wanted_any_more_is_not_read(monkeypatch):
    store = Store(1)
    monkeypatch.setattr(prefetch, "read_content", store.read)
    readings = read_ahead([str(number) for number in range(1000)], 9)
    next(readings).result()
    readings.close()
    assert store.begun <= 3


def test_files_are_read_as_they_are(tmp_path):
    (tmp_path / "a.png").write_bytes(b"content")
    there, gone = read_ahead([str(tmp_path / "a.png"), str(tmp_path / "b.png")], 9)
    assert there.result() == b"content"
    with pytest.raises(ImageRejected, match="missing"):
        gone.result()
