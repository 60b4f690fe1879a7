"""Pods as runners make them and as ECI's virtual node then shows them: material for the tests of the history."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from runbook.history.api_objects import Pod, PodEvent, event_from, pod_from
from runbook.runner import job_marks, pods
from runbook.runner.variables import Assignment
from runbook.runner.version import parse

ECI = "k8s.aliyun.com/"
UID = "0b7c0a52-6a2f-4a53-9d1e-3c1d3f0a9b11"
BORN = datetime(2026, 11, 24, 9, 30, tzinfo=UTC)


def at(seconds: float) -> datetime:
    """A moment after the pod's creation."""
    return BORN + timedelta(seconds=seconds)


def stamp(seconds: float) -> str:
    """The same as Kubernetes writes it."""
    return f"{at(seconds):%Y-%m-%dT%H:%M:%SZ}"


def manifest(
    version: str = "17.9.2", *, marks: bool = True, variables: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """The pod that a runner of this version makes, with or without the marks that the configuration adds."""
    kubernetes = {
        "image": "alpine:3",
        "namespace": "gitlab",
        "cpu_request": "1",
        "memory_request": "2Gi",
        "helper_cpu_limit": "500m",
        "helper_memory_limit": "512Mi",
    }
    if marks:
        kubernetes |= {"pod_labels": job_marks.LABELS, "pod_annotations": job_marks.ANNOTATIONS}
    runner = {"name": "eci", "token": "glrt-t3_abcdefghijklmn", "executor": "kubernetes", "kubernetes": kubernetes}
    job = pods.sample_job(job_id=4711)
    job["variables"] += [{"key": key, "value": text, "public": True} for key, text in (variables or {}).items()]
    pod = pods.job_pod(runner, job, parse(version), Assignment())
    meta = pod["metadata"]
    meta["name"] = meta.get("name") or meta["generateName"] + "x7k2p"
    meta |= {
        "uid": UID,
        "resourceVersion": "77",
        "creationTimestamp": stamp(0),
        "namespace": meta.get("namespace", "gitlab"),
    }
    return pod


def on_eci(pod: dict[str, Any], **written: str) -> dict[str, Any]:
    """The pod after ECI made its instance: annotations, node and conditions; `written` are further annotations."""
    notes = {"eci-instance-id": "eci-bp1abc", "eci-instance-spec": "4.0-8.0Gi", "eci-instance-zone": "cn-hangzhou-j"}
    notes |= {"eci-instance-cpu": "4.0", "eci-instance-mem": "8.0"} | {
        key.replace("_", "-"): text for key, text in written.items()
    }
    pod["metadata"].setdefault("annotations", {}).update({ECI + key: text for key, text in notes.items()})
    pod["spec"]["nodeName"] = "virtual-kubelet-cn-hangzhou-j"
    pod["status"] = {
        "phase": "Pending",
        "startTime": stamp(1),
        "conditions": [condition("PodScheduled", 1), condition("ContainerInstanceCreated", 8)],
    }
    return pod


def condition(kind: str, seconds: float, status: str = "True", reason: str | None = None) -> dict[str, Any]:
    """A condition as the API shows it."""
    shown = {"type": kind, "status": status, "lastTransitionTime": stamp(seconds), "lastProbeTime": None}
    return shown | ({"reason": reason} if reason else {})


def running(pod: dict[str, Any], seconds: float = 30) -> dict[str, Any]:
    """The pod with build and helper running since then."""
    pod["status"]["phase"] = "Running"
    pod["status"]["containerStatuses"] = [
        {"name": name, "state": {"running": {"startedAt": stamp(seconds)}}, "lastState": {}}
        for name in ("build", "helper")
    ]
    return pod


def killed(pod: dict[str, Any], seconds: float, *, code: int = 137, reason: str = "Error") -> dict[str, Any]:
    """The pod with every container terminated."""
    pod["status"]["phase"] = "Failed"
    for status in pod["status"]["containerStatuses"]:
        end = {"exitCode": code, "reason": reason, "startedAt": stamp(30), "finishedAt": stamp(seconds)}
        status["state"] = {"terminated": end}
    return pod


def deleting(pod: dict[str, Any], seconds: float, grace: int = 0) -> dict[str, Any]:
    """The pod whose deletion was asked for then, with a grace period in seconds."""
    pod["metadata"] |= {"deletionTimestamp": stamp(seconds + grace), "deletionGracePeriodSeconds": grace}
    return pod


def event(reason: str, seconds: float, *, message: str = "", uid: str = UID) -> PodEvent:
    """An event on the pod."""
    involved = {"kind": "Pod", "namespace": "gitlab", "name": "runner", "uid": uid}
    told = {"firstTimestamp": stamp(seconds), "lastTimestamp": stamp(seconds), "eventTime": None}
    return event_from({"involvedObject": involved, "reason": reason, "message": message, "type": "Normal", **told})


def read(pod: Mapping[str, Any]) -> Pod:
    """The pod as the API server's JSON is read."""
    return pod_from(pod)
