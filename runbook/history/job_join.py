"""Which pod ran which job, 1:N: a job may have several pods, because a pull or a preparation is tried again; a pod has one or none.

A pod is joined by the job's id and GitLab's host; else by its name in the job's trace; else where one job only of its
project and runner ran when the pod was made. What fits several jobs is joined to none, and is named. Pure.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from runbook.history.gitlab_jobs import Job, JobKey, host_of
from runbook.history.record import JobKnown, PodRecord

SKEW = timedelta(seconds=5)
"""How far the clocks of GitLab and of the cluster may differ."""

CLEANUP = timedelta(minutes=5)
"""How long after its job a pod may be there: what a runner allows itself for deleting it (`cleanup_resources_timeout`)."""


class How(StrEnum):
    """How a pod was joined to a job, or why it was not."""

    EXACT = "exact"
    TRACE = "trace"
    OVERLAP = "overlap"
    AMBIGUOUS = "ambiguous"
    UNMATCHED = "unmatched"


HOW_MEANING = {
    How.EXACT: "the pod names the job: same id, same GitLab",
    How.TRACE: "the job's trace names the pod",
    How.OVERLAP: "one job only of its project and runner ran when the pod was made",
    How.AMBIGUOUS: "several jobs of its project and runner ran then: joined to none",
    How.UNMATCHED: "no job that was read fits",
}
_JOINED = {JobKnown.TRACE: How.TRACE, JobKnown.OVERLAP: How.OVERLAP}
KNOWN_BY = {how: known for known, how in _JOINED.items()}
"""From what a pod's job is known that was joined so."""


def join(
    pods: Sequence[PodRecord],
    by_key: Mapping[JobKey, Job],
    ours: Mapping[JobKey, Job],
    named_by_traces: Mapping[JobKey, str],
) -> tuple[dict[int, tuple[How, JobKey | None]], dict[int, tuple[JobKey, ...]]]:
    """How each pod is joined, by its place in `pods`, and the candidates of those that fit several jobs.

    `ours` are the jobs of `by_key` that may have pods without a job's id; `named_by_traces` is the pod that a job's trace names.
    """
    by_id = defaultdict(list)
    for key, job in by_key.items():
        by_id[key[1]].append(job)
    by_trace = {name: key for key, name in named_by_traces.items()}
    joined: dict[int, tuple[How, JobKey | None]] = {}
    open_places = []
    for place, pod in enumerate(pods):
        named = _named_job(pod, by_key, by_id)
        if named:
            joined[place] = _JOINED.get(pod.job_known, How.EXACT), named
        elif pod.job_id is None and pod.pod_name in by_trace:
            joined[place] = How.TRACE, by_trace[pod.pod_name]
        elif pod.job_id is None and pod.project_id and pod.created_at:
            open_places.append(place)
    running = _Running.of(ours.values())
    names = {job.runner_name for job in ours.values()}
    fitting = {
        place: [job.key for job in running.around(pods[place]) if _fits(pods[place], job, names)]
        for place in open_places
    }
    lives: defaultdict[JobKey, list[PodRecord]] = defaultdict(list)
    for place, (_, known) in joined.items():
        if known:
            lives[known].append(pods[place])
    candidates = _settle(pods, fitting, lives, joined)
    joined |= {place: (How.AMBIGUOUS, None) for place in candidates}
    return joined, candidates


@dataclass(frozen=True)
class _Running:
    """The jobs of each project that started, by their start, and how long the longest of them ran."""

    jobs: Mapping[int, list[Job]]
    starts: Mapping[int, list[datetime]]
    longest: Mapping[int, timedelta]

    @classmethod
    def of(cls, jobs: Iterable[Job]) -> _Running:
        by_project: defaultdict[int, list[tuple[datetime, Job]]] = defaultdict(list)
        for job in jobs:
            if job.started_at and job.project_id:
                by_project[job.project_id].append((job.started_at, job))
        ordered = {id: sorted(rows, key=lambda row: (row[0], row[1].id)) for id, rows in by_project.items()}
        # One that still runs may have begun at any time before.
        longest = {
            id: max((job.finished_at - start if job.finished_at else timedelta.max for start, job in rows))
            for id, rows in ordered.items()
        }
        return cls(
            {id: [job for _, job in rows] for id, rows in ordered.items()},
            {id: [start for start, _ in rows] for id, rows in ordered.items()},
            longest,
        )

    def around(self, pod: PodRecord) -> Sequence[Job]:
        """The jobs of a pod's project that may have run when it was made."""
        id, made = pod.project_id, pod.created_at
        if id not in self.jobs or id is None or made is None:
            return ()
        starts, longest = self.starts[id], self.longest[id]
        first = 0 if longest == timedelta.max else bisect_left(starts, made - longest - SKEW)
        return self.jobs[id][first : bisect_right(starts, made + SKEW)]


def _settle(
    pods: Sequence[PodRecord],
    fitting: dict[int, list[JobKey]],
    lives: defaultdict[JobKey, list[PodRecord]],
    joined: dict[int, tuple[How, JobKey | None]],
) -> dict[int, tuple[JobKey, ...]]:
    """Join what fits one job only; a job's pods live one after the other, so each join may settle another. The rest."""
    settled = True
    while settled:
        settled = False
        for place in list(fitting):
            pod = pods[place]
            left = [key for key in fitting[place] if not any(_at_once(pod, other) for other in lives[key])]
            if len(left) == 1:
                joined[place] = How.OVERLAP, left[0]
                lives[left[0]].append(pod)
            if len(left) < 2:
                del fitting[place]
                settled = True
            else:
                fitting[place] = left
    return {place: tuple(keys) for place, keys in fitting.items()}


def _named_job(pod: PodRecord, by_key: Mapping[JobKey, Job], by_id: Mapping[int, list[Job]]) -> JobKey | None:
    """The job that a pod names itself; without a host, the only one of that id and project."""
    if pod.job_id is None:
        return None
    if pod.gitlab_host:
        key = (host_of(pod.gitlab_host), pod.job_id)
        return key if key in by_key else None
    same = [job for job in by_id.get(pod.job_id, ()) if pod.project_id in (None, job.project_id)]
    return same[0].key if len(same) == 1 else None


def _fits(pod: PodRecord, job: Job, names: Collection[str | None]) -> bool:
    """Whether a pod without a job's id can be one of this job, by its runner and its times."""
    if pod.gitlab_host and host_of(pod.gitlab_host) != job.host:
        return False
    if pod.runner_id and job.runner_id and pod.runner_id != job.runner_id:
        return False
    if pod.runner_name in names and pod.runner_name != job.runner_name:
        return False
    if job.started_at is None or pod.created_at is None or pod.created_at < job.started_at - SKEW:
        return False
    if job.finished_at is None:
        return True
    ended = _end(pod)
    return pod.created_at <= job.finished_at + SKEW and not (ended and ended > job.finished_at + CLEANUP)


def _end(pod: PodRecord) -> datetime | None:
    return pod.deleted_at or pod.finished_at


def _at_once(one: PodRecord, other: PodRecord) -> bool:
    """Whether two pods were there at the same time."""
    if one.created_at is None or other.created_at is None:
        return False
    first, second = sorted((one, other), key=lambda pod: (pod.created_at, pod.pod_uid))
    ended = _end(first)
    return ended is None or second.created_at is None or second.created_at < ended
