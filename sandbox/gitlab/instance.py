"""The tables of one GitLab: who and what is there, who may do what, and when something last changed.

Everything is kept in memory and changed from one event loop only, so nothing is locked.
"""

from __future__ import annotations

import datetime as dt
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from sandbox.gitlab.records import (
    OWNER,
    AccessToken,
    Group,
    Job,
    Pipeline,
    Project,
    Runner,
    User,
    Variable,
)  # fmt: skip
from sandbox.gitlab.repository import Repository

Clock = Callable[[], dt.datetime]

SELF_MANAGED, GITLAB_COM = "self-managed", "gitlab.com"
FLAVOURS = (SELF_MANAGED, GITLAB_COM)


@dataclass(frozen=True)
class Limits:
    """Times in seconds after which GitLab gives a job up, and sizes in bytes. GitLab's own defaults."""

    pending: int = 86400
    pending_without_runner: int = 3600
    running_without_contact: int = 3600
    acknowledgement: int = 120
    artifact_bytes: int = 100 * 1024 * 1024
    trace_bytes: int = 100 * 1024 * 1024


@dataclass(frozen=True)
class Options:
    """What one server is told at start."""

    flavour: str = SELF_MANAGED
    version: str = "17.9.2"
    registration_tokens: bool = True
    requests_per_minute: int | None = None
    long_poll_seconds: float = 0.0
    trace_update_interval: int = 3
    limits: Limits = Limits()

    @property
    def release(self) -> tuple[int, int]:
        major, minor = self.version.split(".")[:2]
        return int(major), int(minor)

    @property
    def revision(self) -> str:
        return "practice" if self.flavour == SELF_MANAGED else "practice-com"


@dataclass
class Instance:
    options: Options
    url: str
    directory: Path
    now: Clock
    users: dict[int, User] = field(default_factory=dict)
    tokens: dict[int, AccessToken] = field(default_factory=dict)
    groups: dict[int, Group] = field(default_factory=dict)
    projects: dict[int, Project] = field(default_factory=dict)
    runners: dict[int, Runner] = field(default_factory=dict)
    pipelines: dict[int, Pipeline] = field(default_factory=dict)
    jobs: dict[int, Job] = field(default_factory=dict)
    variables: dict[str, Variable] = field(default_factory=dict)
    registration_token: str = field(default_factory=lambda: "GR1348941" + secrets.token_urlsafe(15), repr=False)
    _next_ids: dict[str, int] = field(default_factory=dict)
    _queue_version: int = 0

    # ---------------------------------------------------------------------------------------- new things

    def next_id(self, table: str) -> int:
        """Ids as GitLab gives them: counted up, never used again."""
        self._next_ids[table] = self._next_ids.get(table, 0) + 1
        return self._next_ids[table]

    def tick(self) -> None:
        """Something changed that may give a runner work."""
        self._queue_version += 1

    def queue_value(self, runner: Runner) -> str:
        """The `X-GitLab-Last-Update` of a runner: unlike the last one where a request is worth while."""
        return f"{self._queue_version:016x}{runner.id:08x}"

    # ------------------------------------------------------------------------------------------- lookups

    def repository(self, project: Project) -> Repository:
        return Repository(project.repository)

    def find_project(self, id_or_path: str) -> Project | None:
        if id_or_path.isdigit():
            return self.projects.get(int(id_or_path))
        wanted = id_or_path.lower()
        return next((project for project in self.projects.values() if project.full_path.lower() == wanted), None)

    def find_group(self, id_or_path: str) -> Group | None:
        groups = [group for group in self.groups.values() if group.kind == "group"]
        return next((g for g in groups if id_or_path in (str(g.id), g.full_path)), None)

    def find_runner(self, token: str) -> Runner | None:
        matching = (
            runner for runner in self.runners.values() if secrets.compare_digest(runner.token.encode(), token.encode())
        )
        return next(matching, None)

    def find_token(self, value: str) -> AccessToken | None:
        matching = (
            token for token in self.tokens.values() if secrets.compare_digest(token.value.encode(), value.encode())
        )
        return next(matching, None)

    def find_job(self, token: str) -> Job | None:
        matching = (job for job in self.jobs.values() if secrets.compare_digest(job.token.encode(), token.encode()))
        return next(matching, None)

    def pipeline_jobs(self, pipeline: Pipeline, *, retried: bool = False) -> list[Job]:
        return [j for j in self.jobs.values() if j.pipeline_id == pipeline.id and (retried or not j.retried)]

    def namespaces_of(self, project: Project) -> list[Group]:
        """From the project's own namespace up to the root."""
        chain = [self.groups[project.namespace_id]]
        while chain[-1].parent_id is not None:
            chain.append(self.groups[chain[-1].parent_id])
        return chain

    def is_protected(self, project: Project, ref: str) -> bool:
        return ref in project.protected_branches

    # --------------------------------------------------------------------------------------------- roles

    def group_role(self, user: User, group: Group) -> int:
        """The access level (50 owner, 40 maintainer, 30 developer, 0 none), inherited from the groups above."""
        if user.admin:
            return OWNER
        levels = []
        current: Group | None = group
        while current is not None:
            levels.append(OWNER if current.id == user.namespace_id else current.members.get(user.id, 0))
            current = self.groups.get(current.parent_id) if current.parent_id is not None else None
        return max(levels)

    def project_role(self, user: User, project: Project) -> int:
        return max(project.members.get(user.id, 0), self.group_role(user, self.groups[project.namespace_id]))
