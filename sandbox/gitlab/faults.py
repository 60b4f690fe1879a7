"""Faults that a test asks for: another status, HTML, slowness, a connection that breaks.

`POST /-/sandbox/faults` takes `{"path": regular expression, "method"?, "status"?, "headers"?, "body"?, "html"?,
"delay"?, "reset"?, "times"?}` and adds one; `GET` lists them, `DELETE` clears them. From loopback only.
A fault with `times` goes away after so many answers; one with only `delay` lets the request through afterwards.
"""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

PATH = "/-/sandbox/faults"
_LOOPBACK = ("127.0.0.1", "::1", "testclient")
_SIGN_IN = "<!DOCTYPE html>\n<html><head><title>Sign in · GitLab</title></head><body><h1>GitLab</h1></body></html>\n"
_BODIES: dict[int, Any] = {
    401: {"message": "401 Unauthorized"}, 403: {"message": "403 Forbidden"}, 404: {"message": "404 Not Found"},
    429: {"message": {"error": "This endpoint has been requested too many times. Try again later."}},
    500: {"message": "500 Internal Server Error"},
}  # fmt: skip


@dataclass
class Fault:
    path: str
    method: str | None = None
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: Any = None
    html: bool = False
    delay: float = 0.0
    reset: bool = False
    times: int | None = None

    def meets(self, method: str, path: str) -> bool:
        wanted = self.method is None or self.method.upper() == method
        return wanted and self.times != 0 and re.search(self.path, path) is not None

    def response(self) -> Response | None:
        """The answer in place of the real one; None where the request goes on."""
        if self.html or self.status == 502:
            status = self.status or 200
            page = (
                _SIGN_IN
                if status == 200
                else f"<html><head><title>{status}</title></head><body>GitLab is not responding</body></html>\n"
            )
            return HTMLResponse(page, status, self.headers)
        if self.status is None:
            return None
        return JSONResponse(
            self.body if self.body is not None else _BODIES.get(self.status, {"message": str(self.status)}),
            self.status,
            self.headers,
        )


class FaultMiddleware:
    """The outermost layer: it answers its own door, and spoils what a fault names."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.faults: list[Fault] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if scope["path"] == PATH:
            await (await self._door(Request(scope, receive)))(scope, receive, send)
            return
        fault = next((one for one in self.faults if one.meets(scope["method"], scope["path"])), None)
        if fault is None:
            await self.app(scope, receive, send)
            return
        await self._spoil(fault, scope, receive, send)

    async def _spoil(self, fault: Fault, scope: Scope, receive: Receive, send: Send) -> None:
        if fault.times is not None:
            fault.times -= 1
        if fault.delay:
            await asyncio.sleep(fault.delay)
        if fault.reset:
            await _break_connection(send)
            return
        response = fault.response()
        await (response or self.app)(scope, receive, send)

    async def _door(self, request: Request) -> Response:
        if request.client is None or request.client.host not in _LOOPBACK:
            return JSONResponse({"message": "403 Forbidden"}, 403)
        if request.method == "DELETE":
            self.faults.clear()
            return Response(status_code=204)
        if request.method == "POST":
            try:
                self.faults.append(Fault(**json.loads(await request.body())))
            except (TypeError, ValueError) as wrong:
                return JSONResponse({"error": f"no fault: {wrong}"}, 400)
        return JSONResponse([vars(fault) for fault in self.faults], 201 if request.method == "POST" else 200)


async def _break_connection(send: Send) -> None:
    # A body that is promised and never comes makes the server drop the connection in the middle of the answer.
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1000000")]})
    await send({"type": "http.response.body", "body": b"{", "more_body": True})
