"""Listings and plans on a store that fails: what cannot be read or written now leaves what was there."""

from __future__ import annotations

import pytest

from retrieval_core.data.listing import listing_file, remove_other_listings, write_listing
from retrieval_core.data.records import Record
from retrieval_core.data.shard_plan import plan_bucket, plan_file
from retrieval_core.files import storage, tables
from tests.erring_store import BUSY, DENIED, ServerDisconnectedError, plan

FOLDER, PLANS = "erring://run/listing", "erring://run/plan"
LOST = ServerDisconnectedError("Server disconnected")
ERRORS = (OSError, ServerDisconnectedError)


pytestmark = pytest.mark.usefixtures("erring_store")


def records(count):
    return [Record(f"{n}.png", f"/gone/{n}.png", (), ()) for n in range(count)]


def listed():
    return {name: storage.read_bytes(f"{FOLDER}/{name}") for name in storage.list_names(FOLDER)}


def paths():
    return sorted(path for name in listed() for path in tables.read_table(f"{FOLDER}/{name}")["path"].to_pylist())


@pytest.mark.parametrize("error", [BUSY, DENIED, LOST])
@pytest.mark.parametrize(("buckets", "before"), [(None, 0), (3, 0), (3, 1), (3, 2)])
def test_a_listing_that_cannot_be_written_is_an_error_and_the_next_one_is_whole(error, buckets, before):
    plan(write=[*[None] * before, error])
    with pytest.raises(type(error)):
        write_listing(records(9), FOLDER, buckets)
    assert write_listing(records(9), FOLDER, buckets)[0] == 9
    assert paths() == [f"{n}.png" for n in range(9)]


@pytest.mark.parametrize("error", [BUSY, LOST])
def test_images_that_cannot_be_listed_leave_the_old_listing(error):
    def ending():
        yield from records(3)
        raise error

    write_listing(records(9), FOLDER, 2)
    before = listed()
    with pytest.raises(type(error)):
        write_listing(ending(), FOLDER, 2)
    assert listed() == before


@pytest.mark.parametrize("schedule", [{"list": [BUSY]}, {"remove": [BUSY]}, {"remove": [LOST]}])
def test_a_listing_that_cannot_be_removed_is_removed_after_the_next_one(schedule):
    write_listing(records(9), f"{FOLDER}/listing-old", 3)
    plan(**schedule)
    with pytest.raises(ERRORS):
        remove_other_listings(FOLDER, "listing-new")
    plan()
    write_listing(records(9), f"{FOLDER}/listing-new", 2)
    remove_other_listings(FOLDER, "listing-new")
    assert storage.list_names(FOLDER) == ["listing-new"]
    assert storage.list_names(f"{FOLDER}/listing-new") == [listing_file("", bucket).lstrip("/") for bucket in range(2)]


def planned():
    keys = {"images_per_shard": 4, "encoder": "e", "keep_order": True}
    return plan_bucket(FOLDER, PLANS, 0, **keys)


@pytest.mark.parametrize("errors", [[BUSY], [BUSY, BUSY], [None, BUSY, BUSY]])
def test_a_bad_moment_does_not_change_a_plan(errors):
    write_listing(records(9), FOLDER, 1)
    tables.write_table(plan_file(PLANS, 0), planned().table)
    before = planned()
    plan(read=errors)
    assert planned().summary == before.summary


@pytest.mark.parametrize("errors", [[BUSY] * 3, [None, *[BUSY] * 3], [DENIED], [None, DENIED], [LOST], [None, LOST]])
def test_a_listing_or_last_plan_that_cannot_be_read_is_an_error_not_an_empty_one(errors):
    """A plan that is taken for none would embed everything again."""
    write_listing(records(9), FOLDER, 1)
    tables.write_table(plan_file(PLANS, 0), planned().table)
    plan(read=errors)
    with pytest.raises(ERRORS):
        planned()
