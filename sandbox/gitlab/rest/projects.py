"""Projects, groups and namespaces."""

from __future__ import annotations

from collections.abc import Iterable

from starlette.responses import Response

from sandbox.gitlab import entities
from sandbox.gitlab.answers import answer
from sandbox.gitlab.endpoint import Call, Endpoint
from sandbox.gitlab.pagination import keyset_page, page
from sandbox.gitlab.parameters import Parameter, declared
from sandbox.gitlab.records import MAINTAINER, OWNER, Group, Project

_PROJECT_FILTERS = (
    Parameter("search"), Parameter("membership", bool), Parameter("owned", bool), Parameter("simple", bool),
    Parameter("min_access_level", int), Parameter("sort"),
)  # fmt: skip


def projects(call: Call) -> Response:
    return _project_page(call, call.instance.projects.values())


def group_projects(call: Call) -> Response:
    group = call.group()
    return _project_page(call, (row for row in call.instance.projects.values() if row.namespace_id == group.id))


def _project_page(call: Call, rows: Iterable[Project]) -> Response:
    wanted = declared(call.arguments, _PROJECT_FILTERS)
    least = OWNER if wanted.get("owned") else wanted.get("min_access_level") or 1
    shown = [row for row in rows if call.instance.project_role(call.caller, row) >= least]
    if wanted.get("search"):
        shown = [row for row in shown if wanted["search"].lower() in f"{row.name} {row.full_path}".lower()]

    def show(row: Project) -> dict[str, object]:
        return entities.project(call.instance, row)

    if call.arguments.get("pagination") == "keyset":
        return keyset_page(call, shown, lambda row: row.id, show)
    return page(call, sorted(shown, key=lambda row: row.id, reverse=wanted.get("sort") != "asc"), show)


def project(call: Call) -> Response:
    row = call.project()
    role = call.instance.project_role(call.caller, row)
    group = call.instance.groups[row.namespace_id]
    permissions = {
        "project_access": _access(row.members.get(call.caller.id)),
        "group_access": _access(group.members.get(call.caller.id)),
    }
    return answer({**entities.project(call.instance, row, maintainer=role >= MAINTAINER), "permissions": permissions})


def _access(level: int | None) -> dict[str, int] | None:
    return None if level is None else {"access_level": level, "notification_level": 3}


def edit_project(call: Call) -> Response:
    row = call.project(MAINTAINER)
    wanted = declared(call.arguments, (
        Parameter("shared_runners_enabled", bool), Parameter("build_timeout", int), Parameter("description"),
    ))  # fmt: skip
    for name, value in wanted.items():
        setattr(row, name, value)
    call.instance.tick()
    return answer(entities.project(call.instance, row, maintainer=True))


def groups(call: Call) -> Response:
    wanted = declared(
        call.arguments, (Parameter("search"), Parameter("owned", bool), Parameter("min_access_level", int))
    )
    least = OWNER if wanted.get("owned") else wanted.get("min_access_level") or 1
    rows = [row for row in call.instance.groups.values() if row.kind == "group"]
    shown = [row for row in rows if call.instance.group_role(call.caller, row) >= least]
    if wanted.get("search"):
        shown = [row for row in shown if wanted["search"].lower() in row.full_path.lower()]
    return page(call, shown, lambda row: entities.group(call.instance, row))


def group(call: Call) -> Response:
    row = call.group()
    body = entities.group(call.instance, row)
    if call.instance.group_role(call.caller, row) >= OWNER:
        body["runners_token"] = row.registration_token
    return answer(body)


def namespaces(call: Call) -> Response:
    def seen(row: Group) -> bool:
        return call.instance.group_role(call.caller, row) > 0

    rows = [row for row in call.instance.groups.values() if seen(row)]
    return page(call, rows, lambda row: entities.namespace(call.instance, row))


ENDPOINTS = (
    Endpoint("GET", "/projects", projects),
    Endpoint("GET", "/projects/{id}", project),
    Endpoint("PUT", "/projects/{id}", edit_project),
    Endpoint("GET", "/groups", groups),
    Endpoint("GET", "/groups/{id}", group),
    Endpoint("GET", "/groups/{id}/projects", group_projects),
    Endpoint("GET", "/namespaces", namespaces),
)
