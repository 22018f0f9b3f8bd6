"""Broken and hostile configurations, words of the command line and weights; see ``tests.bad_input``."""

from __future__ import annotations

import io
import json
import os
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save, save_file

from tests.bad_input import TINY, BadInput, hole, options, put
from tests.jobs.small_data import write_png

MARKER = "somebody-ran-code"
"""The name of what hostile input would make in the working directory."""


def bad_settings() -> Iterator[BadInput]:
    """Configurations, words and weights; names are unique."""
    for group in (_configurations, _words, _weight_folders, _headers, _pickles):
        yield from group()


def sound_weights() -> dict[str, bytes]:
    """A small sound file of each form of weights, by a name that tells the form."""
    tensors = {"a.weight": torch.ones(2, 3), "a.bias": torch.zeros(2)}
    buffer = io.BytesIO()
    torch.save({"feature_extractor_state_dict": tensors, "epoch": 3}, buffer)
    return {"sound.safetensors": save(tensors), "sound.pth": buffer.getvalue()}


# ---- configuration


def _configurations() -> Iterator[BadInput]:
    def file(content: bytes | Callable[[Path], object]) -> Callable[[Path], list[str]]:
        def write(folder: Path) -> list[str]:
            put(folder / "run.yaml", content)
            return ["--config", str(folder / "run.yaml")]

        return write

    levels = range(1, 12)
    laughs = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in levels)
    merges = "a0: &a0 {x: 1}\n" + "".join(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}\n" for n in levels)
    tags = {
        "calls a function": f"!!python/object/apply:os.mkdir [{MARKER}]",
        "makes an object": f"!!python/object/new:os.system [touch {MARKER}]",
        "names a module": "!!python/module:antigravity",
        "has a tag of its own": "!run {a: 1}",
    }
    for name, text in tags.items():
        yield BadInput(f"YAML that {name}", file(f"run: {{name: {text}}}\n".encode()), 2, "not valid YAML")
    contents: dict[str, tuple[bytes, str]] = {
        "YAML of a billion laughs": (laughs.encode(), "unknown key a0"),
        "YAML of a billion laughs in a key": (f"{laughs}evaluate: {{ks: *a11}}".encode(), "evaluate.ks.0 = "),
        "YAML of a billion merges": (merges.encode(), "unknown key a11"),
        "YAML that holds itself": (b"evaluate: {ks: &a [*a]}", "evaluate.ks"),
        "YAML nested 5,000 deep": (b"[" * 5_000, "not valid YAML"),
        "YAML with a number of 90,000 digits": (b"run: {seed: 0x" + b"f" * 90_000 + b"}", "a number of 360,000 bits"),
        "YAML with 2,000 wrong values": (b"evaluate: {ks: [" + b"x," * 2_000 + b"]}", "and 1,950 more"),
        "YAML that is torn": (b"run: {name: tri", "not valid YAML"),
        "YAML that is a picture": (b"\x89PNG\r\n\x1a\n\0\0", "is not UTF-8 text"),
        "YAML with zero bytes": (b"run: {name: a\0}", "not valid YAML"),
    }
    for name, (content, says) in contents.items():
        yield BadInput(name, file(content), 2, says)
    yield BadInput("YAML of 1 GB", file(hole), 2, "is larger than", large=True)
    yield BadInput("YAML from a FIFO nobody writes to", file(os.mkfifo), 2, "is a FIFO")
    yield BadInput("YAML from /dev/zero", lambda _: ["--config", "/dev/zero"], 2, "is larger than")
    yield BadInput("YAML that links to itself", file(lambda path: path.symlink_to(path)), 2, "symbolic links")


def _words() -> Iterator[BadInput]:
    words: dict[str, tuple[str, str]] = {
        "run name that leaves the folder": ("run.name=../../etc", "run.name = '../../etc'"),
        "run name with markup": ("run.name=<script>", "run.name = '<script>'"),
        "run name of two lines": ("run.name=a\nb", r"run.name = 'a\nb'"),
        "word with a tag": (f"embed.batch_size=!!python/object/apply:os.mkdir [{MARKER}]", "embed.batch_size = "),
        "word with a number of 9,000 digits": (f"run.seed={'9' * 9000}", "run.seed"),
        "word that is infinite": ("train.learning_rate=.inf", "train.learning_rate"),
        "key of 9,000 letters": (f"run.{'x' * 9000}=1", "unknown key run.xxx"),
    }
    for name, (text, says) in words.items():
        yield BadInput(name, lambda _, text=text: ["--set", text], 2, says)


# ---- weights


def _weights(change: Callable[[Path], object], **keys: object) -> Callable[[Path], list[str]]:
    """A gallery of one picture and the small model of the repository with something wrong in its folder."""

    def write(folder: Path) -> list[str]:
        shutil.copytree(TINY, folder / "weights")
        change(folder / "weights")
        for name in ("gallery/a.png", "q.png"):
            write_png(folder / name, 1)
        data = {"data.format": "folder", "data.gallery": folder / "gallery", "data.queries": folder / "q.png"}
        named = {f"model.{key}": folder / "weights" / str(value) for key, value in keys.items()}
        return options(folder, {**data, "model.weights": folder / "weights", **named})

    return write


def _replaced(name: str, content: bytes | Callable[[Path], object]) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        put(folder / name, content)

    return change


def _weight_folders() -> Iterator[BadInput]:
    def config(**values: object) -> Callable[[Path], None]:
        def change(folder: Path) -> None:
            known = json.loads((folder / "config.json").read_text())
            (folder / "config.json").write_text(json.dumps(known | values))

        return change

    def sharded(*names: object) -> Callable[[Path], None]:
        index = json.dumps({"weight_map": {str(n): name for n, name in enumerate(names)}}).encode()

        def change(folder: Path) -> None:
            (folder / "model.safetensors").unlink()
            (folder / "model.safetensors.index.json").write_bytes(index)

        return change

    json_file, tensors = "config.json", "model.safetensors"
    rows: dict[str, tuple[Callable[[Path], object], str]] = {
        "config.json nested 100,000 deep": (_replaced(json_file, b"[" * 100_000), "config.json"),
        "config.json that is a FIFO": (_replaced(json_file, os.mkfifo), "FIFO"),
        "config.json that asks for code": (config(auto_map={"AutoModel": "x.Y"}, model_type="x"), "model_type is 'x'"),
        "config.json of 10 million layers": (config(num_hidden_layers=10**7), "num_hidden_layers = 10000000"),
        "config.json of a negative width": (config(hidden_size=-192), "config.json"),
        "config.json of patches of nothing": (config(patch_size=0), "config.json"),
        "config.json of an infinite width": (config(hidden_size=float("inf")), "config.json"),
        "index whose shard lies outside": (sharded("../../../etc/passwd"), "1 of 1 shards"),
        "index whose shards are numbers": (sharded(1, 2), "shards of model.safetensors.index.json are missing"),
        "tensors that are a FIFO": (_replaced(tensors, os.mkfifo), "FIFO"),
        "tensors that are a folder": (_replaced(tensors, Path.mkdir), "a folder"),
        "tensors that link to themselves": (_replaced(tensors, lambda path: path.symlink_to(path)), tensors),
    }
    for name, (change, says) in rows.items():
        yield BadInput(name, _weights(change), 1, says)
    yield BadInput("config.json of 1 GB", _weights(_replaced(json_file, hole)), 1, "is larger than", large=True)
    yield BadInput("tensors of 1 GB of nothing", _weights(_replaced(tensors, hole)), 1, "not a safetensors", large=True)


def _headers() -> Iterator[BadInput]:
    def header(text: bytes, length: int | None = None) -> bytes:
        return struct.pack("<Q", len(text) if length is None else length) + text

    def entry(**values: Any) -> bytes:
        return header(json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} | values}).encode())

    whole = (TINY / "model.safetensors").read_bytes()
    contents = {f"safetensors cut at {n}0 %": whole[: len(whole) * n // 10] for n in range(1, 10)}
    contents |= {
        "safetensors with a header of exabytes": header(b"{}", 2**63),
        "safetensors with a header nested 100,000 deep": header(b"[" * 100_000),
        "safetensors that end at infinity": entry(data_offsets=[0, float("inf")]),
        "safetensors of a negative side": entry(shape=[-1]),
        "safetensors of 2**70 numbers": entry(shape=[2**70]),
        "safetensors of a text for a shape": entry(shape="wide"),
        "safetensors of an unknown type": entry(dtype=["F32"]),
    }
    for name, content in contents.items():
        yield BadInput(name, _weights(_replaced("model.safetensors", content)), 1, "model.safetensors: is")

    def changed(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
        def write(folder: Path) -> None:
            tensors = load_file(TINY / "model.safetensors")
            change(tensors)
            save_file(tensors, folder / "model.safetensors")

        return write

    def poison(tensors: dict[str, torch.Tensor]) -> None:
        next(iter(tensors.values())).view(-1)[0] = float("nan")

    def narrow(tensors: dict[str, torch.Tensor]) -> None:
        name = next(name for name, tensor in tensors.items() if tensor.ndim == 2)
        tensors[name] = tensors[name][:, :-1].contiguous()

    yield BadInput("safetensors of another shape", _weights(changed(narrow)), 1, "shape")
    yield BadInput("safetensors of another model", _weights(changed(dict.clear)), 1, "it has 0 tensors")
    yield BadInput("safetensors with NaN", _weights(changed(poison)), 1, "NaN or infinity in 1 tensors", "load")


class _Runs:
    """Unpickled by an unsuspecting reader, it makes a folder."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (MARKER,)


def _pickles() -> Iterator[BadInput]:
    def saved(value: object) -> Callable[[Path], object]:
        return lambda path: torch.save(value, path)

    def script(path: Path) -> None:
        torch.jit.script(torch.nn.Linear(1, 1)).save(str(path))

    runs = b"cos\nmkdir\n(V" + MARKER.encode() + b"\ntR."
    contents: dict[str, tuple[bytes | Callable[[Path], object], str]] = {
        "checkpoint that runs code": (saved({"feature_extractor_state_dict": {}, "loss": _Runs()}), "would run code"),
        "checkpoint that is a bare pickle that runs code": (runs, "would run code"),
        "checkpoint that is a program of TorchScript": (script, "evil.pth"),
        "checkpoint that is a FIFO": (os.mkfifo, "FIFO"),
        "checkpoint that is a folder": (Path.mkdir, "a folder"),
        "checkpoint of a list": (saved([1, 2]), "holds no state dict"),
        "checkpoint without tensors": (
            saved({"feature_extractor_state_dict": {"a": 1}}),
            "holds no state dict",
        ),
        "checkpoint that claims a text of 4 GB": (b"\x80\x02X\xff\xff\xff\xffa.", "not a file of torch.save"),
        "checkpoint that is a zip of other things": (b"PK\x05\x06" + bytes(18), "not a file of torch.save"),
    }
    for name, (content, says) in contents.items():
        yield BadInput(name, _weights(_replaced("evil.pth", content), checkpoint="evil.pth"), 1, says)
    large = _weights(_replaced("evil.pth", hole), checkpoint="evil.pth")
    yield BadInput("checkpoint of 1 GB of nothing", large, 1, "not a file of torch.save", large=True)
