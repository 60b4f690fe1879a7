"""Jobs that have ended before anybody asked: played traffic tells this GitLab of its jobs, with their played times.

`POST /-/sandbox/finished-jobs` takes `{"projects": [{"id", "path"}], "jobs": [...], "runner": id}`, a job's keys being
those of `FinishedJob`; without `runner` they ran on one that is made for them. From loopback only; a job id that is there
already, or a runner that is not, is refused, and nothing of that request is kept.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sandbox.gitlab.instance import Instance
from sandbox.gitlab.job_spec import JobSpec
from sandbox.gitlab.records import Group, Job, Pipeline, Project, Runner
from sandbox.gitlab.repository import Author, Change, Repository

PATH = "/-/sandbox/finished-jobs"
_LOOPBACK = ("127.0.0.1", "::1", "testclient")
RUNNER = "played traffic"


class FinishedJob(msgspec.Struct, frozen=True):
    """A job as a runner left it; `status` is success, failed or canceled, times are aware."""

    id: int
    project_id: int
    pipeline_id: int
    name: str
    stage: str
    ref: str
    status: str
    created_at: dt.datetime
    started_at: dt.datetime
    finished_at: dt.datetime
    failure_reason: str | None = None
    retried: bool = False


class _Project(msgspec.Struct, frozen=True):
    id: int
    path: str


class _Told(msgspec.Struct, frozen=True):
    projects: tuple[_Project, ...]
    jobs: tuple[FinishedJob, ...]
    runner: int | None = None


def route(instance: Instance) -> Route:
    """The door by which traffic tells of its jobs."""

    async def tell(request: Request) -> Response:
        if request.client is None or request.client.host not in _LOOPBACK:
            return JSONResponse({"message": "403 Forbidden"}, 403)
        try:
            told = msgspec.json.decode(await request.body(), type=_Told)
        except msgspec.DecodeError as wrong:
            return JSONResponse({"error": f"no finished jobs: {wrong}"}, 400)
        there = sorted(job.id for job in told.jobs if job.id in instance.jobs)
        if there:
            return JSONResponse({"error": f"jobs that are there already: {there[:10]}"}, 409)
        if told.runner is not None and told.runner not in instance.runners:
            return JSONResponse({"error": f"no runner {told.runner}"}, 400)
        keep(instance, told.projects, told.jobs, told.runner)
        return JSONResponse({"jobs": len(told.jobs)}, 201)

    return Route(PATH, tell, methods=["POST"])


def keep(
    instance: Instance, projects: tuple[_Project, ...], jobs: tuple[FinishedJob, ...], runner_id: int | None = None
) -> None:
    """Add jobs of this runner (None: of one that is made for them) with their pipelines, and projects that are not there yet."""
    for row in projects:
        if row.id not in instance.projects:
            _add_project(instance, row)
    runner = instance.runners[runner_id] if runner_id is not None else _runner(instance)
    for job in jobs:
        pipeline = instance.pipelines.get(job.pipeline_id) or _add_pipeline(instance, job)
        pipeline.finished_at = max(pipeline.finished_at or job.finished_at, job.finished_at)
        pipeline.updated_at = pipeline.finished_at
        if job.status == "failed" and not job.retried:
            pipeline.status = "failed"
        instance.jobs[job.id] = Job(
            id=job.id, project_id=job.project_id, pipeline_id=job.pipeline_id,
            spec=JobSpec(job.name, job.stage), stage_index=0, status=job.status, token=f"played-{job.id}",
            created_at=job.created_at, user_id=1, queued_at=job.created_at, started_at=job.started_at,
            finished_at=job.finished_at, runner_id=runner.id, failure_reason=job.failure_reason, retried=job.retried,
        )  # fmt: skip


def _add_project(instance: Instance, row: _Project) -> None:
    group = _group(instance, row.path.rpartition("/")[0])
    name = row.path.rpartition("/")[2]
    project = Project(
        id=row.id, path=name, name=name, namespace_id=group.id, full_path=row.path, created_at=instance.now(),
        repository=instance.directory / "repositories" / f"{row.id}.git",
    )  # fmt: skip
    author = Author("Root", "root@example.com")
    repository = Repository.create(project.repository, project.default_branch)
    readme = [Change("create", "README.md", b"Its pipelines are played.\n")]
    when = int(instance.now().timestamp())
    repository.create_commit(project.default_branch, readme, "Add a readme\n", author, parent=None, when=when)
    instance.projects[row.id] = project


def _group(instance: Instance, path: str) -> Group:
    found = instance.find_group(path)
    if found is not None:
        return found
    above, _, name = path.rpartition("/")
    parent = _group(instance, above) if above else None
    group = Group(instance.next_id("groups"), name, path, name, parent_id=parent.id if parent else None)
    instance.groups[group.id] = group
    return group


def _add_pipeline(instance: Instance, job: FinishedJob) -> Pipeline:
    project = instance.projects[job.project_id]
    head: Any = instance.repository(project).resolve(project.default_branch)
    pipeline = Pipeline(
        id=job.pipeline_id, iid=project.next_pipeline_iid, project_id=project.id, ref=job.ref, sha=head,
        before_sha="0" * 40, tag=False, source="push", user_id=1, created_at=job.created_at, protected=False,
        stages=(), status="success", started_at=job.started_at,
    )  # fmt: skip
    project.next_pipeline_iid += 1
    instance.pipelines[pipeline.id] = pipeline
    return pipeline


def _runner(instance: Instance) -> Runner:
    found = next((one for one in instance.runners.values() if one.description == RUNNER), None)
    if found is not None:
        return found
    runner = Runner(
        instance.next_id("runners"),
        f"played-{len(instance.runners)}",
        "instance_type",
        instance.now(),
        RUNNER,
        paused=True,
    )
    instance.runners[runner.id] = runner
    return runner
