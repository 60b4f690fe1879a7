"""Whose job a pod runs and on which runner, from the best that the version of its runner offers.

From 15.9 on a runner annotates its pods with the job, from 17.9 on it labels them with project and runner. For all
versions there is what these runbooks have the configuration add (`runbook.runner.job_marks`), the environment of the
build container, and the pattern of the pod's name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from runbook.history.api_objects import JOB, MANAGER, PROJECT, Pod
from runbook.history.record import JobKnown
from runbook.runner import job_marks

_NAME = re.compile(r"^runner-(?P<short>.+?)-project-(?P<project>\d+)-concurrent-(?P<slot>\d+)$")
_NEW_SUFFIX = re.compile(r"-[a-z0-9]{8}$")
_OLD_SUFFIX_LENGTH = 5
_JOB_URL = re.compile(r"^/(?P<path>.+)/-/jobs/\d+$")
_JOB_NAMESPACE = re.compile(r"^ci-job-(?P<job>\d+)$")


def columns(pod: Pod) -> dict[str, Any]:
    """The columns that say whose job a pod runs and on which runner, from the best that its runner's version offers."""
    notes, labels = pod.metadata.annotations or {}, pod.metadata.labels or {}
    layers = (
        (JobKnown.ANNOTATION, _from_annotations(notes)),
        (JobKnown.MARK, _from_marks(notes, labels)),
        (JobKnown.VARIABLE, _from_variables(pod.variables)),
        (JobKnown.NAMESPACE, _from_namespace(pod.metadata.namespace)),
        (JobKnown.NAME, _from_labels(labels) | _from_name(pod)),
    )
    found: dict[str, Any] = {}
    for _, layer in reversed(layers):
        found |= {name: value for name, value in layer.items() if value not in (None, "")}
    # The URL's path holds the prefix of a GitLab below a path; what a configuration adds is the project's path alone.
    found["project_path"] = _from_marks(notes, labels)["project_path"] or found.get("project_path")
    found["project_namespace"] = (found["project_path"] or "").rpartition("/")[0] or found.get("project_namespace")
    best = next((known for known, layer in layers if layer.get("job_id")), None)
    found["job_known"] = best or (JobKnown.NAME if found.get("project_id") else JobKnown.UNKNOWN)
    return found


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isdigit() else None


def _filled(text: str | None) -> str | None:
    """A mark's value; None where the runner had no such variable and left it empty or as it was."""
    return text if text and not text.startswith("$CI_") else None


def _from_annotations(notes: Mapping[str, str]) -> dict[str, Any]:
    """What runners write themselves from 15.9 on."""
    url = urlsplit(notes.get(JOB + "url", ""))
    path = _JOB_URL.match(url.path)
    return {
        "job_id": _number(notes.get(JOB + "id")),
        "job_name": notes.get(JOB + "name"),
        "job_ref": notes.get(JOB + "ref"),
        "project_id": _number(notes.get(PROJECT + "id")),
        "project_path": path["path"] if path else None,
        "gitlab_host": url.netloc.rpartition("@")[2],
    }


def _from_marks(notes: Mapping[str, str], labels: Mapping[str, str]) -> dict[str, Any]:
    """What the configuration of these runbooks adds: annotations hold the values as they are, labels only what fits."""

    def mark(key: str) -> str | None:
        return _filled(notes.get(key)) or _filled(labels.get(key))

    return {
        "job_id": _number(mark(job_marks.JOB_ID)),
        "job_name": mark(job_marks.JOB_NAME),
        "job_stage": mark(job_marks.JOB_STAGE),
        "job_ref": mark(job_marks.REF),
        "pipeline_id": _number(mark(job_marks.PIPELINE_ID)),
        "project_id": _number(mark(job_marks.PROJECT_ID)),
        "project_path": mark(job_marks.PROJECT_PATH),
    }


def _from_variables(variables: Mapping[str, str]) -> dict[str, Any]:
    """What the environment of the build container says."""
    return {
        "job_id": _number(variables.get("CI_JOB_ID")),
        "job_name": variables.get("CI_JOB_NAME"),
        "job_stage": variables.get("CI_JOB_STAGE"),
        "job_ref": variables.get("CI_COMMIT_REF_NAME"),
        "pipeline_id": _number(variables.get("CI_PIPELINE_ID")),
        "project_id": _number(variables.get("CI_PROJECT_ID")),
        "project_path": variables.get("CI_PROJECT_PATH"),
        "gitlab_host": urlsplit(variables.get("CI_SERVER_URL", "")).netloc.rpartition("@")[2],
        "runner_id": _number(variables.get("CI_RUNNER_ID")),
        "runner_name": variables.get("CI_RUNNER_DESCRIPTION"),
        "runner_version": variables.get("CI_RUNNER_VERSION"),
    }


def _from_namespace(namespace: str) -> dict[str, Any]:
    match = _JOB_NAMESPACE.match(namespace)
    return {"job_id": int(match["job"])} if match else {}


def _from_labels(labels: Mapping[str, str]) -> dict[str, Any]:
    """What runners write themselves from 17.9 on."""
    return {
        "project_id": _number(labels.get(PROJECT + "id")),
        "project_namespace": labels.get(PROJECT + "namespace"),
        "runner_name": labels.get(MANAGER + "name"),
        "runner_id_short": labels.get(MANAGER + "id-short"),
    }


def _from_name(pod: Pod) -> dict[str, Any]:
    """`runner-SHORT-project-ID-concurrent-SLOT`: a label since 12.0, and the beginning of every pod's name."""
    meta, labels = pod.metadata, pod.metadata.labels or {}
    candidates = (
        labels.get(JOB + "pod"),
        labels.get("pod"),
        meta.generate_name.rstrip("-"),
        _NEW_SUFFIX.sub("", meta.name),
        meta.name[:-_OLD_SUFFIX_LENGTH],
    )
    match = next((found for text in candidates if text and (found := _NAME.match(text))), None)
    if match is None:
        return {}
    return {
        "project_id": int(match["project"]),
        "runner_id_short": match["short"],
        "runner_slot": int(match["slot"]),
    }
