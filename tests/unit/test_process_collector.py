"""The collector of cycles rests and comes back."""

from __future__ import annotations

import gc

import pytest

from retrieval_core.process_collector import no_collection


def test_it_rests_and_is_then_as_before():
    assert gc.isenabled()
    with pytest.raises(RuntimeError), no_collection():
        assert not gc.isenabled()
        with no_collection():
            pass
        assert not gc.isenabled()
        raise RuntimeError
    assert gc.isenabled()


def test_it_decorates():
    @no_collection()
    def running():
        return gc.isenabled()

    assert [running(), running(), gc.isenabled()] == [False, False, True]
