"""GitLab's jobs, and the questions by which they are read: of a runner, of projects, of groups; which pod a trace names.

jobs = read_jobs(client, since=…, runners=runners_of(client, settings))
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from runbook import moments
from runbook.errors import GitLabNotFound
from runbook.runner import trace as job_trace
from runbook.runner.runner_mark import Mark

if TYPE_CHECKING:
    from runbook.clients.gitlab import GitLabClient
    from runbook.settings import Settings

LOOKBACK = timedelta(days=1)
"""GitLab lists jobs by creation. One that was made this long before `since` and started after it is still found."""

_WEB_URL = re.compile(r"/(?P<path>.+?)/(?:-/)?jobs/\d+$")
_DEFAULT_PORT = re.compile(r":(80|443)$")
_NO_KEYSET = 405

JobKey = tuple[str, int]
"""GitLab's host and the job's id."""


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
    """GitLab's ids of the card's runners: those with its mark, else (not registered by notebook 40) with its description.

    Raises GitLabNotFound where there is none, GitLabError where the token may not list them.
    """
    card = settings.runner
    owner = quote(card.group or card.project or "", safe="")
    path = "/runners/all" if card.type == "instance" else f"/{card.type}s/{owner}/runners"
    listed = client.list(path, what="the list of runners")
    marked = tuple(int(one["id"]) for one in listed if _mark(client, one) == settings.name)
    found = marked or tuple(int(one["id"]) for one in listed if one.get("description") == card.description)
    if found:
        return found
    raise GitLabNotFound(
        "GitLab has no runner with the card's mark, and none of its description.",
        where=f"{settings.card}: runner.description",
        value=card.description,
        allowed=", ".join(sorted({str(one.get("description")) for one in listed})) or None,
        remedy="Register it with notebook 40, or name it: --runner ID.",
        page="#gitlab-not-found",
    )


def _mark(client: GitLabClient, listed: Mapping[str, Any]) -> str | None:
    """The card that a runner's mark names; only a runner's own page shows its maintenance note."""
    details = client.get(f"/runners/{listed['id']}", what=f"runner {listed['id']}")
    mark = Mark.read(details.get("maintenance_note"))
    return mark.cluster if mark else None


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
