"""Search in the terminal: rank a finished embedding store for new query images. Ray is not started."""

from __future__ import annotations

from collections.abc import Sequence

from ray_jobs.console.progress import Progress
from ray_jobs.run import Run
from retrieval_core.config.config import ConfigError
from retrieval_core.encoding.arms import model_arm
from retrieval_core.encoding.views import Cut, views_of
from retrieval_core.files import storage
from retrieval_core.images.decoding import read_content
from retrieval_core.images.rgb import ImageRejected
from retrieval_core.serving.search_index import SearchIndex, open_index


def open_run(run: Run) -> SearchIndex:
    """The finished store of a run, opened for search; the first time its files are made ready."""
    images, folder = run.done("embed.gallery").get("embedded", 0), storage.local_path(run.workspace.work("search"))
    run.require_windows(run.main)
    arm = model_arm(run.main, run.model, run.config.run.seed)
    with Progress("made ready for search", images, "fabrics") as progress:
        return open_index(run.store(run.main, "gallery"), arm, run.config, folder, progress.advance)


def search(run: Run, images: Sequence[str], top: int) -> int:
    """Print the first ``top`` fabrics for each image; 1 if an image could not be read."""
    if top < 1:
        raise ConfigError(f"--top {top}: must be at least 1")
    run.done("embed.gallery")
    keys, views = run.config.images, views_of(run.config, run.model, "queries")
    cuts = list[tuple[str, Cut]]()
    for image in images:
        try:
            cuts.append((image, views.of(read_content(image, keys.max_pixels), keys)))
        except ImageRejected as rejected:
            print(f"{image}: {rejected.reason}: {rejected.detail}")
    if not cuts:
        return 1
    index = open_run(run)
    for name, cut in cuts:
        print(name)
        for place, hit in enumerate(index.rank(index.encode_cut(cut), top), 1):
            print(f"{place:5}  {hit.similarity:.4f}  {hit.path}")
    return 0 if len(cuts) == len(images) else 1
