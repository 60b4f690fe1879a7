"""Rows as GitLab's JSON: one function an entity, the fields of GitLab's `lib/api/entities`."""

from __future__ import annotations

import datetime as dt
from typing import Any
from urllib.parse import quote

from sandbox.gitlab.instance import Instance
from sandbox.gitlab.moments import optional_stamp, stamp
from sandbox.gitlab.records import (
    AccessToken,
    Artifact,
    Group,
    Job,
    Pipeline,
    Project,
    Runner,
    RunnerManager,
    User,
    Variable,
)  # fmt: skip
from sandbox.gitlab.repository import Commit, Entry

Mapped = dict[str, Any]

ONLINE = dt.timedelta(hours=2)
STALE = dt.timedelta(days=7)


# ------------------------------------------------------------------------------------------------- people


def user_basic(instance: Instance, user: User) -> Mapped:
    return {
        "id": user.id, "username": user.username, "public_email": "", "name": user.name, "state": "active",
        "locked": False,
        "avatar_url": None, "web_url": f"{instance.url}/{user.username}",
    }  # fmt: skip


def user_public(instance: Instance, user: User) -> Mapped:
    """`GET /user`; the field `is_admin` is there for administrators only."""
    body = {
        **user_basic(instance, user), "created_at": stamp(user.created_at), "bio": "", "location": "",
        "email": user.email,
        "commit_email": user.email, "confirmed_at": stamp(user.created_at), "bot": False, "external": False,
        "private_profile": False, "projects_limit": 100000, "can_create_group": True, "can_create_project": True,
        "two_factor_enabled": False, "identities": [], "namespace_id": user.namespace_id,
    }  # fmt: skip
    return {**body, "is_admin": True} if user.admin else body


def access_token(token: AccessToken) -> Mapped:
    """A token without its value."""
    return {
        "id": token.id, "name": token.name, "revoked": token.revoked, "created_at": stamp(token.created_at),
        "description": None,
        "scopes": list(token.scopes), "user_id": token.user_id, "last_used_at": None, "active": not token.revoked,
        "expires_at": None if token.expires_at is None else token.expires_at.isoformat(),
    }  # fmt: skip


# ----------------------------------------------------------------------------------- groups and projects


def namespace(instance: Instance, group: Group) -> Mapped:
    web = f"{instance.url}/groups/{group.full_path}" if group.kind == "group" else f"{instance.url}/{group.full_path}"
    return {
        "id": group.id, "name": group.name, "path": group.path, "kind": group.kind, "full_path": group.full_path,
        "parent_id": group.parent_id, "avatar_url": None, "web_url": web,
    }  # fmt: skip


def group(instance: Instance, row: Group) -> Mapped:
    return {
        "id": row.id, "web_url": f"{instance.url}/groups/{row.full_path}", "name": row.name, "path": row.path,
        "description": "",
        "visibility": "private", "full_name": row.name, "full_path": row.full_path, "parent_id": row.parent_id,
        "shared_runners_setting": "enabled",
    }  # fmt: skip


def project(instance: Instance, row: Project, *, maintainer: bool = False) -> Mapped:
    """A project; the registration token shows to maintainers only."""
    own = instance.groups[row.namespace_id]
    address = f"{instance.url}/{row.full_path}"
    body = {
        "id": row.id, "description": row.description, "name": row.name,
        "name_with_namespace": f"{own.name} / {row.name}",
        "path": row.path, "path_with_namespace": row.full_path, "created_at": stamp(row.created_at),
        "default_branch": row.default_branch, "tag_list": [], "topics": [], "http_url_to_repo": f"{address}.git",
        "ssh_url_to_repo": f"git@{instance.url.partition('://')[2]}:{row.full_path}.git", "web_url": address,
        "readme_url": None, "forks_count": 0, "avatar_url": None, "star_count": 0,
        "last_activity_at": stamp(row.created_at),
        "namespace": namespace(instance, own), "visibility": "private", "archived": False, "empty_repo": False,
        "jobs_enabled": True, "builds_access_level": "enabled", "shared_runners_enabled": row.shared_runners_enabled,
        "group_runners_enabled": True, "build_timeout": row.build_timeout, "ci_config_path": None,
        "ci_default_git_depth": 20,
        "ci_separated_caches": True, "public_jobs": True, "keep_latest_artifact": True,
    }  # fmt: skip
    return {**body, "runners_token": row.registration_token} if maintainer else body


def project_identity(instance: Instance, row: Project) -> Mapped:
    own = instance.groups[row.namespace_id]
    return {
        "id": row.id, "description": row.description, "name": row.name,
        "name_with_namespace": f"{own.name} / {row.name}",
        "path": row.path, "path_with_namespace": row.full_path, "created_at": stamp(row.created_at),
    }  # fmt: skip


def variable(row: Variable) -> Mapped:
    return {
        "variable_type": row.variable_type, "key": row.key, "value": row.value, "hidden": False,
        "protected": row.protected,
        "masked": row.masked, "raw": row.raw, "environment_scope": row.environment_scope,
        "description": row.description,
    }  # fmt: skip


# -------------------------------------------------------------------------------------------- repository


def commit(instance: Instance, owner: Project, row: Commit) -> Mapped:
    return {
        "id": row.id, "short_id": row.id[:8], "created_at": row.committed_at, "parent_ids": list(row.parent_ids),
        "title": row.title, "message": row.message, "author_name": row.author_name, "author_email": row.author_email,
        "authored_date": row.committed_at, "committer_name": row.author_name, "committer_email": row.author_email,
        "committed_date": row.committed_at, "trailers": {}, "extended_trailers": {},
        "web_url": f"{instance.url}/{owner.full_path}/-/commit/{row.id}",
    }  # fmt: skip


def branch(instance: Instance, owner: Project, name: str, row: Commit, *, may_push: bool) -> Mapped:
    protected = instance.is_protected(owner, name)
    return {
        "name": name, "commit": commit(instance, owner, row), "merged": False, "protected": protected,
        "developers_can_push": False, "developers_can_merge": False, "can_push": may_push,
        "default": name == owner.default_branch,
        "web_url": f"{instance.url}/{owner.full_path}/-/tree/{quote(name)}",
    }  # fmt: skip


def tree_entry(row: Entry) -> Mapped:
    return {"id": row.id, "name": row.path.rpartition("/")[2], "type": row.type, "path": row.path, "mode": row.mode}


# ----------------------------------------------------------------------------------------------- runners


def contact_status(instance: Instance, contacted_at: dt.datetime | None, created_at: dt.datetime) -> str:
    """`online`, `offline`, `stale` or `never_contacted`."""
    now = instance.now()
    if contacted_at is None:
        return "stale" if now - created_at > STALE else "never_contacted"
    if now - contacted_at < ONLINE:
        return "online"
    return "stale" if now - contacted_at > STALE else "offline"


def runner(instance: Instance, row: Runner) -> Mapped:
    status = contact_status(instance, row.contacted_at, row.created_at)
    creator = instance.users.get(row.creator_id) if row.creator_id is not None else None
    busy = any(job.runner_id == row.id and job.status == "running" for job in instance.jobs.values())
    return {
        "id": row.id, "description": row.description, "ip_address": _latest(row, "ip_address"),
        "active": not row.paused,
        "paused": row.paused, "is_shared": row.runner_type == "instance_type", "runner_type": row.runner_type,
        "name": row.name, "online": status == "online",
        "created_by": user_basic(instance, creator) if creator else None,
        "created_at": stamp(row.created_at), "status": status, "job_execution_status": "active" if busy else "idle",
    }  # fmt: skip


def runner_details(instance: Instance, row: Runner, caller: User) -> Mapped:
    projects = [instance.projects[number] for number in row.project_ids]
    visible = [one for one in projects if instance.project_role(caller, one) > 0]
    groups = [instance.groups[number] for number in row.group_ids]
    return {
        **runner(instance, row), "tag_list": row.tag_list, "run_untagged": row.run_untagged, "locked": row.locked,
        "maximum_timeout": row.maximum_timeout, "access_level": row.access_level, "version": _latest(row, "version"),
        "revision": _latest(row, "revision"), "platform": _latest(row, "platform"),
        "architecture": _latest(row, "architecture"), "contacted_at": optional_stamp(row.contacted_at),
        "maintenance_note": row.maintenance_note, "projects": [project_identity(instance, one) for one in visible],
        "groups": [{key: group(instance, one)[key] for key in ("id", "web_url", "name")} for one in groups],
    }  # fmt: skip


def runner_manager(instance: Instance, row: RunnerManager) -> Mapped:
    return {
        "id": row.id, "system_id": row.system_id, "version": row.version, "revision": row.revision,
        "platform": row.platform,
        "architecture": row.architecture, "created_at": stamp(row.created_at),
        "contacted_at": optional_stamp(row.contacted_at),
        "ip_address": row.ip_address, "status": contact_status(instance, row.contacted_at, row.created_at),
        "job_execution_status": "idle",
    }  # fmt: skip


def runner_registration(row: Runner) -> Mapped:
    """The only answer that carries a runner's token, next to the one that resets it."""
    return {"id": row.id, "token": row.token, "token_expires_at": None}


def _latest(row: Runner, attribute: str) -> str | None:
    managers = [manager for manager in row.managers.values() if manager.contacted_at is not None]
    if not managers:
        return None
    latest = max(managers, key=lambda manager: manager.contacted_at or manager.created_at)
    value: str | None = getattr(latest, attribute)
    return value


# --------------------------------------------------------------------------------------- pipelines, jobs


def pipeline_basic(instance: Instance, row: Pipeline) -> Mapped:
    owner = instance.projects[row.project_id]
    return {
        "id": row.id, "iid": row.iid, "project_id": row.project_id, "sha": row.sha, "ref": row.ref,
        "status": row.status,
        "source": row.source, "created_at": stamp(row.created_at), "updated_at": optional_stamp(row.updated_at),
        "web_url": f"{instance.url}/{owner.full_path}/-/pipelines/{row.id}", "name": None,
    }  # fmt: skip


def pipeline(instance: Instance, row: Pipeline) -> Mapped:
    return {
        **pipeline_basic(instance, row), "before_sha": row.before_sha, "tag": row.tag, "yaml_errors": row.yaml_errors,
        "user": user_basic(instance, instance.users[row.user_id]), "started_at": optional_stamp(row.started_at),
        "finished_at": optional_stamp(row.finished_at), "committed_at": None,
        "duration": _whole_seconds(row.started_at, row.finished_at),
        "queued_duration": _whole_seconds(row.created_at, row.started_at), "coverage": None,
        "detailed_status": _detailed_status(row.status), "archived": False,
    }  # fmt: skip


def job_basic(instance: Instance, row: Job) -> Mapped:
    owner = instance.projects[row.project_id]
    of_pipeline = instance.pipelines[row.pipeline_id]
    head = instance.repository(owner).commit(of_pipeline.sha)
    now = instance.now()
    body = {
        "id": row.id, "status": row.status, "stage": row.spec.stage, "name": row.name, "ref": of_pipeline.ref,
        "tag": of_pipeline.tag, "coverage": None, "allow_failure": row.allow_failure,
        "created_at": stamp(row.created_at),
        "started_at": optional_stamp(row.started_at), "finished_at": optional_stamp(row.finished_at),
        "erased_at": optional_stamp(row.erased_at), "duration": _seconds(row.started_at, row.finished_at or now),
        "queued_duration": _seconds(row.queued_at, row.started_at or row.finished_at or now),
        "user": user_basic(instance, instance.users[row.user_id]),
        "commit": commit(instance, owner, head) if head else None, "pipeline": pipeline_basic(instance, of_pipeline),
        "web_url": f"{instance.url}/{owner.full_path}/-/jobs/{row.id}",
        "project": {"ci_job_token_scope_enabled": False}, "archived": False, "source": of_pipeline.source,
    }  # fmt: skip
    return {**body, "failure_reason": row.failure_reason} if row.status == "failed" else body


def job_with_project(instance: Instance, row: Job) -> Mapped:
    """The shorter row of `GET /runners/:id/jobs`: no runner, no tags, but the project."""
    owner = instance.projects[row.project_id]
    return {**job_basic(instance, row), "project": project_identity(instance, owner)}


def job(instance: Instance, row: Job) -> Mapped:
    archive = row.artifacts.get("archive")
    return {
        **job_basic(instance, row),
        **({"artifacts_file": {"filename": archive.filename, "size": archive.size}} if archive else {}),
        "artifacts": [_artifact(one) for one in _with_trace(row)],
        "runner": _runner_of(instance, row), "runner_manager": _manager_of(instance, row),
        "artifacts_expire_at": optional_stamp(row.artifacts_expire_at), "tag_list": list(row.spec.tags),
    }  # fmt: skip


def _with_trace(row: Job) -> list[Artifact | Job]:
    return [*row.artifacts.values(), *([row] if row.finished and row.trace else [])]


def _artifact(one: Artifact | Job) -> Mapped:
    if isinstance(one, Job):
        return {"file_type": "trace", "size": len(one.trace), "filename": "job.log", "file_format": None}
    return {"file_type": one.file_type, "size": one.size, "filename": one.filename, "file_format": one.file_format}


def _runner_of(instance: Instance, row: Job) -> Mapped | None:
    held = instance.runners.get(row.runner_id) if row.runner_id is not None else None
    return None if held is None else runner(instance, held)


def _manager_of(instance: Instance, row: Job) -> Mapped | None:
    return None if row.runner_info is None else runner_manager(instance, row.runner_info)


def _seconds(start: dt.datetime | None, end: dt.datetime | None) -> float | None:
    return None if start is None or end is None else round((end - start).total_seconds(), 6)


def _whole_seconds(start: dt.datetime | None, end: dt.datetime | None) -> int | None:
    seconds = _seconds(start, end)
    return None if seconds is None else int(seconds)


def _detailed_status(status: str) -> Mapped:
    text = {"success": "passed"}.get(status, status)
    return {
        "icon": f"status_{status}", "text": text.capitalize(), "label": text, "group": status, "tooltip": text,
        "has_details": True,
    }  # fmt: skip
