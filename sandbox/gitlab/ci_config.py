"""`.gitlab-ci.yml` in, jobs out; what is wrong or not understood becomes a lint error, never silence.

The messages follow GitLab's (``jobs:test config contains unknown keys: x``). Keywords that GitLab knows
and this stand-in does not are named: ``jobs:test:parallel is not supported by the practice GitLab``.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import unquote

import yaml

from sandbox.gitlab import expressions
from sandbox.gitlab.durations import parse_duration

Mapped = dict[str, Any]

DEFAULT_STAGES = ("build", "test", "deploy")
_EDGE_STAGES = (".pre", ".post")
_ROOT_KEYWORDS = frozenset(
    {"default", "stages", "variables", "workflow", "image", "services", "before_script", "after_script", "cache"}
)
_UNSUPPORTED_ROOT = frozenset({"include", "pages", "spec"})
_DEFAULTS = ("image", "services", "before_script", "after_script", "cache", "tags", "artifacts", "retry", "timeout")
_JOB_KEYWORDS = frozenset(
    {*_DEFAULTS, "stage", "script", "variables", "rules", "only", "except", "when", "allow_failure", "dependencies",
     "needs", "extends"}
)  # fmt: skip
_UNSUPPORTED_JOB = frozenset(
    {"parallel", "trigger", "environment", "resource_group", "release", "secrets", "id_tokens", "coverage", "inherit",
     "interruptible", "start_in", "hooks", "identity", "pages", "publish", "run", "dast_configuration",
     "manual_confirmation"}
)  # fmt: skip
_RULE_KEYWORDS = frozenset({"if", "when", "allow_failure", "variables"})
_UNSUPPORTED_RULE = frozenset({"changes", "exists", "needs", "interruptible", "start_in", "auto_cancel"})
_REFERENCE = re.compile(r"\$(?:(\w+)|\{(\w+)\})")
_WHEN = ("on_success", "on_failure", "always", "manual", "never")
RETRY_REASONS = (
    "always", "unknown_failure", "script_failure", "api_failure", "stuck_or_timeout_failure", "runner_system_failure",
    "runner_unsupported", "stale_schedule", "job_execution_timeout", "archived_failure", "unmet_prerequisites",
    "scheduler_failure", "data_integrity_failure", "image_pull_failure", "missing_dependency_failure",
)  # fmt: skip


class Nothing(ValueError):
    """The file has no jobs for this pipeline, or it is wrong: `errors` says what."""

    def __init__(self, errors: list[str]) -> None:
        super().__init__("; ".join(errors))
        self.errors = errors


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


@dataclass(frozen=True)
class Configuration:
    stages: tuple[str, ...]
    jobs: tuple[JobSpec, ...]
    variables: Mapped
    workflow_rules: tuple[Rule, ...] | None


def parse(text: str) -> Configuration:
    """The configuration written in `text`. Raises :class:`Nothing` with every error found."""
    document = _read(text)
    errors: list[str] = []
    defaults = _defaults(document, errors)
    stages = _stages(document, errors)
    variables = _variables(document.get("variables"), "variables", errors)
    workflow = _workflow(document.get("workflow"), errors)
    written = _extended({name: body for name, body in document.items() if name not in _ROOT_KEYWORDS}, errors)
    reader = _JobReader(defaults, stages, errors)
    jobs = tuple(reader.job(name, body) for name, body in written.items() if not name.startswith("."))
    if not jobs and not errors:
        errors.append("jobs config should contain at least one visible job")
    if not errors:
        _check_links(jobs, stages, errors)
    if errors:
        raise Nothing(errors)
    return Configuration(stages=stages, jobs=jobs, variables=variables, workflow_rules=workflow)


def select(configuration: Configuration, variables: Mapping[str, str], ref: str, *, tag: bool) -> tuple[JobSpec, ...]:
    """The jobs of one pipeline: rules, only and except applied. Raises :class:`Nothing` where none is left."""
    names = {**{key: str(value) for key, value in configuration.variables.items()}, **variables}
    if configuration.workflow_rules is not None:
        rule = _first(configuration.workflow_rules, names)
        if rule is None or rule.when == "never":
            raise Nothing(["Pipeline filtered out by workflow rules."])
    chosen = [job for spec in configuration.jobs if (job := _applied(spec, names, ref, tag=tag)) is not None]
    if not chosen:
        raise Nothing(
            ["The resulting pipeline would have been empty. Review the rules configuration for the relevant jobs."]
        )
    chosen = [_with_tags(job, names) for job in chosen]
    present = {job.name for job in chosen}
    missing = [
        f"'{job.name}' job needs '{need.job}' job, but '{need.job}' does not exist in the pipeline."
        for job in chosen for need in job.needs or () if need.job not in present and not need.optional
    ]  # fmt: skip
    if missing:
        raise Nothing(missing)
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
        raise Nothing(["Please provide content of .gitlab-ci.yml"])
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise Nothing([f"Invalid YAML: {' '.join(str(error).split())}"]) from error
    if not isinstance(document, dict):
        raise Nothing(["Invalid configuration format"])
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
        raise Nothing(errors)
    return document


def _defaults(document: Mapped, errors: list[str]) -> Mapped:
    written = document.get("default") or {}
    if not isinstance(written, dict):
        errors.append("default config should be a hash")
        return {}
    for key in written:
        if key in _UNSUPPORTED_JOB:
            errors.append(f"default:{key} is not supported by the practice GitLab")
        elif key not in _DEFAULTS:
            errors.append(f"default config contains unknown keys: {key}")
    at_root = {key: document[key] for key in _DEFAULTS if key in document and key in _ROOT_KEYWORDS}
    for key in sorted(at_root.keys() & written.keys()):
        errors.append(f"{key} is defined in top-level and `default:` entry")
    return {**at_root, **written}


def _stages(document: Mapped, errors: list[str]) -> tuple[str, ...]:
    stages = document.get("stages", list(DEFAULT_STAGES))
    if not _strings(stages):
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
    return _rules(written.get("rules"), "workflow:rules", errors)


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


def _strings(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _variables(written: Any, where: str, errors: list[str]) -> Mapped:
    if written is None:
        return {}
    if not isinstance(written, dict):
        errors.append(f"{where} config should be a hash of key value pairs")
        return {}
    variables: Mapped = {}
    for key, value in written.items():
        plain = value.get("value") if isinstance(value, dict) else value
        if isinstance(plain, (dict, list)) or (isinstance(value, dict) and "value" not in value):
            errors.append(f"{where}:{key} config should be a string, a number, a boolean or a hash with value")
            continue
        variables[str(key)] = _text(plain)
    return variables


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)


def _script(written: Any, where: str, errors: list[str]) -> tuple[str, ...]:
    if isinstance(written, str):
        return (written,)
    lines = _flat(written) if isinstance(written, list) else None
    if lines is None or not all(isinstance(line, str) for line in lines):
        errors.append(f"{where} config should be a string or a nested array of strings up to 10 levels deep")
        return ()
    return tuple(lines)


def _flat(lines: list[Any]) -> list[Any]:
    return [inner for line in lines for inner in (_flat(line) if isinstance(line, list) else [line])]


def _rules(written: Any, where: str, errors: list[str]) -> tuple[Rule, ...] | None:
    if written is None:
        return None
    if not isinstance(written, list):
        errors.append(f"{where} config should be a hash or array of hashes")
        return None
    return tuple(_rule(rule, f"{where}:rule", errors) for rule in written)


def _rule(written: Any, where: str, errors: list[str]) -> Rule:
    if not isinstance(written, dict):
        errors.append(f"{where} config should be a hash")
        return Rule()
    for key in written:
        if key in _UNSUPPORTED_RULE:
            errors.append(f"{where}:{key} is not supported by the practice GitLab")
        elif key not in _RULE_KEYWORDS:
            errors.append(f"{where} config contains unknown keys: {key}")
    condition = None
    if "if" in written:
        try:
            condition = expressions.parse(str(written["if"]))
        except expressions.ExpressionError:
            errors.append(f"{where} if invalid expression syntax")
    when = written.get("when")
    if when is not None and when not in _WHEN:
        errors.append(f"{where} when unknown value: {when}")
    allow_failure = written.get("allow_failure")
    if allow_failure is not None and not isinstance(allow_failure, bool):
        errors.append(f"{where} allow failure should be a boolean value")
        allow_failure = None
    return Rule(condition, when, allow_failure, _variables(written.get("variables"), f"{where}:variables", errors))


class _JobReader:
    """Reads one job after the other; what is wrong goes to `errors`."""

    def __init__(self, defaults: Mapped, stages: tuple[str, ...], errors: list[str]) -> None:
        self._defaults = defaults
        self._stages = stages
        self._errors = errors

    def job(self, name: str, body: Mapped) -> JobSpec:
        where = f"jobs:{name}"
        self._check_keywords(where, body)
        written = {**self._defaults, **body}
        if "script" not in body:
            self._errors.append(f"{where} config should implement the script:, run:, or trigger: keyword")
        stage = body.get("stage", "test")
        if stage not in self._stages:
            self._errors.append(
                f"{name} job: chosen stage {stage} does not exist; available stages are {', '.join(self._stages)}"
            )
        rules = _rules(body.get("rules"), f"{where}:rules", self._errors)
        when = body.get("when", "on_success")
        if when not in _WHEN:
            self._errors.append(f"{where} when should be one of: {', '.join(_WHEN)}")
        allow_failure, exit_codes = self._allow_failure(
            where, body.get("allow_failure"), manual=when == "manual" and rules is None
        )
        retry_max, retry_when = self._retry(where, written.get("retry"))
        return JobSpec(
            name=name, stage=stage,
            script=_script(body.get("script", []), f"{where}:script", self._errors),
            before_script=_script(written.get("before_script") or [], f"{where}:before_script", self._errors),
            after_script=_script(written.get("after_script") or [], f"{where}:after_script", self._errors),
            image=self._image(f"{where}:image", written.get("image")),
            services=self._services(where, written.get("services")),
            variables=_variables(body.get("variables"), f"{where}:variables", self._errors),
            tags=self._tags(where, written.get("tags")),
            caches=self._caches(where, written.get("cache")),
            artifacts=self._artifacts(f"{where}:artifacts", written.get("artifacts")),
            rules=rules,
            only=self._refs(f"{where}:only", body.get("only")),
            excluded=self._refs(f"{where}:except", body.get("except")) or (),
            when=when, allow_failure=allow_failure, allowed_exit_codes=exit_codes,
            dependencies=self._dependencies(where, body.get("dependencies")),
            needs=self._needs(where, body.get("needs")),
            retry_max=retry_max, retry_when=retry_when,
            timeout=self._timeout(where, written.get("timeout")),
        )  # fmt: skip

    def _check_keywords(self, where: str, body: Mapped) -> None:
        unknown = [key for key in body if key not in _JOB_KEYWORDS | _UNSUPPORTED_JOB]
        if unknown:
            self._errors.append(f"{where} config contains unknown keys: {', '.join(unknown)}")
        self._errors.extend(
            f"{where}:{key} is not supported by the practice GitLab" for key in body if key in _UNSUPPORTED_JOB
        )
        if "rules" in body:
            clashing = [key for key in ("only", "except") if key in body]
            self._errors.extend(f"{where} config key may not be used with `rules`: {key}" for key in clashing)

    def _allow_failure(self, where: str, written: Any, *, manual: bool) -> tuple[bool, tuple[int, ...]]:
        if written is None:
            return manual, ()
        if isinstance(written, bool):
            return written, ()
        if isinstance(written, dict) and set(written) == {"exit_codes"}:
            codes = written["exit_codes"]
            return False, tuple(codes) if isinstance(codes, list) else (codes,)
        self._errors.append(f"{where}:allow_failure config should be a boolean value or a hash with exit_codes")
        return False, ()

    def _retry(self, where: str, written: Any) -> tuple[int, tuple[str, ...]]:
        if written is None:
            return 0, ("always",)
        table = {"max": written} if isinstance(written, int) else written
        if not isinstance(table, dict):
            self._errors.append(f"{where}:retry config has to be either an integer or a hash")
            return 0, ("always",)
        unknown = [key for key in table if key not in ("max", "when")]
        if unknown:
            self._errors.append(f"{where}:retry config contains unknown keys: {', '.join(unknown)}")
        most, when = table.get("max", 2), table.get("when", "always")
        if not isinstance(most, int) or not 0 <= most <= 2:
            self._errors.append(f"{where}:retry max must be between 0 and 2")
            most = 0
        reasons = (when,) if isinstance(when, str) else tuple(when)
        wrong = [reason for reason in reasons if reason not in RETRY_REASONS]
        if wrong:
            self._errors.append(f"{where}:retry when contains unknown values: {', '.join(wrong)}")
        return most, reasons

    def _timeout(self, where: str, written: Any) -> int | None:
        if written is None:
            return None
        try:
            return parse_duration(written)
        except ValueError:
            self._errors.append(f"{where}:timeout config should be a duration")
            return None

    def _image(self, where: str, written: Any) -> Mapped | None:
        if written is None:
            return None
        image = {"name": written} if isinstance(written, str) else written
        if not isinstance(image, dict) or not isinstance(image.get("name"), str):
            self._errors.append(f"{where} config should be a hash or a string")
            return None
        known = {"name", "entrypoint", "pull_policy", "docker", "kubernetes", "alias", "command", "variables"}
        allowed = known if ":services" in where else known - {"alias", "command", "variables"}
        unknown = [key for key in image if key not in allowed]
        if unknown:
            self._errors.append(f"{where} config contains unknown keys: {', '.join(unknown)}")
        return image

    def _services(self, where: str, written: Any) -> tuple[Mapped, ...]:
        if written is None:
            return ()
        if not isinstance(written, list):
            self._errors.append(f"{where}:services config should be a array")
            return ()
        services = []
        for item in written:
            service = self._image(f"{where}:services:service", item)
            if service is not None:
                own = _variables(service.get("variables"), f"{where}:services:service:variables", self._errors)
                services.append({**service, "variables": own})
        return tuple(services)

    def _tags(self, where: str, written: Any) -> tuple[str, ...]:
        if written is None:
            return ()
        if not _strings(written):
            self._errors.append(f"{where}:tags config should be an array of strings")
            return ()
        return tuple(dict.fromkeys(written))

    def _caches(self, where: str, written: Any) -> tuple[Mapped, ...]:
        if not written:
            return ()
        entries = written if isinstance(written, list) else [written]
        known = {"key", "paths", "policy", "untracked", "when", "unprotect", "fallback_keys"}
        for entry in entries:
            if not isinstance(entry, dict):
                self._errors.append(f"{where}:cache config should be a hash or an array of hashes")
                return ()
            unknown = [key for key in entry if key not in known]
            if unknown:
                self._errors.append(f"{where}:cache config contains unknown keys: {', '.join(unknown)}")
            if entry.get("policy", "pull-push") not in ("pull-push", "pull", "push") and not str(
                entry["policy"]
            ).startswith("$"):
                self._errors.append(f"{where}:cache:policy should be one of: pull-push, push, pull")
            if "paths" in entry and not _strings(entry["paths"]):
                self._errors.append(f"{where}:cache:paths config should be an array of strings")
            key = entry.get("key", "default")
            if isinstance(key, str) and "/" in unquote(key):
                self._errors.append(f'{where}:cache:key config cannot contain the "/" character')
            if isinstance(key, dict) and not _strings(key.get("files")):
                self._errors.append(f"{where}:cache:key:files config should be an array of strings")
        if len(entries) > 4:
            self._errors.append(f"{where}:cache config no more than 4 caches can be created")
        return tuple(entries)

    def _artifacts(self, where: str, written: Any) -> Mapped | None:
        if written is None:
            return None
        if not isinstance(written, dict):
            self._errors.append(f"{where} config should be a hash")
            return None
        known = {"paths", "exclude", "untracked", "name", "when", "expire_in", "expose_as", "reports"}
        unknown = [key for key in written if key not in known]
        if unknown:
            self._errors.append(f"{where} config contains unknown keys: {', '.join(unknown)}")
        for key in ("paths", "exclude"):
            if key in written and not _strings(written[key]):
                self._errors.append(f"{where} {key} should be an array of strings")
        if written.get("when", "on_success") not in ("on_success", "on_failure", "always"):
            self._errors.append(f"{where} when should be one of: on_success, on_failure, always")
        if "expose_as" in written and not written.get("paths"):
            self._errors.append(f"{where} paths can't be blank")
        self._check_expiry(where, written.get("expire_in"))
        reports = written.get("reports", {})
        self._errors.extend(
            f"{where}:reports:{kind} is not supported by the practice GitLab" for kind in reports if kind != "junit"
        )
        return written

    def _check_expiry(self, where: str, written: Any) -> None:
        if written is None or str(written).strip().lower() == "never":
            return
        try:
            parse_duration(written)
        except ValueError:
            self._errors.append(f"{where} expire in should be a duration")

    def _refs(self, where: str, written: Any) -> tuple[str, ...] | None:
        if written is None:
            return None
        if isinstance(written, dict):
            other = [key for key in written if key != "refs"]
            self._errors.extend(f"{where}:{key} is not supported by the practice GitLab" for key in other)
            written = written.get("refs", [])
        if isinstance(written, str):
            written = [written]
        if not _strings(written):
            self._errors.append(f"{where} config should be an array of strings or regexps")
            return None
        return tuple(written)

    def _dependencies(self, where: str, written: Any) -> tuple[str, ...] | None:
        if written is None:
            return None
        if not _strings(written):
            self._errors.append(f"{where} dependencies should be an array of strings")
            return None
        return tuple(written)

    def _needs(self, where: str, written: Any) -> tuple[Need, ...] | None:
        if written is None:
            return None
        if not isinstance(written, list):
            self._errors.append(f"{where}:needs config can only be a hash or an array")
            return None
        needs = []
        for item in written:
            table = {"job": item} if isinstance(item, str) else item
            if not isinstance(table, dict) or not isinstance(table.get("job"), str):
                self._errors.append(f"{where}:needs:need has an unsupported type")
                continue
            other = [key for key in table if key not in ("job", "artifacts", "optional")]
            self._errors.extend(f"{where}:needs:{key} is not supported by the practice GitLab" for key in other)
            needs.append(Need(table["job"], bool(table.get("artifacts", True)), bool(table.get("optional", False))))
        return tuple(needs)
