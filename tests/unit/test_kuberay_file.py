"""The KubeRay manifest, checked without Kubernetes: every key is one that the operator knows, and nothing is open."""

from __future__ import annotations

import copy
import shlex
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from ray_jobs.console.command_line import build_parser
from retrieval_core.config.config import load_config

ROOT = Path(__file__).parents[2]
Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
WHOLE: Schema = {"type": "integer", "minimum": 0}
YES_NO: Schema = {"type": "boolean"}
TEXTS: Schema = {"type": "object", "additionalProperties": TEXT}


def closed(required: dict[str, Schema], **optional: Schema) -> Schema:
    """An object of these keys and no others."""
    properties = {**required, **optional}
    return {"type": "object", "required": list(required), "properties": properties, "additionalProperties": False}


def listed(schema: Schema) -> Schema:
    return {"type": "array", "items": schema, "minItems": 1}


# What the file uses of ray.io/v1 RayJob and of Kubernetes' pods, by the names and types of KubeRay's own definition.
QUANTITIES = closed({"cpu": TEXT, "memory": TEXT}, **{"nvidia.com/gpu": TEXT})
RESOURCES = closed({"requests": QUANTITIES, "limits": QUANTITIES})
CONTAINER = closed(
    {"name": TEXT, "image": TEXT, "resources": RESOURCES},
    ports=listed(closed({"containerPort": WHOLE, "name": TEXT})),
    volumeMounts=listed(closed({"name": TEXT, "mountPath": TEXT})),
)
VOLUME = closed(
    {"name": TEXT},
    persistentVolumeClaim=closed({"claimName": TEXT}),
    emptyDir=closed({"medium": {"const": "Memory"}, "sizeLimit": TEXT}),
)
POD = closed(
    {"containers": listed(CONTAINER)},
    volumes=listed(VOLUME),
    tolerations=listed(closed({"key": TEXT, "operator": TEXT, "effect": TEXT})),
)
GROUP: dict[str, Schema] = {"rayStartParams": TEXTS, "template": closed({"spec": POD})}
NUMBERS = {"replicas": WHOLE, "minReplicas": WHOLE, "maxReplicas": WHOLE}
CLUSTER = closed(
    {
        "rayVersion": TEXT,
        "authOptions": closed({"mode": {"enum": ["disabled", "token"]}}),
        "headGroupSpec": closed(GROUP, serviceType={"enum": ["ClusterIP", "NodePort", "LoadBalancer"]}),
        "workerGroupSpecs": listed(closed({"groupName": TEXT, **NUMBERS, **GROUP})),
    },
    enableInTreeAutoscaling=YES_NO,
    autoscalerOptions=closed({}, idleTimeoutSeconds=WHOLE, resources=RESOURCES),
)
RAY_JOB = closed(
    {
        "apiVersion": {"const": "ray.io/v1"},
        "kind": {"const": "RayJob"},
        "metadata": closed({"name": TEXT}),
        "spec": closed(
            {"entrypoint": TEXT, "rayClusterSpec": CLUSTER},
            runtimeEnvYAML=TEXT,
            shutdownAfterJobFinishes=YES_NO,
            ttlSecondsAfterFinished=WHOLE,
            submissionMode={"enum": ["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"]},
            backoffLimit=WHOLE,
        ),
    }
)


def documents() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((ROOT / "kuberay.yaml").read_text()))


@pytest.fixture
def job() -> dict[str, Any]:
    # Anchors make one object of several places; each test may change one of them.
    return copy.deepcopy(yaml.safe_load(yaml.dump(documents()[0], Dumper=_NoAliases)))


class _NoAliases(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def problems(job: dict[str, Any]) -> list[str]:
    return [error.message for error in Draft202012Validator(RAY_JOB).iter_errors(job)]


def pods(job: dict[str, Any]) -> list[dict[str, Any]]:
    """Pod specifications, the head's first."""
    cluster = job["spec"]["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    return [group["template"]["spec"] for group in groups]


def test_every_key_is_known(job: dict[str, Any]) -> None:
    assert problems(job) == []


def _rename(place: dict[str, Any], key: str) -> None:
    place[f"{key}s"] = place.pop(key)


MISSPELT: list[Callable[[dict[str, Any]], Any]] = [
    lambda job: _rename(job["spec"], "shutdownAfterJobFinishes"),
    lambda job: _rename(job["spec"], "entrypoint"),
    lambda job: _rename(job["spec"]["rayClusterSpec"], "authOptions"),
    lambda job: _rename(job["spec"]["rayClusterSpec"]["workerGroupSpecs"][1], "maxReplicas"),
    lambda job: _rename(pods(job)[1]["containers"][0]["resources"]["limits"], "nvidia.com/gpu"),
    lambda job: _rename(pods(job)[2]["containers"][0], "volumeMounts"),
    lambda job: job["spec"]["rayClusterSpec"]["authOptions"].update(mode="tokens"),
    lambda job: job["spec"]["rayClusterSpec"].update(rayVersion=2.6),
]


@pytest.mark.parametrize("spoil", MISSPELT)
def test_a_misspelt_key_is_seen(job: dict[str, Any], spoil: Callable[[dict[str, Any]], Any]) -> None:
    spoil(job)
    assert problems(job)


def test_versions_are_pinned_and_those_of_the_project(job: dict[str, Any]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (pin,) = [name.partition("==")[2].removesuffix("*") for name in project["dependencies"] if name.startswith("ray[")]
    version = job["spec"]["rayClusterSpec"]["rayVersion"]
    assert version.startswith(pin)
    images = {container["image"] for pod in pods(job) for container in pod["containers"]}
    assert images == {f"REPLACE/fabric-retrieval:{project['version']}-ray{version}-py311"}


def test_nothing_is_open(job: dict[str, Any]) -> None:
    cluster = job["spec"]["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["headGroupSpec"]["serviceType"] == "ClusterIP"
    policy = documents()[1]
    assert (policy["apiVersion"], policy["kind"]) == ("networking.k8s.io/v1", "NetworkPolicy")
    assert policy["spec"]["policyTypes"] == ["Ingress"]
    for rule in policy["spec"]["ingress"]:
        assert "ipBlock" not in str(rule)
        assert rule["from"], "a rule without a source is open to all"


def test_groups_are_what_a_run_needs(job: dict[str, Any]) -> None:
    head, gpu, decode = [pod["containers"][0] for pod in pods(job)]
    assert job["spec"]["rayClusterSpec"]["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert gpu["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert all("nvidia.com/gpu" not in other["resources"]["limits"] for other in (head, decode))
    groups = job["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    assert all(1 <= group["minReplicas"] <= group["replicas"] <= group["maxReplicas"] for group in groups)
    for pod in pods(job):
        mounts = {mount["name"]: mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
        assert mounts == {"shared": "/shared", "memory": "/dev/shm"}
        assert mounts.keys() == {volume["name"] for volume in pod["volumes"]}


def test_the_entrypoint_is_a_command_of_ours(job: dict[str, Any]) -> None:
    program, *words = shlex.split(job["spec"]["entrypoint"])
    assert program == "fabric-retrieval"
    options = build_parser().parse_args(words)
    assert (ROOT / options.config.removeprefix("/home/ray/fabric-retrieval/")).exists()
    config = load_config(None, options.overrides)
    for path in (config.data.root, config.model.weights, config.run.output_dir):
        assert path.startswith("/shared/")
    assert isinstance(yaml.safe_load(job["spec"]["runtimeEnvYAML"]), dict)
