"""What every REST door shares: a call with its parameters, answers, errors in GitLab's words, declared parameters."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from sandbox.gitlab.instance import Instance
from sandbox.gitlab.multipart import Upload, read_multipart
from sandbox.gitlab.records import AccessToken, Group, Job, Project, Runner, User

Parameters = dict[str, Any]


class ApiError(Exception):
    """An answer that is no success: status, JSON body, headers."""

    def __init__(self, status: int, body: Mapped, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(f"{status} {body}")
        self.status, self.body, self.headers = status, body, dict(headers or {})


Mapped = dict[str, Any]

_REASONS = {
    400: "400 Bad request", 401: "401 Unauthorized", 403: "403 Forbidden", 404: "404 Not Found",
    405: "405 Method Not Allowed",
    409: "409 Conflict", 410: "410 Gone", 412: "412 Precondition Failed", 413: "413 Payload Too Large",
    416: "416 Range Not Satisfiable", 422: "422 Unprocessable Entity",
}  # fmt: skip


def error(status: int, reason: str | None = None, headers: Mapping[str, str] | None = None) -> ApiError:
    """`{"message": "403 Forbidden - reason"}`, as GitLab's helpers render it."""
    message = _REASONS[status] if reason is None else f"{_REASONS[status]} - {reason}"
    return ApiError(status, {"message": message}, headers)


def not_found(thing: str | None = None) -> ApiError:
    return ApiError(404, {"message": f"404 {thing} Not Found" if thing else "404 Not Found"})


def plain_error(status: int, message: Any) -> ApiError:
    """`{"message": ...}` with no number in front."""
    return ApiError(status, {"message": message})


@dataclass
class Call:
    """One request, its parameters merged from query and body, and who makes it."""

    instance: Instance
    request: Request
    arguments: Parameters
    path: Mapping[str, str]
    body: bytes = field(repr=False)
    user: User | None = None
    token: AccessToken | None = None
    job: Job | None = None

    @property
    def caller(self) -> User:
        if self.user is None:
            raise error(401)
        return self.user

    def header(self, name: str) -> str | None:
        return self.request.headers.get(name)

    # ------------------------------------------------------------------------- what the path names

    def project(self, least: int = 0) -> Project:
        """The project of the path. 404 where the caller may not see it, 403 where the role is too low."""
        project = self.instance.find_project(self.path["id"])
        role = self.instance.project_role(self.caller, project) if project is not None else 0
        if project is None or role == 0:
            raise not_found("Project")
        if role < least:
            raise error(403)
        return project

    def group(self, least: int = 0) -> Group:
        group = self.instance.find_group(self.path["id"])
        role = self.instance.group_role(self.caller, group) if group is not None else 0
        if group is None or role == 0:
            raise not_found("Group")
        if role < least:
            raise error(403)
        return group

    def runner(self) -> Runner:
        runner = self.instance.runners.get(int(self.path["id"])) if self.path["id"].isdigit() else None
        if runner is None:
            raise not_found("Runner") if self.path["id"].isdigit() else ApiError(400, {"error": "id is invalid"})
        return runner

    def job_of(self, project: Project, name: str = "job_id") -> Job:
        job = self.instance.jobs.get(int(self.path[name])) if self.path[name].isdigit() else None
        if job is None or job.project_id != project.id:
            raise not_found()
        return job


Handler = Callable[[Call], Response]


@dataclass(frozen=True)
class Endpoint:
    """One row of the table of doors. `scopes` are those that open it besides `api` (and `read_api` for reading).

    `access` is ``user`` (a personal access token), ``token`` (the handler looks at a runner's or a job's token
    itself) or ``user_or_job`` (a job token will do as well). `before` is awaited before the handler runs.
    """

    method: str
    path: str
    handler: Handler
    scopes: tuple[str, ...] = ()
    access: str = "user"
    before: Callable[[Call], Awaitable[None]] | None = None


def answer(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return JSONResponse(body, status_code=status, headers=dict(headers or {}))


def no_content(headers: Mapping[str, str] | None = None) -> Response:
    return Response(status_code=204, headers=dict(headers or {}))


# ------------------------------------------------------------------------------------------- parameters


async def read_arguments(request: Request) -> tuple[Parameters, bytes]:
    """Query and body (JSON, form or multipart) as one table; `name[]` makes lists. 400 for broken JSON."""
    arguments = _nested(parse_qsl(request.url.query, keep_blank_values=True))
    body = await request.body()
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if not body:
        return arguments, body
    if kind == "application/json":
        try:
            written = json.loads(body)
        except ValueError as broken:
            raise ApiError(400, {"error": "The request body is not valid JSON"}) from broken
        arguments.update(written if isinstance(written, dict) else {})
    elif kind == "application/x-www-form-urlencoded":
        arguments.update(_nested(parse_qsl(body.decode(errors="replace"), keep_blank_values=True)))
    elif kind == "multipart/form-data":
        arguments.update(_uploads(read_multipart(request.headers["content-type"], body)))
    return arguments, body


def _uploads(parts: Iterable[Upload]) -> Parameters:
    return {part.name: part if part.filename is not None else part.content.decode(errors="replace") for part in parts}


def _nested(pairs: Iterable[tuple[str, str]]) -> Parameters:
    arguments: Parameters = {}
    for name, value in pairs:
        if name.endswith("[]"):
            arguments.setdefault(name[:-2], []).append(value)
        elif name.endswith("]") and "[" in name:
            outer, _, inner = name[:-1].partition("[")
            arguments.setdefault(outer, {})[inner] = value
        else:
            arguments[name] = value
    return arguments


@dataclass(frozen=True)
class Parameter:
    """One declared parameter: its type decides how it is read, `values` what is allowed."""

    name: str
    type: type = str
    required: bool = False
    values: Sequence[str] = ()


def declared(arguments: Parameters, parameters: Sequence[Parameter]) -> Parameters:
    """The declared parameters that were sent, in their types; others are ignored. 400 with every complaint."""
    taken: Parameters = {}
    complaints: list[str] = []
    for parameter in parameters:
        if parameter.name not in arguments:
            if parameter.required:
                complaints.append(f"{parameter.name} is missing")
                complaints.extend([f"{parameter.name} does not have a valid value"] if parameter.values else [])
            continue
        try:
            value = _CONVERSIONS[parameter.type](arguments[parameter.name])
        except (TypeError, ValueError):
            complaints.append(f"{parameter.name} is invalid")
            continue
        if parameter.values and value not in parameter.values:
            complaints.append(f"{parameter.name} does not have a valid value")
        taken[parameter.name] = value
    if complaints:
        raise ApiError(400, {"error": ", ".join(complaints)})
    return taken


def _boolean(value: Any) -> bool | None:
    if value is None or value == "":
        return None
    table = {"true": True, "1": True, "false": False, "0": False}
    try:
        return table[str(value).lower()]
    except KeyError as unknown:
        raise ValueError(value) from unknown


def _integer(value: Any) -> int | None:
    if value is None or value == "":
        return None
    if isinstance(value, (bool, float, list, dict)):
        raise ValueError(value)
    return int(value)


def _string(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, (dict, list)):
        raise ValueError(value)
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


def _list(value: Any) -> list[str]:
    """An array, or a string with commas, as GitLab takes tags."""
    if value is None:
        return []
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    if not isinstance(value, list):
        raise ValueError(value)
    return [str(item) for item in value]


def _table(value: Any) -> Mapped | None:
    if value is not None and not isinstance(value, dict):
        raise ValueError(value)
    return value


_CONVERSIONS: dict[type, Callable[[Any], Any]] = {
    bool: _boolean,
    int: _integer,
    str: _string,
    list: _list,
    dict: _table,
}


def decoded(path: Mapping[str, Any]) -> dict[str, str]:
    """Path arguments with their percent signs resolved: `practice%2Fsmoke` is one argument."""
    return {name: unquote(str(value)) for name, value in path.items()}
