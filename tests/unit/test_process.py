"""What a process keeps of the memory that it frees, counted by the kernel in pages; the collector rests."""

from __future__ import annotations

import ctypes
import gc
import platform
import subprocess
import sys

import pytest

from retrieval_core.process import keep_freed_memory, no_collection


class TestKeptMemory:
    def faults(self, before: str) -> int:
        """Pages that a process touches for the first time while it fills and frees 40 MB, again and again."""
        script = f"""if True:
            import resource, torch
            from retrieval_core.process import keep_freed_memory
            {before}
            for _ in range(10):
                start = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
                pieces = [torch.ones(megabytes << 18) for megabytes in (35, 5)]
                del pieces
            print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - start)
        """
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        return int(done.stdout)

    @pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the setting is glibc's")
    def test_pages_are_used_again(self) -> None:
        if (usual := self.faults("")) < 1000:
            pytest.skip(f"{usual} faults: this system hands out memory in huge pages")
        assert self.faults("assert keep_freed_memory()") < 100

    def test_without_such_a_setting_nothing_happens(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
        assert keep_freed_memory() is False


def test_the_collector_rests_and_is_then_as_before():
    assert gc.isenabled()
    with pytest.raises(RuntimeError), no_collection():
        assert not gc.isenabled()
        with no_collection():
            pass
        assert not gc.isenabled()
        raise RuntimeError
    assert gc.isenabled()


def test_no_collection_decorates():
    @no_collection()
    def running():
        return gc.isenabled()

    assert [running(), running(), gc.isenabled()] == [False, False, True]
