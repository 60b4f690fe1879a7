"""Pods made from other people's configurations, rehearsed by a real API server."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client, config

from runbook.errors import ConfigTomlError
from runbook.runner import pods
from runbook.runner.variables import Assignment
from runbook.runner.version import parse
from sandbox.practice import PracticeCluster

NAMESPACE = "runner-pods"
VERSIONS = ("14.7.1", "15.9.0", "17.9.2", "18.10.0", "19.3.0")
SERVICES = ("postgres:16", "registry.example.com/a/redis:7")


def sections(folder: Path) -> list[tuple[str, dict[str, Any]]]:
    """Every `[[runners]]` with the Kubernetes executor in real configurations, with its file's name."""
    found = []
    for path in sorted(folder.rglob("*.toml")):
        try:
            document = tomllib.loads(path.read_text())
        except (tomllib.TOMLDecodeError, UnicodeDecodeError):
            continue
        runners = document.get("runners", [])
        found += [(path.name, row) for row in runners if isinstance(runners, list) and "kubernetes" in row]
    return found


@pytest.fixture(scope="module")
def api(practice: PracticeCluster) -> Any:
    """The API server, and a namespace to rehearse in."""
    practice.kubectl("create", "namespace", NAMESPACE)
    settings = client.Configuration()
    config.load_kube_config(str(practice.kubeconfig), client_configuration=settings)
    return client.CoreV1Api(client.ApiClient(settings))


@pytest.mark.parametrize("version", VERSIONS)
def test_pods_of_real_configurations_are_accepted(traces: Path, api: Any, version: str) -> None:
    """A pod made from any real configuration is one that the API server takes, field by field, or the runner refuses it first."""
    refused, accepted = {}, 0
    job = pods.sample_job(image="alpine:3.20", services=SERVICES)
    given = Assignment(scripts_config_map="scripts")
    for name, section in sections(traces / "runner-config"):
        try:
            pod = pods.job_pod(section, job, parse(version), given)
        except ConfigTomlError as error:
            refused[name] = error.problem
            continue
        pod["metadata"]["namespace"] = NAMESPACE
        # accounts, classes and secrets of other people's clusters are not here
        for field in ("serviceAccountName", "priorityClassName", "runtimeClassName"):
            pod["spec"].pop(field, None)
        try:
            api.create_namespaced_pod(NAMESPACE, pod, dry_run="All", field_validation="Strict")
            accepted += 1
        except client.ApiException as error:
            refused[name] = str(error.body)
    assert refused == {}
    assert accepted >= 10
