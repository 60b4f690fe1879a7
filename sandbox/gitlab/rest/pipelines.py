"""Pipelines: create, list, look, retry, cancel, delete."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

from starlette.responses import Response

from sandbox.gitlab import entities, pipelines
from sandbox.gitlab.answers import ApiError, answer, error, no_content, not_found, plain_error
from sandbox.gitlab.endpoint import Call, Endpoint
from sandbox.gitlab.pagination import jobs_page, page
from sandbox.gitlab.parameters import Parameter, declared
from sandbox.gitlab.records import DEVELOPER, OWNER, Pipeline, Project, Variable

_STATUSES = (
    "created", "waiting_for_resource", "preparing", "pending", "running", "success", "failed", "canceling", "canceled",
    "skipped", "manual", "scheduled",
)  # fmt: skip
_FILTERS = (
    Parameter("scope", values=("running", "pending", "finished", "branches", "tags")),
    Parameter("status", values=_STATUSES),
    Parameter("ref"), Parameter("sha"), Parameter("source"), Parameter("username"), Parameter("updated_before"),
    Parameter("updated_after"), Parameter("created_before"), Parameter("created_after"),
    Parameter("order_by", values=("id", "status", "ref", "updated_at", "user_id")),
    Parameter("sort", values=("asc", "desc")),
)  # fmt: skip
_SCOPES: dict[str, Callable[[Pipeline], bool]] = {
    "running": lambda row: row.status == "running",
    "pending": lambda row: row.status == "pending",
    "finished": lambda row: row.status in ("success", "failed", "canceled"),
    "branches": lambda row: not row.tag,
    "tags": lambda row: row.tag,
}


def list_pipelines(call: Call) -> Response:
    project = call.project()
    wanted = declared(call.arguments, _FILTERS)
    rows = [row for row in call.instance.pipelines.values() if row.project_id == project.id]
    for name in ("status", "ref", "sha", "source"):
        if name in wanted:
            rows = [row for row in rows if getattr(row, name) == wanted[name]]
    if "scope" in wanted:
        rows = [row for row in rows if _SCOPES[wanted["scope"]](row)]
    rows = [row for row in rows if _between(row, wanted)]
    order = wanted.get("order_by") or "id"
    rows.sort(key=lambda row: (getattr(row, order) or row.created_at, row.id), reverse=wanted.get("sort") != "asc")
    return page(call, rows, lambda row: entities.pipeline_basic(call.instance, row))


def _between(row: Pipeline, wanted: dict[str, Any]) -> bool:
    for name in ("updated", "created"):
        moment = getattr(row, f"{name}_at") or row.created_at
        after, before = wanted.get(f"{name}_after"), wanted.get(f"{name}_before")
        if (after and moment < _moment(after, f"{name}_after")) or (
            before and moment > _moment(before, f"{name}_before")
        ):
            return False
    return True


def _moment(text: str, name: str) -> dt.datetime:
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError as wrong:
        raise ApiError(400, {"error": f"{name} is invalid"}) from wrong
    return moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)


def create_pipeline(call: Call) -> Response:
    project = call.project(DEVELOPER)
    wanted = declared(call.arguments, (Parameter("ref", required=True),))
    variables = read_variables(call.arguments.get("variables", []), ("key", "value"))
    try:
        row = pipelines.create(call.instance, project, call.caller, wanted["ref"], source="api", variables=variables)
    except pipelines.PipelineError as problem:
        raise plain_error(400, {"base": [str(problem)]}) from problem
    return answer(entities.pipeline(call.instance, row), 201)


def read_variables(written: Any, names: tuple[str, str]) -> list[Variable]:
    """`[{"key": ..., "value": ..., "variable_type": ...}]`; 400 for anything else."""
    if not isinstance(written, list) or not all(isinstance(item, dict) for item in written):
        raise ApiError(400, {"error": "variables is invalid"})
    for number, item in enumerate(written):
        missing = [f"variables[{number}][{name}] is missing" for name in names if name not in item]
        if missing:
            raise ApiError(400, {"error": ", ".join(missing)})
    return [Variable(str(i["key"]), str(i["value"]), str(i.get("variable_type", "env_var"))) for i in written]


def find(call: Call, project: Project) -> Pipeline:
    number = call.path["pipeline_id"]
    row = call.instance.pipelines.get(int(number)) if number.isdigit() else None
    if row is None or row.project_id != project.id:
        raise not_found()
    return row


def show_pipeline(call: Call) -> Response:
    return answer(entities.pipeline(call.instance, find(call, call.project())))


def latest_pipeline(call: Call) -> Response:
    project = call.project()
    ref = declared(call.arguments, (Parameter("ref"),)).get("ref") or project.default_branch
    rows = [row for row in call.instance.pipelines.values() if row.project_id == project.id and row.ref == ref]
    if not rows:
        raise error(403)
    return answer(entities.pipeline(call.instance, max(rows, key=lambda row: row.id)))


def pipeline_variables(call: Call) -> Response:
    row = find(call, call.project(DEVELOPER))
    return answer(
        [
            {"variable_type": one.variable_type, "key": one.key, "value": one.value, "raw": one.raw}
            for one in row.variables
        ]
    )


def pipeline_jobs(call: Call) -> Response:
    row = find(call, call.project())
    retried = declared(call.arguments, (Parameter("include_retried", bool),)).get("include_retried") or False
    jobs = with_status(call, call.instance.pipeline_jobs(row, retried=retried))
    return jobs_page(call, jobs, lambda job: job.id, lambda job: entities.job(call.instance, job))


def with_status(call: Call, jobs: list[Any]) -> list[Any]:
    """`scope` (one or several statuses) applied. 400 for a status that GitLab does not know."""
    wanted = call.arguments.get("scope")
    if not wanted:
        return jobs
    statuses = [wanted] if isinstance(wanted, str) else wanted
    if set(statuses) - set(_STATUSES):
        raise ApiError(400, {"error": "scope does not have a valid value"})
    return [job for job in jobs if job.status in statuses]


def bridges(call: Call) -> Response:
    find(call, call.project())
    return page(call, [], lambda row: row)


def retry_pipeline(call: Call) -> Response:
    row = find(call, call.project(DEVELOPER))
    pipelines.retry(call.instance, row, call.caller)
    return answer(entities.pipeline(call.instance, row), 201)


def cancel_pipeline(call: Call) -> Response:
    row = find(call, call.project(DEVELOPER))
    pipelines.cancel(call.instance, row)
    return answer(entities.pipeline(call.instance, row), 200)


def delete_pipeline(call: Call) -> Response:
    row = find(call, call.project(OWNER))
    pipelines.delete(call.instance, row)
    return no_content()


ENDPOINTS = (
    Endpoint("GET", "/projects/{id}/pipelines", list_pipelines),
    Endpoint("POST", "/projects/{id}/pipeline", create_pipeline),
    Endpoint("GET", "/projects/{id}/pipelines/latest", latest_pipeline),
    Endpoint("GET", "/projects/{id}/pipelines/{pipeline_id}", show_pipeline),
    Endpoint("DELETE", "/projects/{id}/pipelines/{pipeline_id}", delete_pipeline),
    Endpoint("GET", "/projects/{id}/pipelines/{pipeline_id}/variables", pipeline_variables),
    Endpoint("GET", "/projects/{id}/pipelines/{pipeline_id}/jobs", pipeline_jobs),
    Endpoint("GET", "/projects/{id}/pipelines/{pipeline_id}/bridges", bridges),
    Endpoint("POST", "/projects/{id}/pipelines/{pipeline_id}/retry", retry_pipeline),
    Endpoint("POST", "/projects/{id}/pipelines/{pipeline_id}/cancel", cancel_pipeline),
)
