"""Whether every node sees what a run reads and writes: each reads a file of this process, and writes one in return.

A folder that each node has for itself looks right on all of them; only a file from another node is missing.
"""

from __future__ import annotations

import os
import secrets
from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from retrieval_core.config.config import Config
from retrieval_core.data.datasets import DataError
from retrieval_core.data.records import find_source
from retrieval_core.files import hub, storage
from retrieval_core.run.workspace import RunError, Workspace

ANSWER_SECONDS = 120.0  # the first process on a busy node takes some
WEIGHTS = "model.weights"
REMEDY = "name a folder that all nodes share, or a URL"


def require_shared_paths(config: Config) -> None:
    """Raise RunError with the nodes, the path and what to do if a node that is there now cannot work on this run."""
    problems = node_problems(config)
    if problems:
        more = f" (and {len(problems) - 1} more; `fabric-retrieval check` lists all)" if len(problems) > 1 else ""
        raise RunError(f"{problems[0]}{more}")


def node_problems(config: Config) -> list[str]:
    """What living nodes cannot reach, a line for each kind. The task on each needs no free CPU. Memory O(nodes)."""
    workspace = Workspace(config)
    fresh = [folder for folder in (workspace.output_dir, workspace.folder) if not storage.exists(folder)]
    folder = workspace.work(f"probe-{secrets.token_hex(8)}")
    try:
        return _probe(folder, _witnesses(config))
    finally:
        storage.remove(folder)
        for made in reversed([*fresh, workspace.work()]):
            with suppress(OSError):  # not empty: somebody else uses it by now
                Path(storage.local_path(made) or os.devnull).rmdir()


def _probe(folder: str, witnesses: Mapping[str, tuple[str, str]]) -> list[str]:
    ours = storage.join(folder, "driver")
    try:
        storage.write_bytes(ours, folder.encode())
    except Exception as error:  # a store that does not answer raises its own kinds
        return [f"run.output_dir: {_reason(error, ours)}; name a folder that can be written, or a URL"]
    answers = _ask_all(folder, witnesses)
    nodes_of = defaultdict(list)
    for node, problems in answers.items():
        written = storage.join(folder, node)
        if not problems and not _is_readable(written):
            nodes_of[f"run.output_dir: what it wrote in {folder} is not here; {REMEDY}"].append(node)
        for problem in problems:
            nodes_of[problem].append(node)
    addresses = {node["NodeID"]: node["NodeManagerAddress"] for node in ray.nodes()}
    return [f"{_named([(addresses[node], node) for node in nodes])}: {text}" for text, nodes in nodes_of.items()]


def _ask_all(folder: str, witnesses: Mapping[str, tuple[str, str]]) -> dict[str, list[str]]:
    """Node id -> what is wrong there; without nodes that die meanwhile."""
    task = ray.remote(num_cpus=0, max_retries=0)(look_from_node)
    asked = {
        task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(
            folder, node, witnesses
        ): node
        for node in _alive()
    }
    done, late = ray.wait(list(asked), num_returns=len(asked), timeout=ANSWER_SECONDS)
    found = {
        asked[reference]: [f"no answer within {ANSWER_SECONDS:.0f} s; look at the node, or end it"]
        for reference in late
    }
    for reference in late:
        ray.cancel(reference, force=True)
    for reference in done:
        try:
            found[asked[reference]] = ray.get(reference)
        except RayError as error:
            reason = str(getattr(error, "cause", None) or error).strip().splitlines()[0]
            found[asked[reference]] = [
                f"the program cannot run there ({reason}); install it with the same packages on every node"
            ]
    alive = _alive()
    return {node: problems for node, problems in found.items() if node in alive}


def _alive() -> list[str]:
    return [node["NodeID"] for node in ray.nodes() if node["Alive"]]


def look_from_node(folder: str, node: str, witnesses: Mapping[str, tuple[str, str]]) -> list[str]:
    """On a node: read the driver's file, write one named ``node``, read the ``witnesses``; returns the problems."""
    problems = []
    try:
        storage.read_bytes(storage.join(folder, "driver"))
        storage.write_bytes(storage.join(folder, node), node.encode())
    except FileNotFoundError:
        problems.append(f"run.output_dir: {folder}, which this run has just made, is not there; {REMEDY}")
    except Exception as error:  # as for the driver
        problems.append(f"run.output_dir: {_reason(error, folder)}; let every node read and write it, or {REMEDY}")
    for key, (path, witness) in witnesses.items():
        try:
            _touch(key, witness)
        except hub.HubError as error:
            problems.append(f"{key} = {error}")
        except Exception as error:  # as above
            problems.append(f"{key} = {path}: {_reason(error, witness)}; {REMEDY}")
    return problems


def _touch(key: str, path: str) -> None:
    """Read a byte of a file, or a name of a folder, or fetch the settings of weights on the Hub."""
    if _is_on_hub(key, path):
        hub.place(path, "config.json")
        return
    local = storage.local_path(path)
    if local is not None and os.path.isdir(local):  # noqa: PTH112 - as in storage
        with os.scandir(local) as entries:
            next(entries, None)
    elif local is not None or not storage.list_names(path):
        with storage.open_read(path) as file:
            file.read(1)


def _witnesses(config: Config) -> dict[str, tuple[str, str]]:
    """Key -> (its path, what must be readable there) if this process sees it; other checks tell of the rest."""
    places = {"data.root": config.data.root, WEIGHTS: config.model.weights}
    for key in ("queries", "gallery"):
        with suppress(DataError, OSError):
            places[f"data.{key}"] = find_source(config.data, key)
    if config.model.checkpoint:
        places["model.checkpoint"] = config.model.checkpoint
    found = {}
    for key, path in places.items():
        with suppress(OSError):
            local = storage.local_path(path)
            if path and local is not None and os.path.isdir(local):  # noqa: PTH112 - as in storage
                with os.scandir(local) as entries:  # an empty mount point is a folder, too
                    first = next(entries, None)
                found[key] = (path, path if first is None else storage.join(path, first.name))
            elif path and (_is_on_hub(key, path) or storage.exists(path)):
                found[key] = (path, path)
    return found


def _is_on_hub(key: str, path: str) -> bool:
    return key == WEIGHTS and hub.is_address(path)


def _is_readable(path: str) -> bool:
    try:
        storage.read_bytes(path)
    except Exception:  # whatever the reason, the node's file is not seen
        return False
    return True


def _reason(error: BaseException, path: str) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or path}: {error.strerror}"
    return f"{path}: {' '.join(str(error).split()) or type(error).__name__}"


def _named(nodes: list[tuple[Any, str]]) -> str:
    """Nodes by address; the start of Ray's id tells nodes with the same address apart."""
    shown = ", ".join(f"{address} ({node[:8]})" for address, node in sorted(nodes)[:5])
    more = f" and {len(nodes) - 5} more" if len(nodes) > 5 else ""
    return f"node{'s' if len(nodes) > 1 else ''} {shown}{more}"
