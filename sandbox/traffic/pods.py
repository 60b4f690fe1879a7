"""The pod of a played job: made as its runner would make it, with the script of its life for eci-node."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC
from typing import Any

import numpy as np

from runbook.eci import vocabulary as eci
from runbook.runner import job_marks, names, pods
from runbook.runner.variables import Assignment
from runbook.runner.version import Version
from sandbox.traffic.lives import NOTICE
from sandbox.traffic.team import JobKind
from sandbox.traffic.truth import PodTruth
from sandbox.traffic.usage import used

SCRIPT = "practice.runbook/hollow"
"""Annotation of the practice cluster alone: eci-node plays the pod's life from it and starts no process."""


@dataclass(frozen=True)
class PlayedRunner:
    """The runner whose manager is played: where its GitLab is, its version, and into which namespace its pods go."""

    gitlab_url: str
    namespace: str
    version: Version = Version(17, 9)
    token: str = "glrt-played0traffic0runner"

    def section(self, spot: bool) -> dict[str, Any]:
        """Its section of config.toml, as the onboarding writes one; jobs on spot instances have a section of their own."""
        annotations = {job_marks.CARD: "practice", **job_marks.ANNOTATIONS}
        return {
            "name": "eci-spot" if spot else "eci",
            "url": self.gitlab_url,
            "token": self.token,
            "executor": "kubernetes",
            "kubernetes": {
                "namespace": self.namespace,
                "image": "alpine:3.20",
                "cpu_request_overwrite_max_allowed": "64",
                "memory_request_overwrite_max_allowed": "256Gi",
                "helper_cpu_request": "100m",
                "helper_memory_request": "128Mi",
                "service_cpu_request": "500m",
                "service_memory_request": "512Mi",
                "pod_labels": dict(job_marks.LABELS),
                "pod_annotations": annotations | ({eci.SPOT_STRATEGY: eci.SPOT_AS_PRICE_GO} if spot else {}),
            },
        }


def manifest(
    runner: PlayedRunner, kind: JobKind, truth: PodTruth, slot: int, rng: np.random.Generator, script: dict[str, Any]
) -> dict[str, Any]:
    """The pod that this runner creates for the job, and its script; an empty one is left out."""
    suffix = "".join(rng.choice(list(names.POD_NAME_ALPHABET), names.POD_NAME_SUFFIX_LENGTH))
    given = Assignment(project_concurrent=slot, suffix=suffix)
    pod = pods.job_pod(runner.section(truth.spot), _job(runner, kind, truth), runner.version, given)
    if script:
        pod["metadata"]["annotations"][SCRIPT] = json.dumps(script)
    return pod


def script(truth: PodTruth, row: dict[str, int], factor: float) -> dict[str, Any]:
    """The life of a pod in the words of eci-node's `Script`; *row* holds its moments as in `lives`."""
    begin = row["scheduled"]
    instance = max(0, row["instance"] - begin) if row["instance"] >= 0 else 1
    pulled = row["pulled"] - begin if row["pulled"] >= 0 else instance + 8
    running = row["running"] - begin if row["running"] >= 0 else pulled
    return {
        "begin": truth.scheduled_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "factor": factor,
        "instance": instance,
        "pulled": pulled,
        "running": running,
        "end": row["end"] - begin,
        "deleted": row["deleted"] - begin,
        "ending": truth.ending,
        "exit_code": truth.exit_code or 0,
        "notice": NOTICE if truth.ending == "reclaim" else 0,
        "cached": truth.image_cache_hit,
        "used": used(row),
    }


def _job(runner: PlayedRunner, kind: JobKind, truth: PodTruth) -> dict[str, Any]:
    """What GitLab would answer to this runner's request for a job."""
    job = pods.sample_job(image=kind.image, services=kind.services, timeout=14400, job_id=truth.job_id)
    group, _, name = truth.project_path.rpartition("/")
    told = {
        "CI_JOB_ID": str(truth.job_id),
        "CI_JOB_NAME": truth.job_name,
        "CI_JOB_STAGE": truth.job_stage,
        "CI_JOB_IMAGE": kind.image,
        "CI_PIPELINE_ID": str(truth.pipeline_id),
        "CI_PROJECT_ID": str(truth.project_id),
        "CI_PROJECT_NAME": name,
        "CI_PROJECT_PATH": truth.project_path,
        "CI_PROJECT_NAMESPACE": group,
        "CI_PROJECT_ROOT_NAMESPACE": group.partition("/")[0],
        "CI_COMMIT_REF_NAME": truth.ref,
        "CI_SERVER_URL": runner.gitlab_url,
        "KUBERNETES_CPU_REQUEST": kind.cpu,
        "KUBERNETES_MEMORY_REQUEST": kind.memory,
    }
    job["variables"] = [{"key": key, "value": value, "public": True} for key, value in told.items()]
    job["job_info"] |= {
        "name": truth.job_name,
        "stage": truth.job_stage,
        "project_id": truth.project_id,
        "project_name": name,
    }
    job["git_info"] |= {"repo_url": f"{runner.gitlab_url}/{truth.project_path}.git", "ref": truth.ref}
    return job
