"""GitLab's jobs beside the pods that ran them: verdicts for pods that were watched, bounded records for jobs that were not.

    jobs = read_jobs(client, since=…, runners=[12])               # the only function here that asks GitLab
    matched = match(records, jobs, cluster="…", observed_at=now)
    matched.to_write, matched.report

A job may have several pods, because a pull or a preparation is tried again, and a pod has one job or none. A pod is
joined by the job's id and GitLab's host; else by its name in the job's trace; else where one job only of its project and
runner ran when the pod was made. What fits several jobs is joined to none, and is named.
"""

from __future__ import annotations

import re
import statistics
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

import msgspec

from runbook import moments
from runbook.errors import GitLabNotFound
from runbook.history import false_green
from runbook.history.observation import MISSING
from runbook.history.record import End, JobKnown, Known, PodRecord, Source, differs
from runbook.report import Check, Report
from runbook.runner import trace as job_trace

if TYPE_CHECKING:
    from runbook.clients.gitlab import GitLabClient
    from runbook.settings import Settings

SKEW = timedelta(seconds=5)
"""How far the clocks of GitLab and of the cluster may differ."""

CLEANUP = timedelta(minutes=5)
"""How long after its job a pod may be there: what a runner allows itself for deleting it (`cleanup_resources_timeout`)."""

LOOKBACK = timedelta(days=1)
"""GitLab lists jobs by creation. One that was made this long before `since` and started after it is still found."""

STAND_IN = "job:"
"""How the `pod_uid` of a record begins that stands for a job whose pod nobody saw."""

TURNED_UP = "the job's pod has a record of its own"
"""What a stand-in says when the pod turned up after all."""

_WEB_URL = re.compile(r"/(?P<path>.+?)/(?:-/)?jobs/\d+$")
_DEFAULT_PORT = re.compile(r":(80|443)$")
_NO_KEYSET = 405
_SHOWN = 20

JobKey = tuple[str, int]


@dataclass(frozen=True)
class Job:
    """One job as GitLab's API shows it. `queued_seconds` is how long it waited for a runner."""

    host: str
    id: int
    status: str
    name: str
    created_at: datetime
    stage: str | None = None
    ref: str | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    queued_seconds: float | None = None
    failure_reason: str | None = None
    pipeline_id: int | None = None
    project_id: int | None = None
    project_path: str | None = None
    runner_id: int | None = None
    runner_name: str | None = None
    system_id: str | None = None
    runner_version: str | None = None
    web_url: str = ""

    @classmethod
    def from_api(cls, entity: Mapping[str, Any], *, gitlab_url: str, runner: Mapping[str, Any] | None = None) -> Job:
        """From an entity of `/projects/:id/jobs`, or of `/runners/:id/jobs`, which leaves its `runner` out."""
        pipeline, project = entity.get("pipeline") or {}, entity.get("project") or {}
        taken_by, manager = entity.get("runner") or runner or {}, entity.get("runner_manager") or {}
        address = str(entity.get("web_url") or "")
        return cls(
            host=host_of(address or gitlab_url),
            id=int(entity["id"]),
            status=str(entity["status"]),
            name=str(entity["name"]),
            created_at=moments.parse(entity["created_at"]),
            stage=entity.get("stage"),
            ref=entity.get("ref"),
            started_at=_moment(entity.get("started_at")),
            finished_at=_moment(entity.get("finished_at")),
            queued_seconds=entity.get("queued_duration"),
            failure_reason=entity.get("failure_reason"),
            pipeline_id=pipeline.get("id"),
            project_id=project.get("id") or pipeline.get("project_id"),
            project_path=project.get("path_with_namespace") or _path_of(address, gitlab_url),
            runner_id=taken_by.get("id"),
            runner_name=taken_by.get("description"),
            system_id=manager.get("system_id"),
            runner_version=manager.get("version"),
            web_url=address,
        )

    @property
    def key(self) -> JobKey:
        return self.host, self.id

    def __str__(self) -> str:
        return f"{self.project_path or f'project {self.project_id}'} job {self.id} ({self.name}, {self.status})"


def host_of(address: str | None) -> str:
    """Host of an address or of a bare host, with its port where that is not the usual one."""
    text = address or ""
    host = urlsplit(text if "//" in text else f"//{text}").netloc.rpartition("@")[2]
    return _DEFAULT_PORT.sub("", host.lower())


def _moment(text: str | None) -> datetime | None:
    return moments.parse(text) if text else None


def _path_of(web_url: str, gitlab_url: str) -> str | None:
    found = _WEB_URL.match(urlsplit(web_url).path.removeprefix(urlsplit(gitlab_url).path.rstrip("/")))
    return found["path"] if found else None


# -- asking GitLab ----------------------------------------------------------------------------------------------------


def read_jobs(
    client: GitLabClient,
    *,
    since: datetime,
    runners: Sequence[int] = (),
    projects: Sequence[str] = (),
    groups: Sequence[str] = (),
    lookback: timedelta = LOOKBACK,
) -> tuple[Job, ...]:
    """The jobs of runners, projects and groups (with their subgroups) that ended after `since` or have not, each once.

    GitLab gives no jobs by date: pages go from the newest back, until a job was made `lookback` before `since`. Raises
    GitLabError.
    """
    jobs: dict[int, Job] = {}
    for path, runner in _lists(client, runners, projects, groups):
        for entity in _newest_first(client, path):
            job = Job.from_api(entity, gitlab_url=client.url, runner=runner)
            if job.created_at < since - lookback:
                break
            if job.finished_at is None or job.finished_at >= since:
                # A project's list says more than a runner's: its row holds the runner and its machine.
                jobs[job.id] = job if job.id not in jobs or runner is None else jobs[job.id]
    return tuple(jobs[id] for id in sorted(jobs))


def _lists(
    client: GitLabClient, runners: Sequence[int], projects: Sequence[str], groups: Sequence[str]
) -> Iterator[tuple[str, Mapping[str, Any] | None]]:
    for id in dict.fromkeys(runners):
        yield f"/runners/{id}/jobs", client.get(f"/runners/{id}", what=f"runner {id}")
    paths = dict.fromkeys(quote(project, safe="") for project in projects)
    for group in dict.fromkeys(groups):
        listed = client.list(
            f"/groups/{quote(group, safe='')}/projects",
            what=f"the projects of group {group}",
            include_subgroups="true",
        )
        paths |= dict.fromkeys(str(one["id"]) for one in listed)
    for path in paths:
        yield f"/projects/{path}/jobs", None


def _newest_first(client: GitLabClient, path: str) -> Iterator[dict[str, Any]]:
    """The jobs of a list, page after page as they are taken; by offset where this GitLab has no keyset for it."""
    from gitlab.exceptions import GitlabHttpError

    query: dict[str, Any] = {"per_page": 100, "order_by": "id", "sort": "desc"}
    with client.reading(f"the jobs at {path}", scope="read_api"):
        try:
            rows = client.api.http_list(path, query_data=query | {"pagination": "keyset"}, iterator=True)
        except GitlabHttpError as error:
            if error.response_code != _NO_KEYSET:
                raise
            rows = client.api.http_list(path, query_data=query, iterator=True)
        yield from rows


def runners_of(client: GitLabClient, settings: Settings) -> tuple[int, ...]:
    """GitLab's ids of the card's runners: those with its description, of the card's owner.

    Raises GitLabNotFound where there is none, GitLabError where the token may not list them.
    """
    card = settings.runner
    owner = quote(card.group or card.project or "", safe="")
    path = "/runners/all" if card.type == "instance" else f"/{card.type}s/{owner}/runners"
    listed = client.list(path, what="the list of runners")
    found = tuple(int(one["id"]) for one in listed if one.get("description") == card.description)
    if found:
        return found
    raise GitLabNotFound(
        "GitLab has no runner of the card's description.",
        where=f"{settings.card}: runner.description",
        value=card.description,
        allowed=", ".join(sorted({str(one.get("description")) for one in listed})) or None,
        remedy="Register it with notebook 40, or name it: --runner ID.",
        page="#gitlab-not-found",
    )


def pods_named_by_traces(client: GitLabClient, jobs: Iterable[Job]) -> dict[JobKey, str]:
    """The pod that each job's trace names; one request a job. A job without a trace, or an erased one, is left out."""
    named: dict[JobKey, str] = {}
    for job in jobs:
        path = f"/projects/{job.project_id}/jobs/{job.id}/trace"
        try:
            with client.reading(f"the trace of job {job.id}", scope="read_api"):
                answer = client.api.http_request("get", path)
        except GitLabNotFound:
            continue
        pod = job_trace.pod_name(answer.content.decode(errors="replace"))
        if pod:
            named[job.key] = pod
    return named


# -- which pod ran which job ------------------------------------------------------------------------------------------


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
_KNOWN = {how: known for known, how in _JOINED.items()}


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
    joined, candidates = _join(pods, by_key, ours, named_by_traces or {})
    retries = _retries(by_key.values())

    with_pod = Counter(key for _, key in joined.values() if key)
    completed = []
    for place, pod in enumerate(pods):
        how, key = joined.get(place, (How.UNMATCHED, None))
        known = _KNOWN.get(how)
        done = _completed(pod, by_key[key], known, retries, settled_until) if key else pod
        completed.append(_bounded_by_job(done, by_key[key]) if key and with_pod[key] == 1 else done)
    perhaps = {key for keys in candidates.values() for key in keys} - set(with_pod)
    alone = [job for key, job in ours.items() if key not in with_pod and key not in perhaps]
    over = [job for job in alone if job.started_at and job.finished_at]
    missed = [job for job in over if job.finished_at and job.finished_at <= settled_until]
    known_pods = named_by_traces or {}
    standing = [_stand_in(job, cluster, observed_at, region, retries, known_pods.get(job.key)) for job in missed]

    verdicts = [false_green.Verdict(job.host, job.id, job.status, job.web_url) for job in by_key.values()]
    marked = false_green.mark(completed, verdicts)
    standing += [_stepped_back(one) for one in stand_ins if (one.gitlab_host, one.job_id) in with_pod]
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


def is_stand_in(record: PodRecord) -> bool:
    """Whether a record stands for a job whose pod nobody saw."""
    return record.pod_uid.startswith(STAND_IN)


def without_stand_ins(records: Iterable[PodRecord]) -> list[PodRecord]:
    """The records without those that stand for a job of which a pod is among them after all: no job counts twice."""
    held = list(records)
    seen = {(one.cluster, one.gitlab_host, one.job_id) for one in held if one.job_id and not is_stand_in(one)}
    return [one for one in held if not is_stand_in(one) or (one.cluster, one.gitlab_host, one.job_id) not in seen]


def _join(
    pods: Sequence[PodRecord],
    by_key: Mapping[JobKey, Job],
    ours: Mapping[JobKey, Job],
    named_by_traces: Mapping[JobKey, str],
) -> tuple[dict[int, tuple[How, JobKey | None]], dict[int, tuple[JobKey, ...]]]:
    """How each pod is joined, by its place, and the candidates of those that fit several jobs."""
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


def _retries(jobs: Iterable[Job]) -> dict[JobKey, int]:
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


def _completed(
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


def _bounded_by_job(pod: PodRecord, job: Job) -> PodRecord:
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


def _stand_in(
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


def _stepped_back(stand_in: PodRecord) -> PodRecord:
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
