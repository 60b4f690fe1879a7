"""One job of a `.gitlab-ci.yml` as a value: what the file says, with nothing about when or where it runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Mapped = dict[str, Any]

# The keys of GitLab's failure reasons. What a runner sends beyond them is stored as unknown_failure.
FAILURE_REASONS = (
    "unknown_failure", "script_failure", "api_failure", "stuck_or_timeout_failure", "runner_system_failure",
    "missing_dependency_failure", "runner_unsupported", "stale_schedule", "job_execution_timeout", "archived_failure",
    "unmet_prerequisites", "scheduler_failure", "data_integrity_failure", "forward_deployment_failure",
    "user_blocked", "project_deleted", "ci_quota_exceeded", "pipeline_loop_detected", "no_matching_runner",
    "trace_size_exceeded", "builds_disabled", "environment_creation_failure", "deployment_rejected",
    "failed_outdated_deployment_job", "image_pull_failure",
)  # fmt: skip


@dataclass(frozen=True)
class Rule:
    condition: Callable[[Mapping[str, str]], bool] | None = None
    when: str | None = None
    allow_failure: bool | None = None
    variables: Mapped = field(default_factory=dict)


@dataclass(frozen=True)
class Need:
    job: str
    artifacts: bool = True
    optional: bool = False


@dataclass(frozen=True)
class JobSpec:
    """One job of the file, with `default:`, `extends:` and globals already worked in."""

    name: str
    stage: str = "test"
    script: tuple[str, ...] = ()
    before_script: tuple[str, ...] = ()
    after_script: tuple[str, ...] = ()
    image: Mapped | None = None
    services: tuple[Mapped, ...] = ()
    variables: Mapped = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    caches: tuple[Mapped, ...] = ()
    artifacts: Mapped | None = None
    rules: tuple[Rule, ...] | None = None
    only: tuple[str, ...] | None = None
    excluded: tuple[str, ...] = ()
    when: str = "on_success"
    allow_failure: bool = False
    allowed_exit_codes: tuple[int, ...] = ()
    dependencies: tuple[str, ...] | None = None
    needs: tuple[Need, ...] | None = None
    retry_max: int = 0
    retry_when: tuple[str, ...] = ("always",)
    timeout: int | None = None
