"""The keywords of one job: each is read, checked and named when it is wrong or not supported."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

from sandbox.gitlab import expressions
from sandbox.gitlab.durations import parse_duration
from sandbox.gitlab.job_spec import FAILURE_REASONS, JobSpec, Mapped, Need, Rule

DEFAULTS = ("image", "services", "before_script", "after_script", "cache", "tags", "artifacts", "retry", "timeout")
_JOB_KEYWORDS = frozenset(
    {*DEFAULTS, "stage", "script", "variables", "rules", "only", "except", "when", "allow_failure", "dependencies",
     "needs", "extends"}
)  # fmt: skip
UNSUPPORTED = frozenset(
    {"parallel", "trigger", "environment", "resource_group", "release", "secrets", "id_tokens", "coverage", "inherit",
     "interruptible", "start_in", "hooks", "identity", "pages", "publish", "run", "dast_configuration",
     "manual_confirmation"}
)  # fmt: skip
_RULE_KEYWORDS = frozenset({"if", "when", "allow_failure", "variables"})
_UNSUPPORTED_RULE = frozenset({"changes", "exists", "needs", "interruptible", "start_in", "auto_cancel"})
_WHEN = ("on_success", "on_failure", "always", "manual", "never")


def is_strings(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def read_variables(written: Any, where: str, errors: list[str]) -> Mapped:
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


def read_rules(written: Any, where: str, errors: list[str]) -> tuple[Rule, ...] | None:
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
    return Rule(condition, when, allow_failure, read_variables(written.get("variables"), f"{where}:variables", errors))


class JobReader:
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
        rules = read_rules(body.get("rules"), f"{where}:rules", self._errors)
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
            variables=read_variables(body.get("variables"), f"{where}:variables", self._errors),
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
        unknown = [key for key in body if key not in _JOB_KEYWORDS | UNSUPPORTED]
        if unknown:
            self._errors.append(f"{where} config contains unknown keys: {', '.join(unknown)}")
        self._errors.extend(
            f"{where}:{key} is not supported by the practice GitLab" for key in body if key in UNSUPPORTED
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
        wrong = [reason for reason in reasons if reason not in ("always", *FAILURE_REASONS)]
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
                own = read_variables(service.get("variables"), f"{where}:services:service:variables", self._errors)
                services.append({**service, "variables": own})
        return tuple(services)

    def _tags(self, where: str, written: Any) -> tuple[str, ...]:
        if written is None:
            return ()
        if not is_strings(written):
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
            if "paths" in entry and not is_strings(entry["paths"]):
                self._errors.append(f"{where}:cache:paths config should be an array of strings")
            key = entry.get("key", "default")
            if isinstance(key, str) and "/" in unquote(key):
                self._errors.append(f'{where}:cache:key config cannot contain the "/" character')
            if isinstance(key, dict) and not is_strings(key.get("files")):
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
            if key in written and not is_strings(written[key]):
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
        if not is_strings(written):
            self._errors.append(f"{where} config should be an array of strings or regexps")
            return None
        return tuple(written)

    def _dependencies(self, where: str, written: Any) -> tuple[str, ...] | None:
        if written is None:
            return None
        if not is_strings(written):
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
