"""Branches, commits, files and trees: everything is written to and read from the bare repository."""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Any

from starlette.responses import Response

from sandbox.gitlab import entities, pipelines
from sandbox.gitlab.answers import ApiError, answer, no_content, not_found, plain_error
from sandbox.gitlab.endpoint import Call, Endpoint
from sandbox.gitlab.pagination import page
from sandbox.gitlab.parameters import Parameter, declared
from sandbox.gitlab.records import DEVELOPER, MAINTAINER, Project
from sandbox.gitlab.repository import ZERO_SHA, Author, Change, Commit, Repository, RepositoryError

_ACTIONS = ("create", "update", "delete", "move", "chmod")


# ----------------------------------------------------------------------------------------------- branches


def branches(call: Call) -> Response:
    project = call.project()
    search = declared(call.arguments, (Parameter("search"),)).get("search") or ""
    names = [name for name in call.instance.repository(project).branches() if search in name]
    return page(call, names, lambda name: _branch(call, project, name))


def branch(call: Call) -> Response:
    project = call.project()
    if call.path["branch"] not in call.instance.repository(project).branches():
        raise not_found("Branch")
    return answer(_branch(call, project, call.path["branch"]))


def _branch(call: Call, project: Project, name: str) -> dict[str, Any]:
    head = call.instance.repository(project).commit(name)
    if head is None:
        raise not_found("Branch")
    return entities.branch(call.instance, project, name, head, may_push=_may_push(call, project, name))


def _may_push(call: Call, project: Project, name: str) -> bool:
    role = call.instance.project_role(call.caller, project)
    return role >= (MAINTAINER if call.instance.is_protected(project, name) else DEVELOPER)


def create_branch(call: Call) -> Response:
    project = call.project(DEVELOPER)
    wanted = declared(call.arguments, (Parameter("branch", required=True), Parameter("ref", required=True)))
    repository = call.instance.repository(project)
    if wanted["branch"] in repository.branches():
        raise plain_error(400, "Branch already exists")
    sha = repository.resolve(wanted["ref"])
    if sha is None:
        raise plain_error(
            400, f"Failed to create branch '{wanted['branch']}': invalid reference name '{wanted['ref']}'"
        )
    try:
        repository.write_ref(f"refs/heads/{wanted['branch']}", sha)
    except RepositoryError as wrong:
        raise plain_error(400, "Branch name is invalid") from wrong
    pipelines.after_push(call.instance, project, call.caller, [(wanted["branch"], ZERO_SHA, sha)])
    return answer(_branch(call, project, wanted["branch"]), 201)


def delete_branch(call: Call) -> Response:
    project = call.project(DEVELOPER)
    name = call.path["branch"]
    repository = call.instance.repository(project)
    if name not in repository.branches():
        raise not_found("Branch")
    if name == project.default_branch or call.instance.is_protected(project, name):
        raise plain_error(403, "403 Forbidden - This branch is protected")
    repository.delete_ref(f"refs/heads/{name}")
    return no_content()


# ------------------------------------------------------------------------------------------------ commits


def commits(call: Call) -> Response:
    project = call.project()
    wanted = declared(call.arguments, (Parameter("ref_name"), Parameter("path")))
    repository = call.instance.repository(project)
    sha = repository.resolve(wanted.get("ref_name") or project.default_branch)
    if sha is None:
        raise not_found("Commit")
    rows = repository.log(sha, wanted.get("path"))
    return page(call, rows, lambda row: entities.commit(call.instance, project, row), counted=False)


def commit(call: Call) -> Response:
    project = call.project()
    row = call.instance.repository(project).commit(call.path["sha"])
    if row is None:
        raise not_found("Commit")
    return answer(entities.commit(call.instance, project, row))


def create_commit(call: Call) -> Response:
    """Several changes as one commit, on a branch that is there or that `start_branch` / `start_sha` begins."""
    wanted = declared(call.arguments, (
        Parameter("branch", required=True), Parameter("commit_message", required=True), Parameter("start_branch"),
        Parameter("start_sha"), Parameter("author_name"), Parameter("author_email"), Parameter("force", bool),
    ))  # fmt: skip
    written = call.arguments.get("actions")
    if not isinstance(written, list) or not written:
        raise ApiError(400, {"error": "actions is missing" if written is None else "actions is invalid"})
    changes = [_change(item) for item in written]
    project, row = _commit(call, wanted, changes)
    return answer({**entities.commit(call.instance, project, row), "stats": _stats(changes)}, 201)


def _stats(changes: list[Change]) -> dict[str, int]:
    added = sum((change.content or b"").count(b"\n") for change in changes if change.action in ("create", "update"))
    return {"additions": added, "deletions": 0, "total": added}


def _change(item: Any) -> Change:
    if not isinstance(item, dict):
        raise ApiError(400, {"error": "actions is invalid"})
    if item.get("action") not in _ACTIONS:
        raise ApiError(400, {"error": "actions[0][action] does not have a valid value"})
    if not item.get("file_path"):
        raise ApiError(400, {"error": "actions[0][file_path] is missing"})
    content = item.get("content")
    if content is None and item["action"] in ("create", "update"):
        raise ApiError(400, {"error": "actions[0][content] is missing"})
    return Change(
        item["action"], str(item["file_path"]), None if content is None else _content(content, item.get("encoding")),
        item.get("previous_path"), item.get("execute_filemode"),
    )  # fmt: skip


def _content(content: str, encoding: str | None) -> bytes:
    if encoding != "base64":
        return str(content).encode()
    try:
        return base64.b64decode(content, validate=False)
    except binascii.Error as wrong:
        raise ApiError(400, {"error": "content is invalid"}) from wrong


def _commit(call: Call, wanted: dict[str, Any], changes: list[Change]) -> tuple[Project, Commit]:
    project = call.project(DEVELOPER)
    repository = call.instance.repository(project)
    name = wanted["branch"]
    if not _may_push(call, project, name):
        raise plain_error(400, "You are not allowed to push into this branch")
    before = repository.branches().get(name)
    parent = before
    if wanted.get("start_branch") or wanted.get("start_sha"):
        if before is not None and not wanted.get("force"):
            raise plain_error(
                400, f"A branch called '{name}' already exists. Switch to that branch in order to make changes"
            )
        parent = repository.resolve(wanted.get("start_sha") or wanted["start_branch"])
    if parent is None and repository.branches():
        raise plain_error(400, "You can only create or edit files when you are on a branch")
    author = Author(wanted.get("author_name") or call.caller.name, wanted.get("author_email") or call.caller.email)
    when = int(call.instance.now().timestamp())
    try:
        sha = repository.create_commit(name, changes, wanted["commit_message"], author, parent=parent, when=when)
    except RepositoryError as refused:
        raise plain_error(400, str(refused)) from refused
    pipelines.after_push(call.instance, project, call.caller, [(name, before or ZERO_SHA, sha)])
    row = repository.commit(sha)
    if row is None:
        raise not_found("Commit")
    return project, row


# -------------------------------------------------------------------------------------------------- files


def tree(call: Call) -> Response:
    project = call.project()
    wanted = declared(call.arguments, (Parameter("ref"), Parameter("path"), Parameter("recursive", bool)))
    repository = call.instance.repository(project)
    sha = repository.resolve(wanted.get("ref") or project.default_branch)
    if sha is None:
        raise not_found("Tree")
    rows = repository.tree(sha, wanted.get("path") or "", recursive=wanted.get("recursive") or False)
    if not rows and wanted.get("path"):
        raise not_found("Tree")
    return page(call, rows, entities.tree_entry)


def _found(call: Call) -> tuple[Project, Repository, str, str, bytes]:
    project = call.project()
    repository = call.instance.repository(project)
    ref = declared(call.arguments, (Parameter("ref"),)).get("ref") or "HEAD"
    sha = repository.resolve(project.default_branch if ref == "HEAD" else ref)
    if sha is None:
        raise not_found("Commit")
    content = repository.read(sha, call.path["file_path"])
    if content is None:
        raise not_found("File")
    return project, repository, ref, sha, content


def file(call: Call) -> Response:
    _, repository, ref, sha, content = _found(call)
    path = call.path["file_path"]
    entry = repository.entry(sha, path)
    return answer({
        "file_name": path.rpartition("/")[2], "file_path": path, "size": len(content), "encoding": "base64",
        "content_sha256": hashlib.sha256(content).hexdigest(), "ref": ref, "blob_id": entry.id if entry else None,
        "commit_id": sha, "last_commit_id": repository.last_commit_of(sha, [path]),
        "execute_filemode": entry is not None and entry.mode == "100755", "content": base64.b64encode(content).decode(),
    })  # fmt: skip


def raw_file(call: Call) -> Response:
    content = _found(call)[-1]
    return Response(content, media_type="text/plain; charset=utf-8")


def _write_file(call: Call, action: str, status: int) -> Response:
    wanted = declared(call.arguments, (
        Parameter("branch", required=True), Parameter("commit_message", required=True), Parameter("start_branch"),
        Parameter("author_name"), Parameter("author_email"), Parameter("content", required=action != "delete"),
        Parameter("encoding", values=("text", "base64")), Parameter("execute_filemode", bool),
    ))  # fmt: skip
    content = None if action == "delete" else _content(wanted["content"], wanted.get("encoding"))
    path = call.path["file_path"]
    _commit(call, wanted, [Change(action, path, content, executable=wanted.get("execute_filemode"))])
    return no_content() if action == "delete" else answer({"file_path": path, "branch": wanted["branch"]}, status)


def create_file(call: Call) -> Response:
    return _write_file(call, "create", 201)


def update_file(call: Call) -> Response:
    return _write_file(call, "update", 200)


def delete_file(call: Call) -> Response:
    return _write_file(call, "delete", 204)


_READ = ("read_repository",)
_FILE = "/projects/{id}/repository/files/{file_path:path}"
ENDPOINTS = (
    Endpoint("GET", "/projects/{id}/repository/branches", branches),
    Endpoint("POST", "/projects/{id}/repository/branches", create_branch),
    Endpoint("GET", "/projects/{id}/repository/branches/{branch:path}", branch),
    Endpoint("DELETE", "/projects/{id}/repository/branches/{branch:path}", delete_branch),
    Endpoint("GET", "/projects/{id}/repository/commits", commits),
    Endpoint("POST", "/projects/{id}/repository/commits", create_commit),
    Endpoint("GET", "/projects/{id}/repository/commits/{sha:path}", commit),
    Endpoint("GET", "/projects/{id}/repository/tree", tree, scopes=_READ),
    Endpoint("GET", f"{_FILE}/raw", raw_file, scopes=_READ),
    Endpoint("GET", _FILE, file, scopes=_READ),
    Endpoint("POST", _FILE, create_file),
    Endpoint("PUT", _FILE, update_file),
    Endpoint("DELETE", _FILE, delete_file),
)
