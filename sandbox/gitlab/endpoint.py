"""What every REST door shares: the call that is made, and the row of the table that it opens."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from starlette.requests import Request
from starlette.responses import Response

from sandbox.gitlab.answers import ApiError, error, not_found
from sandbox.gitlab.instance import Instance
from sandbox.gitlab.parameters import Parameters
from sandbox.gitlab.records import AccessToken, Group, Job, Project, Runner, User


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


def decoded(path: Mapping[str, Any]) -> dict[str, str]:
    """Path arguments with their percent signs resolved: `practice%2Fsmoke` is one argument."""
    return {name: unquote(str(value)) for name, value in path.items()}
