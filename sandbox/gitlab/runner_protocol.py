"""The doors that a runner uses while it works: take a job, write its trace, hand in artifacts, say how it ended.

A job is known by its own token, as parameter or in the `JOB-TOKEN` header. Where the token or the job is wrong
the answer is 403, never 404: a runner ends its job on 403.
"""

from __future__ import annotations

import asyncio
import re
import time

from starlette.responses import JSONResponse, Response

from sandbox.gitlab import job_payload, job_queue, pipelines
from sandbox.gitlab.answers import ApiError, answer, error, no_content, plain_error
from sandbox.gitlab.endpoint import Call, Endpoint
from sandbox.gitlab.multipart import Upload
from sandbox.gitlab.parameters import Parameter, declared
from sandbox.gitlab.records import HELD_STATUSES, Artifact, Job, Runner, RunnerManager
from sandbox.gitlab.rest import jobs, runners

ARTIFACT_TYPES = ("archive", "metadata", "junit", "trace")
ARTIFACT_FORMATS = ("zip", "gzip", "raw")
_WORKHORSE_TYPE = "application/vnd.gitlab-workhorse+json"
# Runners from here on confirm that they have received a job before it counts as running.
_TWO_PHASE_FROM = (18, 5)
_LOOK_SECONDS = 0.05


async def hold(call: Call) -> None:
    """Long polling, as GitLab Workhorse does it: with a known `last_update` a request waits for news or its time."""
    runner = call.instance.find_runner(str(call.arguments.get("token") or call.header("runner-token") or ""))
    last_update = call.arguments.get("last_update")
    deadline = time.monotonic() + call.instance.options.long_poll_seconds
    while runner is not None and time.monotonic() < deadline and last_update == call.instance.queue_value(runner):
        await asyncio.sleep(_LOOK_SECONDS)


def request_job(call: Call) -> Response:
    """`POST /jobs/request`: 201 with a job, or 204 with the value to send back as `last_update`."""
    runner = runners.of_token(call)
    manager = runners.heartbeat(call, runner)
    queue_value = call.instance.queue_value(runner)
    if runner.paused or call.arguments.get("last_update") == queue_value:
        return no_content({"X-GitLab-Last-Update": queue_value})
    job = _take(call, runner, manager)
    if job is None:
        return no_content({"X-GitLab-Last-Update": queue_value})
    return answer(job_payload.payload(call.instance, job, runner), 201)


def _take(call: Call, runner: Runner, manager: RunnerManager) -> Job | None:
    """The next job that this runner is able to run; one that it is not able to run fails as `runner_unsupported`."""
    instance = call.instance
    while (job := job_queue.next_job(instance, runner)) is not None:
        job.runner_id, job.runner_info, job.contacted_at = runner.id, manager, instance.now()
        refusal = _refusal(call, job, manager)
        if refusal is not None:
            pipelines.finish(instance, job, "failed", refusal)
            continue
        job.timeout = job_queue.timeout_for(instance, runner, job)
        if instance.options.release >= _TWO_PHASE_FROM and manager.features.get("two_phase_job_commit"):
            job.awaits_acknowledgement = True
        else:
            pipelines.begin(instance, job)
        return job
    return None


def _refusal(call: Call, job: Job, manager: RunnerManager) -> str | None:
    """Why the job fails instead of being handed out: artifacts it needs are gone, or the runner lacks a feature."""
    now = call.instance.now()
    needed = job_payload.dependencies(call.instance, job)
    if any(other.artifacts_expire_at is not None and other.artifacts_expire_at < now for other in needed):
        return "missing_dependency_failure"
    return "runner_unsupported" if job_queue.missing_features(job, manager.features) else None


# ----------------------------------------------------------------------------------------- talking of a job


def _job(call: Call, *, running: bool = True, acknowledging: bool = False) -> Job:
    job = call.instance.jobs.get(int(call.path["id"])) if call.path["id"].isdigit() else None
    token = str(call.arguments.get("token") or call.header("job-token") or "")
    if job is None or token != job.token:
        raise error(403)
    if job.erased_at is not None:
        raise error(403, "Job has been erased!")
    if running and job.status not in HELD_STATUSES and not (acknowledging and job.awaits_acknowledgement):
        raise error(403, "Job is not running", {"Job-Status": job.status})
    job.contacted_at = call.instance.now()
    if job.runner_info is not None:
        job.runner_info.contacted_at = job.contacted_at
    return job


def update_job(call: Call) -> Response:
    """`PUT /jobs/:id`: `running` keeps the job alive (or acknowledges it), `success` and `failed` end it."""
    job = _job(call, acknowledging=True)
    wanted = declared(call.arguments, (
        Parameter("state"), Parameter("checksum"), Parameter("failure_reason"), Parameter("output", dict),
        Parameter("exit_code", int),
    ))  # fmt: skip
    state = wanted.get("state")
    if state not in (("pending", "running") if job.awaits_acknowledgement else ("running", "success", "failed")):
        return JSONResponse("400", status_code=400)
    if state in ("success", "failed"):
        ended = "canceled" if job.status == "canceling" else state
        pipelines.finish(call.instance, job, ended, wanted.get("failure_reason"), wanted.get("exit_code"))
        return JSONResponse("200")
    if state == "running" and job.awaits_acknowledgement:
        pipelines.begin(call.instance, job)
    return JSONResponse("200", headers={"Job-Status": job.status})


def append_trace(call: Call) -> Response:
    """`PATCH /jobs/:id/trace`: the bytes are added only where they start at the end of what is there."""
    job = _job(call)
    content_range = call.header("content-range")
    if content_range is None:
        raise ApiError(400, {"error": "400 Missing header Content-Range"})
    start = re.match(r"\s*(\d+)", content_range)
    if start is None or int(start.group(1)) != len(job.trace):
        raise ApiError(416, {"error": "416 Range Not Satisfiable"}, {"Range": f"0-{len(job.trace)}"})
    if len(job.trace) + len(call.body) > call.instance.options.limits.trace_bytes:
        pipelines.finish(call.instance, job, "failed", "trace_size_exceeded")
        raise ApiError(403, {"error": "403 Forbidden"})
    # Our own token must not be readable in a trace, whatever the runner masked.
    job.trace += call.body.replace(job.token.encode(), b"x" * len(job.token))
    headers = {
        "Job-Status": job.status, "Range": f"0-{len(job.trace)}",
        "X-GitLab-Trace-Update-Interval": str(call.instance.options.trace_update_interval),
    }  # fmt: skip
    return Response(b"", status_code=202, media_type="text/plain", headers=headers)


# ---------------------------------------------------------------------------------------------- artifacts


def authorize_artifacts(call: Call) -> Response:
    """`POST /jobs/:id/artifacts/authorize`: whether an upload of this size may come."""
    _job(call)
    wanted = declared(call.arguments, (Parameter("filesize", int), Parameter("artifact_type", values=ARTIFACT_TYPES)))
    limit = call.instance.options.limits.artifact_bytes
    if (wanted.get("filesize") or 0) > limit:
        raise error(413)
    return JSONResponse({"TempPath": "", "MaximumSize": limit}, media_type=_WORKHORSE_TYPE)


def upload_artifacts(call: Call) -> Response:
    """`POST /jobs/:id/artifacts`: one file of a kind and a job; the same again is fine, another is 400."""
    job = _job(call)
    wanted = declared(call.arguments, (
        Parameter("artifact_type", values=ARTIFACT_TYPES), Parameter("artifact_format", values=ARTIFACT_FORMATS),
        Parameter("expire_in"),
    ))  # fmt: skip
    upload = call.arguments.get("file")
    if not isinstance(upload, Upload):
        raise ApiError(400, {"error": "file is missing" if upload is None else "file is invalid"})
    if len(upload.content) > call.instance.options.limits.artifact_bytes:
        raise error(413)
    kind = wanted.get("artifact_type") or "archive"
    before = job.artifacts.get(kind)
    if before is not None and before.path.read_bytes() != upload.content:
        raise plain_error(400, "another artifact of the same type already exists")
    job.artifacts[kind] = _store(call, job, kind, wanted.get("artifact_format") or "zip", upload)
    job.artifacts_expire_at = pipelines.expire_artifacts_at(call.instance, wanted.get("expire_in"))
    return JSONResponse("201", status_code=201)


def _store(call: Call, job: Job, kind: str, file_format: str, upload: Upload) -> Artifact:
    path = call.instance.directory / "artifacts" / f"{job.id}-{kind}"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(upload.content)
    return Artifact(kind, file_format, upload.filename or "artifacts.zip", path, len(upload.content))


def download_artifacts(call: Call) -> Response:
    """`GET /jobs/:id/artifacts`, with the job's own token or that of a running job of somebody who may read it."""
    token = str(call.arguments.get("token") or call.header("job-token") or "")
    asking = call.instance.find_job(token) if token else None
    job = call.instance.jobs.get(int(call.path["id"])) if call.path["id"].isdigit() else None
    if asking is None or job is None:
        raise error(403)
    if asking.id != job.id:
        project = call.instance.projects[job.project_id]
        if asking.status not in HELD_STATUSES or not call.instance.project_role(
            call.instance.users[asking.user_id], project
        ):
            raise error(403)
    return jobs.archive(call.instance, job)


def discover_router(call: Call) -> Response:
    """`GET /runners/router/discovery`: this GitLab has no job router."""
    runners.of_token(call)
    return JSONResponse({"message": "501 Not Implemented"}, status_code=501)


ENDPOINTS = (
    Endpoint("POST", "/jobs/request", request_job, access="token", before=hold),
    Endpoint("PUT", "/jobs/{id}", update_job, access="token"),
    Endpoint("PATCH", "/jobs/{id}/trace", append_trace, access="token"),
    Endpoint("POST", "/jobs/{id}/artifacts/authorize", authorize_artifacts, access="token"),
    Endpoint("POST", "/jobs/{id}/artifacts", upload_artifacts, access="token"),
    Endpoint("GET", "/jobs/{id}/artifacts", download_artifacts, access="token"),
    Endpoint("GET", "/runners/router/discovery", discover_router, access="token"),
)
