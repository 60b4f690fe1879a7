"""Parameters of a request, merged from query and body, and read as an endpoint declares them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from starlette.requests import Request

from sandbox.gitlab.answers import ApiError, Mapped
from sandbox.gitlab.multipart import Upload, read_multipart

Parameters = dict[str, Any]


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
