"""What became of the images of a role: the line that closes a run, and the failure where none was embedded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from ray_jobs.console.progress import printable
from retrieval_core.data.image_tree import PASSED_OVER
from retrieval_core.run.workspace import RunError

NAMES_SHOWN = 3


class LeftOut(NamedTuple):
    """What the listing of a role passed over, and what it holds twice all the same."""

    passed_over: Mapping[str, int] = MappingProxyType({})  # folders and files, by the reason of a ``PassedOver``
    repeats: int = 0  # rows whose path was listed before
    doubles: int = 0  # images that are the file of another one under another path: not left out


class Rejected(NamedTuple):
    """The rejects of a store, counted."""

    reasons: dict[str, int]  # images, by reason
    first: list[str]  # paths of the first few

    @property
    def total(self) -> int:
        """Images that were rejected."""
        return sum(self.reasons.values())


class Tally(NamedTuple):
    """What became of the images of a role."""

    role: str
    counts: Mapping[str, int]  # inputs, embedded
    rejected: Rejected
    left_out: LeftOut

    def line(self) -> str:
        """Images listed, embedded, rejected and left out; with the first queries that were rejected."""
        text = f"{self.role}: {self.counts['inputs']:,} images, {self.counts['embedded']:,} embedded"
        if total := self.rejected.total:
            names = f": {_first(self.rejected.first, total)}" if self.role == "queries" else ""
            text += f", {total:,} rejected ({self._reasons()}){names}"
        if doubles := self.left_out.doubles:
            text += f", {doubles:,} of them the same file as another under another name"
        kinds = [(self.left_out.passed_over.get(reason, 0), kind) for reason, kind in PASSED_OVER.items()]
        kinds.append((self.left_out.repeats, "listed twice"))
        if shown := ", ".join(f"{count:,} {kind}" for count, kind in kinds if count):
            text += f"; left out: {shown}"
        return text

    def failure(self) -> str:
        """Why there is nothing to search with or in; empty if something was embedded."""
        if self.counts["embedded"]:
            return ""
        return f"{self.role}: none of {self.counts['inputs']:,} images could be embedded ({self._reasons()})"

    def _reasons(self) -> str:
        most_first = sorted(self.rejected.reasons.items(), key=lambda pair: (-pair[1], pair[0]))
        return ", ".join(f"{count:,} {reason}" for reason, count in most_first)


def _first(names: Sequence[str], total: int) -> str:
    more = total - len(names)
    return ", ".join(map(printable, names)) + (f" and {more:,} more" if more else "")


class NothingEmbeddedError(RunError):
    """Every image of a role was rejected: the stage is done, and the run ends."""


def require_embedded(tallies: Sequence[Tally], rejects: str) -> None:
    """Raise NothingEmbeddedError if nothing of a role was embedded; ``rejects`` is the file that lists why."""
    failures = [failure for tally in tallies if (failure := tally.failure())]
    if failures:
        raise NothingEmbeddedError(
            f"{'; '.join(failures)}; {rejects} lists them, docs/troubleshooting.md what to do about each"
        )
