"""CI/CD variables of an instance, a group or a project: one table of doors for the three."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

from starlette.responses import Response

from sandbox.gitlab import entities
from sandbox.gitlab.answers import answer, error, no_content, not_found, plain_error
from sandbox.gitlab.endpoint import Call, Endpoint
from sandbox.gitlab.pagination import page
from sandbox.gitlab.parameters import Parameter, declared
from sandbox.gitlab.records import MAINTAINER, OWNER, Variable

Store = Callable[[Call], dict[str, Variable]]

_FIELDS = (
    Parameter("variable_type", values=("env_var", "file")), Parameter("protected", bool), Parameter("masked", bool),
    Parameter("raw", bool), Parameter("environment_scope"), Parameter("description"),
)  # fmt: skip
_KEY = re.compile(r"[a-zA-Z0-9_]{1,255}")
_MASKABLE = re.compile(r"[a-zA-Z0-9_+=/@:.~-]{8,}")


def _of_project(call: Call) -> dict[str, Variable]:
    return call.project(MAINTAINER).variables


def _of_group(call: Call) -> dict[str, Variable]:
    return call.group(OWNER).variables


def _of_instance(call: Call) -> dict[str, Variable]:
    if not call.caller.admin:
        raise error(403)
    return call.instance.variables


def _doors(prefix: str, store: Store) -> tuple[Endpoint, ...]:
    def listed(call: Call) -> Response:
        return page(call, list(store(call).values()), entities.variable)

    def shown(call: Call) -> Response:
        return answer(entities.variable(_existing(store(call), call)))

    def created(call: Call) -> Response:
        held = store(call)
        wanted = declared(
            call.arguments, (Parameter("key", required=True), Parameter("value", required=True), *_FIELDS)
        )
        if wanted["key"] in held:
            raise plain_error(400, {"key": [f"({wanted['key']}) has already been taken"]})
        held[wanted["key"]] = _checked(Variable(**wanted))
        return answer(entities.variable(held[wanted["key"]]), 201)

    def changed(call: Call) -> Response:
        held = store(call)
        before = _existing(held, call)
        held[before.key] = _checked(replace(before, **declared(call.arguments, (Parameter("value"), *_FIELDS))))
        return answer(entities.variable(held[before.key]))

    def removed(call: Call) -> Response:
        held = store(call)
        del held[_existing(held, call).key]
        return no_content()

    return (
        Endpoint("GET", prefix, listed), Endpoint("POST", prefix, created), Endpoint("GET", f"{prefix}/{{key}}", shown),
        Endpoint("PUT", f"{prefix}/{{key}}", changed), Endpoint("DELETE", f"{prefix}/{{key}}", removed),
    )  # fmt: skip


def _existing(held: dict[str, Variable], call: Call) -> Variable:
    row = held.get(call.path["key"])
    if row is None:
        raise not_found("Variable")
    return row


def _checked(row: Variable) -> Variable:
    if not _KEY.fullmatch(row.key):
        raise plain_error(400, {"key": ["can contain only letters, digits and '_'."]})
    if row.masked and not _MASKABLE.fullmatch(row.value):
        raise plain_error(400, {"value": ["is invalid"]})
    return row


ENDPOINTS = (
    *_doors("/projects/{id}/variables", _of_project),
    *_doors("/groups/{id}/variables", _of_group),
    *_doors("/admin/ci/variables", _of_instance),
)
