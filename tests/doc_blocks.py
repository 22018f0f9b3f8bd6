"""Finds the code blocks of the project's pages, and the notes on how to run them.

A block is indented by four columns or more, or fenced. It must run as it stands unless a note precedes it, an HTML
comment that readers of the page do not see:

    <!-- not run: REASON -->           it cannot run here
    <!-- dry run: REASON -->           each command is run with --dry-run, which plans but computes nothing
    <!-- run with: --set a.b=c -->     each command also gets these words, so that it is quick
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
NOTE = re.compile(r"<!-- (?P<kind>not run|dry run|run with): (?P<text>.+?) -->")
COMMANDS = {"", "sh", "bash", "console"}
"""Languages of blocks that hold commands."""
PROGRAMS = (["fabric-retrieval"], ["python", "-m", "ray_jobs"])
COMPUTING = {"run", "train", "embed", "retrieve", "evaluate", "report", "search", "simulate", "pretrain", "serve"}


class Block(NamedTuple):
    """A code block of a page."""

    page: Path
    line: int
    language: str
    text: str
    kind: str
    """``not run``, ``dry run`` or ``run with``, as its note says; empty without a note."""
    note: str

    @property
    def name(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


MODELS = ("Weight_Path/dinov2-motif-small", "Weight_Path/dinov2-motif-tiny")


def pages() -> list[Path]:
    """The project's own pages, without those of a virtual environment or of runs."""
    folders = ("", "docs", "benchmarks", "Output", "Weight_Path", *MODELS)
    return sorted(page for folder in folders for page in (ROOT / folder).glob("*.md"))


def blocks_of(page: Path) -> Iterator[Block]:
    """The code blocks of a page in order."""
    lines = page.read_text(encoding="utf-8").splitlines()
    note, number = ("", ""), 0
    while number < len(lines):
        line = lines[number]
        found = NOTE.search(line)
        fence = re.match(r"\s*(`{3,})(\w*)", line)
        indented = line.startswith("    ") and (number == 0 or not lines[number - 1].strip())
        end = number + 1
        if found:
            note = (found["kind"], found["text"])
        elif fence:
            while end < len(lines) and lines[end].strip() != fence[1]:
                end += 1
            yield Block(page, number + 1, fence[2], "\n".join(lines[number + 1 : end]), *note)
            end += 1
        elif indented:
            while end < len(lines) and (lines[end].startswith("    ") or not lines[end].strip()):
                end += 1
            yield Block(page, number + 1, "", "\n".join(lines[number:end]).rstrip(), *note)
        if not found and line.strip():
            note = ("", "")  # a note is for the block that follows it
        number = end


def commands_of(block: Block) -> list[list[str]]:
    """The commands of a block as words, without comments and with continued lines joined."""
    lines = block.text.replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def runnable_blocks() -> list[Block]:
    """The blocks of all pages that hold commands and are not marked ``not run``."""
    return [
        block for page in pages() for block in blocks_of(page) if block.language in COMMANDS and block.kind != "not run"
    ]


def arguments(command: list[str], block: Block) -> list[str] | None:
    """The arguments of our program, with the words of the block's note; None for another program."""
    for program in PROGRAMS:
        if command[: len(program)] == program:
            words = command[len(program) :]
            plan = ["--dry-run"] if words[0] in COMPUTING else []
            return [*words, *{"dry run": plan, "run with": block.note.split()}.get(block.kind, [])]
    return None


def computes(block: Block) -> bool:
    """Whether the block needs Ray."""
    given = [words for command in commands_of(block) if (words := arguments(command, block))]
    return any(words[0] in COMPUTING and "--dry-run" not in words for words in given)
