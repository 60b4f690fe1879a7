"""20,000 changes of runner pods watched: ours against the official client's typed watch."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

from kubernetes.client import CoreV1Api
from kubernetes.watch import Watch

from bench import replay
from bench.figures import Figure, ratio
from runbook.clients.kubernetes import Cluster
from runbook.history import pod_stream
from sandbox.control_plane import ControlPlane
from sandbox.toolchain import programs

CHANGES = 20_000
RECORDED = 200


def measure() -> Iterator[Figure]:
    """About a minute on two cores."""
    with tempfile.TemporaryDirectory() as folder:
        plane = ControlPlane(Path(folder) / "plane", programs()).start()
        try:
            real = replay.client_of(plane)
            replay.fill(real, RECORDED)
            path = f"/api/v1/namespaces/{replay.NAMESPACE}/pods"
            answer = real.request("GET", path, {"watch": "true", "timeoutSeconds": "2"}, stream=True)
            recorded = [line + b"\n" for line in pod_stream.lines(answer)]
        finally:
            plane.stop()
    assert len(recorded) == RECORDED and json.loads(recorded[0])["type"] == "ADDED"
    with replay.served([], [recorded[number % RECORDED] for number in range(CHANGES)]) as url:
        client = replay.client_at(url)
        slower = ratio(lambda: ours(client), lambda: typed(client), rounds=1)
        yield Figure(f"{CHANGES:,} changes watched, to the official client's typed watch", slower, "x", 1 / 30)
        lines = ratio(lambda: ours(client), lambda: lines_only(client, path), rounds=3)
        yield Figure(f"{CHANGES:,} changes watched, to reading the lines", lines, "x")


def ours(client: Cluster) -> int:
    return sum(1 for _ in pod_stream.pods(client, replay.NAMESPACE).changes("1", seconds=60))


def lines_only(client: Cluster, path: str) -> int:
    return sum(1 for _ in pod_stream.lines(client.request("GET", path, {"watch": "true"}, stream=True)))


def typed(client: Cluster) -> int:
    api, watch, seen = CoreV1Api(client._api), Watch(), 0
    for _ in watch.stream(api.list_namespaced_pod, replay.NAMESPACE, resource_version="1", timeout_seconds=60):
        seen += 1
        if seen == CHANGES:
            watch.stop()
    return seen
