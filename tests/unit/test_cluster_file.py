"""What a cluster is started from and what a job takes there, checked without a cloud and without starting Ray."""

from __future__ import annotations

import logging
import shutil
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]


def cluster() -> dict[str, Any]:
    text = (ROOT / "cluster.yaml").read_text()
    loaded: dict[str, Any] = yaml.safe_load(text)
    return loaded


def test_cluster_file_passes_the_launchers_validation() -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    prepared = prepare_config(cluster())
    validate_config(prepared)
    workers = {name: node for name, node in prepared["available_node_types"].items() if name != "head"}
    assert prepared["max_workers"] == sum(node["max_workers"] for node in workers.values())
    # A run sizes itself by the nodes that are there, so each type starts with one at least.
    assert all(1 <= node["min_workers"] <= node["max_workers"] for node in workers.values())


def test_validation_refuses_a_misspelt_key() -> None:
    from jsonschema import ValidationError
    from ray.autoscaler._private.util import prepare_config, validate_config

    with pytest.raises(ValidationError, match="max_worker"):
        validate_config(prepare_config({**cluster(), "max_worker": 3}))


def test_images_hold_the_ray_that_the_project_pins() -> None:
    config = cluster()
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    (pin,) = [name.partition("==")[2].removesuffix("*") for name in dependencies if name.startswith("ray[")]
    docker = [config["docker"], *(node.get("docker", {}) for node in config["available_node_types"].values())]
    images = [value for settings in docker for key, value in settings.items() if key.endswith("image")]
    assert len(images) == 3
    for image in images:
        assert image.startswith(f"rayproject/ray:{pin}"), image


def test_nothing_is_open_to_the_world() -> None:
    config = cluster()
    assert config["provider"]["use_internal_ips"] is True
    # Without groups of one's own the launcher makes one that admits SSH from anywhere.
    assert all(node["node_config"]["SecurityGroupIds"] for node in config["available_node_types"].values())
    assert "security_group" not in config["provider"]
    assert "--env RAY_AUTH_MODE=token" in config["docker"]["run_options"]
    assert "--dashboard-host=127.0.0.1" in config["head_start_ray_commands"][-1]


@pytest.mark.parametrize("ignore_files", [[".gitignore", ".rayignore"], [".rayignore"]])
def test_a_job_takes_the_code_and_the_small_model_only(tmp_path: Path, ignore_files: list[str]) -> None:
    from ray._private.ray_constants import get_runtime_env_default_excludes
    from ray._private.runtime_env.packaging import _zip_files

    wanted = {
        "pyproject.toml",
        "ray_jobs/__main__.py",
        "ray_jobs/configs/demo.yaml",
        "retrieval_core/report/template.html",
        "Weight_Path/dinov2-motif-tiny/config.json",
        "Weight_Path/dinov2-motif-tiny/model.safetensors",
    }
    unwanted = {
        ".git/HEAD",
        ".venv/bin/python",
        ".mypy_cache/3.11/cache.json",
        "Output/demo/embeddings/gallery/shard.parquet",
        "Weight_Path/dinov2-pytorch-base-v1/model.safetensors",
        "data/fabrics/test.txt",
        "benchmarks/results/retrieve.json",
        "docs/images/report.png",
        "fabric_retrieval.egg-info/PKG-INFO",
        "ray_jobs/__pycache__/run.pyc",
        "tests/unit/test_docs.py",
    }
    project = tmp_path / "project"
    for name in wanted | unwanted:
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text("content")
    for name in ignore_files:
        shutil.copy(ROOT / name, project)
    package = tmp_path / "package.zip"
    _zip_files(
        str(project), get_runtime_env_default_excludes(), str(package), True, logger=logging.getLogger("packaging")
    )
    packed = {name for name in zipfile.ZipFile(package).namelist() if not name.endswith("/")}
    assert packed - set(ignore_files) == wanted
