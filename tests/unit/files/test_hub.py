"""Addresses on the Hub, what is fetched and when, and each way in which the Hub says no."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest

from retrieval_core.files import hub
from retrieval_core.files.hub import HubError, names, parse, pinned, place
from tests.hub_server import TOKEN, ask

FILES = {"config.json": b"{}", "model.safetensors": b"tensors", "flax_model.msgpack": b"not ours"}


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        ("hf://facebook/dinov2-base", ("facebook/dinov2-base", "main")),
        ("hf://a_b/c.d-e@v1.0", ("a_b/c.d-e", "v1.0")),
        ("hf://a/b@refs/pr/3", ("a/b", "refs/pr/3")),
        (f"hf://a/b@{'0' * 40}", ("a/b", "0" * 40)),
    ],
)
def test_an_address_names_a_repository_and_a_revision(address, parts):
    assert parse(address) == parts


MALFORMED = ["hf://", "hf://a", "hf://a/", "hf://a/b/", "hf://a/b/c", "hf://a/b@", "hf://a/b@x y", "hf://a/b@../c"]
MALFORMED += ["hf://a/b--c", "hf://a/..", "hf:///a/b", "hf://-a/b", "hf://a/b@@c", "hf://a/b\n"]


@pytest.mark.parametrize("address", MALFORMED)
def test_a_malformed_address_shows_the_form(address):
    with pytest.raises(ValueError, match="must read hf://owner/name or hf://owner/name@revision"):
        parse(address)


def test_a_file_is_fetched_once_and_nothing_else_is(hub_server):
    commit = hub_server.push("a/b", FILES)
    assert pinned("hf://a/b") == f"hf://a/b@{commit}"
    for _ in range(2):
        assert Path(place("hf://a/b", "model.safetensors")).read_bytes() == b"tensors"
    assert hub_server.downloads() == ["config.json", "model.safetensors"]
    hub_server.asked.clear()
    assert names(f"hf://a/b@{commit}", "model.safetensors")
    place(f"hf://a/b@{commit}", "model.safetensors")
    assert not hub_server.asked, "what the cache has of a commit cannot change"


def test_a_file_that_need_not_be_whole_stays_there_until_it_is_fetched(hub_server):
    commit = hub_server.push("a/b", FILES)
    assert place("hf://a/b", "model.safetensors", whole=False) == f"hf://a/b@{commit}/model.safetensors"
    assert hub_server.downloads() == ["config.json"]
    cached = place("hf://a/b", "model.safetensors")
    assert place("hf://a/b", "model.safetensors", whole=False) == cached


def test_a_process_stays_with_a_commit_and_the_next_one_sees_the_branch_move(hub_server):
    old = hub_server.push("a/b", FILES)
    assert pinned("hf://a/b").endswith(old)
    new = hub_server.push("a/b", {"config.json": b"[]"})
    assert pinned("hf://a/b").endswith(old)
    pinned.cache_clear()
    assert pinned("hf://a/b").endswith(new)
    assert pinned(f"hf://a/b@{old}") == f"hf://a/b@{old}"


def test_branches_and_tags_are_read(hub_server):
    hub_server.push("a/b", FILES)
    commit = hub_server.push("a/b", {"config.json": b"[]"}, branch="refs/pr/3")
    assert pinned("hf://a/b@refs/pr/3") == f"hf://a/b@{commit}"


def refusal(address, name="config.json"):
    """The message, which is one line and comes within seconds."""
    began = time.monotonic()
    with pytest.raises(HubError) as error:
        place(address, name)
    assert time.monotonic() - began < 10
    assert "\n" not in str(error.value)
    assert str(error.value).startswith(f"{address}: ")
    return str(error.value)


def test_what_is_not_there_is_told_apart(hub_server):
    hub_server.push("a/b", FILES)
    assert f"no such repository at {hub_server.endpoint}, or a private one; correct the name" in refusal("hf://a/c")
    assert "has no revision v2; name a branch, a tag or a whole commit" in refusal("hf://a/b@v2")
    assert f"has no revision {'0' * 40}" in refusal(f"hf://a/b@{'0' * 40}")
    assert "has no vocab.json" in refusal("hf://a/b", "vocab.json")


def test_a_gated_repository_wants_a_token(hub_server, tmp_path, monkeypatch):
    hub_server.push("a/b", FILES)
    hub_server.gated.add("a/b")
    assert f"is gated; ask for access at {hub_server.endpoint}/a/b, and set HF_TOKEN" in refusal("hf://a/b")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert place("hf://a/b", "config.json")


def closed_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def test_without_a_network_the_cache_is_used(hub_server, tmp_path, monkeypatch, caplog):
    commit = hub_server.push("a/b", FILES)
    place("hf://a/b", "config.json")
    nobody = f"http://127.0.0.1:{closed_port()}"
    ask(monkeypatch, nobody, tmp_path / "hf")
    assert pinned("hf://a/b") == f"hf://a/b@{commit}"
    assert f"hf://a/b: {nobody} does not answer" in caplog.text and "what the cache has is used" in caplog.text
    for name in ("config.json", "model.safetensors"):
        message = refusal("hf://a/c" if name == "config.json" else "hf://a/b", name)
        assert f"{nobody} does not answer" in message and "HTTPS_PROXY" in message and "hf download a/" in message
    with pytest.raises(HubError, match="does not answer"):
        names("hf://a/b", "model.safetensors")  # the cache has settings only


@pytest.mark.parametrize("status", [500, 429])
def test_a_hub_that_fails_is_asked_once(hub_server, status):
    hub_server.status = status
    assert f"{hub_server.endpoint} answered {status}" in refusal("hf://a/b")
    assert hub_server.asked["HEAD /a/b/resolve/main/config.json"] == 1


def test_offline_the_cache_is_all_there_is(hub_server, tmp_path, monkeypatch, caplog):
    commit = hub_server.push("a/b", FILES)
    place("hf://a/b", "model.safetensors")
    ask(monkeypatch, hub_server.endpoint, tmp_path / "hf", offline=True)
    hub_server.asked.clear()
    assert pinned("hf://a/b") == f"hf://a/b@{commit}"
    assert place("hf://a/b", "model.safetensors")
    cache = tmp_path / "hf" / "hub"
    assert f"HF_HUB_OFFLINE is set, and {cache} does not have config.json; unset it" in refusal("hf://a/c")
    assert not hub_server.asked
    assert not caplog.records, "it was asked for"


def test_a_cache_that_cannot_be_written_is_named(hub_server, tmp_path):
    hub_server.push("a/b", FILES)
    (tmp_path / "hf").write_text("a file")
    assert f"config.json cannot be put into {tmp_path}/hf/hub: Not a directory; make room, or" in refusal("hf://a/b")


def test_a_header_that_is_none_is_named(hub_server):
    hub_server.push("a/b", FILES)
    with pytest.raises(HubError, match=r"model\.safetensors is not a safetensors file, or a torn one"):
        hub.header(place("hf://a/b", "model.safetensors", whole=False))
