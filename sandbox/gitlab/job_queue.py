"""Which runner may take which job, and which job comes first."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sandbox.gitlab.instance import Instance
from sandbox.gitlab.job_spec import JobSpec
from sandbox.gitlab.records import Job, Runner


def next_job(instance: Instance, runner: Runner) -> Job | None:
    """The job that `runner` gets now.

    Group and project runners take the oldest job. Instance runners share fairly: the project with the fewest
    jobs already on instance runners comes first, then the oldest job.
    """
    waiting = [job for job in instance.jobs.values() if _waits(job) and may_take(instance, runner, job)]
    if not waiting:
        return None
    if runner.runner_type != "instance_type":
        return min(waiting, key=lambda job: job.id)
    busy = running_on_instance_runners(instance)
    return min(waiting, key=lambda job: (busy.get(job.project_id, 0), job.id))


def suitable_runners(instance: Instance, job: Job) -> list[Runner]:
    """Every active runner that may take `job`; none means that the job is stuck."""
    return [runner for runner in instance.runners.values() if may_take(instance, runner, job)]


def may_take(instance: Instance, runner: Runner, job: Job) -> bool:
    return not runner.paused and serves_project(instance, runner, job.project_id) and _fits(instance, runner, job)


def serves_project(instance: Instance, runner: Runner, project_id: int) -> bool:
    """Whether jobs of the project are offered to the runner at all."""
    project = instance.projects[project_id]
    if runner.runner_type == "instance_type":
        return project.shared_runners_enabled
    if runner.runner_type == "group_type":
        return any(group.id in runner.group_ids for group in instance.namespaces_of(project))
    return project_id in runner.project_ids


def timeout_for(instance: Instance, runner: Runner, job: Job) -> int:
    """Seconds that the job may run: its own or the project's timeout, cut to what the runner allows."""
    wanted = job.spec.timeout or instance.projects[job.project_id].build_timeout
    return min(wanted, runner.maximum_timeout) if runner.maximum_timeout else wanted


def _fits(instance: Instance, runner: Runner, job: Job) -> bool:
    if runner.access_level == "ref_protected" and not instance.pipelines[job.pipeline_id].protected:
        return False
    if not job.spec.tags:
        return runner.run_untagged
    return set(job.spec.tags) <= set(runner.tag_list)


def _waits(job: Job) -> bool:
    return job.status == "pending" and not job.awaits_acknowledgement


def running_on_instance_runners(instance: Instance) -> dict[int, int]:
    """Project id to the number of its jobs that run on instance runners now."""
    busy: dict[int, int] = {}
    for job in instance.jobs.values():
        runner = instance.runners.get(job.runner_id) if job.runner_id is not None else None
        if job.status == "running" and runner is not None and runner.runner_type == "instance_type":
            busy[job.project_id] = busy.get(job.project_id, 0) + 1
    return busy


# A job whose keyword needs a feature fails on a runner that does not name the feature in `info.features`.
_NEEDED_FEATURES: dict[str, Callable[[JobSpec], bool]] = {
    "upload_multiple_artifacts": lambda spec: bool((spec.artifacts or {}).get("reports")),
    "artifacts_exclude": lambda spec: bool((spec.artifacts or {}).get("exclude")),
    "return_exit_code": lambda spec: bool(spec.allowed_exit_codes),
    "fallback_cache_keys": lambda spec: any(cache.get("fallback_keys") for cache in spec.caches),
}


def missing_features(job: Job, features: Mapping[str, Any]) -> list[str]:
    """What the runner would need for this job and does not offer."""
    return [name for name, needed in _NEEDED_FEATURES.items() if needed(job.spec) and not features.get(name)]
