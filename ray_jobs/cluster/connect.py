"""Connecting to Ray, and running bounded numbers of tasks on it."""

from __future__ import annotations

import functools
import logging
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import ray
from ray.exceptions import ActorDiedError, ActorUnavailableError, OutOfMemoryError, WorkerCrashedError

from ray_jobs.cluster import memory
from ray_jobs.cluster.cores import usable_cores
from ray_jobs.cluster.preflight import address_problem, cluster_address, start_problems
from ray_jobs.console.progress import Watch, duration
from retrieval_core.config.config import Config
from retrieval_core.files import storage
from retrieval_core.files.fence import carried
from retrieval_core.run.lease import LeaseLostError
from retrieval_core.run.workspace import RunError

T = TypeVar("T")
IN_FLIGHT_PER_CPU = 2
DEATHS = 10  # of a worker or node over the same task after which the task is to blame: a lost node costs each task one
NODES_ANSWER_SECONDS = 10.0
LONGEST_REASON = 400  # characters of an error of Ray's that are shown
STARTS = 2  # on a busy machine one of Ray's processes may miss the 15 s after which another gives up
WORKER_DEATHS = (WorkerCrashedError, OutOfMemoryError, ActorDiedError, ActorUnavailableError)
ENVIRONMENT = {  # a user may override these; Ray's libraries read them when they start, in workers too
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    # One footer actor, not 32: a shard is read by one task anyway, and each actor costs a process.
    "RAY_DATA_PARQUET_FOOTER_NUM_ACTORS": "1",
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # relative paths mean the same in training workers
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",  # else each worker would resolve the environment again
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


class Resources(NamedTuple):
    """What the cluster has, in Ray's logical units."""

    cpus: float
    gpus: int


def is_shared() -> bool:
    """True when Ray was started by someone else: a cluster, not just this process's own."""
    return cluster_address() is not None


def connect() -> Resources:
    """Connect to the cluster of ``RAY_ADDRESS`` or of the submitted job, else start Ray on this machine alone.

    Raises:
        RunError: if that is impossible; a line says why, within a minute.
    """
    for key, value in ENVIRONMENT.items():
        os.environ.setdefault(key, value)
    if not ray.is_initialized():
        with _own_signals():
            _start_ray() if (address := cluster_address()) is None else _join_ray(address)
        if address is None:
            _keep_token_private()
            _warn_of_little_memory()
    for name in ("ray.data", "ray.train", "ray.tune"):
        logging.getLogger(name).setLevel(logging.ERROR)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    return resources()


def _join_ray(address: str) -> None:
    if (problem := address_problem(address)) is not None:
        raise RunError(problem)
    try:
        ray.init(logging_level=logging.ERROR)
    except Exception as error:  # of many kinds, in several lines
        raise _failed(f"RAY_ADDRESS = {address}", error) from None


def _start_ray() -> None:
    for problem in start_problems():
        raise RunError(problem)
    for attempt in range(1, STARTS + 1):
        try:
            with _on_loopback():
                # Without a runtime_env, or Ray could not use the workers that it starts by itself.
                ray.init(address="local", num_cpus=usable_cores(), include_dashboard=False, logging_level=logging.ERROR)
            return
        except Exception as error:
            if attempt == STARTS or "timed out during startup" not in str(error):
                raise _failed("Ray does not start here", error) from None


def _failed(what: str, error: Exception) -> RunError:
    """An error of Ray's in a line; all of it goes into the log."""
    logging.getLogger(__name__).warning("%s", what, exc_info=error)
    reason = " ".join(str(error).split()) or type(error).__name__
    return RunError(f"{what}: {reason[:LONGEST_REASON]}; Ray's own logs are in {_ray_logs()}")


def _ray_logs() -> Path:
    return Path(ray._common.utils.get_default_ray_temp_dir(), "session_latest", "logs")


def _warn_of_little_memory() -> None:
    total = ray.cluster_resources()
    store, cpus = int(total.get("object_store_memory", 0)), int(total.get("CPU", 1))
    for line in memory.problems(memory.measure(), store, cpus):
        logging.getLogger("fabric_retrieval").warning("%s", line)


@contextmanager
def interrupt_ends_ray() -> Iterator[None]:
    """When told to stop, end all workers before the folder is free for another run: none may still write then.

    Likewise if another run has taken the folder over.
    """
    try:
        yield
    except (KeyboardInterrupt, LeaseLostError) as error:
        # Ray Data's executor ends when it is collected; later than Ray itself it would start another Ray.
        traceback.clear_frames(error.__traceback__)
        ray.shutdown()
        raise


@contextmanager
def _own_signals() -> Iterator[None]:
    """Keep this program's handler of SIGTERM, if it has one, while Ray starts, and Ray's processes from its signals.

    Ray would put a handler that ends without a word. Terminals and schedulers send a signal to the whole process group:
    the node would die while this process, which needs it, stops cleanly.
    """
    ours, utils, services = signal.getsignal(signal.SIGTERM), ray._private.utils, ray._private.services
    if not callable(ours) or threading.current_thread() is not threading.main_thread():
        yield
        return
    handler, popen = utils.set_sigterm_handler, services.ConsolePopen
    utils.set_sigterm_handler = lambda _: None
    if utils.detect_fate_sharing_support():  # elsewhere a process of Ray's ends its group when this one has died
        services.ConsolePopen = functools.partial(popen, process_group=0)
    try:
        yield
    finally:
        utils.set_sigterm_handler, services.ConsolePopen = handler, popen
        signal.signal(signal.SIGTERM, ours)  # again: below Python, Ray has put one that prints C++ frames before it


@contextmanager
def _on_loopback() -> Iterator[None]:
    """Make a Ray of this machine alone listen on 127.0.0.1 only: whoever reaches a port of Ray can run code."""
    constants = ray._private.ray_constants
    before = constants.ENABLE_RAY_CLUSTER
    # With _node_ip_address="127.0.0.1" alone Ray takes the machine's address, and listens on all of them. It stays on
    # loopback where this switches clusters off, as on macOS and Windows.
    constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        constants.ENABLE_RAY_CLUSTER = before


def _keep_token_private() -> None:
    """Ray writes its token readable by every user of this machine."""
    token = Path.home() / ".ray" / "auth_token"
    try:
        if token.stat().st_mode & 0o077:
            token.chmod(0o600)
    except OSError:  # none is needed, or it is another user's
        return


def watch(config: Config, folder: str) -> Watch:
    """Warns when nothing moves, with the nodes and the newest file of a folder (O(its files))."""

    def look() -> str:
        answers: list[str] = []
        asking = threading.Thread(target=lambda: answers.extend([_nodes(), _newest(folder)]), daemon=True)
        asking.start()
        asking.join(NODES_ANSWER_SECONDS)
        seen = "; ".join(answers) or "the head of the cluster does not answer"
        return f"{seen}; `ray status` shows what waits for resources, and a read may hang: try the storage by hand"

    return Watch(config.run.stuck_minutes, look)


def _nodes() -> str:
    nodes = ray.nodes()
    gone = [node["NodeManagerHostname"] for node in nodes if not node["Alive"]]
    return f"{len(nodes) - len(gone)} of {len(nodes)} nodes alive" + (f", gone: {', '.join(gone[:5])}" if gone else "")


def _newest(folder: str) -> str:
    local = storage.local_path(folder)
    files = list(Path(local).glob("[!.]*")) if local is not None else []
    if not files:
        return f"nothing to see in {folder}"
    newest = max(files, key=lambda file: file.stat().st_mtime)
    return f"newest file {newest}, {duration(time.time() - newest.stat().st_mtime)} old"


def resources() -> Resources:
    """CPUs and GPUs of all living nodes."""
    total = ray.cluster_resources()
    return Resources(cpus=float(total.get("CPU", 1.0)), gpus=int(total.get("GPU", 0)))


def nodes() -> list[Resources]:
    """CPUs and GPUs of each living node; nodes without CPUs, where nothing of ours runs, are left out."""
    found = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return [Resources(float(has["CPU"]), int(has.get("GPU", 0))) for has in found if has.get("CPU")]


def deadly_task(what: str, error: Exception) -> RunError:
    """What to say of a task that has killed every worker that it was given."""
    logging.getLogger(__name__).warning("%s", what, exc_info=error)
    return RunError(
        f"{what} has killed its worker again and again: too little memory (smaller embed.shard_size, "
        "retrieve.gallery_block and images.max_pixels need less), or a library that crashes over an image; see to it, "
        f"and the same command goes on; Ray's own logs are in {_ray_logs()}"
    )


def run_tasks(
    function: Callable[..., T], calls: Iterable[tuple[Any, ...]], *, num_cpus: float = 1.0, num_gpus: float = 0
) -> Iterator[T]:
    """Run ``function(*call)`` for each call as Ray tasks; yields results in the order in which tasks finish.

    Calls are taken as tasks finish, so the driver holds O(CPUs) of them. A task whose worker or node dies runs again.
    What a task raises is raised here, and running tasks are cancelled; RunError if one dies ``DEATHS`` times.
    """
    task = ray.remote(num_cpus=num_cpus, num_gpus=num_gpus, max_retries=DEATHS - 1)(carried(function))
    limit = max(2, int(connect().cpus / num_cpus)) * IN_FLIGHT_PER_CPU
    waiting = iter(calls)
    running: list[ray.ObjectRef] = []
    try:
        while True:
            while len(running) < limit and (call := next(waiting, None)) is not None:
                running.append(task.remote(*call))
            if not running:
                return
            done, running = ray.wait(running, num_returns=1)
            try:
                result = ray.get(done[0])
            except WORKER_DEATHS as error:
                raise deadly_task(f"a task of {function.__name__.strip('_')}", error) from None
            yield result
    finally:
        for reference in running:
            ray.cancel(reference)
