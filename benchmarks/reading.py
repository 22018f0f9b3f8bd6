"""Reading ahead of decoding in one process, from a store with some milliseconds of latency.

    opened    one image after the other, opened as fsspec opens a file of S3: a request for its size, one for its bytes
    asked     one image after the other, with one request for its bytes
    ahead     as decoding tasks do: the next images are requested while one is decoded
    memory    decoding alone, the bytes in memory

0 milliseconds stand for a local disk: files in the system's cache. Images are simulated fabrics as PNG of 600 px.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import fsspec
from drawn import drawn_fabrics
from fsspec import AbstractFileSystem
from machine import machine
from timing import in_turns, ratio, show

from retrieval_core.config.sections import ImagesConfig
from retrieval_core.encoding.views import Views
from retrieval_core.images.decoding import read_content
from retrieval_core.images.prefetch import read_ahead

KEYS = ImagesConfig()
Ways = dict[str, Callable[[], Iterator[bytes]]]


class Distant(AbstractFileSystem):  # type: ignore[misc]
    """Objects in memory; each request is answered with some latency."""

    protocol = "distant"
    objects: ClassVar[dict[str, bytes]] = {}
    seconds: ClassVar[float] = 0.0

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """Name and size of an object."""
        time.sleep(self.seconds)
        return {"name": path, "size": len(self.objects[path]), "type": "file"}

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **_: Any) -> bytes:
        """Bytes of an object."""
        time.sleep(self.seconds)
        return self.objects[path][start:end]


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """``ratios``: ahead / each other way in images per second, a key for each delay; ``raw``: rates."""
    ratios, rows = {}, []
    views = Views(options.view, (1,), 0.25)
    with tempfile.TemporaryDirectory() as folder:
        files = [str(path) for path in drawn_fabrics(Path(folder), options.count, options.side)]
        for delay in options.milliseconds:
            ways = {name: decoder(way, views) for name, way in of_delay(files, delay).items()}
            seconds = in_turns(ways, options.repeats)
            for other in set(seconds) - {"ahead"}:
                ratios[f"read_ahead_vs_{other}_{delay:g}ms"] = ratio(seconds[other], seconds["ahead"])["median"]
            rates = {name: len(files) / sorted(times)[len(times) // 2] for name, times in seconds.items()}
            rows.append({"milliseconds": delay, "images_per_second": rates})
    return {"ratios": dict(sorted(ratios.items())), "raw": {**machine(), "count": options.count, "rows": rows}}


def of_delay(files: Sequence[str], delay: float) -> Ways:
    """The ways to read the files, from a disk or from a store with a delay in milliseconds."""
    content = [Path(file).read_bytes() for file in files]
    places = list(files)
    if delay:
        fsspec.register_implementation("distant", Distant, clobber=True)
        Distant.objects = {str(number): value for number, value in enumerate(content)}
        Distant.seconds = delay / 1000
        places = [f"distant://{name}" for name in Distant.objects]

    def asked() -> Iterator[bytes]:
        return (read_content(place, KEYS.max_pixels) for place in places)

    def opened() -> Iterator[bytes]:
        for place in places:
            if delay:
                Distant().info(place.removeprefix("distant://"))
            yield read_content(place, KEYS.max_pixels)

    def ahead() -> Iterator[bytes]:
        return (reading.result() for reading in read_ahead(places, KEYS.max_pixels))

    return {"opened": opened, "asked": asked, "ahead": ahead, "memory": lambda: iter(content)}


def decoder(way: Callable[[], Iterator[bytes]], views: Views) -> Callable[[], None]:
    """An action that reads and decodes all images."""

    def decode_all() -> None:
        for content in way():
            views.of(content, KEYS)

    return decode_all


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Options, each with a default."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--milliseconds", type=float, nargs="+", default=[0, 2, 30, 100], help="until an answer")
    parser.add_argument("--side", type=int, default=600, help="pixels of a fabric")
    parser.add_argument("--view", type=int, default=224, help="pixels that the model sees")
    parser.add_argument("--count", type=int, default=256, help="fabrics")
    parser.add_argument("--repeats", type=int, default=3, help="turns; medians are reported")
    parser.add_argument("--quick", action="store_true", help="the logic in seconds, on sizes of no use")
    options = parser.parse_args(arguments)
    if options.quick:
        vars(options).update(milliseconds=[0, 5], side=64, view=28, count=12, repeats=1)
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Print what was measured as JSON."""
    show(measure(parse(arguments)))


if __name__ == "__main__":
    main()
