"""git over HTTP, by git's own `git http-backend`: clone for users and jobs, push for users."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from sandbox.gitlab import access, pipelines
from sandbox.gitlab.instance import Instance
from sandbox.gitlab.records import DEVELOPER, MAINTAINER, Project, User
from sandbox.gitlab.repository import ZERO_SHA, git_environment

_CHALLENGE = {"WWW-Authenticate": 'Basic realm="GitLab"'}
_DENIED = (
    "HTTP Basic: Access denied. If a password was provided for Git authentication, the password was incorrect or "
    "you're required to use a token instead of a password.\n"
)
_HIDDEN = "The project you were looking for could not be found or you don't have permission to view it.\n"


async def serve(instance: Instance, request: Request, path: str, service_path: str) -> Response:
    """Answer one request of the smart protocol for the repository `path` (without `.git`)."""
    writes = "receive-pack" in f"{service_path}?{request.url.query}"
    secret = access.basic_secret(request)
    if secret is None:
        return PlainTextResponse(_DENIED, 401, _CHALLENGE)
    project = instance.find_project(path)
    if project is None:
        return PlainTextResponse(_HIDDEN, 404)
    user = access.git_user(instance, project, secret, write=writes)
    if user is None:
        known_job = instance.find_job(secret) is not None
        return (
            PlainTextResponse("You are not allowed to upload code.\n", 403)
            if writes and known_job
            else PlainTextResponse(_DENIED, 401, _CHALLENGE)
        )
    role = instance.project_role(user, project)
    if role == 0:
        return PlainTextResponse(_HIDDEN, 404)
    if writes and role < DEVELOPER:
        return PlainTextResponse("You are not allowed to push code to this project.\n", 403)
    before = instance.repository(project).branches() if writes else {}
    response = await _backend(instance, request, project, user, service_path)
    if writes and request.method == "POST":
        _announce(instance, project, user, before)
    return response


def _announce(instance: Instance, project: Project, user: User, before: Mapping[str, str]) -> None:
    after = instance.repository(project).branches()
    changed = [
        (name, before.get(name, ZERO_SHA), after.get(name, ZERO_SHA))
        for name in sorted(before.keys() | after.keys()) if before.get(name) != after.get(name)
    ]  # fmt: skip
    pipelines.after_push(instance, project, user, changed)


async def _backend(instance: Instance, request: Request, project: Project, user: User, service_path: str) -> Response:
    body = await request.body()
    refused = () if instance.project_role(user, project) >= MAINTAINER else project.protected_branches
    environment = git_environment({
        "GIT_PROJECT_ROOT": str(project.repository.parent), "GIT_HTTP_EXPORT_ALL": "1", "REMOTE_USER": user.username,
        "REMOTE_ADDR": request.client.host if request.client else "",
        "PATH_INFO": f"/{project.repository.name}/{service_path}",
        "QUERY_STRING": request.url.query, "REQUEST_METHOD": request.method, "CONTENT_LENGTH": str(len(body)),
        "CONTENT_TYPE": request.headers.get("content-type", ""),
        "GIT_PROTOCOL": request.headers.get("git-protocol", ""),
        "HTTP_CONTENT_ENCODING": request.headers.get("content-encoding", ""),
        "PRACTICE_REFUSED_REFS": " ".join(f"refs/heads/{name}" for name in refused),
    })  # fmt: skip
    process = await asyncio.create_subprocess_exec(
        "git", "http-backend", env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    output, _ = await process.communicate(body)
    return _from_cgi(output)


def _from_cgi(output: bytes) -> Response:
    head, _, content = output.partition(b"\r\n\r\n")
    headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if ": " in line)
    status = int(headers.pop("Status", "200 OK").split()[0]) if headers else 500
    return Response(content, status_code=status, headers=headers)
