"""What Ray would hang on, or report by something else, asked before it starts: a line with the cause and the remedy."""

from __future__ import annotations

import os
import resource
import socket
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import ray

from ray_jobs.cluster.cores import control_groups, read_text, usable_cores
from ray_jobs.console.progress import size

CONNECT_SECONDS, ANSWER_SECONDS = 10.0, 30.0
LONGEST_SOCKET_PATH = 107  # bytes, of Linux
LIBRARY_BYTES = 6_000_000_000  # of address space in a process of Ray's, beside the object store
PROCESSES = 200  # and threads, of Ray and the program, without workers
WORKER_PROCESSES = 30  # and threads, of a worker
FILES, FILES_PER_CORE = 128, 8  # that the busiest process of Ray has open, sockets among them


def cluster_address() -> str | None:
    """The cluster that RAY_ADDRESS names; None where this process is to start its own Ray (absent, empty, local)."""
    address = os.environ.get("RAY_ADDRESS", "").strip()
    return None if address in {"", "local"} else address


def address_problem(address: str) -> str | None:
    """Why no Ray can be reached at the value of RAY_ADDRESS, told within a minute; None if one can."""
    place = address
    if address == "auto":
        with suppress(ConnectionError):  # there is none
            place = ray._private.services.get_ray_address_from_environment("auto", None)
    problem = _unreachable(place)
    found = "" if place == address else f" ({place})"
    return (
        problem and f"RAY_ADDRESS = {address}{found}: {problem}, or unset RAY_ADDRESS to compute on this machine alone"
    )


def _unreachable(place: str) -> str | None:
    if place == "auto":
        return "no Ray runs on this machine; start one (`ray start --head`)"
    if place.startswith(("http://", "https://")):
        return "a job server, to which `ray job submit` sends commands; give HOST:PORT of the cluster's head"
    scheme, _, address = place.rpartition("://")
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 1 << 16:
        return None if scheme not in {"", "ray"} else "not HOST:PORT, as 10.0.0.5:6379; name the head of a cluster"
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except socket.gaierror as error:
        return f"the name {host} is not known here ({error.strerror}); correct it"
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        return f"nothing answers there ({reason}); start the cluster (`ray start --head`)"
    return (
        None if scheme or _is_ray(address) else "what listens there does not answer as Ray; name the head of a cluster"
    )


def _is_ray(address: str) -> bool:
    """Whether the server there knows a call of Ray's, whatever it says to it: it may want a token."""
    import grpc
    from ray._private import grpc_utils, ray_constants

    with grpc_utils.init_grpc_channel(address, ray_constants.GLOBAL_GRPC_OPTIONS) as channel:
        try:
            channel.unary_unary("/ray.rpc.NodeInfoGcsService/CheckAlive")(b"", timeout=ANSWER_SECONDS)
        except grpc.RpcError as error:
            status = grpc.StatusCode
            return error.code() not in {status.UNAVAILABLE, status.DEADLINE_EXCEEDED, status.UNIMPLEMENTED}
    return True


def start_problems() -> Iterator[str]:
    """Why Ray cannot start on this machine."""
    for look in (_temporary_problem, _home_problem, _memory_problem, _files_problem, _processes_problem):
        if (problem := look()) is not None:
            yield problem


def _temporary_problem() -> str | None:
    """Ray keeps sockets and logs in RAY_TMPDIR, else TMPDIR, else /tmp."""
    variable = next((name for name in ("RAY_TMPDIR", "TMPDIR") if name in os.environ), None)
    folder = os.environ[variable] if variable else "/tmp"
    named, remedy = (
        f"{variable or 'RAY_TMPDIR'} = {folder}",
        "set RAY_TMPDIR to a short absolute path, as RAY_TMPDIR=/tmp",
    )
    if not os.path.isabs(folder):  # noqa: PTH117 - of a text that may be empty
        return f"{named}: not an absolute path, which Ray's processes need; {remedy}"
    longest = f"{folder}/ray/session_2026-01-31_23-59-59_000000_{os.getpid()}/sockets/plasma_store"
    if (more := len(os.fsencode(longest)) - LONGEST_SOCKET_PATH) > 0:
        return f"{named}: {more} bytes too long for the path of Ray's sockets; {remedy}"
    if (reason := _unwritable(Path(folder) / "ray")) is not None:
        return f"{named}: {reason}, and Ray keeps sockets and logs there; set RAY_TMPDIR to a folder that you can write"
    return None


def _home_problem() -> str | None:
    """Ray keeps the token that it asks its callers for in ~/.ray."""
    if os.environ.get("RAY_AUTH_MODE", "token").lower() != "token":
        return None
    if os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH"):
        return None
    home = os.environ.get("HOME")
    if not home:
        return "HOME is not set, and Ray keeps its token in HOME/.ray; set HOME to a folder that you can write"
    token = Path(home) / ".ray" / "auth_token"
    with suppress(OSError):
        if token.read_bytes():
            return None
    if (reason := _unwritable(token.parent)) is not None:
        return f"HOME = {home}: {reason}, and Ray keeps its token there; set HOME to a folder that you can write"
    return None


def _unwritable(folder: Path) -> str | None:
    """Why no file can be made in a folder, or in the one in which it would be made."""
    there = next((each for each in (folder, *folder.parents) if os.path.lexists(each)), folder)
    try:
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(bytes(1 << 16))
            file.flush()
    except OSError as error:
        return f"{there}: {error.strerror}"
    return None


def _memory_problem() -> str | None:
    """Every process of Ray's maps the whole object store."""
    limit, utils = resource.getrlimit(resource.RLIMIT_AS)[0], ray._private.utils
    if limit == resource.RLIM_INFINITY:
        return None
    needed = utils.resolve_object_store_memory(utils.estimate_available_memory()) + LIBRARY_BYTES
    if limit >= needed:
        return None
    return (
        f"ulimit -v allows {size(limit)} of address space and a process of Ray's maps about {size(needed)}, most of it "
        "never used; raise the limit (`ulimit -v unlimited`), or leave the login node for one that the scheduler gives"
    )


def _files_problem() -> str | None:
    limit, needed = resource.getrlimit(resource.RLIMIT_NOFILE)[1], FILES + FILES_PER_CORE * usable_cores()
    if limit == resource.RLIM_INFINITY or limit >= needed:  # Ray raises the soft limit by itself
        return None
    return f"ulimit -Hn allows {limit} open files and Ray needs {needed}; raise the limit, as `ulimit -n 8192`"


def _processes_problem() -> str | None:
    needed = PROCESSES + WORKER_PROCESSES * usable_cores()
    for what, limit, used in _process_limits():
        if used + needed > limit:
            return f"{what} allows {limit} processes and threads, {used} run, and Ray needs {needed}; raise the limit"
    return None


def _process_limits() -> Iterator[tuple[str, int, int]]:
    limit, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    if limit != resource.RLIM_INFINITY and os.geteuid():  # none is for root
        yield "ulimit -u", limit, _own_threads()
    for folder in control_groups("pids"):
        most, used = read_text(folder / "pids.max").strip(), read_text(folder / "pids.current").strip()
        if most.isdigit() and used.isdigit():
            yield f"{folder / 'pids.max'} (docker --pids-limit)", int(most), int(used)


def _own_threads() -> int:
    found = psutil.process_iter(["uids", "num_threads"])
    return sum(p.info["num_threads"] or 1 for p in found if p.info["uids"] and p.info["uids"].real == os.getuid())
