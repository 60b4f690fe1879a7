"""The variables of a job as a runner sees them: its own, those of config.toml, those GitLab sent; and how ``$NAME`` is expanded.

Source: GitLab Runner, ``common/variables.go`` and ``common/build.go``; the order of the recorded pod of 14.7.1 is kept.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from runbook.runner.behaviours import Behaviour
from runbook.runner.names import short_token
from runbook.runner.version import Version

_REFERENCE = re.compile(r"\$(?:\{([^}]*)\}|([A-Za-z_0-9]+|[$*#@!?-]))")
_EMPTY = frozenset("*#@!?-0123456789")


class Variable(NamedTuple):
    """One job variable. `public`: may stand in the pod; `masked`: hidden in the trace; `raw`: never expanded; `file`: its value becomes a file."""

    key: str
    value: str
    public: bool = True
    masked: bool = False
    raw: bool = False
    file: bool = False


@dataclass(frozen=True)
class Variables:
    """Job variables in the runner's order; a later one of the same name wins."""

    rows: tuple[Variable, ...]

    def __iter__(self) -> Iterator[Variable]:
        return iter(self.rows)

    def get(self, key: str) -> str:
        """The last value of *key*, or ""."""
        if key == "$":
            return "$"
        if key in _EMPTY:
            return ""
        return next((row.value for row in reversed(self.rows) if row.key == key), "")

    def expand(self, text: str) -> str:
        """*text* with ``$NAME`` and ``${NAME}`` replaced; unknown names become "", ``$$`` becomes ``$``."""
        return _REFERENCE.sub(lambda match: self.get(match[1] if match[1] is not None else match[2]), text)

    def expanded(self) -> Variables:
        """Every value expanded once against the others, raw ones kept as they are."""
        return Variables(tuple(row if row.raw else row._replace(value=self.expand(row.value)) for row in self.rows))

    def public(self) -> Variables:
        """Those that may be seen in the pod."""
        return Variables(tuple(row for row in self.rows if row.public))

    def starting_with(self, prefix: str) -> list[str]:
        """Values of all variables whose name starts with *prefix* (``KUBERNETES_POD_LABELS_``), in order."""
        return [row.value for row in self.rows if row.key.startswith(prefix)]


def of_payload(rows: Iterable[Mapping[str, Any]]) -> tuple[Variable, ...]:
    """`variables` of a job payload -> rows."""
    return tuple(
        Variable(
            key=str(row["key"]),
            value=str(row.get("value", "")),
            public=bool(row.get("public", False)),
            masked=bool(row.get("masked", False)),
            raw=bool(row.get("raw", False)),
            file=bool(row.get("file", False)),
        )
        for row in rows
    )


def of_environment(lines: Iterable[str]) -> tuple[Variable, ...]:
    """`environment = ["NAME=value"]` of config.toml -> rows; a line without `=` is left out, as a runner does."""
    return tuple(Variable(key, value) for key, equals, value in (line.partition("=") for line in lines) if equals)


class Flag(NamedTuple):
    """A feature flag of the runner, as it stands in a job's environment. `until` is the first version without it."""

    name: str
    default: bool
    since: Version
    until: Version | None = None


_ALWAYS = Version(0, 0)

# The first block is the recorded order of 14.7.1; the second holds the flags that were added later and bear on Kubernetes.
FLAGS: tuple[Flag, ...] = (
    Flag("FF_CMD_DISABLE_DELAYED_ERROR_LEVEL_EXPANSION", False, _ALWAYS, Version(15, 0)),
    Flag("FF_NETWORK_PER_BUILD", False, _ALWAYS),
    Flag("FF_USE_LEGACY_KUBERNETES_EXECUTION_STRATEGY", False, Version(14, 0)),
    Flag("FF_USE_DIRECT_DOWNLOAD", True, _ALWAYS),
    Flag("FF_SKIP_NOOP_BUILD_STAGES", True, _ALWAYS),
    Flag("FF_USE_FASTZIP", False, _ALWAYS),
    Flag("FF_GITLAB_REGISTRY_HELPER_IMAGE", True, Version(14, 0), Version(15, 0)),
    Flag("FF_DISABLE_UMASK_FOR_DOCKER_EXECUTOR", False, _ALWAYS),
    Flag("FF_ENABLE_BASH_EXIT_CODE_CHECK", False, _ALWAYS),
    Flag("FF_USE_WINDOWS_LEGACY_PROCESS_STRATEGY", True, _ALWAYS, Version(16, 10)),
    Flag("FF_USE_WINDOWS_LEGACY_PROCESS_STRATEGY", False, Version(16, 10)),
    Flag("FF_USE_NEW_BASH_EVAL_STRATEGY", False, _ALWAYS),
    Flag("FF_USE_POWERSHELL_PATH_RESOLVER", False, _ALWAYS),
    Flag("FF_USE_DYNAMIC_TRACE_FORCE_SEND_INTERVAL", False, _ALWAYS),
    Flag("FF_SCRIPT_SECTIONS", False, _ALWAYS),
    Flag("FF_USE_NEW_SHELL_ESCAPE", False, _ALWAYS, Version(17, 0)),
    Flag("FF_ENABLE_JOB_CLEANUP", False, _ALWAYS),
    Flag("FF_KUBERNETES_HONOR_ENTRYPOINT", False, Version(14, 5)),
    Flag("FF_USE_POD_ACTIVE_DEADLINE_SECONDS", False, Version(15, 10), Version(16, 5)),
    Flag("FF_USE_POD_ACTIVE_DEADLINE_SECONDS", True, Version(16, 5)),
    Flag("FF_USE_ADVANCED_POD_SPEC_CONFIGURATION", False, Version(15, 10)),
    Flag("FF_PRINT_POD_EVENTS", False, Version(16, 5)),
    Flag("FF_USE_DUMB_INIT_WITH_KUBERNETES_EXECUTOR", False, Version(16, 6)),
    Flag("FF_DISABLE_UMASK_FOR_KUBERNETES_EXECUTOR", False, Version(17, 2)),
    Flag("FF_WAIT_FOR_POD_TO_BE_REACHABLE", False, Version(17, 6)),
    Flag("FF_USE_ADAPTIVE_REQUEST_CONCURRENCY", True, Version(18, 0)),
    Flag("FF_HASH_CACHE_KEYS", False, Version(18, 4)),
)


def flags(version: Version) -> dict[str, bool]:
    """The feature flags that *version* knows, with their defaults, in its order."""
    return {
        flag.name: flag.default
        for flag in FLAGS
        if flag.since <= version and (flag.until is None or version < flag.until)
    }


def flag_is_on(name: str, runner: Mapping[str, Any], job: Mapping[str, Any], version: Version) -> bool:
    """A feature flag's value: `[runners.feature_flags]`, else the job's variables, else `environment`, else the version's default."""
    configured = runner.get("feature_flags", {})
    if name in configured:
        return bool(configured[name])
    rows = (*of_environment(runner.get("environment", ())), *of_payload(job.get("variables", ())))
    given = [row.value for row in rows if row.key == name]
    if given:
        return given[-1].lower() in ("1", "t", "true")
    return flags(version).get(name, False)


@dataclass(frozen=True)
class Assignment:
    """What a manager adds when it takes a job: the slot it runs in, and what it made or drew for it."""

    concurrent: int = 0
    """Number of the slot among all jobs of this runner, from 0."""
    project_concurrent: int = 0
    """The same among the jobs of this project."""
    suffix: str = "00000000"
    """8 random characters that end the pod's name (from 16.2)."""
    revision: str = "00000000"
    """The git revision that the runner's binary reports."""
    architecture: str = "linux/amd64"
    scripts_config_map: str = ""
    """Name of the ConfigMap with the scripts (until 15.7)."""
    pull_secret: str = ""
    """Name of the Secret with the job's registry credentials, if it has any."""
    pull_attempt: int = 0
    """Which of several pull policies is due: 0 is the first."""
    tls_ca: str = ""
    """GitLab's certificates in PEM where `tls-ca-file` is set: the job's git needs them too."""


def builds_dir(runner: Mapping[str, Any]) -> str:
    """Where job directories are: `builds_dir`, or /builds."""
    return str(runner.get("builds_dir") or "/builds")


def project_dir(runner: Mapping[str, Any], job: Mapping[str, Any], version: Version, given: Assignment) -> str:
    """The job's directory: ``/builds/<group>/<project>``, or with the short token and slot before it where builds_dir is shared."""
    parts = [builds_dir(runner)]
    if _builds_dir_is_shared(runner) and Behaviour.SHARED_BUILDS_DIR.of(version):
        parts += [short_token(str(runner.get("token", "")), version), str(given.concurrent)]
    path = urlsplit(str(job.get("git_info", {}).get("repo_url", ""))).path
    return posixpath.join(*parts, path.strip("/").removesuffix(".git")).rstrip("/")


def _builds_dir_is_shared(runner: Mapping[str, Any]) -> bool:
    volumes = runner.get("kubernetes", {}).get("volumes", {})
    return any(
        volume.get("mount_path") == builds_dir(runner)
        for kind, group in volumes.items()
        if kind != "empty_dir"
        for volume in group
    )


def of_job(runner: Mapping[str, Any], job: Mapping[str, Any], version: Version, given: Assignment) -> Variables:
    """All variables of a job, in the runner's order, each expanded once."""
    image = str((job.get("image") or {}).get("name") or runner.get("kubernetes", {}).get("image", ""))
    own = [Variable(name, str(default).lower()) for name, default in flags(version).items()]
    own += [Variable("CI_JOB_IMAGE", image)] if image else []
    own += [Variable("CI_RUNNER_SHORT_TOKEN", short_token(str(runner.get("token", "")), version))]
    own += of_environment(runner.get("environment", ()))
    own += [
        Variable("CI_BUILDS_DIR", builds_dir(runner)),
        Variable("CI_PROJECT_DIR", project_dir(runner, job, version, given)),
        Variable("CI_CONCURRENT_ID", str(given.concurrent)),
        Variable("CI_CONCURRENT_PROJECT_ID", str(given.project_concurrent)),
        Variable("CI_SERVER", "yes"),
        Variable("CI_JOB_STATUS", "running"),
    ]
    if given.tls_ca:
        own.append(Variable("CI_SERVER_TLS_CA_FILE", given.tls_ca, raw=True, file=True))
    about_the_runner = (
        Variable("CI_DISPOSABLE_ENVIRONMENT", "true"),
        Variable("CI_RUNNER_VERSION", str(version)),
        Variable("CI_RUNNER_REVISION", given.revision),
        Variable("CI_RUNNER_EXECUTABLE_ARCH", given.architecture),
    )
    return Variables((*own, *of_payload(job.get("variables", ())), *about_the_runner)).expanded()
