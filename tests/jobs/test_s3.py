"""Data, weights and output on S3: the same pool as on a disk, one PUT a shard, interrupted runs, and no secret told.

One folder on a real server passes through a run that is killed while it embeds, the same command again, and once more.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from retrieval_core.files.stamps import stamp_of
from tests.jobs.processes import Processes, wait_until
from tests.jobs.s3_server import BUCKET, SECRET, Request, S3Server
from tests.jobs.small_data import as_options, settings, write_catalogue

pytestmark = pytest.mark.cluster

FABRICS, QUERIES, SHARD = 60, 5, 2
SHARDS = FABRICS // SHARD
ROOT, OUT, WEIGHTS = (f"s3://{BUCKET}/{name}" for name in ("my fabrics", "out", "weights"))
TRIAL = f"{BUCKET}/out/trial"
STORES = {"gallery": SHARDS, "queries": -(-QUERIES // SHARD)}


class Story(NamedTuple):
    """What happened to the one folder, in order."""

    s3: S3Server
    local: Path
    """The folder of a run that nobody stopped, on a disk."""
    done_at_kill: list[str]
    """Objects of the gallery's store when everything was killed."""
    refused: str
    """What had been said until then, also by a second command."""
    computing: list[Request]
    """What was asked in the killed run and the one that went on."""
    again: list[Request]
    """What was asked when the same command ran once more."""
    told: dict[str, bytes]
    """All that runs have said or left: output, Ray's own logs, objects."""


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with S3Server(tmp_path_factory.mktemp("s3") / "log") as server:
        yield server


@pytest.fixture(scope="module")
def data(s3: S3Server, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A local data set, which is on the server as well; so are the weights."""
    root = write_catalogue(tmp_path_factory.mktemp("data") / "fabrics", fabrics=FABRICS, queries=QUERIES, training=4)
    files = s3.files()
    for source, target in ((root, ROOT), (weights, WEIGHTS)):
        for path in filter(Path.is_file, source.rglob("*")):
            files.put_file(str(path), f"{target.removeprefix('s3://')}/{path.relative_to(source)}")
    return root


@pytest.fixture
def program(s3: S3Server, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Starts the program; what is left of it is killed at the end."""
    with Processes(tmp_path / "log", **s3.environment) as processes:
        yield processes


def command(name: str = "trial", **keys: Any) -> list[str]:
    keys = {"embed__shard_size": SHARD, "run__name": name, **keys}
    return ["run", *as_options(settings(ROOT, WEIGHTS, OUT, **keys))]  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def story(s3: S3Server, data: Path, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Story:
    place = tmp_path_factory.mktemp("story")
    files = s3.files()
    told: dict[str, bytes] = {}

    def objects() -> list[str]:
        folder = f"{TRIAL}/embeddings/gallery"
        return list(files.ls(folder, detail=False)) if files.exists(folder) else []

    with Processes(place / "log", **s3.environment) as processes:
        on_disk = ["run", *as_options(settings(data, weights, place / "out", embed__shard_size=SHARD))]
        assert processes.start_program(on_disk).wait(300) == 0
        start = s3.seen()
        driver = processes.start_program(command())
        wait_until(lambda: bool(files.exists(f"{TRIAL}/work/lease.json")), driver)
        assert processes.start_program(command()).wait(60) == 1
        wait_until(lambda: len(objects()) >= 3, driver)
        processes.kill()
        done_at_kill = objects()
        refused = (place / "log").read_text()
        assert processes.start_program(command()).wait(300) == 0
        computing, start = s3.requests(start), s3.seen()
        assert processes.start_program(command()).wait(300) == 0
        again = s3.requests(start)
        for path in [place / "log", *filter(Path.is_file, (processes.temporary / "ray").rglob("*"))]:
            told[str(path)] = path.read_bytes()
    for key in files.find(f"{BUCKET}/out"):
        told[key] = files.cat_file(key)
    return Story(s3, place / "out" / "trial", done_at_kill, refused, computing, again, told)


def rows(tables: Sequence[pa.Table], root: str) -> list[dict[str, Any]]:
    """Rows with paths from the data set's root on, in order of path and region."""
    found = [row for table in tables for row in table.to_pylist()]
    found = [{**row, "path": row["path"].removeprefix(f"{root}/")} for row in found]
    return sorted(found, key=lambda row: (row["path"], row["region"]))


@pytest.mark.parametrize("role", list(STORES))
def test_embeddings_are_those_of_a_run_on_a_disk(story: Story, data: Path, role: str) -> None:
    files = story.s3.files()
    there = [pq.read_table(files.open(key)) for key in sorted(files.glob(f"{TRIAL}/embeddings/{role}/*.parquet"))]
    here = [pq.read_table(path) for path in sorted((story.local / "embeddings" / role).glob("*.parquet"))]
    assert len(there) == len(here) == STORES[role]
    assert rows(there, ROOT) == rows(here, str(data))


def test_pool_is_that_of_a_run_on_a_disk(story: Story, data: Path) -> None:
    there = json.loads(story.s3.files().cat_file(f"{TRIAL}/first_retrieval_results.json"))
    here = json.loads((story.local / "first_retrieval_results.json").read_text())
    assert len(there) == QUERIES
    assert json.dumps(there).replace(f"{ROOT}/", f"{data}/") == json.dumps(here)
    assert story.s3.files().cat_file(f"{BUCKET}/out/first_retrieval_results.json") == story.s3.files().cat_file(
        f"{TRIAL}/first_retrieval_results.json"
    )
    paths = [candidate["image_path"] for candidates in there.values() for candidate in candidates]
    assert all(path.startswith(f"{ROOT}/") and story.s3.files().exists(path) for path in paths[:5])


def test_killed_run_left_whole_shards_and_no_manifest(story: Story) -> None:
    names = [key.rsplit("/", 1)[-1] for key in story.done_at_kill]
    assert 3 <= len(names) < SHARDS
    assert all(name.endswith(".parquet") for name in names)


@pytest.mark.parametrize("role", list(STORES))
def test_a_commit_is_one_put_a_shard_and_the_manifest_last(story: Story, role: str) -> None:
    """Over the killed run and the one that went on: what was committed is not computed again."""
    folder = f"{TRIAL}/embeddings/{role}/"
    wrote = [request for request in story.computing if request.path.startswith(folder) and request.method != "HEAD"]
    wrote = [request for request in wrote if request.method in {"PUT", "POST", "DELETE"}]
    names = [request.path.removeprefix(folder) for request in wrote]
    assert {request.method for request in wrote} == {"PUT"}
    assert not any(request.query for request in wrote)  # a part of an upload has one
    assert len(names) == len(set(names)) == STORES[role] + 1
    assert names[-1] == "manifest.json"


def test_an_image_is_known_by_its_listing_and_read_at_once(story: Story) -> None:
    """A cluster pays for each request."""
    asked = [request for request in story.computing if request.path.startswith(f"{BUCKET}/my fabrics/")]
    images = [request for request in asked if "/img/images/" in request.path and request.path.endswith(".png")]
    assert {request.method for request in images} == {"GET"}
    assert len({request.path for request in images}) == FABRICS
    assert not [request for request in story.again if "/img/images/" in request.path and request.path.endswith(".png")]


def test_a_listing_tells_what_asking_for_a_file_would(story: Story) -> None:
    """Or a manifest of the same images, or a store of an earlier version, would be taken for another catalogue."""
    files = story.s3.files()
    listed = files.ls(f"{TRIAL}/embeddings/gallery", detail=True)
    assert len(listed) == SHARDS + 1
    assert [stamp_of(entry) for entry in listed] == [stamp_of(files.info(entry["name"])) for entry in listed]
    assert None not in [stamp_of(entry) for entry in listed]


def test_the_same_command_again_computes_nothing(story: Story) -> None:
    wrote = {request.path for request in story.again if request.method == "PUT"}
    computed = [path for path in wrote if "/embeddings/" in path or "/stages/" in path or "/retrieval/" in path]
    assert computed == []
    assert not wrote & {f"{TRIAL}/{name}" for name in ("candidate_pool.parquet", "metrics.json", "report.html")}


def test_second_run_says_who_holds_the_folder(story: Story) -> None:
    lines = [line for line in story.refused.splitlines() if line.startswith("fabric-retrieval: ")]
    assert len(lines) == 1
    assert f"{OUT}/trial/work/lease.json: process " in lines[0]
    assert "is running in this folder" in lines[0]
    assert not story.s3.files().exists(f"{TRIAL}/work/lease.json")


def test_credentials_are_told_nowhere(story: Story) -> None:
    assert any("run.json" in name for name in story.told)
    assert any("raylet" in name for name in story.told)
    assert [name for name, content in story.told.items() if SECRET.encode() in content] == []


def test_training_leaves_its_model_on_the_server(s3: S3Server, data: Path, program: Processes) -> None:
    keys = {"train__enabled": True, "train__num_workers": 0, "train__max_steps": 2, "train__batch_size": 2}
    assert program.start_program(command("trained", **keys)).wait(300) == 0
    files = s3.files()
    assert {"config.json", "model.safetensors"} <= {
        key.rsplit("/", 1)[-1] for key in files.ls(f"{BUCKET}/out/trained/model", detail=False)
    }
    assert len(json.loads(files.cat_file(f"{BUCKET}/out/trained/first_retrieval_results.json"))) == QUERIES
