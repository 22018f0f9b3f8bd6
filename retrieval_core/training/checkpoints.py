"""Training checkpoints: one file each, whole or absent, loaded without unpickling code.

A name holds the step and the training's fingerprint: ``checkpoints/step-00000120-0123456789abcdef.pt``. The best model
so far, in ``checkpoints/best-0123456789abcdef/``, is bound to its training likewise.

A damaged file is passed over. A store that does not let a file be read ends the run, with every file in place: what
cannot be read now may be the newest state, and going on from an older one would remove it.
"""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch
import torch.distributed as dist

from retrieval_core.files import storage
from retrieval_core.files.retries import retried
from retrieval_core.model.weight_files import CONFIG
from retrieval_core.training.loop import Worker

log = logging.getLogger("fabric_retrieval")
_NAME = re.compile(r"step-(\d{8})-([0-9a-f]{16})\.pt")
_BEST = re.compile(r"best(-[0-9a-f]{16})?")  # earlier versions did not say whose it is
_PIECE = 64 << 20  # bytes that are sent at once, and so held on a GPU


class CheckpointError(RuntimeError):
    """A checkpoint cannot be read although nothing says that it is damaged; names the file and the remedy."""


def save_checkpoint(folder: str, step: int, fingerprint: str, state: Mapping[str, Any], keep: int) -> None:
    """Write a checkpoint and remove all but the newest ``keep`` (at least 1) of this training up to it.

    Later ones are removed too: they were damaged when this training was taken up again. Nothing is removed before the
    new file is whole; best models of other trainings go last, and only if this one has its own.

    ``step`` counts the optimiser steps done, ``fingerprint`` has at least 16 hexadecimal digits, and ``state`` holds
    tensors and plain values. Memory: the state once more.
    """
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    storage.write_bytes(storage.join(folder, f"step-{step:08d}-{fingerprint[:16]}.pt"), buffer.getvalue())
    names = storage.list_names(folder)
    own = [name for found, name in _checkpoints(names, fingerprint) if found <= step]
    for name in names:
        # A temporary file is a killed writer's: a folder has one writer at a time.
        if (_NAME.fullmatch(name) and name not in own[-keep:]) or name.endswith(".tmp"):
            storage.remove(storage.join(folder, name))
    best = best_folder(folder, fingerprint)
    if storage.exists(storage.join(best, CONFIG)):
        for name in names:
            if _BEST.fullmatch(name) and storage.join(folder, name) != best:
                storage.remove(storage.join(folder, name))


def best_folder(folder: str, fingerprint: str) -> str:
    """Where the best model of this training so far is kept."""
    return storage.join(folder, f"best-{fingerprint[:16]}")


def best_model(folder: str, fingerprint: str) -> str:
    """The folder with the best model of this training.

    That is ``best``, without a fingerprint, for a training that an earlier version began and that got no better since.
    ValueError if there is no whole one.
    """
    for found in (best_folder(folder, fingerprint), storage.join(folder, "best")):
        if storage.exists(storage.join(found, CONFIG)):
            return found
    raise ValueError(f"{folder}: the best model of this training is no longer there; train again with --overwrite")


def newest_checkpoint(folder: str, fingerprint: str) -> dict[str, Any] | None:
    """The newest undamaged checkpoint of this training, or None. Memory: file and state.

    CheckpointError if the store does not list the folder or read a file, after the usual retries.
    """
    return _newest(folder, fingerprint)[1]


def shared_checkpoint(folder: str, fingerprint: str, worker: Worker) -> dict[str, Any] | None:
    """``newest_checkpoint`` as the first worker reads it, the same for every worker; all of them must call.

    Each reading for itself, they could go on from different steps. If the first one fails, CheckpointError in all.
    Memory: file and state, on a GPU a piece of the file.
    """
    if worker.count == 1:
        return newest_checkpoint(folder, fingerprint)
    content, state, problem = None, None, ""
    if worker.rank == 0:
        try:
            content, state = _newest(folder, fingerprint)
        except Exception as error:  # whatever it is, the others wait for an answer
            problem = str(error) or type(error).__name__
    told: list[Any] = [None if content is None else len(content), problem]
    dist.broadcast_object_list(told, src=0)
    if told[1]:
        raise CheckpointError(told[1])
    if told[0] is None:
        return None
    whole = torch.frombuffer(bytearray(content or told[0]), dtype=torch.uint8)
    for piece in torch.split(whole, _PIECE):
        sent = piece.to(worker.device)
        dist.broadcast(sent, src=0)
        if worker.rank:
            piece.copy_(sent)
    return state if worker.rank == 0 else _load(whole.numpy().tobytes())


def _newest(folder: str, fingerprint: str) -> tuple[bytes | None, dict[str, Any] | None]:
    """The newest undamaged checkpoint as it lies in its file, and loaded."""
    try:
        names = retried(lambda: storage.list_names(folder))
    except Exception as error:  # stores have errors of their own, not all of them an OSError
        raise _unreadable(f"{folder}: the training's checkpoints", error, "make the folder readable") from error
    own = _checkpoints(names, fingerprint)
    if others := sum(_NAME.fullmatch(name) is not None for name in names) - len(own):
        log.warning("%s: passing over %d checkpoints of another training (other data, weights or keys)", folder, others)
    for _, name in reversed(own):
        path = storage.join(folder, name)
        subject, remedy = f"{path}: this checkpoint", "make it readable, or delete it to go on from the one before,"
        try:
            content = storage.read_bytes(path)
        except Exception as error:
            raise _unreadable(subject, error, remedy) from error
        try:
            return content, _load(content)
        except Exception as error:  # torch raises many kinds for a damaged file
            if isinstance(error, MemoryError) or "allocate memory" in str(error):
                raise _unreadable(subject, error, f"free some memory, {remedy}") from error
            log.warning("%s is damaged (%s); trying the one before", path, type(error).__name__)
    return None, None


def _load(content: bytes) -> dict[str, Any]:
    state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    if not isinstance(state, dict):
        raise ValueError("not a checkpoint")
    return state


def _unreadable(subject: str, error: Exception, remedy: str) -> CheckpointError:
    reason = (isinstance(error, OSError) and error.strerror) or f"{type(error).__name__} {error}"
    line = f"{subject} cannot be read ({' '.join(reason.split())}); nothing was changed; {remedy}"
    return CheckpointError(f"{line} and give the same command again")


def _checkpoints(names: Iterable[str], fingerprint: str) -> list[tuple[int, str]]:
    found = [(match, name) for name in names if (match := _NAME.fullmatch(name))]
    return sorted((int(match[1]), name) for match, name in found if match[2] == fingerprint[:16])
