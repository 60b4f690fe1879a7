"""Two readings of the vendor's pages: the runbook's ladder, and the one that the practice node has of its own.

`eci-node match` reads a JSON list of `{"region": …, "pod": …}` and writes a list of `{"spec": …, "error": …}`, one
for each; no cluster is needed.
"""

from __future__ import annotations

import json
import subprocess
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from runbook.eci import specs, vocabulary
from runbook.errors import RunbookError
from runbook.quantities import Size
from sandbox import toolchain

REGIONS = ("cn-hangzhou", "ap-southeast-1", "cn-hongkong", "us-west-1")
CPU = (
    "1m",
    "250m",
    "251m",
    "500m",
    "1",
    "1500m",
    "2",
    "2001m",
    "3250m",
    "4",
    "5",
    "6",
    "7",
    "8",
    "9",
    "12",
    "13",
    "16",
)
CPU += ("17", "24", "32", "33", "52", "53", "64", "65")
MEMORY = (
    "1Mi",
    "512Mi",
    "513Mi",
    "1Gi",
    "2Gi",
    "3Gi",
    "4Gi",
    "4097Mi",
    "6Gi",
    "7.5Gi",
    "8Gi",
    "13Gi",
    "16Gi",
    "17Gi",
    "24Gi",
)
MEMORY += (
    "31Gi",
    "32Gi",
    "33Gi",
    "48Gi",
    "49Gi",
    "62Gi",
    "64Gi",
    "65Gi",
    "96Gi",
    "128Gi",
    "193Gi",
    "256Gi",
    "512Gi",
    "513Gi",
)
SPOT = {vocabulary.SPOT_STRATEGY: vocabulary.SPOT_AS_PRICE_GO}


def pod(*containers: dict[str, Any], init: tuple[dict[str, Any], ...] = (), **annotations: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "job", "namespace": "ci", "annotations": annotations},
        "spec": {"containers": list(containers), "initContainers": list(init)},
    }


def container(size: str = "", kind: str = "requests", env: dict[str, str] | None = None) -> dict[str, Any]:
    resources = {kind: Size.parse(size).requests} if size else {}
    variables = [{"name": name, "value": value} for name, value in (env or {}).items()]
    return {"name": "build", "image": "alpine", "resources": resources, "env": variables}


IGNORED = {vocabulary.ENV_RESOURCE_IGNORE: "TRUE"}
SHAPES = {
    "nothing requested": pod(container()),
    "the article": pod(container("2/6Gi"), container("1/1Gi"), container("250m/512Mi")),
    "limits": pod(container("2/4Gi", "limits"), container("2/4Gi", "limits"), container("250m/512Mi", "limits")),
    "limits and requests": pod(container("1/2Gi", "limits"), container("8/16Gi")),
    "an ignored container": pod(container("2/4Gi"), container("2/4Gi"), container("250m/512Mi", env=IGNORED)),
    "only ignored containers": pod(container("250m/512Mi", env=IGNORED)),
    "a small init container": pod(container("2/4Gi"), init=(container("1/1Gi"),)),
    "a large init container": pod(container("1/2Gi"), init=(container("2/1Gi"),)),
    "explicit specs": pod(container("8/16Gi"), **{vocabulary.USE_SPECS: "2-4Gi,4-8Gi"}),
    "an explicit size off the ladder": pod(container(), **{vocabulary.USE_SPECS: "3-6Gi"}),
    "an ECS type": pod(container("8/16Gi"), **{vocabulary.USE_SPECS: "ecs.c6.large"}),
    "too many explicit specs": pod(container(), **{vocabulary.USE_SPECS: ",".join(["2-4Gi"] * 6)}),
    "an explicit spec that is none": pod(container(), **{vocabulary.USE_SPECS: "2/4Gi"}),
    "spot": pod(container("250m/512Mi"), **SPOT),
    "a misspelt spot strategy": pod(container(), **{vocabulary.SPOT_STRATEGY: "SpotAsPricego"}),
    "economy": pod(container("250m/512Mi"), **{vocabulary.COMPUTE_CATEGORY: "economy"}),
    "more than economy has": pod(container("9/16Gi"), **{vocabulary.COMPUTE_CATEGORY: "economy"}),
    "general below one vCPU": pod(container("250m/512Mi"), **{vocabulary.COMPUTE_CATEGORY: "general"}),
    "the second category": pod(container("9/16Gi"), **{vocabulary.COMPUTE_CATEGORY: "economy, general"}),
    "a category that is none": pod(container(), **{vocabulary.COMPUTE_CATEGORY: "cheap"}),
    "economy and spot": pod(container("2/4Gi"), **{vocabulary.COMPUTE_CATEGORY: "economy"}, **SPOT),
}


@pytest.fixture(scope="module")
def eci_node() -> Path:
    """The practice node's program, built where it is not there yet."""
    return toolchain.programs(["eci-node"])["eci-node"]


def read_by_the_node(program: Path, pods: list[tuple[str, dict[str, Any]]]) -> list[str]:
    """The spec of each pod as the practice node reads the pages, `refused` where it takes none."""
    asked = [{"region": region, "pod": manifest} for region, manifest in pods]
    done = subprocess.run([program, "match"], input=json.dumps(asked), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return ["refused" if answer.get("error") else answer["spec"] for answer in json.loads(done.stdout)]


def read_by_the_runbook(region: str, manifest: dict[str, Any]) -> str:
    """The spec of a pod as the runbook reads them, written as the node writes it: `4.0-8.0Gi`, `0.25-0.5Gi`."""
    try:
        found = specs.for_pod(manifest, region=region)
    except RunbookError:
        return "refused"
    if found.vcpu is None or found.memory_gib is None:
        return found.spec
    vcpu, memory = (f"{float(value):g}" for value in (found.vcpu, found.memory_gib))
    return "-".join(text if "." in text else f"{text}.0" for text in (vcpu, memory)) + "Gi"


def test_both_ladders_give_the_same_spec(eci_node: Path) -> None:
    """Over a grid of requests, regions and spot, both readings round up to the same spec or find none."""
    pods = [
        (region, pod(container(f"{cpu}/{memory}"), **annotations))
        for region, cpu, memory, annotations in product(REGIONS, CPU, MEMORY, ({}, SPOT))
    ]
    theirs = read_by_the_node(eci_node, pods)
    ours = [read_by_the_runbook(region, manifest) for region, manifest in pods]
    differences = [
        f"{region} {manifest['spec']['containers'][0]['resources']['requests']}: runbook {own}, node {other}"
        for (region, manifest), own, other in zip(pods, ours, theirs, strict=True)
        if own != other
    ]
    assert not differences, "\n".join(differences[:20])
    assert len(set(ours)) > 50


@pytest.mark.parametrize("region", REGIONS)
@pytest.mark.parametrize("shape", SHAPES)
def test_both_read_a_pod_alike(eci_node: Path, shape: str, region: str) -> None:
    """Limits, requests, ignored and init containers, explicit specs, spot and category mean the same to both."""
    assert read_by_the_node(eci_node, [(region, SHAPES[shape])]) == [read_by_the_runbook(region, SHAPES[shape])]
