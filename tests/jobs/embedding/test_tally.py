"""What a run says at its end of the images that it was given; no Ray is started."""

from __future__ import annotations

import pytest

from ray_jobs.embedding.tally import LeftOut, Rejected, Tally, require_embedded
from retrieval_core.run.workspace import RunError

NONE, ALL_LISTED = Rejected({}, []), LeftOut()


def tally(role: str, embedded: int, rejected: Rejected = NONE, left_out: LeftOut = ALL_LISTED) -> Tally:
    return Tally(role, {"inputs": embedded + rejected.total, "embedded": embedded}, rejected, left_out)


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (tally("gallery", 1200), "gallery: 1,200 images, 1,200 embedded"),
        (
            tally("gallery", 4, Rejected({"missing": 1, "corrupt": 1, "truncated": 2}, ["a", "b", "c"])),
            "gallery: 8 images, 4 embedded, 4 rejected (2 truncated, 1 corrupt, 1 missing)",
        ),
        (
            tally("queries", 1, Rejected({"missing": 2}, ["a, b.png", "c\n.png"])),
            r"queries: 3 images, 1 embedded, 2 rejected (2 missing): a, b.png, c\n.png",
        ),
        (
            tally("queries", 0, Rejected({"empty": 1234}, ["a", "b", "c"])),
            "queries: 1,234 images, 0 embedded, 1,234 rejected (1,234 empty): a, b, c and 1,231 more",
        ),
        (
            tally("gallery", 1, NONE, LeftOut({"ignored-file": 2})),
            "gallery: 1 images, 1 embedded; left out: 2 without an image suffix",
        ),
        (
            tally("gallery", 1, NONE, LeftOut({"linked-file": 4, "hidden-file": 1, "excluded-file": 5000}, 3)),
            "gallery: 1 images, 1 embedded; left out: 1 hidden, 5,000 by data.exclude, "
            "4 links to images listed anyway, 3 listed twice",
        ),
        (
            tally("gallery", 9, NONE, LeftOut(doubles=4)),
            "gallery: 9 images, 9 embedded, 4 of them the same file as another under another name",
        ),
    ],
)
def test_line(given: Tally, line: str) -> None:
    assert given.line() == line


@pytest.mark.parametrize(
    ("gallery", "queries", "words"),
    [
        (1, 1, None),
        (0, 1, ["gallery: none of 2 images could be embedded (2 empty); /r/rejects.parquet lists them"]),
        (1, 0, ["queries: none of 2 images could be embedded (2 empty); /r/rejects.parquet lists them"]),
        (0, 0, ["gallery: none of 2", "queries: none of 2", "/r/rejects.parquet"]),
    ],
)
def test_a_role_of_which_nothing_was_embedded_is_an_error(gallery: int, queries: int, words: list[str] | None) -> None:
    rejected = Rejected({"empty": 2}, ["a", "b"])
    tallies = [tally("gallery", gallery, rejected), tally("queries", queries, rejected)]
    if words is None:
        require_embedded(tallies, "/r/rejects.parquet")
        return
    with pytest.raises(RunError) as raised:
        require_embedded(tallies, "/r/rejects.parquet")
    assert [word for word in words if word not in str(raised.value)] == []
    assert "\n" not in str(raised.value)
