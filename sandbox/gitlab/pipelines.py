"""How pipelines come to be and move on: creation, stage order, retries, cancelling, giving up.

The functions change rows of an :class:`Instance`; the HTTP doors above call them.
"""

from __future__ import annotations

import datetime as dt
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import replace

from sandbox.gitlab import ci_config, job_variables
from sandbox.gitlab.durations import parse_duration
from sandbox.gitlab.instance import Instance
from sandbox.gitlab.job_queue import suitable_runners
from sandbox.gitlab.job_spec import FAILURE_REASONS, JobSpec
from sandbox.gitlab.records import ACTIVE_STATUSES, FINISHED_STATUSES, Job, Pipeline, Project, User, Variable
from sandbox.gitlab.repository import ZERO_SHA

CI_FILE = ".gitlab-ci.yml"


class PipelineError(Exception):
    """No pipeline was made; the message is GitLab's `base` error."""


def create(
    instance: Instance, project: Project, user: User, ref: str, *, source: str,
    variables: Sequence[Variable] = (), before_sha: str = ZERO_SHA,
) -> Pipeline:  # fmt: skip
    """A pipeline on a branch or a tag, its first jobs queued. Raises PipelineError."""
    repository = instance.repository(project)
    tag = ref not in repository.branches() and ref in repository.tags()
    sha = (repository.tags() if tag else repository.branches()).get(ref)
    if sha is None:
        raise PipelineError("Reference not found")
    now = instance.now()
    pipeline = Pipeline(
        id=instance.next_id("pipelines"), iid=project.next_pipeline_iid, project_id=project.id, ref=ref, sha=sha,
        before_sha=before_sha, tag=tag, source=source, user_id=user.id, created_at=now, updated_at=now,
        protected=instance.is_protected(project, ref), stages=(), variables=tuple(variables),
    )  # fmt: skip
    text = repository.read(sha, CI_FILE)
    if text is None:
        raise PipelineError("Missing CI config file")
    stages, specs = _chosen(instance, pipeline, text.decode(errors="replace"))
    project.next_pipeline_iid += 1
    pipeline.stages = stages
    instance.pipelines[pipeline.id] = pipeline
    for spec in sorted(specs, key=lambda spec: stages.index(spec.stage)):
        _add_job(instance, pipeline, spec, user)
    advance(instance, pipeline)
    return pipeline


def dry_run(instance: Instance, project: Project, user: User, text: str, ref: str, sha: str) -> tuple[JobSpec, ...]:
    """The jobs that `text` would make on `ref`, with nothing stored. Raises :class:`ci_config.NoPipeline`."""
    pipeline = Pipeline(
        id=0, iid=0, project_id=project.id, ref=ref, sha=sha, before_sha=ZERO_SHA, tag=False, source="push",
        user_id=user.id, created_at=instance.now(), protected=instance.is_protected(project, ref), stages=(),
    )  # fmt: skip
    return _select(instance, pipeline, ci_config.parse(text))


def _chosen(instance: Instance, pipeline: Pipeline, text: str) -> tuple[tuple[str, ...], tuple[JobSpec, ...]]:
    try:
        configuration = ci_config.parse(text)
        return configuration.stages, _select(instance, pipeline, configuration)
    except ci_config.NoPipeline as refusal:
        raise PipelineError(", ".join(refusal.errors)) from refusal


def _select(instance: Instance, pipeline: Pipeline, configuration: ci_config.Configuration) -> tuple[JobSpec, ...]:
    known = {variable.key: variable.value for variable in job_variables.of_pipeline(instance, pipeline)}
    specs = ci_config.select(configuration, known, pipeline.ref, tag=pipeline.tag)
    return tuple(replace(spec, variables={**configuration.variables, **spec.variables}) for spec in specs)


def _add_job(instance: Instance, pipeline: Pipeline, spec: JobSpec, user: User, retry_count: int = 0) -> Job:
    job = Job(
        id=instance.next_id("jobs"), project_id=pipeline.project_id, pipeline_id=pipeline.id, spec=spec,
        stage_index=pipeline.stages.index(spec.stage), status="created", token=f"glcbt-{secrets.token_urlsafe(15)}",
        created_at=instance.now(), user_id=user.id, retry_count=retry_count,
    )  # fmt: skip
    instance.jobs[job.id] = job
    return job


# ------------------------------------------------------------------------------------------ moving on


def advance(instance: Instance, pipeline: Pipeline) -> None:
    """Queue, skip or hold every `created` job whose turn has come, then set the pipeline's status."""
    changed = True
    while changed:
        jobs = instance.pipeline_jobs(pipeline)
        changed = any([_start(instance, job, jobs) for job in jobs if job.status == "created"])
    _set_status(instance, pipeline)


def _start(instance: Instance, job: Job, jobs: list[Job]) -> bool:
    before = _predecessors(job, jobs)
    if any(not _settled(other) for other in before):
        return False
    failed = any(other.status in ("failed", "canceled") and not other.allow_failure for other in before)
    blocked = failed or (job.spec.needs is not None and any(other.status == "skipped" for other in before))
    wanted = {"on_success": not blocked, "manual": not blocked, "on_failure": failed, "always": True}[job.spec.when]
    if not wanted:
        job.status = "skipped"
    elif job.spec.when == "manual" and not job.manually_played:
        job.status = "manual"
    else:
        _enqueue(instance, job)
    return True


def _predecessors(job: Job, jobs: list[Job]) -> list[Job]:
    if job.spec.needs is not None:
        names = {need.job for need in job.spec.needs}
        return [other for other in jobs if other.name in names]
    return [other for other in jobs if other.stage_index < job.stage_index]


def _settled(job: Job) -> bool:
    return job.finished or (job.status == "manual" and job.allow_failure)


def _enqueue(instance: Instance, job: Job) -> None:
    job.status = "pending"
    job.queued_at = instance.now()
    instance.tick()


def _set_status(instance: Instance, pipeline: Pipeline) -> None:
    status = status_of(instance.pipeline_jobs(pipeline))
    now = instance.now()
    if status == pipeline.status:
        return
    pipeline.status, pipeline.updated_at = status, now
    if status == "running" and pipeline.started_at is None:
        pipeline.started_at = now
    pipeline.finished_at = now if status in FINISHED_STATUSES else None
    if status in FINISHED_STATUSES:
        _drop_ref(instance, pipeline)


_QUIET = frozenset({"skipped", "ignored"})
_FINE = _QUIET | {"success", "warning"}
# The first row whose set holds all that is seen gives the status; then the first status that is seen at all.
_ONLY = (
    (_QUIET, "skipped"),
    (_FINE, "success"),
    (frozenset({"created", "warning", "ignored"}), "created"),
    (_FINE | {"canceled"}, "canceled"),
    (frozenset({"pending", "created", "skipped", "warning", "ignored"}), "pending"),
)
_ANY = (
    ("running", "running"), ("pending", "running"), ("canceling", "canceling"), ("manual", "manual"),
    ("created", "running"),
)  # fmt: skip


def status_of(jobs: Sequence[Job]) -> str:
    """The status of a set of jobs, as GitLab composes it."""
    seen = {_counted(job) for job in jobs}
    only = (status for names, status in _ONLY if seen <= names)
    some = (status for name, status in _ANY if name in seen)
    return next(only, None) or next(some, "failed")


def _counted(job: Job) -> str:
    """What a job counts as: a failure that is allowed is a warning, other allowed ends are ignored."""
    if not job.allow_failure:
        return job.status
    return {"failed": "warning", "canceled": "ignored", "manual": "ignored"}.get(job.status, job.status)


# --------------------------------------------------------------------------------- what happens to a job


def begin(instance: Instance, job: Job) -> None:
    """A runner has the job and works on it."""
    job.status, job.started_at, job.awaits_acknowledgement = "running", instance.now(), False
    pipeline = instance.pipelines[job.pipeline_id]
    instance.repository(instance.projects[job.project_id]).write_ref(f"refs/pipelines/{pipeline.id}", pipeline.sha)
    _set_status(instance, pipeline)


def finish(
    instance: Instance, job: Job, status: str, failure_reason: str | None = None, exit_code: int | None = None
) -> None:
    """The end of a job: `success`, `failed` (retried where its `retry:` says so) or `canceled`."""
    job.status, job.finished_at = status, instance.now()
    if status == "failed":
        job.failure_reason = failure_reason if failure_reason in FAILURE_REASONS else "unknown_failure"
        job.exit_code = exit_code
        if _retries(job):
            repeat(instance, job, instance.users[job.user_id], retry_count=job.retry_count + 1)
            return
    advance(instance, instance.pipelines[job.pipeline_id])


def _retries(job: Job) -> bool:
    reasons = job.spec.retry_when
    return job.retry_count < job.spec.retry_max and ("always" in reasons or job.failure_reason in reasons)


def repeat(instance: Instance, job: Job, user: User, retry_count: int = 0) -> Job:
    """A new job in place of a finished one; what was skipped because of it gets another chance."""
    pipeline = instance.pipelines[job.pipeline_id]
    again = _replace(instance, job, user, retry_count)
    _reopen_after(instance, job)
    _enqueue(instance, again)
    _set_status(instance, pipeline)
    return again


def _replace(instance: Instance, job: Job, user: User, retry_count: int = 0) -> Job:
    job.retried = True
    again = _add_job(instance, instance.pipelines[job.pipeline_id], job.spec, user, retry_count)
    again.manually_played = job.started_at is not None or job.manually_played
    return again


def _reopen_after(instance: Instance, job: Job) -> None:
    pipeline = instance.pipelines[job.pipeline_id]
    for other in instance.pipeline_jobs(pipeline):
        if other.status == "skipped" and other.stage_index > job.stage_index:
            other.status = "created"


def play(instance: Instance, job: Job, variables: Sequence[Variable]) -> None:
    """Start a manual job."""
    job.manually_played = True
    job.extra_variables = tuple(variables)
    _enqueue(instance, job)
    _set_status(instance, instance.pipelines[job.pipeline_id])


def cancel_job(instance: Instance, job: Job, *, force: bool = False) -> None:
    """Cancel one job: `canceling` first where its runner can stop gracefully (GitLab 17.0 on), else at once."""
    graceful = job.runner_info is not None and bool(job.runner_info.features.get("cancel_gracefully"))
    if job.status == "running" and graceful and not force and instance.options.release >= (17, 0):
        job.status = "canceling"
        _set_status(instance, instance.pipelines[job.pipeline_id])
    elif job.status in ACTIVE_STATUSES | {"manual"}:
        finish(instance, job, "canceled")


def cancel(instance: Instance, pipeline: Pipeline) -> None:
    # From the end backwards, so that no later job is skipped or started because an earlier one was canceled.
    for job in sorted(instance.pipeline_jobs(pipeline), key=lambda job: -job.stage_index):
        if job.status in ACTIVE_STATUSES:
            cancel_job(instance, job)


def retry(instance: Instance, pipeline: Pipeline, user: User) -> None:
    """Repeat every failed or cancelled job."""
    for job in instance.pipeline_jobs(pipeline):
        if job.status in ("failed", "canceled"):
            _replace(instance, job, user)
            _reopen_after(instance, job)
    advance(instance, pipeline)


def delete(instance: Instance, pipeline: Pipeline) -> None:
    for job in instance.pipeline_jobs(pipeline, retried=True):
        erase_files(job)
        del instance.jobs[job.id]
    _drop_ref(instance, pipeline)
    del instance.pipelines[pipeline.id]


def erase(instance: Instance, job: Job) -> None:
    """Remove trace and artifacts; the row stays."""
    erase_files(job)
    job.trace.clear()
    job.erased_at = instance.now()


def erase_files(job: Job) -> None:
    for artifact in job.artifacts.values():
        artifact.path.unlink(missing_ok=True)
    job.artifacts.clear()


def expire_artifacts_at(instance: Instance, expire_in: str | None) -> dt.datetime | None:
    """When artifacts go: GitLab's default is 30 days, `never` keeps them."""
    if expire_in is not None and expire_in.strip().lower() == "never":
        return None
    return instance.now() + dt.timedelta(seconds=parse_duration(expire_in or "30 days"))


def _drop_ref(instance: Instance, pipeline: Pipeline) -> None:
    instance.repository(instance.projects[pipeline.project_id]).delete_ref(f"refs/pipelines/{pipeline.id}")


# --------------------------------------------------------------------------------------------- giving up


def give_up(instance: Instance) -> None:
    """What GitLab's cron workers do: end jobs that nobody can take or that nobody speaks about any more."""
    for job in list(instance.jobs.values()):
        if job.awaits_acknowledgement and _older(instance, job.contacted_at, instance.options.limits.acknowledgement):
            job.awaits_acknowledgement, job.runner_id, job.runner_info = False, None, None
            instance.tick()
        elif _is_stuck(instance, job):
            finish(instance, job, "failed", "stuck_or_timeout_failure")


def _is_stuck(instance: Instance, job: Job) -> bool:
    limits = instance.options.limits
    if job.status in ("running", "canceling"):
        return _older(instance, job.contacted_at or job.started_at, limits.running_without_contact)
    if job.status != "pending":
        return False
    if _older(instance, job.queued_at, limits.pending):
        return True
    return _older(instance, job.queued_at, limits.pending_without_runner) and not suitable_runners(instance, job)


def _older(instance: Instance, moment: dt.datetime | None, seconds: int) -> bool:
    return moment is not None and (instance.now() - moment).total_seconds() > seconds


# ------------------------------------------------------------------------------------------------ pushes


def after_push(
    instance: Instance, project: Project, user: User, changed: Iterable[tuple[str, str, str]]
) -> list[Pipeline]:
    """Make the pipelines of a push: `changed` is (branch, sha before, sha after); deletions make none.

    A file that makes no jobs makes no pipeline, as in GitLab; one with errors makes a failed pipeline without jobs.
    """
    made = []
    for branch, before, after in changed:
        if after == ZERO_SHA or _asks_to_skip(instance, project, after):
            continue
        try:
            made.append(create(instance, project, user, branch, source="push", before_sha=before))
        except PipelineError as error:
            failed = _failed(instance, project, user, branch, before, after, str(error))
            made.extend([failed] if failed else [])
    return made


def _asks_to_skip(instance: Instance, project: Project, sha: str) -> bool:
    commit = instance.repository(project).commit(sha)
    message = commit.message.lower() if commit else ""
    return "[skip ci]" in message or "[ci skip]" in message


def _failed(
    instance: Instance, project: Project, user: User, branch: str, before: str, after: str, error: str
) -> Pipeline | None:
    if error == "Missing CI config file" or "would have been empty" in error or "filtered out" in error:
        return None
    now = instance.now()
    pipeline = Pipeline(
        id=instance.next_id("pipelines"), iid=project.next_pipeline_iid, project_id=project.id, ref=branch, sha=after,
        before_sha=before, tag=False, source="push", user_id=user.id, created_at=now, updated_at=now, finished_at=now,
        protected=instance.is_protected(project, branch), stages=(), yaml_errors=error, status="failed",
    )  # fmt: skip
    project.next_pipeline_iid += 1
    instance.pipelines[pipeline.id] = pipeline
    return pipeline
