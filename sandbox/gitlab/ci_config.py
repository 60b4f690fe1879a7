"""`.gitlab-ci.yml` in, jobs out; what is wrong or not understood becomes a lint error, never silence.

The messages follow GitLab's (``jobs:test config contains unknown keys: x``). Keywords that GitLab knows
and this stand-in does not are named: ``jobs:test:parallel is not supported by the practice GitLab``.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import yaml

from sandbox.gitlab import expressions
from sandbox.gitlab.ci_jobs import DEFAULTS, UNSUPPORTED, JobReader, is_strings, read_rules, read_variables
from sandbox.gitlab.job_spec import JobSpec, Mapped, Rule

DEFAULT_STAGES = ("build", "test", "deploy")
_EDGE_STAGES = (".pre", ".post")
_ROOT_KEYWORDS = frozenset(
    {"default", "stages", "variables", "workflow", "image", "services", "before_script", "after_script", "cache"}
)
_UNSUPPORTED_ROOT = frozenset({"include", "pages", "spec"})
_REFERENCE = re.compile(r"\$(?:(\w+)|\{(\w+)\})")


class NoPipeline(ValueError):
    """The file has no jobs for this pipeline, or it is wrong: `errors` says what."""

    def __init__(self, errors: list[str]) -> None:
        super().__init__("; ".join(errors))
        self.errors = errors


@dataclass(frozen=True)
class Configuration:
    stages: tuple[str, ...]
    jobs: tuple[JobSpec, ...]
    variables: Mapped
    workflow_rules: tuple[Rule, ...] | None


def parse(text: str) -> Configuration:
    """The configuration written in `text`. Raises :class:`NoPipeline` with every error found."""
    document = _read(text)
    errors: list[str] = []
    defaults = _defaults(document, errors)
    stages = _stages(document, errors)
    variables = read_variables(document.get("variables"), "variables", errors)
    workflow = _workflow(document.get("workflow"), errors)
    written = _extended({name: body for name, body in document.items() if name not in _ROOT_KEYWORDS}, errors)
    reader = JobReader(defaults, stages, errors)
    jobs = tuple(reader.job(name, body) for name, body in written.items() if not name.startswith("."))
    if not jobs and not errors:
        errors.append("jobs config should contain at least one visible job")
    if not errors:
        _check_links(jobs, stages, errors)
    if errors:
        raise NoPipeline(errors)
    return Configuration(stages=stages, jobs=jobs, variables=variables, workflow_rules=workflow)


def select(configuration: Configuration, variables: Mapping[str, str], ref: str, *, tag: bool) -> tuple[JobSpec, ...]:
    """The jobs of one pipeline: rules, only and except applied. Raises :class:`NoPipeline` where none is left."""
    names = {**{key: str(value) for key, value in configuration.variables.items()}, **variables}
    if configuration.workflow_rules is not None:
        rule = _first(configuration.workflow_rules, names)
        if rule is None or rule.when == "never":
            raise NoPipeline(["Pipeline filtered out by workflow rules."])
    chosen = [job for spec in configuration.jobs if (job := _applied(spec, names, ref, tag=tag)) is not None]
    if not chosen:
        raise NoPipeline(
            ["The resulting pipeline would have been empty. Review the rules configuration for the relevant jobs."]
        )
    chosen = [_with_tags(job, names) for job in chosen]
    present = {job.name for job in chosen}
    missing = [
        f"'{job.name}' job needs '{need.job}' job, but '{need.job}' does not exist in the pipeline."
        for job in chosen for need in job.needs or () if need.job not in present and not need.optional
    ]  # fmt: skip
    if missing:
        raise NoPipeline(missing)
    return tuple(chosen)


def _applied(spec: JobSpec, variables: Mapping[str, str], ref: str, *, tag: bool) -> JobSpec | None:
    if spec.rules is None:
        if spec.only is not None and not _refers(spec.only, ref, tag=tag):
            return None
        return None if _refers(spec.excluded, ref, tag=tag) or spec.when == "never" else spec
    own = {key: str(value) for key, value in spec.variables.items()}
    rule = _first(spec.rules, {**own, **variables})
    when = (rule.when or spec.when) if rule is not None else "never"
    if rule is None or when == "never":
        return None
    return replace(
        spec,
        when=when,
        allow_failure=spec.allow_failure if rule.allow_failure is None else rule.allow_failure,
        variables={**spec.variables, **rule.variables},
    )


def _with_tags(spec: JobSpec, variables: Mapping[str, str]) -> JobSpec:
    """Tags may carry variables (`$SMOKE_TAG`), which GitLab fills in when it makes the job."""
    own = {**{key: str(value) for key, value in spec.variables.items()}, **variables}
    filled = (_REFERENCE.sub(lambda match: own.get(match[1] or match[2], match[0]), tag) for tag in spec.tags)
    return replace(spec, tags=tuple(dict.fromkeys(filled)))


def _first(rules: tuple[Rule, ...], variables: Mapping[str, str]) -> Rule | None:
    return next((rule for rule in rules if rule.condition is None or rule.condition(variables)), None)


def _refers(names: tuple[str, ...], ref: str, *, tag: bool) -> bool:
    kinds = {"branches": not tag, "tags": tag}
    for name in names:
        if name in kinds:
            if kinds[name]:
                return True
        elif name.startswith("/"):
            if expressions.parse(f"$ref =~ {name}")({"ref": ref}):
                return True
        elif name == ref:
            return True
    return False


# ---------------------------------------------------------------------------------------------- reading


def _read(text: str) -> Mapped:
    if not text.strip():
        raise NoPipeline(["Please provide content of .gitlab-ci.yml"])
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise NoPipeline([f"Invalid YAML: {' '.join(str(error).split())}"]) from error
    if not isinstance(document, dict):
        raise NoPipeline(["Invalid configuration format"])
    document = {str(key): value for key, value in document.items()}
    errors = [f"{key} is not supported by the practice GitLab" for key in document if key in _UNSUPPORTED_ROOT]
    for key, value in document.items():
        if key not in _ROOT_KEYWORDS | _UNSUPPORTED_ROOT and not isinstance(value, dict):
            errors.append(
                f"jobs:{key} config should be a hash"
                if key.startswith(".")
                else f"root config contains unknown keys: {key}"
            )
    if errors:
        raise NoPipeline(errors)
    return document


def _defaults(document: Mapped, errors: list[str]) -> Mapped:
    written = document.get("default") or {}
    if not isinstance(written, dict):
        errors.append("default config should be a hash")
        return {}
    for key in written:
        if key in UNSUPPORTED:
            errors.append(f"default:{key} is not supported by the practice GitLab")
        elif key not in DEFAULTS:
            errors.append(f"default config contains unknown keys: {key}")
    at_root = {key: document[key] for key in DEFAULTS if key in document and key in _ROOT_KEYWORDS}
    for key in sorted(at_root.keys() & written.keys()):
        errors.append(f"{key} is defined in top-level and `default:` entry")
    return {**at_root, **written}


def _stages(document: Mapped, errors: list[str]) -> tuple[str, ...]:
    stages = document.get("stages", list(DEFAULT_STAGES))
    if not is_strings(stages):
        errors.append("stages config should be an array of strings")
        return (".pre", *DEFAULT_STAGES, ".post")
    return (".pre", *(stage for stage in stages if stage not in _EDGE_STAGES), ".post")


def _workflow(written: Any, errors: list[str]) -> tuple[Rule, ...] | None:
    if written is None:
        return None
    if not isinstance(written, dict):
        errors.append("workflow config should be a hash")
        return None
    errors.extend(f"workflow:{key} is not supported by the practice GitLab" for key in written if key != "rules")
    return read_rules(written.get("rules"), "workflow:rules", errors)


def _extended(written: Mapped, errors: list[str]) -> Mapped:
    """Every job with the ones it extends merged below it: hashes deep, everything else replaced."""
    done: Mapped = {}

    def resolve(name: str, chain: tuple[str, ...]) -> Mapped:
        if name in done:
            return dict(done[name])
        body = written[name]
        parents = body.get("extends", [])
        merged: Mapped = {}
        for parent in [parents] if isinstance(parents, str) else parents:
            if parent in chain:
                errors.append(f"{name}: circular dependency detected in `extends`")
            elif parent not in written:
                errors.append(f"{name}: unknown keys in `extends` ({parent})")
            else:
                merged = _merged(merged, resolve(parent, (*chain, parent)))
        done[name] = _merged(merged, {key: value for key, value in body.items() if key != "extends"})
        return dict(done[name])

    return {name: resolve(name, (name,)) for name in written}


def _merged(below: Mapped, above: Mapped) -> Mapped:
    result = copy.deepcopy(below)
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = _merged(result[key], value) if both else copy.deepcopy(value)
    return result


def _check_links(jobs: tuple[JobSpec, ...], stages: tuple[str, ...], errors: list[str]) -> None:
    place = {job.name: stages.index(job.stage) for job in jobs}
    for job in jobs:
        for name in job.dependencies or ():
            if name not in place:
                errors.append(f"{job.name} job: undefined dependency: {name}")
            elif place[name] >= place[job.name]:
                errors.append(f"{job.name} job: dependency {name} is not defined in prior stages")
        for need in job.needs or ():
            if need.job not in place:
                if not need.optional:
                    errors.append(f"{job.name} job: undefined need: {need.job}")
            elif place[need.job] > place[job.name]:
                errors.append(f"{job.name} job: need {need.job} is not defined in current or prior stages")
