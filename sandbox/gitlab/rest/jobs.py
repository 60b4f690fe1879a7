"""Jobs: look, trace, artifacts, retry, cancel, play, erase."""

from __future__ import annotations

import io
import re
import zipfile

from starlette.responses import FileResponse, Response

from sandbox.gitlab import entities, pipelines
from sandbox.gitlab.answers import answer, error, not_found
from sandbox.gitlab.endpoint import Call, Endpoint
from sandbox.gitlab.instance import Instance
from sandbox.gitlab.pagination import jobs_page
from sandbox.gitlab.parameters import Parameter, declared
from sandbox.gitlab.records import ACTIVE_STATUSES, DEVELOPER, REPORTER, Artifact, Job
from sandbox.gitlab.rest.pipelines import read_variables, with_status


def project_jobs(call: Call) -> Response:
    project = call.project(REPORTER)
    rows = with_status(call, [job for job in call.instance.jobs.values() if job.project_id == project.id])
    return jobs_page(call, rows, lambda job: job.id, lambda job: entities.job(call.instance, job))


def show_job(call: Call) -> Response:
    return answer(entities.job(call.instance, call.job_of(call.project(REPORTER))))


def own_job(call: Call) -> Response:
    """`GET /job`: the job whose token is used."""
    if call.job is None:
        raise error(404)
    return answer(entities.job(call.instance, call.job))


def trace(call: Call) -> Response:
    """The whole trace as text, or the part that a `Range: bytes=a-b` header asks for."""
    content = bytes(call.job_of(call.project(REPORTER)).trace)
    wanted = re.fullmatch(r"bytes=(\d*)-(\d*)", call.header("range") or "")
    if wanted is None or not any(wanted.groups()):
        return Response(content, media_type="text/plain", headers={"Accept-Ranges": "bytes"})
    first, last = _span(wanted.group(1), wanted.group(2), len(content))
    if first > last:
        return Response(status_code=416, headers={"Content-Range": f"bytes */{len(content)}"})
    headers = {"Content-Range": f"bytes {first}-{last}/{len(content)}", "Accept-Ranges": "bytes"}
    return Response(content[first : last + 1], status_code=206, media_type="text/plain", headers=headers)


def _span(first: str, last: str, size: int) -> tuple[int, int]:
    """The inclusive byte range; `bytes=-5` is the last five bytes."""
    if not first:
        return max(0, size - int(last)), size - 1
    return int(first), min(int(last), size - 1) if last else size - 1


def retry_job(call: Call) -> Response:
    job = call.job_of(call.project(DEVELOPER))
    if not job.finished or job.status == "skipped" or job.retried:
        raise error(403, "Job is not retryable")
    return answer(entities.job(call.instance, pipelines.repeat(call.instance, job, call.caller)), 201)


def cancel_job(call: Call) -> Response:
    job = call.job_of(call.project(DEVELOPER))
    forced = declared(call.arguments, (Parameter("force", bool),)).get("force") or False
    if job.status in ACTIVE_STATUSES or job.status == "manual":
        pipelines.cancel_job(call.instance, job, force=forced)
    return answer(entities.job(call.instance, job), 201)


def play_job(call: Call) -> Response:
    job = call.job_of(call.project(DEVELOPER))
    if job.status != "manual":
        raise error(400, "Unplayable Job")
    variables = read_variables(call.arguments.get("job_variables_attributes", []), ("key", "value"))
    pipelines.play(call.instance, job, variables)
    return answer(entities.job(call.instance, job), 200)


def erase_job(call: Call) -> Response:
    job = call.job_of(call.project(DEVELOPER))
    if not job.finished or job.erased_at is not None:
        raise error(403, "Job is not erasable!")
    pipelines.erase(call.instance, job)
    return answer(entities.job(call.instance, job), 201)


# ---------------------------------------------------------------------------------------------- artifacts


def artifacts(call: Call) -> Response:
    return archive(call.instance, call.job_of(call.project(REPORTER)))


def artifacts_of_ref(call: Call) -> Response:
    return archive(call.instance, _latest_success(call))


def artifact_of_ref(call: Call) -> Response:
    return _member(call.instance, _latest_success(call), call.path["artifact_path"])


def artifact(call: Call) -> Response:
    return _member(call.instance, call.job_of(call.project(REPORTER)), call.path["artifact_path"])


def delete_artifacts(call: Call) -> Response:
    job = call.job_of(call.project(DEVELOPER))
    pipelines.erase_files(job)
    return Response(status_code=204)


def keep_artifacts(call: Call) -> Response:
    job = call.job_of(call.project(DEVELOPER))
    if "archive" not in job.artifacts:
        raise not_found()
    job.artifacts_expire_at = None
    return answer(entities.job(call.instance, job))


def archive(instance: Instance, job: Job) -> Response:
    """The job's archive as a file. 404 where it has none, or none any more."""
    found = _archive(instance, job)
    return FileResponse(found.path, media_type="application/octet-stream", filename=found.filename)


def _latest_success(call: Call) -> Job:
    project = call.project(REPORTER)
    name = declared(call.arguments, (Parameter("job", required=True),))["job"]
    ref = call.path["ref_name"]
    rows = [
        job for job in call.instance.jobs.values()
        if job.project_id == project.id and job.name == name and job.status == "success"
        and call.instance.pipelines[job.pipeline_id].ref == ref
    ]  # fmt: skip
    if not rows:
        raise not_found()
    return max(rows, key=lambda job: job.id)


def _archive(instance: Instance, job: Job) -> Artifact:
    expired = job.artifacts_expire_at is not None and job.artifacts_expire_at < instance.now()
    if expired or "archive" not in job.artifacts:
        raise not_found()
    return job.artifacts["archive"]


def _member(instance: Instance, job: Job, path: str) -> Response:
    found = _archive(instance, job)
    with zipfile.ZipFile(io.BytesIO(found.path.read_bytes())) as zipped:
        if path not in zipped.namelist():
            raise not_found()
        return Response(zipped.read(path), media_type="application/octet-stream")


ENDPOINTS = (
    Endpoint("GET", "/job", own_job, access="user_or_job"),
    Endpoint("GET", "/projects/{id}/jobs", project_jobs),
    Endpoint("GET", "/projects/{id}/jobs/artifacts/{ref_name}/download", artifacts_of_ref, access="user_or_job"),
    Endpoint(
        "GET",
        "/projects/{id}/jobs/artifacts/{ref_name}/raw/{artifact_path:path}",
        artifact_of_ref,
        access="user_or_job",
    ),
    Endpoint("GET", "/projects/{id}/jobs/{job_id}", show_job),
    Endpoint("GET", "/projects/{id}/jobs/{job_id}/trace", trace),
    Endpoint("POST", "/projects/{id}/jobs/{job_id}/retry", retry_job),
    Endpoint("POST", "/projects/{id}/jobs/{job_id}/cancel", cancel_job),
    Endpoint("POST", "/projects/{id}/jobs/{job_id}/play", play_job),
    Endpoint("POST", "/projects/{id}/jobs/{job_id}/erase", erase_job),
    Endpoint("GET", "/projects/{id}/jobs/{job_id}/artifacts", artifacts, access="user_or_job"),
    Endpoint("DELETE", "/projects/{id}/jobs/{job_id}/artifacts", delete_artifacts),
    Endpoint("POST", "/projects/{id}/jobs/{job_id}/artifacts/keep", keep_artifacts),
    Endpoint("GET", "/projects/{id}/jobs/{job_id}/artifacts/{artifact_path:path}", artifact, access="user_or_job"),
)
