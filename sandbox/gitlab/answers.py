"""Answers in GitLab's words: what succeeds, and what does not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.responses import JSONResponse, Response

Mapped = dict[str, Any]

_REASONS = {
    400: "400 Bad request", 401: "401 Unauthorized", 403: "403 Forbidden", 404: "404 Not Found",
    405: "405 Method Not Allowed",
    409: "409 Conflict", 410: "410 Gone", 412: "412 Precondition Failed", 413: "413 Payload Too Large",
    416: "416 Range Not Satisfiable", 422: "422 Unprocessable Entity",
}  # fmt: skip


class ApiError(Exception):
    """An answer that is no success: status, JSON body, headers."""

    def __init__(self, status: int, body: Mapped, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(f"{status} {body}")
        self.status, self.body, self.headers = status, body, dict(headers or {})


def error(status: int, reason: str | None = None, headers: Mapping[str, str] | None = None) -> ApiError:
    """`{"message": "403 Forbidden - reason"}`, as GitLab's helpers render it."""
    message = _REASONS[status] if reason is None else f"{_REASONS[status]} - {reason}"
    return ApiError(status, {"message": message}, headers)


def not_found(thing: str | None = None) -> ApiError:
    return ApiError(404, {"message": f"404 {thing} Not Found" if thing else "404 Not Found"})


def plain_error(status: int, message: Any) -> ApiError:
    """`{"message": ...}` with no number in front."""
    return ApiError(status, {"message": message})


def answer(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return JSONResponse(body, status_code=status, headers=dict(headers or {}))


def no_content(headers: Mapping[str, str] | None = None) -> Response:
    return Response(status_code=204, headers=dict(headers or {}))
