"""Models on the Hugging Face Hub: files of a repository, in the cache that huggingface_hub keeps on each machine.

An address reads ``hf://owner/name`` or ``hf://owner/name@revision``: a branch, a tag or a whole commit, else ``main``.
Every process asks for what it needs; what the cache has of a commit is not asked for again. huggingface_hub is imported
with the first address, and then reads HF_ENDPOINT, HF_HOME, HF_HUB_OFFLINE and HF_TOKEN.
"""

from __future__ import annotations

import functools
import logging
import os
import re
from pathlib import Path

log = logging.getLogger("fabric_retrieval")

SCHEME = "hf://"
_ADDRESS = re.compile(r"hf://(?![^@]*--)(?!.*\.\.)(\b[\w.-]+\b/\b[\w.-]+\b)(?:@(\w[\w./+-]*))?", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_PRESENT = "config.json"
"""What every repository of a model has: the commit of a branch is that of this file."""


class HubError(ValueError):
    """The Hub has no such thing, does not give it away or does not answer; the message is one line with a remedy."""


def is_address(path: str) -> bool:
    """True for ``hf://...``."""
    return path.startswith(SCHEME)


def parse(address: str) -> tuple[str, str]:
    """Repository and revision of an address; ValueError, which shows the form, if it is none."""
    found = _ADDRESS.fullmatch(address)
    if found is None:
        raise ValueError(
            "must read hf://owner/name or hf://owner/name@revision, for example hf://facebook/dinov2-base; the "
            "revision is a branch, a tag or a whole commit"
        )
    return found[1], found[2] or "main"


def checked(path: str) -> str:
    """The path as it is; ValueError if it is a malformed address."""
    if is_address(path):
        parse(path)
    return path


@functools.cache
def pinned(address: str) -> str:
    """The address with its commit, asked for once a process; HubError as ``place``.

    Where the Hub does not answer, a branch is where it was when the cache got it, and a warning says so.
    """
    repo, revision = parse(address)
    if _COMMIT.fullmatch(revision):
        return address
    return f"{SCHEME}{repo}@{Path(_fetch(address, revision, _PRESENT)).parent.name}"


def place(address: str, name: str, *, whole: bool = True) -> str:
    """Path of a file in the cache, fetched if need be; without ``whole``, its URL if it would have to be.

    HubError if it cannot be had.
    """
    found = pinned(address)
    commit = parse(found)[1]
    if not whole and _cached(found, commit, name) is None:
        return f"{found}/{name}"
    return _fetch(address, commit, name)


def names(address: str, enough: str) -> list[str]:
    """Names of the repository's files: those in the cache if ``enough`` is one of them, or if the Hub does not answer.

    HubError if it does not, and the cache has no tensors.
    """
    from huggingface_hub import HfApi, constants

    repo, commit = parse(pinned(address))
    held = os.listdir(Path(place(address, _PRESENT)).parent)  # noqa: PTH208 - names, as in storage
    if enough in held:
        return held
    try:
        info = HfApi().model_info(repo, revision=commit, timeout=constants.HF_HUB_ETAG_TIMEOUT)
        return [file.rfilename for file in info.siblings or []]
    except Exception as error:  # as in _fetch
        if not any(name.endswith((".safetensors", ".bin")) for name in held):
            raise _hub_error(address, error, commit, enough) from None
        return held


def header(url: str) -> dict[str, tuple[str, list[int]]]:
    """Type and shape of each tensor of a safetensors file, which stays where it is: ``url`` is one of ``place``."""
    from huggingface_hub import HfApi

    address, _, name = url.rpartition("/")
    repo, commit = parse(address)
    try:
        found = HfApi().parse_safetensors_file_metadata(repo, name, revision=commit)
    except Exception as error:  # as in _fetch
        raise _hub_error(address, error, commit, name) from None
    return {key: (tensor.dtype, tensor.shape) for key, tensor in found.tensors.items()}


def _cached(address: str, revision: str, name: str) -> str | None:
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(parse(address)[0], name, revision=revision)
    return found if isinstance(found, str) else None


def _fetch(address: str, revision: str, name: str) -> str:
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
    from huggingface_hub.errors import OfflineModeIsEnabled, RemoteEntryNotFoundError, RevisionNotFoundError

    repo, _ = parse(address)
    cached = _cached(address, revision, name)
    if cached is not None and _COMMIT.fullmatch(revision):
        return cached
    try:
        # By itself hf_hub_download would try for half a minute to reach a Hub that does not answer.
        get_hf_file_metadata(hf_hub_url(repo, name, revision=revision))
        return hf_hub_download(repo, name, revision=revision)
    except RemoteEntryNotFoundError:
        raise HubError(f"{address}: has no {name}; name a repository of a DINOv2 in transformers form") from None
    except Exception as error:  # of the HTTP library that this version of huggingface_hub uses
        if cached is None or isinstance(error, RevisionNotFoundError):
            raise _hub_error(address, error, revision, name) from None
        if not isinstance(error, OfflineModeIsEnabled):
            log.warning("%s: %s; what the cache has is used", address, _problem(error, repo, revision, name)[0])
        return cached


def _hub_error(address: str, error: Exception, revision: str, name: str) -> HubError:
    return HubError(f"{address}: {'; '.join(_problem(error, parse(address)[0], revision, name))}")


def _problem(error: Exception, repo: str, revision: str, name: str) -> tuple[str, str]:
    """What is wrong, and what to do."""
    from huggingface_hub import constants, errors

    hub, cache = constants.ENDPOINT, constants.HF_HUB_CACHE
    by_hand = f"hf download {repo} --revision {revision} --local-dir FOLDER"
    elsewhere = f"or fetch the weights elsewhere and name their folder: {by_hand}"
    said = " ".join(str(error).split())[:200] or type(error).__name__
    problem, remedy = f"{hub} does not answer ({said})", f"look at the network (HTTPS_PROXY, HF_ENDPOINT), {elsewhere}"
    if isinstance(error, errors.GatedRepoError):
        problem, remedy = "is gated", f"ask for access at {hub}/{repo}, and set HF_TOKEN to a token of that account"
    elif isinstance(error, errors.RepositoryNotFoundError):
        problem, remedy = f"no such repository at {hub}, or a private one", "correct the name, or set HF_TOKEN"
    elif isinstance(error, errors.RevisionNotFoundError):
        problem, remedy = f"has no revision {revision}", "name a branch, a tag or a whole commit, or leave it out"
    elif isinstance(error, errors.OfflineModeIsEnabled):
        problem, remedy = f"HF_HUB_OFFLINE is set, and {cache} does not have {name}", f"unset it, {elsewhere}"
    elif isinstance(error, errors.SafetensorsParsingError):
        problem, remedy = f"{name} is not a safetensors file, or a torn one", "name another repository or revision"
    elif isinstance(error, errors.HfHubHTTPError):
        problem = f"{hub} answered {error.response.status_code} {error.response.reason_phrase}".rstrip()
        remedy = f"try again later, look at HF_TOKEN, {elsewhere}"
    elif isinstance(error, OSError) and error.strerror:
        problem, remedy = f"{name} cannot be put into {cache}: {error.strerror}", "make room, or set HF_HOME elsewhere"
    return problem, remedy
