"""The rows that the stand-in keeps: users, tokens, groups, projects, runners, pipelines, jobs.

Rows change while the server runs, so these are plain dataclasses; all of them live in one
:class:`sandbox.gitlab.instance.Instance`. Times are aware UTC datetimes, durations are seconds.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sandbox.gitlab.job_spec import JobSpec

DEVELOPER, MAINTAINER, OWNER = 30, 40, 50
REPORTER = 20

ACTIVE_STATUSES = frozenset(
    {"created", "waiting_for_resource", "preparing", "pending", "running", "canceling", "scheduled"}
)
FINISHED_STATUSES = frozenset({"success", "failed", "canceled", "skipped"})
# A runner may still talk about a job in these states.
HELD_STATUSES = frozenset({"running", "canceling"})


@dataclass
class User:
    id: int
    username: str
    name: str
    admin: bool
    created_at: dt.datetime
    namespace_id: int

    @property
    def email(self) -> str:
        return f"{self.username}@example.com"


@dataclass
class AccessToken:
    """A personal access token. `value` is the secret and stays out of the repr."""

    id: int
    name: str
    user_id: int
    scopes: tuple[str, ...]
    value: str = field(repr=False)
    created_at: dt.datetime
    expires_at: dt.date | None = None
    revoked: bool = False


@dataclass(frozen=True)
class Variable:
    """A CI/CD variable of an instance, a group, a project or a pipeline."""

    key: str
    value: str = field(repr=False)
    variable_type: str = "env_var"
    protected: bool = False
    masked: bool = False
    raw: bool = False
    environment_scope: str = "*"
    description: str | None = None


@dataclass
class Group:
    """A group, or (kind ``user``) the personal namespace of a user."""

    id: int
    path: str
    full_path: str
    name: str
    kind: str = "group"
    parent_id: int | None = None
    members: dict[int, int] = field(default_factory=dict)
    variables: dict[str, Variable] = field(default_factory=dict)
    registration_token: str = field(default="", repr=False)


@dataclass
class Project:
    id: int
    path: str
    name: str
    namespace_id: int
    full_path: str
    repository: Path
    created_at: dt.datetime
    description: str = ""
    default_branch: str = "main"
    protected_branches: tuple[str, ...] = ("main",)
    build_timeout: int = 3600
    shared_runners_enabled: bool = True
    members: dict[int, int] = field(default_factory=dict)
    variables: dict[str, Variable] = field(default_factory=dict)
    registration_token: str = field(default="", repr=False)
    next_pipeline_iid: int = 1


@dataclass
class RunnerManager:
    """One process that polls with a runner's token, known by its system id."""

    id: int
    system_id: str
    created_at: dt.datetime
    contacted_at: dt.datetime | None = None
    version: str | None = None
    revision: str | None = None
    platform: str | None = None
    architecture: str | None = None
    executor: str | None = None
    ip_address: str | None = None
    features: dict[str, Any] = field(default_factory=dict)


@dataclass
class Runner:
    id: int
    token: str = field(repr=False)
    runner_type: str
    created_at: dt.datetime
    description: str | None = None
    maintenance_note: str | None = None
    paused: bool = False
    locked: bool = False
    run_untagged: bool = True
    access_level: str = "not_protected"
    maximum_timeout: int | None = None
    tag_list: list[str] = field(default_factory=list)
    project_ids: list[int] = field(default_factory=list)
    group_ids: list[int] = field(default_factory=list)
    managers: dict[str, RunnerManager] = field(default_factory=dict)
    creator_id: int | None = None
    name: str | None = None

    @property
    def short_token(self) -> str:
        """The part of the token that is no secret: GitLab shows it, runners put it in pod names."""
        return (
            self.token.removeprefix("glrt-")
            .removeprefix("glrtr-")
            .removeprefix("t1_")
            .removeprefix("t2_")
            .removeprefix("t3_")[:9]
        )

    @property
    def contacted_at(self) -> dt.datetime | None:
        return max((m.contacted_at for m in self.managers.values() if m.contacted_at), default=None)


@dataclass
class Pipeline:
    id: int
    iid: int
    project_id: int
    ref: str
    sha: str
    before_sha: str
    tag: bool
    source: str
    user_id: int
    created_at: dt.datetime
    protected: bool
    stages: tuple[str, ...]
    yaml_errors: str | None = None
    status: str = "created"
    updated_at: dt.datetime | None = None
    started_at: dt.datetime | None = None
    finished_at: dt.datetime | None = None
    variables: tuple[Variable, ...] = ()


@dataclass(frozen=True)
class Artifact:
    file_type: str
    file_format: str
    filename: str
    path: Path
    size: int


@dataclass
class Job:
    id: int
    project_id: int
    pipeline_id: int
    spec: JobSpec
    stage_index: int
    status: str
    token: str = field(repr=False)
    created_at: dt.datetime
    user_id: int
    queued_at: dt.datetime | None = None
    started_at: dt.datetime | None = None
    finished_at: dt.datetime | None = None
    erased_at: dt.datetime | None = None
    contacted_at: dt.datetime | None = None
    runner_id: int | None = None
    runner_info: RunnerManager | None = None
    failure_reason: str | None = None
    exit_code: int | None = None
    timeout: int | None = None
    retried: bool = False
    retry_count: int = 0
    manually_played: bool = False
    awaits_acknowledgement: bool = False
    trace: bytearray = field(default_factory=bytearray, repr=False)
    artifacts: dict[str, Artifact] = field(default_factory=dict)
    artifacts_expire_at: dt.datetime | None = None
    extra_variables: tuple[Variable, ...] = ()

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def allow_failure(self) -> bool:
        if self.exit_code is not None and self.exit_code in self.spec.allowed_exit_codes:
            return True
        return self.spec.allow_failure

    @property
    def finished(self) -> bool:
        return self.status in FINISHED_STATUSES
