"""CI lint: would this `.gitlab-ci.yml` make jobs, and which."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from sandbox.gitlab import ci_config, pipelines
from sandbox.gitlab.answers import answer, not_found
from sandbox.gitlab.endpoint import Call, Endpoint
from sandbox.gitlab.job_spec import JobSpec
from sandbox.gitlab.parameters import Parameter, declared
from sandbox.gitlab.records import DEVELOPER, Project

_OPTIONS = (
    Parameter("dry_run", bool), Parameter("include_jobs", bool), Parameter("ref"), Parameter("content_ref"),
    Parameter("dry_run_ref"), Parameter("sha"),
)  # fmt: skip


def lint_content(call: Call) -> Response:
    """`POST`: the text is sent; `dry_run` also applies the rules on `ref`."""
    project = call.project(DEVELOPER)
    text = declared(call.arguments, (Parameter("content", required=True),))["content"]
    return _result(call, project, text, None)


def lint_repository(call: Call) -> Response:
    """`GET`: the text is the one in the repository at `content_ref`."""
    project = call.project(DEVELOPER)
    wanted = declared(call.arguments, _OPTIONS)
    repository = call.instance.repository(project)
    name = wanted.get("content_ref") or wanted.get("sha") or project.default_branch
    sha = repository.resolve(name)
    if sha is None:
        raise not_found("Commit")
    text = repository.read(sha, pipelines.CI_FILE)
    return _result(call, project, "" if text is None else text.decode(errors="replace"), name)


def _result(call: Call, project: Project, text: str, content_ref: str | None) -> Response:
    wanted = declared(call.arguments, _OPTIONS)
    ref = wanted.get("dry_run_ref") or wanted.get("ref") or content_ref or project.default_branch
    sha = call.instance.repository(project).resolve(ref)
    jobs: tuple[JobSpec, ...] = ()
    errors: list[str] = []
    try:
        if wanted.get("dry_run"):
            if sha is None:
                raise ci_config.NoPipeline(["Reference not found"])
            jobs = pipelines.dry_run(call.instance, project, call.caller, text, ref, sha)
        else:
            jobs = ci_config.parse(text).jobs
    except ci_config.NoPipeline as refusal:
        errors = refusal.errors
    body: dict[str, Any] = {"valid": not errors, "errors": errors, "warnings": [], "merged_yaml": text, "includes": []}
    if wanted.get("include_jobs"):
        body["jobs"] = [_job(spec) for spec in jobs]
    return answer(body)


def _job(spec: JobSpec) -> dict[str, Any]:
    return {
        "name": spec.name, "stage": spec.stage, "before_script": list(spec.before_script), "script": list(spec.script),
        "after_script": list(spec.after_script), "tag_list": list(spec.tags), "only": None, "except": None,
        "environment": None, "when": spec.when, "allow_failure": spec.allow_failure,
        "needs": None if spec.needs is None else [{"name": one.job, "artifacts": one.artifacts} for one in spec.needs],
    }  # fmt: skip


ENDPOINTS = (
    Endpoint("POST", "/projects/{id}/ci/lint", lint_content),
    Endpoint("GET", "/projects/{id}/ci/lint", lint_repository),
)
