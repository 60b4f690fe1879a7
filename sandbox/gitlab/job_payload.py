"""The JSON that a runner gets with a job."""

from __future__ import annotations

import hashlib
from typing import Any
from urllib.parse import urlsplit

from sandbox.gitlab import job_queue, job_variables
from sandbox.gitlab.instance import Instance
from sandbox.gitlab.job_spec import FAILURE_REASONS
from sandbox.gitlab.records import Job, Pipeline, Project, Runner

Mapped = dict[str, Any]

GIT_DEPTH = 20
TOKEN_PREFIXES = (
    "glpat-", "gloas-", "gldt-", "glrt-", "glrtr-", "glcbt-", "glptt-", "glft-", "glimt-", "glagent-", "glsoat-",
    "glffct-",
)  # fmt: skip


def payload(instance: Instance, job: Job, runner: Runner) -> Mapped:
    """The answer to `POST /jobs/request` for a job that `runner` was given."""
    project = instance.projects[job.project_id]
    pipeline = instance.pipelines[job.pipeline_id]
    url = repository_url(instance, project, job)
    variables = job_variables.expanded(job_variables.of_job(instance, job, runner, url))
    depth = next((one.value for one in reversed(variables) if one.key == "GIT_DEPTH"), str(GIT_DEPTH))
    return {
        "id": job.id,
        "token": job.token,
        "allow_git_fetch": True,
        "job_info": _job_info(instance, job, project, runner),
        "git_info": _git_info(pipeline, url, int(depth) if depth.isdigit() else GIT_DEPTH),
        "runner_info": {"timeout": job.timeout, "runner_session_url": None},
        "inputs": [],
        "variables": [variable.as_json() for variable in variables],
        "steps": _steps(job),
        "hooks": [],
        "image": _image(job.spec.image),
        "services": [_service(service) for service in job.spec.services],
        "artifacts": _artifacts(job),
        "cache": [_cache(instance, project, pipeline, cache) for cache in job.spec.caches],
        "credentials": [],
        "features": {
            "trace_sections": True, "token_mask_prefixes": list(TOKEN_PREFIXES),
            "failure_reasons": list(FAILURE_REASONS),
            **({"two_phase_job_commit": True} if job.awaits_acknowledgement else {}),
        },
        "dependencies": [_dependency(other) for other in dependencies(instance, job)],
    }  # fmt: skip


def repository_url(instance: Instance, project: Project, job: Job) -> str:
    address = urlsplit(instance.url)
    return f"{address.scheme}://gitlab-ci-token:{job.token}@{address.netloc}/{project.full_path}.git"


def dependencies(instance: Instance, job: Job) -> list[Job]:
    """The jobs whose artifacts this one gets: all of earlier stages, or those named by `dependencies:` or `needs:`."""
    jobs = instance.pipeline_jobs(instance.pipelines[job.pipeline_id])
    if job.spec.needs is not None:
        names = {need.job for need in job.spec.needs if need.artifacts}
        chosen = [other for other in jobs if other.name in names]
    else:
        chosen = [other for other in jobs if other.stage_index < job.stage_index]
    if job.spec.dependencies is not None:
        chosen = [other for other in chosen if other.name in job.spec.dependencies]
    return [other for other in chosen if "archive" in other.artifacts]


def _job_info(instance: Instance, job: Job, project: Project, runner: Runner) -> Mapped:
    namespaces = instance.namespaces_of(project)
    waited = (job.started_at or instance.now()) - (job.queued_at or job.created_at)
    return {
        "id": job.id, "name": job.name, "stage": job.spec.stage, "project_id": project.id, "project_name": project.name,
        "project_full_path": project.full_path, "namespace_id": namespaces[0].id,
        "root_namespace_id": namespaces[-1].id,
        "pipeline_id": job.pipeline_id, "user_id": job.user_id, "organization_id": 1,
        "time_in_queue_seconds": round(waited.total_seconds(), 3),
        
        "project_jobs_running_on_instance_runners_count": _running_on_instance_runners(instance, project, runner),
    }  # fmt: skip


def _running_on_instance_runners(instance: Instance, project: Project, runner: Runner) -> str:
    """A string, since GitLab stops counting at some point; runners of a group or project do not count."""
    if runner.runner_type != "instance_type":
        return "+Inf"
    return str(job_queue.running_on_instance_runners(instance).get(project.id, 0))


def _git_info(pipeline: Pipeline, url: str, depth: int) -> Mapped:
    heads, tags = "+refs/heads/{0}:refs/remotes/origin/{0}", "+refs/tags/{0}:refs/tags/{0}"
    if depth > 0:
        wanted = [(tags if pipeline.tag else heads).format(pipeline.ref)]
    else:
        wanted = [heads.format("*"), tags.format("*")]
    return {
        "repo_url": url, "ref": pipeline.ref, "sha": pipeline.sha, "before_sha": pipeline.before_sha,
        "ref_type": "tag" if pipeline.tag else "branch",
        "refspecs": [f"+refs/pipelines/{pipeline.id}:refs/pipelines/{pipeline.id}", *wanted],
        "depth": depth, "repo_object_format": "sha1", "protected": pipeline.protected,
    }  # fmt: skip


def _steps(job: Job) -> list[Mapped]:
    steps = [
        {
            "name": "script", "script": [*job.spec.before_script, *job.spec.script], "timeout": job.timeout,
            "when": "on_success", "allow_failure": False,
        },
    ]  # fmt: skip
    if job.spec.after_script:
        after = {"name": "after_script", "script": list(job.spec.after_script), "timeout": job.timeout}
        steps.append({**after, "when": "always", "allow_failure": True})
    return steps


def _image(image: Mapped | None) -> Mapped | None:
    if image is None:
        return None
    policy = image.get("pull_policy")
    options = {key: image[key] for key in ("docker", "kubernetes") if key in image}
    return {
        "name": image["name"], "entrypoint": image.get("entrypoint"), "ports": [], "executor_opts": options,
        "pull_policy": [policy] if isinstance(policy, str) else policy,
    }  # fmt: skip


def _service(service: Mapped) -> Mapped:
    variables = [job_variables.JobVariable(key, value).as_json() for key, value in service["variables"].items()]
    command = service.get("command")
    return {
        **(_image(service) or {}), "alias": service.get("alias"), "variables": variables,
        "command": [command] if isinstance(command, str) else command,
    }  # fmt: skip


def _artifacts(job: Job) -> list[Mapped] | None:
    written = job.spec.artifacts
    if written is None:
        return None
    wanted = []
    expire_in = None if written.get("expire_in") is None else str(written["expire_in"])
    if written.get("paths") or written.get("untracked"):
        wanted.append({
            "name": written.get("name"), "untracked": written.get("untracked"), "paths": written.get("paths"),
            **({"exclude": written["exclude"]} if written.get("exclude") else {}),
            "when": written.get("when", "on_success"), "expire_in": expire_in,
            "artifact_type": "archive", "artifact_format": "zip",
        })  # fmt: skip
    junit = written.get("reports", {}).get("junit")
    if junit:
        wanted.append({
            "name": "junit.xml", "paths": [junit] if isinstance(junit, str) else junit, "when": "always",
            **({"expire_in": expire_in} if expire_in else {}), "artifact_type": "junit", "artifact_format": "gzip",
        })  # fmt: skip
    return wanted


def _cache(instance: Instance, project: Project, pipeline: Pipeline, cache: Mapped) -> Mapped:
    key = _cache_key(instance, project, pipeline, cache.get("key") or "default")
    # Protected branches do not share a cache with others, so that a merge request cannot poison it.
    suffix = "" if cache.get("unprotect") else "-protected" if pipeline.protected else "-non_protected"
    return {
        "key": f"{key}{suffix}", "untracked": bool(cache.get("untracked", False)), "paths": cache.get("paths", []),
        "policy": cache.get("policy", "pull-push"), "when": cache.get("when", "on_success"),
        "fallback_keys": [f"{fallback}{suffix}" for fallback in cache.get("fallback_keys", [])],
    }  # fmt: skip


def _cache_key(instance: Instance, project: Project, pipeline: Pipeline, key: str | Mapped) -> str:
    if isinstance(key, str):
        return key
    repository = instance.repository(project)
    commits = [repository.last_commit_of(pipeline.sha, [path]) for path in key["files"]]
    changed = "-".join(commit for commit in commits if commit)
    name = hashlib.sha1(changed.encode(), usedforsecurity=False).hexdigest() if changed else "default"
    return f"{key['prefix']}-{name}" if key.get("prefix") else name


def _dependency(job: Job) -> Mapped:
    archive = job.artifacts["archive"]
    return {
        "id": job.id, "name": job.name, "token": job.token,
        "artifacts_file": {"filename": archive.filename, "size": archive.size},
    }  # fmt: skip
