"""Finding and reading files of weights without running code from them.

A weights folder is a transformers directory, see ``tensor_files``. Folders and files are local or fsspec URLs.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import re
import struct
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from retrieval_core.files import storage

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
PICKLED = "pytorch_model.bin"
CONFIG = "config.json"
SAFE = ".safetensors"

_HELP = (
    "Weight_Path/README.md says which files are needed and where to put them. The small model that comes with the "
    "project needs none: --set model.weights=Weight_Path/dinov2-motif-small"
)

_FLOATS = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_MAX_JSON = 64 << 20  # bytes; config.json is a few kB, an index of shards a few MB
_MAX_HEADER = 100_000_000  # bytes, the limit of the safetensors format
_LFS = b"version "  # the first bytes of a Git LFS pointer, which read as a length of exabytes


class WeightsError(ValueError):
    """The weights are missing, incomplete or not what the configuration says; the message is one line."""


def refusal(source: str, problem: str) -> WeightsError:
    """The error that names a file or key and its problem, and where to find help."""
    # It may quote names out of a file, which can hold any character: the message stays one line.
    shown = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in problem)
    return WeightsError(f"{source}: {shown}; {_HELP}")


def read_config(folder: str) -> dict[str, Any]:
    """The content of a weights folder's config.json; WeightsError if there is none."""
    source, path = f"model.weights = {folder}", storage.join(folder, CONFIG)
    if not storage.exists(folder):
        raise refusal(
            source,
            f"no such folder. It must hold {CONFIG} and {SINGLE} (or {INDEX} with its shards, or {PICKLED}) of a "
            "DINOv2 in transformers form",
        )
    try:
        values = storage.read_json(path, _MAX_JSON)
    except FileNotFoundError:
        problem = f"has no {CONFIG}; without it the weights cannot be read. Put there the one that came with them"
        raise refusal(source, problem) from None
    except (OSError, ValueError) as error:
        raise refusal(path, f"cannot be read ({_one_line(error)}); copy it again") from None
    if not isinstance(values, dict):
        raise refusal(path, f"must hold a JSON object, got {type(values).__name__}")
    return values


def tensor_files(folder: str) -> list[str]:
    """The files that hold a folder's tensors, in a fixed order: the first kind present of the three.

    WeightsError if there are none, or if the index names a shard that is not there.
    """
    present = set(storage.list_names(folder))
    if SINGLE in present:
        return [storage.join(folder, SINGLE)]
    if INDEX in present:
        return _shards(folder, present)
    if PICKLED in present:
        return [storage.join(folder, PICKLED)]
    found = ", ".join(sorted(present)[:10]) or "nothing"
    problem = f"has no tensors; looked for {SINGLE}, {INDEX} and {PICKLED}, found {found}"
    raise refusal(f"model.weights = {folder}", problem)


def read_tensors(path: str, *, values: bool = True) -> dict[str, Tensor]:
    """The tensors of a safetensors file, or of one written by ``torch.save`` (any other name), by name.

    They are on the CPU, memory O(their bytes). Without ``values`` they are meta tensors of shape and type: of a
    safetensors file only the header is read then, and a ``torch.save`` file on another store gives none. WeightsError
    if the file is torn, not of its format, or would run code when read.
    """
    if not values and not is_readable_in_part(path):
        return {}
    if not path.endswith(SAFE):
        return _read_pickled(path)
    header = _read_header(path)
    if not values:
        return header
    from safetensors import SafetensorError, safe_open

    try:
        with on_disk(path) as local, safe_open(local, framework="pt", device="cpu") as file:
            return {name: file.get_tensor(name) for name in header}
    except (SafetensorError, OSError) as error:
        raise refusal(path, f"cannot be read ({_one_line(error)}); copy it again") from None


def is_readable_in_part(path: str) -> bool:
    """True if names and shapes can be told without reading the whole of a file on another store."""
    return path.endswith(SAFE) or storage.local_path(path) is not None


def content_hash(paths: list[str]) -> str:
    """SHA-256 (hex) over the content of files, in order; O(1) memory. WeightsError if one cannot be read."""
    digest = hashlib.sha256()
    for path in paths:
        size = 0
        try:
            with storage.open_read(path) as file:
                while block := file.read(1 << 20):
                    digest.update(block)
                    size += len(block)
        except OSError as error:
            raise refusal(path, f"cannot be read ({_one_line(error)})") from None
        digest.update(struct.pack("<Q", size))  # so that bytes cannot move from one file to the next unseen
    return digest.hexdigest()


@contextmanager
def on_disk(path: str) -> Iterator[str]:
    """A local path with the content of ``path``; a copy of a remote file is removed at the end."""
    local = storage.local_path(path)
    if local is not None:
        storage.refuse_irregular(path, local)
        yield local
        return
    with tempfile.TemporaryDirectory(prefix="weights-") as folder:
        target = str(Path(folder) / path.rsplit("/", maxsplit=1)[-1])
        storage.copy(path, target)
        yield target


def _shards(folder: str, present: set[str]) -> list[str]:
    path = storage.join(folder, INDEX)
    try:
        shards = sorted(set(storage.read_json(path, _MAX_JSON)["weight_map"].values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise refusal(path, f"no index of shards ({_one_line(error)}); copy it again") from None
    absent = [str(name) for name in shards if name not in present]
    if absent or not shards:
        problem = f"{len(absent)} of {len(shards)} shards of {INDEX} are missing: {', '.join(absent[:10])}"
        raise refusal(f"model.weights = {folder}", problem)
    return [storage.join(folder, name) for name in shards]


def _read_header(path: str) -> dict[str, Tensor]:
    # Not by the library, which needs a copy of a remote file and whose errors name neither file nor remedy.
    try:
        with storage.open_read(path) as file:
            start = file.read(8)
            length = struct.unpack("<Q", start)[0] if len(start) == 8 else _MAX_HEADER + 1
            text = file.read(length) if length <= _MAX_HEADER else b""
            size = file.seek(0, 2)
    except OSError as error:
        raise refusal(path, f"cannot be read ({_one_line(error)})") from None
    if start == _LFS:
        raise refusal(path, "is a Git LFS pointer, not the weights; run `git lfs pull` there")
    try:
        entries = json.loads(text)
        entries.pop("__metadata__", None)
        ends = [int(entry["data_offsets"][1]) for entry in entries.values()]
        header = {
            name: torch.empty(entry["shape"], dtype=_FLOATS.get(entry["dtype"], torch.int8), device="meta")
            for name, entry in entries.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RuntimeError, OverflowError):
        raise refusal(path, f"is not a safetensors file, or a torn one ({size} bytes); copy it again") from None
    expected = 8 + length + max(ends, default=0)
    if size != expected:
        raise refusal(path, f"is torn: {size} bytes, its header speaks of {expected}; copy it again")
    return header


def _read_pickled(path: str) -> dict[str, Tensor]:
    try:
        with on_disk(path) as local:
            # Mapped, so that a checkpoint's optimiser state is never brought into memory.
            content = torch.load(local, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(local))
    except FileNotFoundError:
        raise refusal(path, "no such file") from None
    except OSError as error:
        raise refusal(path, f"cannot be read ({_one_line(error)})") from None
    except Exception as error:  # a damaged pickle may raise anything; a sound one that asks for code raises this:
        if isinstance(error, pickle.UnpicklingError) and "Unsupported operand" not in str(error):
            asked = re.search(r"GLOBAL (\S+)", str(error))
            raise WeightsError(
                f"{path}: refused: reading it would run code ({asked[1] if asked else 'unnamed'}), and only plain "
                "tensors, numbers and containers are read. If you trust it, save its state dict alone where it was made"
            ) from None
        raise refusal(path, "not a file of torch.save, or a torn one; copy it again") from error
    state = content.get("feature_extractor_state_dict", content) if isinstance(content, dict) else None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        held = ", ".join(map(str, list(content)[:10])) if isinstance(content, dict) else type(content).__name__
        raise refusal(path, f"holds no state dict of tensors under feature_extractor_state_dict; it holds {held}")
    return {str(name): value for name, value in state.items()}


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
