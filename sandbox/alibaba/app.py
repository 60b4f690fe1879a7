"""The server as one ASGI application: faults that a test asks for, then the signature, throttling, and the table of calls."""

from __future__ import annotations

import asyncio
import json
import re
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sandbox.alibaba import bss, eci, ecs
from sandbox.alibaba.cloud import WITHOUT_RIGHTS, Answer, Cloud, Query
from sandbox.alibaba.errors import THROTTLED, ApiError
from sandbox.alibaba.signature import check

FAULTS = "/-/sandbox/faults"
CALLS: dict[tuple[str, str], Callable[[Cloud, Query], Answer]] = {
    (module.VERSION, name): call for module in (eci, ecs, bss) for name, call in module.CALLS.items()
}
LIMITS = {**eci.LIMITS, **bss.LIMITS}
_EMPTY_WITHOUT_RIGHTS = ("DescribeContainerGroups",)
_ABOUT_ERRORS = "https://api.aliyun.com/troubleshoot"


@dataclass
class Fault:
    """An answer that a test wants in place of the real one. `action` is a regular expression; None `times` is for ever."""

    action: str
    code: str = "ServiceUnavailable"
    message: str = "The request has failed due to a temporary failure of the server."
    status: int = 503
    delay: float = 0.0
    html: bool = False
    times: int | None = None

    def meets(self, action: str) -> bool:
        return self.times != 0 and re.fullmatch(self.action, action) is not None


class Throttle:
    """Counts the requests of each key and call in fixed minutes of real time."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self._minute = -1
        self._counts: dict[tuple[str, str], int] = {}

    def admit(self, key: str, action: str) -> None:
        minute = int(self._cloud.clock().timestamp()) // 60
        if minute != self._minute:
            self._minute, self._counts = minute, {}
        limit = self._cloud.options.requests_per_minute or LIMITS.get(action)
        count = self._counts[key, action] = self._counts.get((key, action), 0) + 1
        if limit is not None and count > limit:
            raise THROTTLED


def create_app(cloud: Cloud) -> Starlette:
    faults: list[Fault] = []
    throttle = Throttle(cloud)
    return Starlette(
        routes=[
            Route(FAULTS, _fault_door(faults), methods=["GET", "POST", "DELETE"]),
            Route("/", _door(cloud, faults, throttle), methods=["GET", "POST"]),
        ]
    )


def _fault_door(faults: list[Fault]) -> Callable[[Request], Awaitable[Response]]:
    async def door(request: Request) -> Response:
        if request.method == "DELETE":
            faults.clear()
        elif request.method == "POST":
            try:
                faults.append(Fault(**json.loads(await request.body())))
            except (TypeError, ValueError) as wrong:
                return JSONResponse({"error": f"no fault: {wrong}"}, 400)
        return JSONResponse([vars(fault) for fault in faults])

    return door


def _door(cloud: Cloud, faults: list[Fault], throttle: Throttle) -> Callable[[Request], Awaitable[Response]]:
    async def door(request: Request) -> Response:
        body = await request.body()
        query = dict(request.query_params)
        form = dict(parse_qsl(body.decode(errors="replace"), keep_blank_values=True))
        action = request.headers.get("x-acs-action") or query.get("Action") or form.get("Action", "")
        fault = next((one for one in faults if one.meets(action)), None)
        if fault is not None:
            if fault.times is not None:
                fault.times -= 1
            await asyncio.sleep(fault.delay)
            return _spoiled(request, fault)
        try:
            return JSONResponse(
                {"RequestId": _request_id(), **_answer(cloud, throttle, request, action, query, form, body)}
            )
        except ApiError as error:
            return _refusal(request, error)

    return door


def _answer(
    cloud: Cloud,
    throttle: Throttle,
    request: Request,
    action: str,
    query: dict[str, str],
    form: dict[str, str],
    body: bytes,
) -> Answer:
    version = request.headers.get("x-acs-version") or query.get("Version") or form.get("Version", "")
    secrets = dict(cloud.keys.values())
    key = check(request.method, query, form, request.headers, body, secrets, cloud.clock())
    call = CALLS.get((version, action))
    if call is None:
        known = any(version == one for one, _ in CALLS)
        problem = "The specified API is not found." if known else "Specified parameter Version is not valid."
        raise ApiError("InvalidAction.NotFound" if known else "InvalidVersion", problem, 404 if known else 400)
    throttle.admit(key, action)
    cloud.journal.read()
    parameters = {**query, **form}
    if key == cloud.keys[WITHOUT_RIGHTS][0]:
        if action in _EMPTY_WITHOUT_RIGHTS:
            return eci.nothing_granted(cloud, parameters)
        raise _forbidden(version)
    return call(cloud, parameters)


def _forbidden(version: str) -> ApiError:
    if version == bss.VERSION:
        return ApiError("NotAuthorized", "This API is not authorized for caller.", 403)
    return ApiError(
        "Forbidden.RAM",
        "User not authorized to operate on the specified resource, or this API doesn't support RAM.",
        403,
    )


def _refusal(request: Request, error: ApiError) -> JSONResponse:
    host = request.headers.get("host", "")
    identity = _request_id()
    content: dict[str, Any] = {
        "RequestId": identity, "HostId": host, "Code": error.code, "Message": error.message,
        "Recommend": f"{_ABOUT_ERRORS}?q={error.code}&product=&requestId={identity}",
    }  # fmt: skip
    return JSONResponse(content, error.status)


def _spoiled(request: Request, fault: Fault) -> Response:
    if fault.html:
        return Response("<html><body>Bad Gateway</body></html>", 502, media_type="text/html")
    return _refusal(request, ApiError(fault.code, fault.message, fault.status))


def _request_id() -> str:
    return str(uuid.uuid4()).upper()
