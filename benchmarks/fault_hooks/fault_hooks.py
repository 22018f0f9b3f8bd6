"""What `make bench-faults` puts into attacked processes: a log of the work begun and committed, and storage faults.

The product has no hooks for this; its functions are wrapped when their modules are imported. What to do is in
``plan.json`` of the folder ``FAULT_CONTROL``, read at every call, so that workers of a shared Ray follow each case.

    events    name of the log: a JSON line for each piece of work begun and each file committed
    pace      seconds added to each piece of work, so that a fault can strike in the middle
    fault     torn, full, hang, fail, change, shuffle, unavailable, or nothing
    match     regular expression of the affected paths
    at        which matching write or read (unavailable: either), over all processes, from 1
    seconds   unavailable: how long nothing can be read or written then
    places    unavailable: regular expression of all paths that are on the storage
    seed      of the delays
    half      change: write only the first half, as if the writer had not finished
    source, target   change: folders of the new content and of the files
"""

from __future__ import annotations

import errno
import functools
import importlib.abc
import json
import os
import random
import re
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FULL_BYTES = 64
"""Bytes that a file may hold when the disk is full."""
SHUFFLE_SECONDS = 0.4


def plan() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(_control("plan.json").read_text())
    return content


def _control(name: str) -> Path:
    return Path(os.environ["FAULT_CONTROL"], name)


def note(kind: str, unit: str) -> None:
    """Log one event; one appending write per line is not torn by those of other processes."""
    what = plan()
    line = json.dumps({"kind": kind, "unit": unit, "pid": os.getpid()}) + "\n"
    with _control(what["events"]).open("ab", buffering=0) as file:
        file.write(line.encode())
    if kind != "commit":
        time.sleep(what["pace"])


def _ticket(what: dict[str, Any], path: str) -> int:
    """Number of this call among the matching ones of all processes, from 1; 0 if it does not match."""
    if not re.search(what["match"], path):
        return 0
    with _control(f"{what['events']}.tickets").open("ab", buffering=0) as file:
        file.write(b".")
        return file.tell()


def _happened(what: dict[str, Any], path: str) -> None:
    _control(f"{what['events']}.happened").write_text(path)


# ---- storage


def _unavailable(path: object) -> bool:
    """Whether a path is on a storage that does not answer now; the matching read or write with the number begins it."""
    what, text = plan(), str(path)
    if what.get("fault") != "unavailable" or not re.search(what["places"], text):
        return False
    began = _control(f"{what['events']}.happened")
    if not began.exists():
        if _ticket(what, text) != what["at"]:
            return False
        _happened(what, text)
    return time.time() - began.stat().st_mtime < what["seconds"]


def _refuse_if_unavailable(path: object) -> None:
    if _unavailable(path):
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))


def _write_with_faults(write: Callable[[str], Any]) -> Callable[[str], Any]:
    @contextmanager
    def atomic_write(path: str) -> Iterator[Any]:
        _refuse_if_unavailable(path)
        what = plan()
        fault = what.get("fault")
        number = _ticket(what, path) if fault in {"torn", "full"} else 0
        if fault == "shuffle":
            time.sleep(random.Random(f"{what['seed']} {path}").uniform(0, SHUFFLE_SECONDS))
            _happened(what, path)
        if fault == "full" and number >= what["at"]:
            _happened(what, path)
            with _full_disk(), write(path) as file:
                yield file
            return
        with write(path) as file:
            yield file
            if fault == "torn" and number == what["at"]:
                file.flush()
                file.truncate(file.tell() // 2)
                _happened(what, path)
                os.kill(os.getpid(), signal.SIGKILL)
            _refuse_if_unavailable(path)
        note("commit", path)

    return atomic_write


@contextmanager
def _full_disk() -> Iterator[None]:
    """The system refuses to write beyond the limit, and leaves what was written before."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (FULL_BYTES, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def _before_reading(path: object) -> None:
    what = plan()
    fault = what.get("fault")
    if fault not in {"hang", "fail", "change"} or not isinstance(path, str) or _ticket(what, path) != what["at"]:
        return
    _happened(what, path)
    if fault == "hang":
        while True:
            time.sleep(3600)
    if fault == "fail":
        raise OSError(errno.EIO, os.strerror(errno.EIO), path)
    with open(Path(what["source"], Path(path).relative_to(what["target"])), "rb") as file:  # noqa: PTH123 - not ours
        content = file.read()
    Path(path).write_bytes(content[: len(content) // 2] if what["half"] else content)


def _storage(module: Any) -> None:
    opened = Path.open

    def open_with_faults(path: Path, mode: str = "r", *words: Any, **keys: Any) -> Any:
        if mode == "rb":  # as storage reads; below its retries
            _refuse_if_unavailable(path)
            _before_reading(str(path))
        return opened(path, mode, *words, **keys)

    Path.open = open_with_faults  # type: ignore[method-assign, assignment]
    module.atomic_write = _write_with_faults(module.atomic_write)
    for name in ("list_names", "irregular_kind", "create", "remove"):
        setattr(module, name, _only_if_available(getattr(module, name)))
    exists = module.exists
    module.exists = lambda path: not _unavailable(path) and exists(path)  # as the system's own answers


def _only_if_available(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapped(path: str, *words: Any) -> Any:
        _refuse_if_unavailable(path)
        return function(path, *words)

    return wrapped


def _stamps(module: Any) -> None:
    module.stamp = _only_if_available(module.stamp)


# ---- work that is begun


def _noted(module: Any, name: str, kind: str, unit: Callable[..., str]) -> None:
    function = getattr(module, name)

    @functools.wraps(function)
    def wrapped(*words: Any, **keys: Any) -> Any:
        note(kind, unit(*words, **keys))
        return function(*words, **keys)

    setattr(module, name, wrapped)


def _remembered(owner: Any, name: str, unit: Callable[..., str], current: list[str]) -> None:
    """Remember which unit a function works on, for the functions it calls."""
    function = getattr(owner, name)

    @functools.wraps(function)
    def wrapped(*words: Any, **keys: Any) -> Any:
        current[0] = unit(*words, **keys)
        return function(*words, **keys)

    setattr(owner, name, wrapped)


# A piece of work begins with the arithmetic: what is committed is skipped before it.


def _embed(module: Any) -> None:
    current = [""]
    _noted(module, "decode_shard", "decode", lambda batch, **_: str(batch.column("file")[0]))
    _remembered(module.ShardEncoder, "__call__", lambda _, batch: str(batch.column("file")[0]), current)
    _noted(module.ShardEncoder, "_encoder_of", "encode", lambda *_: current[0])


def _retrieve(module: Any) -> None:
    current = [""]
    _remembered(
        module, "_rank_block", lambda query, block, regions, k, ranking, *_: f"{ranking}-{block.fingerprint}", current
    )
    _noted(module, "block_topk", "rank", lambda *_, **__: current[0])
    _noted(module, "_write_task", "write", lambda *_: "pool")


def _merge(module: Any) -> None:
    current = [""]
    _remembered(module, "_merge_group", lambda files, k, target: Path(target).name, current)
    _noted(module, "merge_partials", "merge", lambda *_, **__: current[0])


def _second_look(module: Any) -> None:
    current = [""]
    _remembered(module, "_score_block", lambda block, looks, *_: Path(looks[0].scores(block)).name, current)
    _noted(module, "read_places", "rescore", lambda *_, **__: current[0])


def _evaluate(module: Any) -> None:
    _noted(module, "_evaluate", "evaluate", lambda *_: "evaluate")
    _noted(module, "_judge", "judge", lambda plan, *_: Path(plan).name)


def _report(module: Any) -> None:
    _noted(module, "_report", "report", lambda *_: "report")


def _training(module: Any) -> None:
    _noted(module.Trainer, "step", "step", lambda trainer, _: str(trainer.progress.step))


PATCHES: dict[str, Callable[[Any], None]] = {
    "retrieval_core.files.storage": _storage,
    "retrieval_core.files.stamps": _stamps,
    "retrieval_core.training.loop": _training,
    "ray_jobs.embedding.shard_work": _embed,
    "ray_jobs.retrieve": _retrieve,
    "ray_jobs.retrieval.blocks": _merge,
    "ray_jobs.retrieval.second_look": _second_look,
    "ray_jobs.evaluate": _evaluate,
    "ray_jobs.report": _report,
}


class _Patcher(importlib.abc.MetaPathFinder):
    """Lets the other finders find a module, and patches it right after its code has run."""

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> Any:
        if fullname not in PATCHES:
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        spec = next((found for finder in others if (found := finder.find_spec(fullname, path, target))), None)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def then_patch(module: Any) -> None:
                execute(module)
                PATCHES[fullname](module)

            spec.loader.exec_module = then_patch  # type: ignore[method-assign]
        return spec


def install() -> None:
    sys.meta_path.insert(0, _Patcher())
