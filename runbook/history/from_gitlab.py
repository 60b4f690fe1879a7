"""GitLab's jobs beside the pods that ran them: verdicts for pods that were watched, bounded records for jobs that were not.

    jobs = gitlab_jobs.read_jobs(client, since=…, runners=[12])
    matched = match(records, jobs, cluster="…", observed_at=now)
    matched.to_write, matched.report

Pure. Which pod ran which job is told by `job_join`, what a record then says by `job_records`.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import msgspec

from runbook import moments
from runbook.history import false_green
from runbook.history.gitlab_jobs import Job, JobKey
from runbook.history.job_join import KNOWN_BY, How, join
from runbook.history.job_records import (
    bounded_by_job,
    completed,
    is_stand_in,
    retries_of,
    stand_in,
    stepped_back,
    without_stand_ins,
)
from runbook.history.record import PodRecord, differs
from runbook.report import Check, Report

_SHOWN = 20
"""Names that a check lists at most."""


@dataclass(frozen=True)
class MatchReport:
    """How well pods and jobs matched. Names are those of pods; keys are GitLab's host and the job's id."""

    pods: Mapping[How, int]
    jobs: Mapping[str, int]
    """Jobs by what became of them: `with a pod`, `perhaps with a pod` (of an ambiguous one: no record is made, or its
    pod would count twice), `without a pod`, `not started`, `not over`, `of another runner`."""
    pods_of_a_job: Mapping[int, int]
    """Jobs by the number of their pods."""
    ambiguous: Mapping[str, tuple[JobKey, ...]] = field(default_factory=dict)
    unmatched: tuple[str, ...] = ()
    missed: tuple[Job, ...] = ()
    failure_reasons: Mapping[str, int] = field(default_factory=dict)
    queued: tuple[float, ...] = ()
    """Seconds that the started jobs waited for a runner."""
    green: Check = Check.skipped(false_green.CHECK, false_green.TITLE, "no job was read")

    @property
    def joined(self) -> int:
        """Pods that have their job."""
        return sum(self.pods.get(how, 0) for how in (How.EXACT, How.TRACE, How.OVERLAP))

    def report(self, title: str = "Jobs and pods") -> Report:
        facts = {
            "jobs": _counted(self.jobs),
            "pods": _counted({how.value: count for how, count in self.pods.items()}),
            "jobs by their pods": _counted({f"with {pods}": jobs for pods, jobs in sorted(self.pods_of_a_job.items())}),
            "failure reasons": _counted(self.failure_reasons),
        }
        if self.queued:
            middle, longest = statistics.median(self.queued), max(self.queued)
            facts["waited for a runner"] = (
                f"half of them at most {moments.duration(middle)}, the longest {moments.duration(longest)}"
            )
        return Report(title, [self._every_pod(), self._every_job(), self.green], facts)

    def _every_pod(self) -> Check:
        title = "Every pod of a runner belongs to one job"
        total = sum(self.pods.values())
        if not total:
            return Check.skipped("pods-without-job", title, "no pod was seen")
        lines = [f"{name}: {', '.join(str(id) for _, id in jobs)}" for name, jobs in self.ambiguous.items()]
        if not lines and not self.unmatched:
            return Check.passed("pods-without-job", title, f"{total} pods")
        lines += [f"{name}: no job" for name in self.unmatched]
        return Check.warned(
            "pods-without-job",
            title,
            "\n".join([f"{self.joined} of {total} pods have their job", *_first(lines)]),
            expected="pods that name their job, or traces that name the pod",
            remedy="Run notebook 50, which has the runner write the job's id on its pods; for old pods add --traces.",
        )

    def _every_job(self) -> Check:
        title = "Every job's pod was watched"
        if not self.jobs.get("with a pod") and not self.missed:
            return Check.skipped("jobs-without-pod", title, "no job ran")
        if not self.missed:
            return Check.passed("jobs-without-pod", title, f"{self.jobs.get('with a pod', 0)} jobs")
        lines = [f"{len(self.missed)} jobs are recorded with bounds only", *_first([str(job) for job in self.missed])]
        return Check.warned(
            "jobs-without-pod",
            title,
            "\n".join(lines),
            expected="a collector that watches all the time",
            remedy="Let the next collector start before the last one stops.",
        )


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{number} {word}" for word, number in counts.items() if number) or "none"


def _first(lines: Sequence[str]) -> list[str]:
    return [*lines[:_SHOWN], *([f"… and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else [])]


@dataclass(frozen=True)
class Matched:
    """All records with what GitLab adds, those of them that are new or changed, and how well it matched."""

    records: tuple[PodRecord, ...]
    to_write: tuple[PodRecord, ...]
    report: MatchReport


def match(
    records: Iterable[PodRecord],
    jobs: Iterable[Job],
    *,
    cluster: str,
    observed_at: datetime,
    runners: Collection[int] | None = None,
    named_by_traces: Mapping[JobKey, str] | None = None,
    settled_until: datetime | None = None,
    region: str | None = None,
) -> Matched:
    """Join the pods of one cluster to GitLab's jobs, 1:N.

    `runners` are the cluster's own; jobs of others get no record, and are no candidates for pods without a job's id.
    `named_by_traces` is the pod that a job's trace names. Jobs that ended after `settled_until` (default: `observed_at`)
    get no record yet: the collector may still be about to write their pods. Matched twice, nothing changes.
    """
    by_key = {job.key: job for job in jobs}
    settled_until = settled_until or observed_at
    held = [one for one in records if one.cluster == cluster]
    pods, stand_ins = [one for one in held if not is_stand_in(one)], [one for one in held if is_stand_in(one)]
    ours = {key: job for key, job in by_key.items() if runners is None or job.runner_id in runners}
    joined, candidates = join(pods, by_key, ours, named_by_traces or {})
    retries = retries_of(by_key.values())

    with_pod = Counter(key for _, key in joined.values() if key)
    known_jobs = []
    for place, pod in enumerate(pods):
        how, key = joined.get(place, (How.UNMATCHED, None))
        known = KNOWN_BY.get(how)
        done = completed(pod, by_key[key], known, retries, settled_until) if key else pod
        known_jobs.append(bounded_by_job(done, by_key[key]) if key and with_pod[key] == 1 else done)
    perhaps = {key for keys in candidates.values() for key in keys} - set(with_pod)
    alone = [job for key, job in ours.items() if key not in with_pod and key not in perhaps]
    over = [job for job in alone if job.started_at and job.finished_at]
    missed = [job for job in over if job.finished_at and job.finished_at <= settled_until]
    known_pods = named_by_traces or {}
    standing = [stand_in(job, cluster, observed_at, region, retries, known_pods.get(job.key)) for job in missed]

    verdicts = [false_green.Verdict(job.host, job.id, job.status, job.web_url) for job in by_key.values()]
    marked = false_green.mark(known_jobs, verdicts)
    standing += [stepped_back(one) for one in stand_ins if (one.gitlab_host, one.job_id) in with_pod]
    before = {one.pod_uid: one for one in (*pods, *stand_ins)}
    changed = [one for one in (*marked, *standing) if differs(one, before.get(one.pod_uid))]
    stamped = {one.pod_uid: _seen_by_gitlab(one, observed_at) for one in changed}
    kept = [one for one in stand_ins if one.pod_uid not in {new.pod_uid for new in standing}]
    everything = without_stand_ins([stamped.get(one.pod_uid, one) for one in (*marked, *standing, *kept)])
    report = MatchReport(
        pods=Counter(joined.get(place, (How.UNMATCHED, None))[0] for place in range(len(pods))),
        jobs=_fates(by_key, ours, with_pod, perhaps, missed),
        pods_of_a_job=Counter(with_pod.values()),
        ambiguous={_name(pods[place]): keys for place, keys in candidates.items()},
        unmatched=tuple(_name(pod) for place, pod in enumerate(pods) if place not in joined),
        missed=tuple(missed),
        failure_reasons=Counter(job.failure_reason for job in by_key.values() if job.failure_reason),
        queued=tuple(job.queued_seconds for job in ours.values() if job.started_at and job.queued_seconds is not None),
        green=false_green.check(marked, verdicts),
    )
    return Matched(tuple(everything), tuple(stamped.values()), report)


def _seen_by_gitlab(record: PodRecord, observed_at: datetime) -> PodRecord:
    """Stamped with this look, so that it holds over what was seen before."""
    return msgspec.structs.replace(record, observed_at=max(record.observed_at, observed_at))


def _fates(
    by_key: Mapping[JobKey, Job],
    ours: Mapping[JobKey, Job],
    with_pod: Collection[JobKey],
    perhaps: Collection[JobKey],
    missed: Sequence[Job],
) -> dict[str, int]:
    left = [job for key, job in ours.items() if key not in with_pod and key not in perhaps]
    not_started = sum(job.started_at is None for job in left)
    return {
        "with a pod": len(set(with_pod)),
        "perhaps with a pod": len(perhaps),
        "without a pod": len(missed),
        "not started": not_started,
        "not over": len(left) - not_started - len(missed),
        "of another runner": sum(key not in ours and key not in with_pod for key in by_key),
    }


def _name(pod: PodRecord) -> str:
    return pod.pod_name or pod.pod_uid
