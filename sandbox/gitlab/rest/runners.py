"""Runners: create, register, look, change, delete, assign; the doors that `gitlab-runner register` uses too."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from sandbox.gitlab import entities, runner_tokens
from sandbox.gitlab.answers import ApiError, answer, error, no_content, not_found, plain_error
from sandbox.gitlab.endpoint import Call, Endpoint
from sandbox.gitlab.job_queue import serves_project
from sandbox.gitlab.pagination import jobs_page, page
from sandbox.gitlab.parameters import Parameter, declared
from sandbox.gitlab.records import MAINTAINER, OWNER, REPORTER, Runner, RunnerManager
from sandbox.gitlab.rest.pipelines import with_status

RUNNER_TYPES = ("instance_type", "group_type", "project_type")
ACCESS_LEVELS = ("not_protected", "ref_protected")
_STATES = ("active", "paused", "online", "offline", "never_contacted", "stale")
# What a runner without a system id (before 15.7) is filed under.
LEGACY_SYSTEM_ID = "<legacy>"

_ATTRIBUTES = (
    Parameter("description"), Parameter("maintenance_note"), Parameter("paused", bool), Parameter("locked", bool),
    Parameter("access_level", values=ACCESS_LEVELS), Parameter("run_untagged", bool), Parameter("tag_list", list),
    Parameter("maximum_timeout", int),
)  # fmt: skip
_FILTERS = (
    Parameter("type", values=RUNNER_TYPES), Parameter("paused", bool),
    Parameter("status", values=_STATES),
    Parameter("tag_list", list), Parameter("version_prefix"),
    Parameter("scope", values=("specific", "shared", *RUNNER_TYPES, *_STATES)),
)  # fmt: skip
_UNTAGGED = "can not be empty when runner is not allowed to pick untagged jobs"


# -------------------------------------------------------------------------------------------- making one


def create(call: Call) -> Response:
    """`POST /user/runners`, for an administrator, an owner of the group, or a maintainer of the project."""
    wanted = declared(call.arguments, (Parameter("runner_type", required=True, values=RUNNER_TYPES), *_ATTRIBUTES))
    runner_type = wanted.pop("runner_type")
    project_ids, group_ids = _scope_of_new(call, runner_type)
    runner = Runner(
        id=0, token=runner_tokens.created(call.instance.options, runner_type), runner_type=runner_type,
        created_at=call.instance.now(), project_ids=project_ids, group_ids=group_ids, creator_id=call.caller.id,
    )  # fmt: skip
    complaints = _complaints(_changed(runner, wanted))
    if complaints:
        raise error(400, " and ".join(f"{_humanized(name)} {text}" for name, text in complaints.items()))
    return _added(call, runner, wanted)


def _scope_of_new(call: Call, runner_type: str) -> tuple[list[int], list[int]]:
    if runner_type == "instance_type":
        if not call.caller.admin:
            raise error(403, "Insufficient permissions")
        return [], []
    if runner_type == "group_type":
        number = declared(call.arguments, (Parameter("group_id", int, required=True),))["group_id"]
        group = call.instance.groups.get(number)
        if group is None or group.kind != "group":
            raise error(400, "Missing/invalid scope")
        if call.instance.group_role(call.caller, group) < OWNER:
            raise error(403, "Insufficient permissions")
        return [], [group.id]
    number = declared(call.arguments, (Parameter("project_id", int, required=True),))["project_id"]
    project = call.instance.projects.get(number)
    if project is None:
        raise error(400, "Missing/invalid scope")
    if call.instance.project_role(call.caller, project) < MAINTAINER:
        raise error(403, "Insufficient permissions")
    return [project.id], []


def register(call: Call) -> Response:
    """`POST /runners` with a registration token: 410 where the instance has them switched off."""
    wanted = declared(call.arguments, (Parameter("token", required=True), Parameter("info", dict), *_ATTRIBUTES))
    runner_type, project_ids, group_ids = _scope_of_registration(call, wanted.pop("token"))
    info = wanted.pop("info", None) or {}
    if not call.instance.options.registration_tokens:
        raise error(410, "runner registration disallowed")
    runner = Runner(
        id=0, token=runner_tokens.registered(call.instance.options), runner_type=runner_type,
        created_at=call.instance.now(), project_ids=project_ids, group_ids=group_ids, name=info.get("name"),
        locked=runner_type == "project_type",
    )  # fmt: skip
    # A legacy runner without tags takes untagged jobs, one with tags does not, unless it says otherwise.
    wanted.setdefault("run_untagged", not wanted.get("tag_list"))
    complaints = _complaints(_changed(runner, wanted))
    if complaints:
        raise plain_error(400, {name: [text] for name, text in complaints.items()})
    return _added(call, runner, wanted)


def _scope_of_registration(call: Call, token: str) -> tuple[str, list[int], list[int]]:
    if token and token == call.instance.registration_token:
        return "instance_type", [], []
    project = next((row for row in call.instance.projects.values() if row.registration_token == token), None)
    if project is not None:
        return "project_type", [project.id], []
    group = next((row for row in call.instance.groups.values() if token and row.registration_token == token), None)
    if group is not None:
        return "group_type", [], [group.id]
    raise error(403, "invalid token supplied")


def _added(call: Call, runner: Runner, wanted: dict[str, Any]) -> Response:
    runner.id = call.instance.next_id("runners")
    _apply(runner, wanted)
    call.instance.runners[runner.id] = runner
    call.instance.tick()
    return answer(entities.runner_registration(runner), 201)


def _changed(runner: Runner, wanted: dict[str, Any]) -> dict[str, Any]:
    """The attributes as they would be, to be checked before anything is changed."""
    names = ("run_untagged", "tag_list", "maximum_timeout", "maintenance_note")
    return {name: wanted.get(name, getattr(runner, name)) for name in names}


def _complaints(attributes: dict[str, Any]) -> dict[str, str]:
    complaints = {}
    if not attributes["run_untagged"] and not attributes["tag_list"]:
        complaints["tags_list"] = _UNTAGGED
    if attributes["maximum_timeout"] is not None and attributes["maximum_timeout"] < 600:
        complaints["maximum_timeout"] = "needs to be at least 10 minutes"
    if len(attributes["maintenance_note"] or "") > 1024:
        complaints["maintenance_note"] = "is too long (maximum is 1024 characters)"
    return complaints


def _humanized(name: str) -> str:
    return name.replace("_", " ").capitalize()


def _apply(runner: Runner, wanted: dict[str, Any]) -> None:
    for name, value in wanted.items():
        setattr(runner, name, sorted(set(value)) if name == "tag_list" else value)


# --------------------------------------------------------------------------------------- with a runner token


def of_token(call: Call) -> Runner:
    """The runner whose token is sent (body, query or `RUNNER-TOKEN` header). 403 where there is none."""
    token = call.arguments.get("token") or call.header("runner-token")
    runner = call.instance.find_runner(str(token)) if token else None
    if runner is None:
        raise error(403)
    return runner


def heartbeat(call: Call, runner: Runner) -> RunnerManager:
    """Note that this manager of the runner has called, and what it says of itself."""
    system_id = str(call.arguments.get("system_id") or LEGACY_SYSTEM_ID)
    now = call.instance.now()
    manager = runner.managers.get(system_id)
    if manager is None:
        manager = RunnerManager(id=call.instance.next_id("runner_managers"), system_id=system_id, created_at=now)
        runner.managers[system_id] = manager
    manager.contacted_at = now
    manager.ip_address = call.request.client.host if call.request.client else None
    info = call.arguments.get("info")
    if isinstance(info, dict):
        for name in ("version", "revision", "platform", "architecture", "executor"):
            if info.get(name) is not None:
                setattr(manager, name, str(info[name]))
        runner.name = info.get("name") or runner.name
        manager.features = info.get("features") or manager.features
    return manager


def verify(call: Call) -> Response:
    _require_token(call)
    runner = of_token(call)
    if runner.runner_type == "project_type" and not runner.project_ids:
        raise error(422, "Runner is orphaned")
    heartbeat(call, runner)
    return answer(entities.runner_registration(runner))


def reset_by_token(call: Call) -> Response:
    _require_token(call)
    return _reset(call, of_token(call))


def delete_by_token(call: Call) -> Response:
    _require_token(call)
    return _delete(call, of_token(call))


def delete_manager(call: Call) -> Response:
    _require_token(call)
    system_id = declared(call.arguments, (Parameter("system_id", required=True),))["system_id"]
    runner = of_token(call)
    if runner.managers.pop(system_id, None) is None:
        raise not_found("Runner manager")
    return no_content()


def _require_token(call: Call) -> None:
    if not call.header("runner-token"):
        declared(call.arguments, (Parameter("token", required=True),))


def _reset(call: Call, runner: Runner) -> Response:
    runner.token = runner_tokens.renewed(call.instance.options, runner.runner_type, runner.token)
    return answer({"token": runner.token, "token_expires_at": None}, 201)


def _delete(call: Call, runner: Runner) -> Response:
    del call.instance.runners[runner.id]
    call.instance.tick()
    return no_content()


# ------------------------------------------------------------------------------------------ with a user token


def owned_runners(call: Call) -> Response:
    return _runner_page(
        call, [row for row in call.instance.runners.values() if _administers(call, row) and _in_scope(call, row)]
    )


def _in_scope(call: Call, runner: Runner) -> bool:
    """`GET /runners` lists what hangs on the caller's own projects and groups, not the instance's runners."""
    return runner.runner_type != "instance_type"


def all_runners(call: Call) -> Response:
    if not call.caller.admin:
        raise error(403)
    return _runner_page(call, list(call.instance.runners.values()))


def project_runners(call: Call) -> Response:
    project = call.project(MAINTAINER)
    return _runner_page(
        call, [row for row in call.instance.runners.values() if serves_project(call.instance, row, project.id)]
    )


def group_runners(call: Call) -> Response:
    group = call.group(OWNER)
    return _runner_page(
        call,
        [
            row
            for row in call.instance.runners.values()
            if group.id in row.group_ids or row.runner_type == "instance_type"
        ],
    )


def _runner_page(call: Call, rows: list[Runner]) -> Response:
    wanted = declared(call.arguments, _FILTERS)
    kept = [row for row in rows if _passes(call, row, wanted)]
    kept.sort(key=lambda row: row.id, reverse=True)
    return page(call, kept, lambda row: entities.runner(call.instance, row))


def _passes(call: Call, runner: Runner, wanted: dict[str, Any]) -> bool:
    state = {
        entities.contact_status(call.instance, runner.contacted_at, runner.created_at),
        "paused" if runner.paused else "active",
    }
    kind = {runner.runner_type, "shared" if runner.runner_type == "instance_type" else "specific"}
    version = max((manager.version or "" for manager in runner.managers.values()), default="")
    return all((
        wanted.get("type") in (None, runner.runner_type),
        wanted.get("paused") in (None, runner.paused),
        wanted.get("status") is None or wanted["status"] in state,
        wanted.get("scope") is None or wanted["scope"] in state | kind,
        set(wanted.get("tag_list") or ()) <= set(runner.tag_list),
        version.startswith(wanted.get("version_prefix") or ""),
    ))  # fmt: skip


def show(call: Call) -> Response:
    runner = call.runner()
    if runner.runner_type != "instance_type":
        _require_administration(call, runner)
    return answer(entities.runner_details(call.instance, runner, call.caller))


def managers(call: Call) -> Response:
    runner = call.runner()
    if runner.runner_type != "instance_type":
        _require_administration(call, runner)
    return answer([entities.runner_manager(call.instance, manager) for manager in runner.managers.values()])


def runner_projects(call: Call) -> Response:
    runner = call.runner()
    _require_administration(call, runner)
    rows = [call.instance.projects[number] for number in runner.project_ids]
    return page(call, rows, lambda row: entities.project_identity(call.instance, row))


def update(call: Call) -> Response:
    runner = call.runner()
    _require_administration(call, runner)
    wanted = declared(call.arguments, (*_ATTRIBUTES, Parameter("active", bool)))
    if not wanted:
        names = (
            "description",
            "active",
            "paused",
            "tag_list",
            "run_untagged",
            "locked",
            "access_level",
            "maximum_timeout",
            "maintenance_note",
        )
        raise ApiError(400, {"error": f"{', '.join(names)} are missing, at least one parameter must be provided"})
    if "active" in wanted:
        if "paused" in wanted:
            raise ApiError(400, {"error": "active, paused are mutually exclusive"})
        wanted["paused"] = not wanted.pop("active")
    complaints = _complaints(_changed(runner, wanted))
    if complaints:
        raise plain_error(400, {name: [text] for name, text in complaints.items()})
    _apply(runner, wanted)
    call.instance.tick()
    return answer(entities.runner_details(call.instance, runner, call.caller))


def delete(call: Call) -> Response:
    runner = call.runner()
    if not call.caller.admin and len(runner.project_ids) > 1:
        raise error(403, "Runner associated with more than one project")
    _require_administration(call, runner)
    return _delete(call, runner)


def reset_by_id(call: Call) -> Response:
    runner = call.runner()
    _require_administration(call, runner)
    return _reset(call, runner)


def runner_jobs(call: Call) -> Response:
    """Jobs of the runner in projects where the caller is at least a reporter."""
    runner = call.runner()
    if runner.runner_type == "instance_type" and not call.caller.admin:
        raise error(403, "No access granted")
    _require_administration(call, runner)
    wanted = declared(call.arguments, (
        Parameter("system_id"), Parameter("status"), Parameter("order_by", values=("id",)),
        Parameter("sort", values=("asc", "desc")),
    ))  # fmt: skip
    rows = [job for job in call.instance.jobs.values() if job.runner_id == runner.id]
    rows = [
        job
        for job in rows
        if call.instance.project_role(call.caller, call.instance.projects[job.project_id]) >= REPORTER
    ]
    if wanted.get("system_id"):
        rows = [job for job in rows if job.runner_info is not None and job.runner_info.system_id == wanted["system_id"]]
    if wanted.get("status"):
        call.arguments["scope"] = wanted["status"]
        rows = with_status(call, rows)
    return jobs_page(call, rows, lambda job: job.id, lambda job: entities.job_with_project(call.instance, job))


def assign(call: Call) -> Response:
    project = call.project(MAINTAINER)
    runner = _named_by_parameter(call)
    if runner.runner_type == "group_type":
        raise error(403, "Runner is a group runner")
    if runner.locked and not call.caller.admin:
        raise error(403, "Runner is locked")
    _require_administration(call, runner)
    if runner.runner_type == "instance_type" or project.id in runner.project_ids:
        raise error(
            400,
            "Runner has already been taken" if project.id in runner.project_ids else "Runner is not a project runner",
        )
    runner.project_ids.append(project.id)
    call.instance.tick()
    return answer(entities.runner(call.instance, runner), 201)


def unassign(call: Call) -> Response:
    project = call.project(MAINTAINER)
    number = call.path["runner_id"]
    runner = call.instance.runners.get(int(number)) if number.isdigit() else None
    if runner is None or project.id not in runner.project_ids:
        raise not_found("Runner")
    if runner.project_ids[0] == project.id:
        reason = "Only one project associated with the runner. Please remove the runner instead"
        raise error(
            403,
            reason
            if len(runner.project_ids) == 1
            else "You cannot unassign a runner from the owner project. Delete the runner instead",
        )
    runner.project_ids.remove(project.id)
    return no_content()


def _named_by_parameter(call: Call) -> Runner:
    number = declared(call.arguments, (Parameter("runner_id", int, required=True),))["runner_id"]
    runner = call.instance.runners.get(number)
    if runner is None:
        raise not_found("Runner")
    return runner


def _administers(call: Call, runner: Runner) -> bool:
    """Maintainer of one of its projects, owner of one of its groups, or administrator."""
    instance, user = call.instance, call.caller
    return user.admin or any(
        instance.project_role(user, instance.projects[number]) >= MAINTAINER for number in runner.project_ids
    ) or any(instance.group_role(user, instance.groups[number]) >= OWNER for number in runner.group_ids)  # fmt: skip


def _require_administration(call: Call, runner: Runner) -> None:
    if not _administers(call, runner):
        raise error(403, "No access granted")


_MANAGE = ("manage_runner",)
ENDPOINTS = (
    Endpoint("POST", "/user/runners", create, scopes=("create_runner",)),
    Endpoint("POST", "/runners", register, access="token"),
    Endpoint("DELETE", "/runners", delete_by_token, access="token"),
    Endpoint("DELETE", "/runners/managers", delete_manager, access="token"),
    Endpoint("POST", "/runners/verify", verify, access="token"),
    Endpoint("POST", "/runners/reset_authentication_token", reset_by_token, access="token"),
    Endpoint("GET", "/runners", owned_runners),
    Endpoint("GET", "/runners/all", all_runners),
    Endpoint("GET", "/runners/{id}", show, scopes=_MANAGE),
    Endpoint("PUT", "/runners/{id}", update, scopes=_MANAGE),
    Endpoint("DELETE", "/runners/{id}", delete, scopes=_MANAGE),
    Endpoint("GET", "/runners/{id}/managers", managers, scopes=_MANAGE),
    Endpoint("GET", "/runners/{id}/jobs", runner_jobs, scopes=_MANAGE),
    Endpoint("GET", "/runners/{id}/projects", runner_projects, scopes=_MANAGE),
    Endpoint("POST", "/runners/{id}/reset_authentication_token", reset_by_id, scopes=_MANAGE),
    Endpoint("GET", "/projects/{id}/runners", project_runners),
    Endpoint("POST", "/projects/{id}/runners", assign),
    Endpoint("DELETE", "/projects/{id}/runners/{runner_id}", unassign),
    Endpoint("GET", "/groups/{id}/runners", group_runners),
)
