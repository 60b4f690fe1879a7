"""What GitLab says of a job, in the record of its pod; and the record that stands for a pod that nobody saw. Pure.

A stand-in lives within its job, and that is all that is known of it. It steps back as soon as a pod of the job turns up.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import msgspec

from runbook.history.gitlab_jobs import Job, JobKey
from runbook.history.job_join import CLEANUP
from runbook.history.observation import MISSING
from runbook.history.record import End, JobKnown, Known, PodRecord, Source

STAND_IN = "job:"
"""How the `pod_uid` of a record begins that stands for a job whose pod nobody saw."""

TURNED_UP = "the job's pod has a record of its own"
"""What a stand-in says when the pod turned up after all."""


def is_stand_in(record: PodRecord) -> bool:
    """Whether a record stands for a job whose pod nobody saw."""
    return record.pod_uid.startswith(STAND_IN)


def without_stand_ins(records: Iterable[PodRecord]) -> list[PodRecord]:
    """The records without those that stand for a job of which a pod is among them after all: no job counts twice."""
    held = list(records)
    seen = {(one.cluster, one.gitlab_host, one.job_id) for one in held if one.job_id and not is_stand_in(one)}
    return [one for one in held if not is_stand_in(one) or (one.cluster, one.gitlab_host, one.job_id) not in seen]


def retries_of(jobs: Iterable[Job]) -> dict[JobKey, int]:
    """The job that each one repeats: the one before it of the same name in the same pipeline."""
    before: dict[tuple[str, int, str], int] = {}
    repeats: dict[JobKey, int] = {}
    for job in sorted(jobs, key=lambda one: one.id):
        if job.pipeline_id is None:
            continue
        same = (job.host, job.pipeline_id, job.name)
        if same in before:
            repeats[job.key] = before[same]
        before[same] = job.id
    return repeats


def _verdict(job: Job, retries: Mapping[JobKey, int]) -> dict[str, Any]:
    """The columns that GitLab alone knows."""
    return {
        "gitlab_host": job.host,
        "job_id": job.id,
        "job_status": job.status,
        "job_failure_reason": job.failure_reason,
        "job_created_at": job.created_at,
        "job_started_at": job.started_at,
        "job_finished_at": job.finished_at,
        "job_queued_seconds": job.queued_seconds,
        "retry_of": retries.get(job.key),
    }


def _shared(job: Job) -> dict[str, Any]:
    """The columns that a pod may know, too."""
    return {
        "project_id": job.project_id,
        "project_path": job.project_path,
        "project_namespace": (job.project_path or "").rpartition("/")[0] or None,
        "pipeline_id": job.pipeline_id,
        "job_name": job.name,
        "job_stage": job.stage,
        "job_ref": job.ref,
        "runner_id": job.runner_id,
        "runner_name": job.runner_name,
        "runner_system_id": job.system_id,
        "runner_version": job.runner_version,
    }


def completed(
    pod: PodRecord, job: Job, known: JobKnown | None, retries: Mapping[JobKey, int], settled_until: datetime
) -> PodRecord:
    """A pod's record with what GitLab says of its job; what the pod said itself stays."""
    values = {name: value for name, value in _verdict(job, retries).items() if value is not None}
    values |= {name: value for name, value in _shared(job).items() if value is not None and getattr(pod, name) is None}
    if known:
        values["job_known"] = known
    seen_after = job.finished_at is None or pod.observed_at > job.finished_at + CLEANUP
    if not pod.final and pod.finished_at is None and not seen_after and job.finished_at <= settled_until:  # type: ignore[operator]
        values |= _bounded_end(pod, job)
    return msgspec.structs.replace(pod, sources=tuple(dict.fromkeys((*pod.sources, Source.GITLAB))), **values)


_JOBS_END = {"finished_known": Known.BOUNDED, "finished_source": "GitLab: the job's end"}


def _bounded_end(pod: PodRecord, job: Job) -> dict[str, Any]:
    """The end of a pod that was seen alive and then not again, while GitLab says that its job ended."""
    values: dict[str, Any] = {}
    if pod.billing_start_at:
        values = _JOBS_END | {"finished_at": job.finished_at}
    if pod.ended is End.LIVE:
        values |= {"ended": End.UNKNOWN, "ended_evidence": "GitLab: the job ended; nobody saw the pod's end"}
    return values


def bounded_by_job(pod: PodRecord, job: Job) -> PodRecord:
    """A job's only pod that was found missing: what nobody saw of it lies within the job."""
    if pod.ended_evidence != MISSING or job.started_at is None or job.finished_at is None:
        return pod
    values: dict[str, Any] = {}
    if pod.billing_start_known is Known.UNKNOWN:
        values |= {
            "billing_start_at": max(job.started_at, pod.created_at or job.started_at),
            "billing_start_known": Known.BOUNDED,
            "billing_start_source": "GitLab: the job's start",
        }
    if pod.finished_at is None or (pod.finished_known is Known.BOUNDED and job.finished_at < pod.finished_at):
        values |= _JOBS_END | {"finished_at": job.finished_at}
    return msgspec.structs.replace(pod, **values)


def stand_in(
    job: Job,
    cluster: str,
    observed_at: datetime,
    region: str | None,
    retries: Mapping[JobKey, int],
    pod_name: str | None,
) -> PodRecord:
    """The record of a job whose pod nobody saw: it lived within the job, and that is all that is known."""
    start, end = job.started_at, job.finished_at
    return PodRecord(
        cluster=cluster,
        pod_uid=f"{STAND_IN}{job.host}/{job.id}",
        pod_name=pod_name,
        region=region,
        sources=(Source.GITLAB,),
        final=True,
        observed_at=observed_at,
        job_known=JobKnown.GITLAB,
        created_at=start,
        created_known=Known.BOUNDED,
        billing_start_at=start,
        billing_start_known=Known.BOUNDED,
        billing_start_source="GitLab: the job's start",
        finished_at=end,
        finished_known=Known.BOUNDED,
        finished_source="GitLab: the job's end",
        deleted_at=end,
        deleted_known=Known.BOUNDED,
        ended=End.UNKNOWN,
        ended_evidence="GitLab: " + ", ".join(filter(None, (job.status, job.failure_reason))),
        **_verdict(job, retries),
        **_shared(job),
    )


def stepped_back(stand_in: PodRecord) -> PodRecord:
    """The stand-in of a job whose pod turned up: it stays in an append-only history, but nothing of it is billed."""
    return msgspec.structs.replace(
        stand_in,
        billing_start_at=None,
        billing_start_known=Known.NEVER,
        billing_start_source=TURNED_UP,
        finished_at=None,
        finished_known=Known.NEVER,
        finished_source=TURNED_UP,
        ended_evidence=TURNED_UP,
    )
