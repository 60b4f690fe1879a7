"""Pages and watch lines of a real kube-apiserver, recorded once, and replayed over loopback by a process of its own."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from kubernetes.client import ApiClient, Configuration

from runbook.clients import connect
from runbook.clients.kubernetes import Cluster
from runbook.runner import pods
from runbook.runner.version import parse
from sandbox.control_plane import ControlPlane

NAMESPACE = "gitlab-ci"
SECTION = {
    "name": "eci",
    "url": "https://gitlab.example.com",
    "executor": "kubernetes",
    "kubernetes": {"namespace": NAMESPACE, "image": "alpine:3.20"},
}


def runner_pod(number: int) -> dict[str, Any]:
    """A job's pod as the runner makes it, with a name of its own."""
    pod: dict[str, Any] = pods.job_pod(SECTION, pods.sample_job(image="alpine:3.20"), parse("17.9.2"))
    metadata = pod["metadata"]
    metadata.pop("generateName", None)
    metadata |= {"name": f"runner-bench-project-1-concurrent-{number}", "namespace": NAMESPACE}
    pod["spec"].pop("serviceAccountName", None)
    pod["spec"]["automountServiceAccountToken"] = False
    return pod


def running(pod: dict[str, Any]) -> dict[str, Any]:
    """The status of a job's pod on ECI while its job runs."""
    moment = "2026-11-02T08:30:00Z"
    kinds = ("PodScheduled", "ContainerInstanceCreated", "Initialized", "ContainersReady", "Ready")

    def container(spec: dict[str, Any], state: dict[str, Any]) -> dict[str, Any]:
        image = {"image": spec["image"], "imageID": f"{spec['image']}@sha256:{'0' * 64}", "containerID": "eci://c"}
        return {"name": spec["name"], "ready": True, "started": True, "restartCount": 0, "state": state, **image}

    ended = {"terminated": {"exitCode": 0, "reason": "Completed", "startedAt": moment, "finishedAt": moment}}
    return {
        "phase": "Running",
        "startTime": moment,
        "hostIP": "10.0.0.9",
        "podIP": "10.0.0.9",
        "podIPs": [{"ip": "10.0.0.9"}],
        "conditions": [{"type": kind, "status": "True", "lastTransitionTime": moment} for kind in kinds],
        "containerStatuses": [container(one, {"running": {"startedAt": moment}}) for one in pod["spec"]["containers"]],
        "initContainerStatuses": [container(one, ended) for one in pod["spec"].get("initContainers", ())],
    }


def fill(cluster: Cluster, count: int) -> None:
    """`count` runner pods with the status of a running one; there is no node that would change it."""
    cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}, dry_run=False)
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": NAMESPACE}}
    cluster.apply(account, dry_run=False)
    for number in range(count):
        pod = cluster.create(runner_pod(number), dry_run=False)
        path = f"/api/v1/namespaces/{NAMESPACE}/pods/{pod['metadata']['name']}/status"
        cluster.request("PATCH", path, body={"status": running(pod)}, content_type="application/merge-patch+json")


def client_of(plane: ControlPlane) -> Cluster:
    from kubernetes.config import load_kube_config

    configuration = Configuration()
    load_kube_config(str(plane.admin), client_configuration=configuration)
    return Cluster(ApiClient(configuration), source="bench", context=None, timeout=60, clock=connect.clock())


def client_at(url: str) -> Cluster:
    """A client of the replay: no TLS, no account."""
    configuration = Configuration()
    configuration.host = url
    return Cluster(ApiClient(configuration), source="bench", context=None, timeout=60, clock=connect.clock())


def pages_of(first: Sequence[bytes], count: int) -> list[bytes]:
    """`count` pods in pages like the recorded ones, each of which says how the next one is asked for."""
    pages, pods_left, number = [], count, 0
    while pods_left > 0:
        page = json.loads(first[number % len(first)])
        page["items"] = page["items"][: min(len(page["items"]), pods_left)]
        pods_left -= len(page["items"])
        number += 1
        page["metadata"]["continue"] = str(number) if pods_left > 0 else ""
        pages.append(json.dumps(page, separators=(",", ":")).encode() + b"\n")
    return pages


@contextmanager
def served(pages: Sequence[bytes], changes: Sequence[bytes]) -> Iterator[str]:
    """The address of a child process that answers lists with `pages` and watches with `changes`, then ends them."""
    listening = socket.create_server(("127.0.0.1", 0))
    child = os.fork()
    if not child:
        try:
            _serve(listening, pages, changes)
        finally:
            os._exit(0)
    port = listening.getsockname()[1]
    listening.close()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)


def _serve(listening: socket.socket, pages: Sequence[bytes], changes: Sequence[bytes]) -> None:
    while True:
        connection, _ = listening.accept()
        if not os.fork():
            listening.close()
            _answer(connection, pages, changes)
            os._exit(0)
        connection.close()


def _answer(connection: socket.socket, pages: Sequence[bytes], changes: Sequence[bytes]) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
    reader = connection.makefile("rb")
    try:
        while request := reader.readline():
            while reader.readline() not in (b"\r\n", b""):
                pass
            target = request.split()[1].decode()
            if "watch=" in target:
                connection.sendall(head + b"Transfer-Encoding: chunked\r\n\r\n")
                for line in changes:
                    connection.sendall(b"%x\r\n%s\r\n" % (len(line), line))
                connection.sendall(b"0\r\n\r\n")
            else:
                number = int(target.partition("continue=")[2].partition("&")[0] or 0)
                page = pages[number]
                connection.sendall(head + b"Content-Length: %d\r\n\r\n" % len(page) + page)
    except OSError:
        return
