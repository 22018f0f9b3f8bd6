"""Finding and reading files of weights without running code from them.

A weights folder is a transformers directory, see ``tensor_files``. Folders and files are local or fsspec URLs; a folder
may also be a repository of the Hub, whose files are read in the cache.
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

from retrieval_core.files import hub, storage
from retrieval_core.files.formats import FIRST, Format, format_of

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
PICKLED = "pytorch_model.bin"
PICKLED_INDEX = "pytorch_model.bin.index.json"
CONFIG = "config.json"
SAFE = ".safetensors"

_CHECKPOINTS = (".pth", ".pt", ".ckpt", ".bin", SAFE)
_FLOATS = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_MAX_JSON = 64 << 20  # bytes; config.json is a few kB, an index of shards a few MB
_MAX_HEADER = 100_000_000  # bytes, the limit of the safetensors format
_STATES = ("feature_extractor_state_dict", "state_dict", "model_state_dict", "model", "teacher", "module")
"""Where checkpoints keep a state dict, the published code's own first: Lightning, plain loops, DINOv2's training."""


class WeightsError(ValueError):
    """The weights are missing, incomplete or not what the configuration says; the message is one line."""


def refusal(source: str, problem: str) -> WeightsError:
    """The error that names a file or key and its problem, and where to find help."""
    small = Path("Weight_Path", "dinov2-motif-small")
    whole = Path(__file__).resolve().parents[2] / small
    help_ = (
        "Weight_Path/README.md says which files are needed and where to put them. The small model that comes with the "
        f"project needs none: --set model.weights={small if small.exists() or not whole.exists() else whole}"
    )
    # It may quote names out of a file, which can hold any character: the message stays one line.
    shown = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in problem)
    return WeightsError(f"{source}: {shown}; {help_}")


def read_config(folder: str) -> dict[str, Any]:
    """The content of a weights folder's config.json; WeightsError if there is none."""
    source, path = f"model.weights = {folder}", config_file(folder)
    if hub.is_address(folder):
        folder = path.rpartition("/")[0]
    if not storage.exists(folder):
        place = storage.started_in(folder)
        remedy = ", where relative paths start; give the whole path" if place else ""
        raise refusal(
            source,
            f"no such folder{place}{remedy}. It must hold {CONFIG} and {SINGLE} (or {INDEX} with its shards, or "
            f"{PICKLED}) of a DINOv2 in transformers form",
        )
    local = storage.local_path(folder)
    if local is not None and storage.irregular_kind(local) is None:
        raise refusal(source, _file_for_folder(folder))
    try:
        values = storage.read_json(path, _MAX_JSON)
    except FileNotFoundError:
        problem = f"has no {CONFIG}; without it the weights cannot be read. Put there the one that came with them"
        raise refusal(source, problem) from None
    except (OSError, ValueError) as error:
        _refuse_other_formats(path)
        raise refusal(path, f"cannot be read ({_one_line(error)}); copy it again") from None
    if not isinstance(values, dict):
        raise refusal(path, f"must hold a JSON object, got {type(values).__name__}")
    return values


def config_file(folder: str) -> str:
    """Where a weights folder's config.json is read; WeightsError if the Hub does not give it."""
    return _file(folder, CONFIG)


def tensor_files(folder: str, *, values: bool = True) -> list[str]:
    """The files that hold a folder's tensors, in a fixed order: the first kind present of the four.

    Without ``values`` those on the Hub are not fetched. WeightsError if there are none, or if the index names a shard
    that is not there.
    """
    with _told(folder):
        present = set(hub.names(folder, SINGLE) if hub.is_address(folder) else storage.list_names(folder))
    for name, index in ((SINGLE, INDEX), (PICKLED, PICKLED_INDEX)):
        if name in present:
            return [_file(folder, name, values=values)]
        if index in present:
            return [_file(folder, shard, values=values) for shard in _shards(folder, index, present)]
    found = ", ".join(sorted(present)[:10]) or "nothing"
    problem = f"has no tensors; looked for {SINGLE}, {INDEX}, {PICKLED} and {PICKLED_INDEX}, found {found}"
    others = [name for name in sorted(present) if name.endswith(_CHECKPOINTS)]
    if len(others) == 1:
        problem += f". To read {others[0]}, also set model.checkpoint={storage.join(folder, others[0])}"
    raise refusal(f"model.weights = {folder}", problem)


def read_tensors(path: str, *, values: bool = True) -> dict[str, Tensor]:
    """The tensors of a safetensors file, or of one written by ``torch.save`` (any other name), by name.

    They are on the CPU, memory O(their bytes). Without ``values`` they are meta tensors of shape and type: of a
    safetensors file only the header is read then, and a ``torch.save`` file on another store gives none. WeightsError
    if the file is torn, not of its format, or would run code when read.
    """
    if not values and not is_readable_in_part(path):
        return {}
    local = storage.local_path(path)
    if local is not None and Path(local).is_dir():
        raise refusal(path, f"is a folder, and a file is wanted; set model.weights={path} if it is one of weights")
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


def _file_for_folder(path: str) -> str:
    wanted = f"is a file, and a folder with {CONFIG} beside the tensors is wanted"
    name = path.rpartition("/")[2]
    if name in {SINGLE, INDEX, PICKLED, PICKLED_INDEX, CONFIG}:
        return f"{wanted}: set model.weights={path.rpartition('/')[0] or '.'}"
    if path.endswith(_CHECKPOINTS):
        return f"{wanted}: set model.checkpoint={path}, and model.weights to the folder with its {CONFIG}"
    form = _other_format(path)
    return f"{wanted}; it is {form.name}: {form.remedy_for(path)}" if form else wanted


def _other_format(path: str) -> Format | None:
    try:
        with storage.open_read(path) as file:
            return format_of(file.read(FIRST))
    except OSError:
        return None


def _refuse_other_formats(path: str) -> None:
    """Raise WeightsError if a file that could not be read is of a known format that holds no weights."""
    form = _other_format(path)
    if form is not None and form.name not in {"a ZIP archive", "a pickle"}:  # those of torch.save
        raise refusal(path, f"is {form.name}, not the weights; {form.remedy_for(path)}")


@contextmanager
def _told(folder: str) -> Iterator[None]:
    try:
        yield
    except hub.HubError as error:
        raise WeightsError(f"model.weights = {error}") from None


def _file(folder: str, name: str, *, values: bool = True) -> str:
    if not hub.is_address(folder):
        return storage.join(folder, name)
    with _told(folder):
        return hub.place(folder, name, whole=values)


def _shards(folder: str, index: str, present: set[str]) -> list[str]:
    path = _file(folder, index)
    try:
        shards = sorted(set(storage.read_json(path, _MAX_JSON)["weight_map"].values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise refusal(path, f"no index of shards ({_one_line(error)}); copy it again") from None
    absent = [str(name) for name in shards if name not in present]
    if absent or not shards:
        problem = f"{len(absent)} of {len(shards)} shards of {index} are missing: {', '.join(absent[:10])}"
        raise refusal(f"model.weights = {folder}", problem)
    return shards


def _read_header(path: str) -> dict[str, Tensor]:
    if hub.is_address(path):
        with _told(path):
            return {name: _unread(dtype, shape) for name, (dtype, shape) in hub.header(path).items()}
    # Not by the library, which needs a copy of a remote file and whose errors name neither file nor remedy.
    try:
        with storage.open_read(path) as file:
            start = file.read(8)
            length = struct.unpack("<Q", start)[0] if len(start) == 8 else _MAX_HEADER + 1
            text = file.read(length) if length <= _MAX_HEADER else b""
            size = file.seek(0, 2)
    except OSError as error:
        raise refusal(path, f"cannot be read ({_one_line(error)})") from None
    try:
        entries = json.loads(text)
        entries.pop("__metadata__", None)
        ends = [int(entry["data_offsets"][1]) for entry in entries.values()]
        header = {name: _unread(entry["dtype"], entry["shape"]) for name, entry in entries.items()}
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RuntimeError, OverflowError):
        _refuse_other_formats(path)
        raise refusal(path, f"is not a safetensors file, or a torn one ({size} bytes); copy it again") from None
    expected = 8 + length + max(ends, default=0)
    if size != expected:
        raise refusal(path, f"is torn: {size} bytes, its header speaks of {expected}; copy it again")
    return header


def _unread(dtype: str, shape: list[int]) -> Tensor:
    return torch.empty(shape, dtype=_FLOATS.get(dtype, torch.int8), device="meta")


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
        _refuse_other_formats(path)
        raise refusal(path, "not a file of torch.save, or a torn one; copy it again") from error
    held = content if isinstance(content, dict) else {}
    for state in (*(held[key] for key in _STATES if key in held), content):
        if isinstance(state, dict) and state and all(isinstance(value, Tensor) for value in state.values()):
            return {str(name): value for name, value in state.items()}
    shown = ", ".join(map(str, list(held)[:10])) or type(content).__name__
    raise refusal(
        path, f"holds no state dict of tensors, neither itself nor under {', '.join(_STATES)}; it holds {shown}"
    )


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
