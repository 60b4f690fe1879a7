"""Pages of a list with GitLab's headers: offset pages with totals, and keyset pages with a cursor."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from typing import Any, TypeVar
from urllib.parse import urlencode

from starlette.responses import Response

from sandbox.gitlab.answers import ApiError, answer
from sandbox.gitlab.endpoint import Call
from sandbox.gitlab.parameters import Parameter, declared

Row = TypeVar("Row")

MAX_PER_PAGE = 100
# Above this many rows GitLab counts no more: the totals and the last page are left out.
COUNTED_ROWS = 10_000

_PAGE = (Parameter("page", int), Parameter("per_page", int))


def page(call: Call, rows: Sequence[Row], show: Callable[[Row], Any], *, counted: bool = True) -> Response:
    """One offset page of `rows`; `counted=False` leaves the totals out, as for project jobs."""
    wanted = declared(call.arguments, _PAGE)
    number, size = max(1, wanted.get("page") or 1), _size(wanted.get("per_page"))
    last = max(1, -(-len(rows) // size))
    following = number + 1 if number < last else None
    counted = counted and len(rows) <= COUNTED_ROWS
    headers = {
        "X-Page": str(number), "X-Per-Page": str(size), "X-Next-Page": str(following or ""),
        "X-Prev-Page": str(number - 1) if number > 1 else "",
    }  # fmt: skip
    if counted:
        headers |= {"X-Total": str(len(rows)), "X-Total-Pages": str(last if rows else 0)}
    links = {"prev": number - 1 or None, "next": following, "first": 1, "last": last if counted else None}
    headers["Link"] = ", ".join(
        _link(call, rel, {"page": str(target), "per_page": str(size)}) for rel, target in links.items() if target
    )
    return answer([show(row) for row in rows[(number - 1) * size : number * size]], headers=headers)


def keyset_page(call: Call, rows: Sequence[Row], key: Callable[[Row], int], show: Callable[[Row], Any]) -> Response:
    """One page after a cursor, by id; only `Link: <...>; rel="next"` leads on."""
    ordered = sorted(rows, key=key, reverse=call.arguments.get("sort", "desc") != "asc")
    size = _size(declared(call.arguments, _PAGE).get("per_page"))
    cursor = call.arguments.get("cursor")
    if cursor:
        last_seen = _read_cursor(str(cursor))
        descending = call.arguments.get("sort", "desc") != "asc"
        ordered = [row for row in ordered if (key(row) < last_seen if descending else key(row) > last_seen)]
    shown = ordered[:size]
    headers = {"X-Per-Page": str(size)}
    if len(ordered) > size:
        token = base64.urlsafe_b64encode(json.dumps({"id": str(key(shown[-1])), "_kd": "n"}).encode()).decode()
        headers["Link"] = _link(call, "next", {"cursor": token, "per_page": str(size)})
        headers["X-Next-Cursor"] = token
    return answer([show(row) for row in shown], headers=headers)


def jobs_page(call: Call, rows: Sequence[Row], key: Callable[[Row], int], show: Callable[[Row], Any]) -> Response:
    """Offset pages (newest first), or keyset where the call asks for it."""
    if call.arguments.get("pagination") == "keyset":
        if call.arguments.get("order_by", "id") != "id":
            raise ApiError(405, {"error": "Keyset pagination is not yet available for this type of request"})
        return keyset_page(call, rows, key, show)
    descending = call.arguments.get("sort", "desc") != "asc"
    return page(call, sorted(rows, key=key, reverse=descending), show, counted=False)


def _size(wanted: int | None) -> int:
    size = 20 if wanted is None else wanted
    if size < 1:
        raise ApiError(400, {"error": "per_page does not have a valid value"})
    return min(size, MAX_PER_PAGE)


def _read_cursor(cursor: str) -> int:
    try:
        return int(json.loads(base64.urlsafe_b64decode(cursor))["id"])
    except (binascii.Error, ValueError, KeyError, TypeError) as broken:
        raise ApiError(400, {"error": "cursor is invalid"}) from broken


def _link(call: Call, rel: str, changed: dict[str, str]) -> str:
    request = call.request
    kept = [
        (name, value)
        for name, value in request.query_params.multi_items()
        if name not in (*changed, "page", "private_token")
    ]
    address = f"{call.instance.url}{request.scope['raw_path'].decode().split('?')[0]}"
    return f'<{address}?{urlencode([*kept, *changed.items()])}>; rel="{rel}"'
