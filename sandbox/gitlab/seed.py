"""What a fresh practice GitLab holds: users with tokens of several scopes, the group `practice` and its projects."""

from __future__ import annotations

import datetime as dt
import secrets
from dataclasses import dataclass
from pathlib import Path

from sandbox.gitlab.instance import GITLAB_COM, Instance
from sandbox.gitlab.records import DEVELOPER, MAINTAINER, OWNER, AccessToken, Group, Project, User
from sandbox.gitlab.repository import Author, Change, Repository

GROUP = "practice"
PROJECTS = Path(__file__).parent / "projects"

# name of the user: role in the group `practice`
_USERS = {"root": OWNER, "maintainer": MAINTAINER, "developer": DEVELOPER, "stranger": 0}


@dataclass(frozen=True)
class _Token:
    user: str
    scopes: tuple[str, ...]
    expired: bool = False
    revoked: bool = False


# The name in `ready.json`: whose token it is and what it may.
_TOKENS = {
    "root": _Token("root", ("api", "admin_mode")),
    "root-read-api": _Token("root", ("read_api",)),
    "root-create-runner": _Token("root", ("create_runner",)),
    "root-manage-runner": _Token("root", ("manage_runner",)),
    "root-runners": _Token("root", ("create_runner", "manage_runner", "read_api")),
    "maintainer": _Token("maintainer", ("api",)),
    "maintainer-read-api": _Token("maintainer", ("read_api",)),
    "maintainer-create-runner": _Token("maintainer", ("create_runner",)),
    "maintainer-manage-runner": _Token("maintainer", ("manage_runner",)),
    "maintainer-runners": _Token("maintainer", ("create_runner", "manage_runner", "read_api")),
    "developer": _Token("developer", ("api",)),
    "developer-read-user": _Token("developer", ("read_user",)),
    "developer-read-repository": _Token("developer", ("read_repository",)),
    "developer-write-repository": _Token("developer", ("write_repository",)),
    "stranger": _Token("stranger", ("api",)),
    "expired": _Token("maintainer", ("api",), expired=True),
    "revoked": _Token("maintainer", ("api",), revoked=True),
}


def plant(instance: Instance) -> dict[str, str]:
    """Fill an empty instance; returns the values of the tokens by name."""
    for username in _USERS:
        _add_user(instance, username)
    group = Group(
        instance.next_id("groups"), GROUP, GROUP, "Practice", registration_token=_registration_token(),
        members={user.id: _USERS[user.username] for user in instance.users.values() if _USERS[user.username]},
    )  # fmt: skip
    instance.groups[group.id] = group
    for folder in sorted(PROJECTS.iterdir()):
        if folder.is_dir():
            _add_project(instance, group, folder)
    return {name: _add_token(instance, name, token) for name, token in _TOKENS.items()}


def _registration_token() -> str:
    return "GR1348941" + secrets.token_urlsafe(15)


def _add_user(instance: Instance, username: str) -> None:
    number = instance.next_id("users")
    namespace = Group(instance.next_id("groups"), username, username, username.capitalize(), kind="user")
    instance.groups[namespace.id] = namespace
    # Nobody who rents a place on gitlab.com is its administrator.
    admin = username == "root" and instance.options.flavour != GITLAB_COM
    instance.users[number] = User(number, username, username.capitalize(), admin, instance.now(), namespace.id)


def _add_token(instance: Instance, name: str, token: _Token) -> str:
    owner = next(user for user in instance.users.values() if user.username == token.user)
    today = instance.now().date()
    row = AccessToken(
        id=instance.next_id("tokens"), name=name, user_id=owner.id, scopes=token.scopes,
        value=f"glpat-{secrets.token_urlsafe(15)}", created_at=instance.now(), revoked=token.revoked,
        expires_at=today - dt.timedelta(days=1) if token.expired else today + dt.timedelta(days=365),
    )  # fmt: skip
    instance.tokens[row.id] = row
    return row.value


def _add_project(instance: Instance, group: Group, folder: Path) -> None:
    number = instance.next_id("projects")
    project = Project(
        id=number, path=folder.name, name=folder.name, namespace_id=group.id,
        full_path=f"{group.full_path}/{folder.name}", created_at=instance.now(),
        registration_token=_registration_token(),
        repository=instance.directory / "repositories" / f"{number}.git",
    )  # fmt: skip
    repository = Repository.create(project.repository, project.default_branch)
    changes = [
        Change("create", str(path.relative_to(folder)), path.read_bytes(), executable=path.stat().st_mode & 0o100 != 0)
        for path in sorted(folder.rglob("*")) if path.is_file()
    ]  # fmt: skip
    author = Author("Root", "root@example.com")
    repository.create_commit(
        project.default_branch,
        changes,
        "Add the practice project\n",
        author,
        parent=None,
        when=int(instance.now().timestamp()),
    )
    instance.projects[number] = project
