"""One run at a time in one output folder, and what that promises.

The holder's name lies in ``work/lease.json``, renewed every third of ``LEASE_SECONDS``. A local folder is locked as
well, by the kernel, until the holder's process ends.

- On one machine, containers and PID namespaces included, two runs never hold a folder. A stopped process goes on
  holding it; a dead one, if it had this host's name, holds nothing at once. On an object store that is so in one PID
  namespace only.
- Elsewhere, on network file systems and object stores, a lease lasts ``LEASE_SECONDS`` without renewal. Who wants it
  then watches it for half of that again, as clocks of hosts may differ. Of two that take it at once, one goes on.
- Who has lost the lease writes nothing more. Before every write of the run, also in its workers, stands a look at the
  file, at most ``LOOK_SECONDS`` old; the run ends with an error that names the new holder. What no lease can stop is
  the one write under way. Logs and TensorBoard's event files are not asked about: their names are one process's own.
- A store that does not answer costs nobody the lease before ``LEASE_SECONDS`` are over.

A lease of an earlier version, without lock and PID namespace, counts by its process if it lives here, else by its time.
"""

from __future__ import annotations

import logging
import math
import os
import signal
import threading
import time
import uuid
from contextlib import ExitStack

from retrieval_core.files import storage
from retrieval_core.files.fence import fenced
from retrieval_core.run.holder import TORN, Holder, as_bytes, lives, lock_folder, read_holder, this_process
from retrieval_core.run.workspace import RunError

log = logging.getLogger("fabric_retrieval")

LEASE_SECONDS = 60.0
LOOK_SECONDS = 1.0
DISK_SETTLE_SECONDS, STORE_SETTLE_SECONDS = 0.05, 1.0
"""Seconds after which a new holder checks that the lease is still its own: on a disk, on an object store."""


class LeaseLostError(RunError):
    """Another run has taken the folder over; this one may not write any more. Names the other one."""


class Claim:
    """The question that every process of a run asks before it writes: is the lease still this run's?

    It travels to workers. Looks before the first write, and then at most once in ``LOOK_SECONDS``.
    """

    def __init__(self, path: str, token: str) -> None:
        self.path, self.token = path, token
        self.lost = ""  # the message, once it is lost
        self._seen = _now()  # when it was this run's; as it arrives, since its sender holds the lease
        self._looked = -math.inf

    def __reduce__(self) -> tuple[type[Claim], tuple[str, str]]:
        return Claim, (self.path, self.token)

    def __call__(self) -> None:
        """Raise LeaseLostError if the lease is lost, or what the store raises once the lease may be over."""
        now = _now()
        if not self.lost and now - self._looked < LOOK_SECONDS:
            return
        try:
            self.look()
        except LeaseLostError:
            raise
        except Exception:  # of whatever kind the store's errors are
            if now - self._seen > LEASE_SECONDS:
                raise

    def look(self) -> bool:
        """Read the lease; False if it is not there, but was so lately that nobody can have taken it.

        Raises LeaseLostError, and what the store raises.
        """
        began = _now()
        holder = None if self.lost else read_holder(self.path)
        missing = holder is None or holder == TORN
        if holder is not None and holder.token not in {self.token, TORN.token}:
            self.lost = f"{holder.named()} took this folder over; this run has stopped writing; wait for the other"
        elif not self.lost and missing and began - self._seen > LEASE_SECONDS:
            self.lost = "gone while this run stood still; it has stopped writing; if another run is there, wait for it"
        self.refuse_lost()
        self._looked = began
        self._seen = self._seen if missing else began
        return holder is not None

    def refuse_lost(self) -> None:
        """Raise LeaseLostError if an earlier look has found the lease lost."""
        if self.lost:
            raise LeaseLostError(f"{self.path}: {self.lost}, and give the same command again")


class Lease:
    """A context in which this process alone holds an output folder, as the module says.

    If the lease is lost, the context ends with LeaseLostError; in the main thread it is interrupted as by Ctrl-C.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.token = uuid.uuid4().hex
        self.since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
        self._device: int | None = None  # of the folder, while it is locked
        self._held = ExitStack()
        self._interrupts = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)

    def __enter__(self) -> Lease:
        with ExitStack() as undo:
            self._lock(undo)
            self._take()
            self._claim = Claim(self.path, self.token)
            undo.enter_context(fenced(self._claim))
            self._held = undo.pop_all()
        self._interrupts = threading.current_thread() is threading.main_thread()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        with self._held:
            self._stop.set()
            try:
                self._thread.join()
                if self._claim.look():
                    storage.remove(self.path)
            except LeaseLostError as lost:
                raise lost from None  # whatever else went wrong, went wrong because of that
            except KeyboardInterrupt:  # the thread's, when it found at this moment that the lease is lost
                self._claim.refuse_lost()
                raise
            except Exception as problem:  # it must not hide how the run ended
                log.warning("%s: cannot be removed now (%s); the next run takes it", self.path, type(problem).__name__)

    def refuse_second(self) -> None:
        """Raise RunError, naming the holder, if a living run holds the folder now; nothing is taken."""
        with ExitStack() as undo:
            self._lock(undo)
            self._dead_holder()

    def _lock(self, undo: ExitStack) -> None:
        """Lock a local folder until ``undo`` ends. Raises RunError if another process has locked it."""
        local = storage.local_path(self.path)
        if local is None:
            return
        folder = os.path.dirname(local)  # noqa: PTH120
        os.makedirs(folder, exist_ok=True)  # noqa: PTH103
        try:
            descriptor = lock_folder(folder)
        except BlockingIOError:
            holder = read_holder(self.path)
            if holder is None or holder == TORN or lives(holder, None) is False:
                raise self._at_the_same_moment() from None
            raise self._refusal(holder) from None
        if descriptor is not None:
            undo.callback(os.close, descriptor)
            self._device = os.fstat(descriptor).st_dev
            undo.callback(setattr, self, "_device", None)

    def _take(self) -> None:
        """Write the lease, in the place of a dead run's. Raises RunError if another run has it, or takes it now."""
        settle = DISK_SETTLE_SECONDS if storage.local_path(self.path) is not None else STORE_SETTLE_SECONDS
        dead = self._dead_holder()
        if dead is not None:
            if dead == TORN:
                time.sleep(settle)  # it may be one that another run is just writing
            elif lives(dead, self._device) is None:
                self._watch(dead)
            if read_holder(self.path) != dead:
                raise self._at_the_same_moment()
            if dead != TORN:
                log.info("taking over the folder from %s, which is gone", dead.named())
            storage.remove(self.path)
        # Of two that find the folder free, one creates the file. Of two that take over from the dead, the later may
        # have removed the file of the other, which then sees another token or none, and stops.
        if storage.create(self.path, self._content()):
            time.sleep(settle)
            holder = read_holder(self.path)
            if holder is not None and holder.token == self.token:
                return
        raise self._at_the_same_moment()

    def _dead_holder(self) -> Holder | None:
        """The lease that may be taken over, ``TORN`` for one that cannot be read, or None. Raises RunError if none."""
        holder = read_holder(self.path)
        if holder in {None, TORN}:
            return holder
        assert holder is not None
        living = lives(holder, self._device)
        if living is None:  # a time that lies far ahead says only that clocks differ
            living = abs(time.time() - holder.renewed) < LEASE_SECONDS
        if living:
            raise self._refusal(holder)
        return holder

    def _watch(self, holder: Holder) -> None:
        """Raise RunError if a process that cannot be seen from here renews its lease, whatever its clock says."""
        log.info("%s: seeing for %.0f s whether %s renews it", self.path, LEASE_SECONDS / 2, holder.named())
        until = _now() + LEASE_SECONDS / 2
        while _now() < until:
            time.sleep(LEASE_SECONDS / 60)
            now = read_holder(self.path)
            if now not in {None, TORN, holder}:
                raise self._refusal(now or holder)

    def _refusal(self, holder: Holder) -> RunError:
        return RunError(
            f"{self.path}: {holder.named()} is running in this folder since {holder.since}; wait for it, stop it, or "
            "choose another run.name"
        )

    def _at_the_same_moment(self) -> RunError:
        return RunError(f"{self.path}: another run started in this folder at the same moment; choose another run.name")

    def _content(self) -> bytes:
        return as_bytes(this_process(self.token, self.since, self._device))

    def _renew(self) -> None:
        while not self._stop.wait(LEASE_SECONDS / 3):
            try:
                if self._claim.look():
                    storage.write_bytes(self.path, self._content())
                else:
                    storage.create(self.path, self._content())
            except LeaseLostError as error:
                log.error("%s", error)
                if self._interrupts and callable(signal.getsignal(signal.SIGINT)):
                    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
                return
            except Exception as error:  # a store that does not answer raises its own kinds; the next time it may
                log.warning("%s: cannot be renewed now (%s); trying again", self.path, type(error).__name__)


def _now() -> float:
    """Seconds, those in which the machine slept included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
