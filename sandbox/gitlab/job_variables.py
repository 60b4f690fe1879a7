"""The variables that GitLab sends with a job, in its order: of two with the same key the later one counts.

Each has the flags of the runner protocol: `public` (may stand in the environment of a pod), `masked`
(hidden in the trace), `file` (the value goes to a file), `raw` (not expanded).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import urlsplit

from sandbox.gitlab.instance import Instance
from sandbox.gitlab.moments import stamp
from sandbox.gitlab.records import Job, Pipeline, Project, Runner, User, Variable

# `$$` is an escaped dollar sign: no reference follows it.
_REFERENCE = re.compile(r"\$\$|\$(?:(\w+)|\{(\w+)\})")


@dataclass(frozen=True)
class JobVariable:
    key: str
    value: str = field(repr=False)
    public: bool = True
    masked: bool = False
    file: bool = False
    raw: bool = False

    def as_json(self) -> dict[str, str | bool]:
        body: dict[str, str | bool] = {
            "key": self.key,
            "value": self.value,
            "public": self.public,
            "masked": self.masked,
        }
        if self.file:
            body["file"] = True
        if self.raw:
            body["raw"] = True
        return body


def slug(text: str) -> str:
    """GitLab's slug: lower case, `[a-z0-9-]`, at most 63 characters, no dash at either end."""
    return re.sub(r"[^a-z0-9]", "-", text.lower())[:63].strip("-")


def of_pipeline(instance: Instance, pipeline: Pipeline) -> list[JobVariable]:
    """What is known before a job exists: the variables that `rules:` may ask."""
    project = instance.projects[pipeline.project_id]
    return [
        *_public(_server(instance)),
        *_public(_project(instance, project)),
        *_public(_pipeline(instance, pipeline)),
        *_public(_user(instance.users[pipeline.user_id])),
        *configured(instance, project, pipeline),
    ]


def of_job(instance: Instance, job: Job, runner: Runner | None, repository_url: str) -> list[JobVariable]:
    """Everything that the job payload carries."""
    pipeline = instance.pipelines[job.pipeline_id]
    project = instance.projects[job.project_id]
    host = urlsplit(instance.url).netloc
    persisted = {
        "CI_PIPELINE_ID": str(pipeline.id),
        "CI_PIPELINE_URL": f"{instance.url}/{project.full_path}/-/pipelines/{pipeline.id}",
        "CI_JOB_ID": str(job.id),
        "CI_JOB_URL": f"{instance.url}/{project.full_path}/-/jobs/{job.id}",
        "CI_JOB_STARTED_AT": stamp(job.started_at or instance.now(), fraction=False),
        "CI_BUILD_ID": str(job.id),
    }
    hidden = {
        "CI_JOB_TOKEN": job.token,
        "CI_BUILD_TOKEN": job.token,
        "CI_REGISTRY_PASSWORD": job.token,
        "CI_REPOSITORY_URL": repository_url,
    }
    own = {
        "CI_JOB_NAME": job.name, "CI_JOB_NAME_SLUG": slug(job.name), "CI_JOB_GROUP_NAME": job.name,
        "CI_JOB_STAGE": job.spec.stage, "CI_NODE_TOTAL": "1", "CI_BUILD_NAME": job.name,
        "CI_BUILD_STAGE": job.spec.stage,
        "CI_JOB_TIMEOUT": str(job.timeout or project.build_timeout), "CI_REGISTRY_USER": "gitlab-ci-token",
        "CI_DEPENDENCY_PROXY_SERVER": host,
    }  # fmt: skip
    if job.manually_played:
        own["CI_JOB_MANUAL"] = "true"
    of_runner = {} if runner is None else {
        "CI_RUNNER_ID": str(runner.id), "CI_RUNNER_DESCRIPTION": runner.description or "",
        "CI_RUNNER_TAGS": json.dumps(runner.tag_list),
    }  # fmt: skip
    written = [JobVariable(key, str(value)) for key, value in job.spec.variables.items()]
    played = [_configured(variable) for variable in job.extra_variables]
    return [
        *_public(persisted),
        *(JobVariable(key, value, public=False, masked=True) for key, value in hidden.items()),
        *_public(own),
        *_public(_server(instance)),
        *_public(_project(instance, project)),
        *_public(_pipeline(instance, pipeline)),
        *_public(of_runner),
        *_public(_user(instance.users[pipeline.user_id])),
        *written,
        *configured(instance, project, pipeline),
        *played,
    ]


def expanded(variables: list[JobVariable]) -> list[JobVariable]:
    """References between variables (`A: $B-x`) filled in, as GitLab does before it sends them.

    Raw variables stay as they are, unknown names stay references, and so does a reference that goes in a circle.
    """
    known = {variable.key: variable for variable in variables}

    def fill(variable: JobVariable, seen: frozenset[str]) -> str:
        if variable.raw or variable.file or variable.key in seen:
            return variable.value
        inside = seen | {variable.key}

        def value(match: re.Match[str]) -> str:
            other = known.get(match[1] or match[2] or "")
            return match[0] if other is None or other.key in inside else fill(other, inside)

        return _REFERENCE.sub(value, variable.value)

    return [replace(variable, value=fill(variable, frozenset())) for variable in variables]


def configured(instance: Instance, project: Project, pipeline: Pipeline) -> list[JobVariable]:
    """Variables that people set: instance, then group from the root down, then project, then pipeline."""
    levels: list[Iterable[Variable]] = [instance.variables.values()]
    levels += [group.variables.values() for group in reversed(instance.namespaces_of(project))]
    levels += [project.variables.values()]
    wanted = (variable for level in levels for variable in level if pipeline.protected or not variable.protected)
    return [_configured(variable) for variable in (*wanted, *pipeline.variables)]


def _configured(variable: Variable) -> JobVariable:
    return JobVariable(
        variable.key, variable.value, public=False, masked=variable.masked,
        file=variable.variable_type == "file", raw=variable.raw,
    )  # fmt: skip


def _public(values: Mapping[str, str]) -> list[JobVariable]:
    return [JobVariable(key, value) for key, value in values.items()]


def _server(instance: Instance) -> dict[str, str]:
    address = urlsplit(instance.url)
    major, minor, patch = (instance.options.version.split("-")[0].split(".") + ["0", "0"])[:3]
    port = str(address.port or {"http": 80, "https": 443}[address.scheme])
    return {
        "CI": "true", "GITLAB_CI": "true", "CI_SERVER": "yes",
        "CI_SERVER_URL": instance.url, "CI_SERVER_FQDN": address.netloc, "CI_SERVER_HOST": address.hostname or "",
        "CI_SERVER_PORT": port, "CI_SERVER_PROTOCOL": address.scheme,
        "CI_SERVER_SHELL_SSH_HOST": address.hostname or "",
        "CI_SERVER_SHELL_SSH_PORT": "22", "CI_SERVER_NAME": "GitLab", "CI_SERVER_VERSION": instance.options.version,
        "CI_SERVER_VERSION_MAJOR": major, "CI_SERVER_VERSION_MINOR": minor, "CI_SERVER_VERSION_PATCH": patch,
        "CI_SERVER_REVISION": instance.options.revision, "GITLAB_FEATURES": "",
        "CI_API_V4_URL": f"{instance.url}/api/v4", "CI_API_GRAPHQL_URL": f"{instance.url}/api/graphql",
    }  # fmt: skip


def _project(instance: Instance, project: Project) -> dict[str, str]:
    namespaces = instance.namespaces_of(project)
    own, root = namespaces[0], namespaces[-1]
    return {
        "CI_PROJECT_ID": str(project.id), "CI_PROJECT_NAME": project.path, "CI_PROJECT_TITLE": project.name,
        "CI_PROJECT_DESCRIPTION": project.description, "CI_PROJECT_PATH": project.full_path,
        "CI_PROJECT_PATH_SLUG": slug(project.full_path), "CI_PROJECT_NAMESPACE": own.full_path,
        "CI_PROJECT_NAMESPACE_ID": str(own.id), "CI_PROJECT_NAMESPACE_SLUG": slug(own.full_path),
        "CI_PROJECT_ROOT_NAMESPACE": root.path, "CI_PROJECT_URL": f"{instance.url}/{project.full_path}",
        "CI_PROJECT_VISIBILITY": "private", "CI_PROJECT_REPOSITORY_LANGUAGES": "",
        "CI_PROJECT_CLASSIFICATION_LABEL": "", "CI_DEFAULT_BRANCH": project.default_branch,
        "CI_CONFIG_PATH": ".gitlab-ci.yml",
    }  # fmt: skip


def _pipeline(instance: Instance, pipeline: Pipeline) -> dict[str, str]:
    project = instance.projects[pipeline.project_id]
    commit = instance.repository(project).commit(pipeline.sha)
    message = commit.message.rstrip("\n") if commit else ""
    title, _, description = message.partition("\n")
    values = {
        "CI_PIPELINE_IID": str(pipeline.iid), "CI_PIPELINE_SOURCE": pipeline.source,
        "CI_PIPELINE_CREATED_AT": stamp(pipeline.created_at, fraction=False),
        "CI_COMMIT_SHA": pipeline.sha, "CI_COMMIT_SHORT_SHA": pipeline.sha[:8],
        "CI_COMMIT_BEFORE_SHA": pipeline.before_sha, "CI_COMMIT_REF_NAME": pipeline.ref,
        "CI_COMMIT_REF_SLUG": slug(pipeline.ref), "CI_COMMIT_MESSAGE": message, "CI_COMMIT_TITLE": title,
        "CI_COMMIT_DESCRIPTION": description.lstrip("\n"),
        "CI_COMMIT_REF_PROTECTED": "true" if pipeline.protected else "false",
        "CI_COMMIT_TIMESTAMP": commit.committed_at if commit else "",
        "CI_COMMIT_AUTHOR": f"{commit.author_name} <{commit.author_email}>" if commit else "",
        "CI_BUILD_REF": pipeline.sha, "CI_BUILD_BEFORE_SHA": pipeline.before_sha,
        "CI_BUILD_REF_NAME": pipeline.ref, "CI_BUILD_REF_SLUG": slug(pipeline.ref),
        ("CI_COMMIT_TAG" if pipeline.tag else "CI_COMMIT_BRANCH"): pipeline.ref,
    }  # fmt: skip
    if pipeline.source == "trigger":
        values["CI_PIPELINE_TRIGGERED"] = "true"
    return values


def _user(user: User) -> dict[str, str]:
    return {
        "GITLAB_USER_ID": str(user.id), "GITLAB_USER_EMAIL": user.email,
        "GITLAB_USER_LOGIN": user.username, "GITLAB_USER_NAME": user.name,
    }  # fmt: skip
