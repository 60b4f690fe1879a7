"""The server as one ASGI application: faults outside, then rate limits, then the table of doors."""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Awaitable, Callable

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from sandbox.gitlab import finished_jobs, git_http, runner_protocol
from sandbox.gitlab.access import authenticate
from sandbox.gitlab.answers import ApiError
from sandbox.gitlab.endpoint import Call, Endpoint, decoded
from sandbox.gitlab.faults import FaultMiddleware
from sandbox.gitlab.instance import Instance
from sandbox.gitlab.parameters import read_arguments
from sandbox.gitlab.pipelines import give_up
from sandbox.gitlab.rest import jobs, lint, pipelines, projects, repository, runners, users, variables
from sandbox.gitlab.throttle import Throttle

API = "/api/v4"
ENDPOINTS: tuple[Endpoint, ...] = (
    *users.ENDPOINTS, *projects.ENDPOINTS, *repository.ENDPOINTS, *runner_protocol.ENDPOINTS, *runners.ENDPOINTS,
    *pipelines.ENDPOINTS, *jobs.ENDPOINTS, *variables.ENDPOINTS, *lint.ENDPOINTS,
)  # fmt: skip

_log = logging.getLogger(__name__)
_SIGN_IN = "<!DOCTYPE html>\n<html><head><title>Sign in · GitLab</title></head><body><form></form></body></html>\n"


def create_app(instance: Instance) -> ASGIApp:
    throttle = Throttle.of(instance.options, instance.now)
    routes = [Route(f"{API}{row.path}", _door(instance, throttle, row), methods=[row.method]) for row in ENDPOINTS]
    routes += [
        finished_jobs.route(instance),
        Route("/users/sign_in", _sign_in),
        Route("/-/health", _health), Route("/-/readiness", _ready), Route("/-/liveness", _ready),
        Route("/{path:path}.git/{service:path}", _git(instance), methods=["GET", "POST"]),
    ]  # fmt: skip
    app = Starlette(routes=routes, exception_handlers={HTTPException: _unknown, Exception: _broken})
    return FaultMiddleware(RawPath(app))


class RawPath:
    """Routes API paths as they were sent: `practice%2Fsmoke` is one segment, not two."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith(API):
            scope = {**scope, "path": scope["raw_path"].decode("ascii", errors="replace").split("?")[0]}
        await self.app(scope, receive, send)


def _door(instance: Instance, throttle: Throttle, endpoint: Endpoint) -> Callable[[Request], Awaitable[Response]]:
    async def door(request: Request) -> Response:
        headers = _common_headers()
        refused, limits = throttle.admit(_caller(request))
        if refused is not None:
            return refused
        try:
            arguments, body = await read_arguments(request)
            call = Call(instance, request, arguments, decoded(request.path_params), body)
            authenticate(call, endpoint)
            if endpoint.before is not None:
                await endpoint.before(call)
            give_up(instance)
            response = endpoint.handler(call)
        except ApiError as problem:
            response = JSONResponse(problem.body, problem.status, problem.headers)
        for name, value in {**headers, **limits}.items():
            response.headers[name] = value
        return response

    return door


def _caller(request: Request) -> str:
    headers = request.headers
    address = request.client.host if request.client else ""
    return headers.get("private-token") or headers.get("authorization") or headers.get("job-token") or address


def _common_headers() -> dict[str, str]:
    correlation = uuid.uuid4().hex[:26].upper()
    return {
        "X-Request-Id": correlation, "X-Gitlab-Meta": json.dumps({"correlation_id": correlation, "version": "1"}),
        "Cache-Control": "max-age=0, private, must-revalidate", "Vary": "Origin",
    }  # fmt: skip


def _git(instance: Instance) -> Callable[[Request], Awaitable[Response]]:
    async def git(request: Request) -> Response:
        return await git_http.serve(instance, request, request.path_params["path"], request.path_params["service"])

    return git


async def _sign_in(request: Request) -> Response:
    return HTMLResponse(_SIGN_IN)


async def _health(request: Request) -> Response:
    return PlainTextResponse("GitLab OK")


async def _ready(request: Request) -> Response:
    return JSONResponse({"status": "ok"})


async def _unknown(request: Request, problem: Exception) -> Response:
    status = problem.status_code if isinstance(problem, HTTPException) else 404
    if request.url.path.startswith("/api/"):
        return JSONResponse({"error": {405: "405 Not Allowed"}.get(status, "404 Not Found")}, status)
    # A browser that is not signed in is sent to the sign-in page, whatever it asked for.
    return RedirectResponse("/users/sign_in", 302)


async def _broken(request: Request, problem: Exception) -> Response:
    _log.error("%s %s", request.method, request.url.path, exc_info=problem)
    return JSONResponse({"message": "500 Internal Server Error"}, 500)
