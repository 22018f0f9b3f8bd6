"""Progress in a terminal and in a log; where colours are off."""

from __future__ import annotations

import io
import logging
import re
import threading
import time
from collections.abc import Iterator

import pytest

from ray_jobs.console.progress import (
    Console,
    Progress,
    Silence,
    Watch,
    coloured,
    duration,
    log,
    printable,
    say,
    size,
    track,
)

CODES = re.compile(r"\033\[[^A-Za-z]*[A-Za-z]")


class Screen(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(autouse=True)
def terminal_of_its_own(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("NO_COLOR", raising=False)
    handlers, level = log.handlers[:], log.level
    log.handlers[:] = []
    log.setLevel(logging.INFO)
    yield
    log.handlers[:] = handlers
    log.setLevel(level)


def logged(stream: io.StringIO) -> Console:
    console = Console(stream)
    console.setFormatter(logging.Formatter("%(message)s"))
    log.handlers[:] = [console]
    return console


def test_the_rate_leaves_out_what_the_first_one_waited_for(clock: Clock) -> None:
    progress = Progress("embed", 10, "images", clock=clock)
    assert progress.line() == "embed: 0 of 10 images"
    clock.now += 60
    progress.advance(2)
    assert progress.rate is None
    clock.now += 2
    progress.advance(4)
    assert progress.line() == "embed: 6 of 10 images, 2.0 images/s, 2 s left"
    clock.now += 18
    assert progress.line() == "embed: 6 of 10 images, 5.0 s each, 20 s left"


def test_what_was_done_before_is_no_part_of_the_rate(clock: Clock) -> None:
    progress = Progress("train", 100, "steps", done=50, clock=clock)
    for _ in range(2):
        clock.now += 1
        progress.advance()
    assert progress.line() == "train: 52 of 100 steps, 1.0 steps/s, 48 s left"


def test_a_terminal_has_one_bar_that_is_renewed(clock: Clock) -> None:
    screen = Screen()
    logged(screen)
    with Progress("rank", 4, "blocks", clock=clock) as progress:
        for _ in range(2):
            clock.now += 1
            progress.advance()
        log.info("a [word]")
    drawn = [re.sub("[━╸╺]+ ", "", text) for text in CODES.sub("", screen.getvalue()).split("\r")]
    counted = "rank 2 of 4 blocks, 1.0 blocks/s, 2 s left"
    assert drawn[:4] == ["rank 0 of 4 blocks", "rank 1 of 4 blocks", counted, f"a [word]\n{counted}"]
    assert screen.getvalue().endswith("\r\033[1A\033[2K")  # the bar is gone


def test_a_bar_is_no_wider_than_the_terminal(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    screen = Screen()
    logged(screen)
    with Progress("x" * 50, 4, "blocks", clock=clock):
        pass
    assert all(len(line) <= 20 for line in re.split(r"[\r\n]", CODES.sub("", screen.getvalue())))


@pytest.mark.parametrize("forced", ["FORCE_COLOR", "TTY_COMPATIBLE"])
def test_a_log_stays_plain_where_colours_are_forced(monkeypatch: pytest.MonkeyPatch, forced: str) -> None:
    monkeypatch.setenv(forced, "1")
    stream = io.StringIO()
    logged(stream)
    with Progress("rank", 4, "blocks"):
        log.warning("a\tword " + 300 * "x")
    assert stream.getvalue() == "a\tword " + 300 * "x" + "\n"


def test_a_log_has_few_plain_lines(clock: Clock) -> None:
    stream = io.StringIO()
    logged(stream)
    for _ in track(range(20_000), Progress("embed", 20_000, "images", clock=clock)):
        clock.now += 1
    lines = stream.getvalue().splitlines()
    assert lines[0] == "embed: 10 of 20,000 images, 1.0 images/s, 5 h 33 min left"
    assert 20 < len(lines) < 90
    assert all(line.isprintable() for line in lines)


@pytest.mark.parametrize(("name", "value"), [("TERM", "dumb"), ("NO_COLOR", "1")])
def test_colours_can_be_off(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    assert coloured("no", "red", Screen()) == "\033[31mno\033[0m"
    monkeypatch.setenv(name, value)
    assert coloured("no", "red", Screen()) == "no"


def test_a_file_has_no_colours_and_no_live_line() -> None:
    stream = io.StringIO()
    logged(stream)
    log.error("lost")
    assert stream.getvalue() == "lost\n"
    assert not Console(stream).live


def test_without_a_log_lines_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    say("epoch 1")
    assert capsys.readouterr().out == "epoch 1\n"


def test_silence_is_told_after_the_limit_then_each_time_it_doubled(clock: Clock) -> None:
    silence = Silence(600, clock)
    told = []
    for minute in range(120):
        clock.now += 60
        done = 0 if minute < 60 else 5
        if (seconds := silence.seconds(done)) is not None:
            told.append((minute, seconds))
    # From minute 0, in which it was first looked at; from minute 60 on, in which something moved.
    assert told == [(10, 600), (20, 1200), (40, 2400), (70, 600), (80, 1200), (100, 2400)]


def test_a_stage_in_which_nothing_moves_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    told = threading.Event()

    def look() -> str:
        told.set()
        return "2 of 3 nodes alive"

    stream = io.StringIO()
    logged(stream)
    with Progress("embed", 9, "images", done=4, watch=Watch(0.001, look)):
        assert told.wait(60)
    until = time.monotonic() + 60
    while "\n" not in stream.getvalue():
        assert time.monotonic() < until
        time.sleep(0.01)
    line = stream.getvalue().splitlines()[0]
    assert line.startswith("embed: nothing moved for 0 s, 4 of 9 images done, seen from ")
    assert "2 of 3 nodes alive" in line


def test_what_cannot_be_looked_at_is_told_too() -> None:
    def look() -> str:
        raise ConnectionError("gone")

    line = Progress("embed", 9, "images").stuck_line(600, look)
    assert "nothing moved for 10 min" in line
    assert "the cluster does not answer (ConnectionError)" in line


def test_nobody_watches_where_minutes_are_0() -> None:
    before = threading.active_count()
    with Progress("embed", 9, "images", watch=Watch(0, lambda: "")):
        assert threading.active_count() == before


@pytest.mark.parametrize(
    ("text", "shown"), [("Blüte 花.png", "Blüte 花.png"), ("a\nb\x1b[2J", r"a\nb\x1b[2J"), ("\udcff", r"\udcff")]
)
def test_names_cannot_move_the_cursor(text: str, shown: str) -> None:
    assert printable(text) == shown


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59.4, "59 s"), (60, "1 min"), (200, "3 min 20 s"), (14_700, "4 h 5 min"), (183_600, "2 d 3 h")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"), [(12, "12 bytes"), (1500, "1.5 kB"), (2_300_000, "2.3 MB"), (51e9, "51 GB"), (2e12, "2.0 TB")]
)
def test_sizes(count: float, text: str) -> None:
    assert size(count) == text
