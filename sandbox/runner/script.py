"""The shell scripts of a job's stages, as a runner generates them for bash.

Every stage exports the job's variables first, because each runs in a shell of its own. Stages that have nothing to do are skipped, as
FF_SKIP_NOOP_BUILD_STAGES has it.
"""

from __future__ import annotations

import posixpath
import re
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import urlsplit, urlunsplit

from runbook.runner.behaviours import Behaviour
from runbook.runner.variables import Variables
from runbook.runner.version import Version
from sandbox.runner.trace import BOLD_GREEN, RESET, YELLOW

HELPER = "gitlab-runner-helper"
DETACHED_HEAD_SINCE = Version(15, 0)
GIT_DEPTH = 20
CACHE_TIMEOUT_MINUTES = 10
PIPEFAIL = "if set -o | grep pipefail >/dev/null; then set -o pipefail; fi"

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Stage(NamedTuple):
    """A part of a job: its name in the trace, its title there, and the container it runs in."""

    name: str
    title: str
    container: str = "helper"


PREPARE = Stage("prepare_script", "Preparing environment")
GET_SOURCES = Stage("get_sources", "Getting source from Git repository")
RESTORE_CACHE = Stage("restore_cache", "Restoring cache")
DOWNLOAD_ARTIFACTS = Stage("download_artifacts", "Downloading artifacts")
STEP_SCRIPT = Stage("step_script", 'Executing "step_script" stage of the job script', "build")
AFTER_SCRIPT = Stage("after_script", "Running after_script", "build")
ARCHIVE_CACHE = Stage("archive_cache", "Saving cache for successful job")
ARCHIVE_CACHE_ON_FAILURE = Stage("archive_cache_on_failure", "Saving cache for failed job")
UPLOAD_ON_SUCCESS = Stage("upload_artifacts_on_success", "Uploading artifacts for successful job")
UPLOAD_ON_FAILURE = Stage("upload_artifacts_on_failure", "Uploading artifacts for failed job")
CLEANUP = Stage("cleanup_file_variables", "Cleaning up project directory and file based variables")

STAGES = (
    PREPARE, GET_SOURCES, RESTORE_CACHE, DOWNLOAD_ARTIFACTS, STEP_SCRIPT, AFTER_SCRIPT, ARCHIVE_CACHE, ARCHIVE_CACHE_ON_FAILURE,
    UPLOAD_ON_SUCCESS, UPLOAD_ON_FAILURE, CLEANUP,
)  # fmt: skip


@dataclass(frozen=True)
class Scripts:
    """The scripts of one job. `manager` is the host name of the runner's machine, shown in the trace."""

    job: Mapping[str, Any]
    runner: Mapping[str, Any]
    variables: Variables
    version: Version
    manager: str

    def of(self, stage: Stage, *, succeeded: bool | None = None) -> str | None:
        """The text of a stage's script, or None where it has nothing to do. *succeeded* is known after the step script."""
        body = _BODIES[stage](self)
        if body is None:
            return None
        status = {None: "running", True: "success", False: "failed"}[succeeded]
        lines = [
            PIPEFAIL,
            "set -o errexit",
            "set +o noclobber",
            *self._exports(),
            f"export CI_JOB_STATUS={status}",
            *body,
        ]
        return "\n".join(lines) + "\nexit 0\n"

    @property
    def project_dir(self) -> str:
        return self.variables.get("CI_PROJECT_DIR")

    @property
    def temporary_dir(self) -> str:
        """Where file variables are kept."""
        return f"{self.project_dir}.tmp"

    @property
    def clone_url(self) -> str:
        """Address to clone from, with the job's token: that of `clone_url` where the configuration names one."""
        given = urlsplit(str(self.job.get("git_info", {}).get("repo_url", "")))
        base = urlsplit(str(self.runner.get("clone_url") or ""))
        host = base.netloc or given.netloc.rpartition("@")[2]
        path = posixpath.join(base.path.rstrip("/") + "/", given.path.lstrip("/"))
        user = f"gitlab-ci-token:{self.job.get('token', '')}@"
        return urlunsplit((base.scheme or given.scheme, user + host, path, "", ""))

    def cache_file(self, key: str) -> str:
        """Where a cache is kept in the pod: ``<cache_dir>/<group>/<project>/<key>/cache.zip``."""
        cache_dir = str(self.runner.get("cache_dir") or "/cache")
        project = urlsplit(str(self.job.get("git_info", {}).get("repo_url", ""))).path.strip("/").removesuffix(".git")
        return posixpath.join(cache_dir, project, self.variables.expand(key), "cache.zip")

    def _exports(self) -> Iterable[str]:
        files = [row for row in self.variables if row.file and _NAME.fullmatch(row.key)]
        if files:
            yield f"mkdir -p {shlex.quote(self.temporary_dir)}"
        for row in self.variables:
            if not _NAME.fullmatch(row.key):
                continue
            if row.file:
                path = posixpath.join(self.temporary_dir, row.key)
                yield f"printf '%s' {shlex.quote(row.value)} > {shlex.quote(path)}"
                yield f"export {row.key}={shlex.quote(path)}"
            else:
                yield f"export {row.key}={shlex.quote(row.value)}"

    # --- stages: the lines of each, or None ---------------------------------------------------------------------------

    def prepare(self) -> list[str]:
        return [f'echo "Running on $(hostname) via {self.manager}..."']

    def get_sources(self) -> list[str]:
        strategy = self.variables.get("GIT_STRATEGY") or ("fetch" if self.job.get("allow_git_fetch", True) else "clone")
        hooks = [line for name in ("pre_get_sources_script",) for line in self._hook(name)]
        body = _SOURCES.get(strategy, Scripts._fetch)(self)
        return [*hooks, *body, *self._hook("post_get_sources_script")]

    def _no_sources(self) -> list[str]:
        skipped = ("Skipping Git repository setup", "Skipping Git checkout", "Skipping Git submodules setup")
        return [f"mkdir -p {shlex.quote(self.project_dir)}", *map(green, skipped)]

    def _clone(self) -> list[str]:
        return [f"rm -rf {shlex.quote(self.project_dir)}", *self._fetch()]

    def _fetch(self) -> list[str]:
        git, folder = self.job.get("git_info", {}), shlex.quote(self.project_dir)
        depth = int(git.get("depth", GIT_DEPTH) or 0)
        sha, ref = str(git.get("sha", "")), str(git.get("ref", ""))
        refspecs = " ".join(shlex.quote(ref) for ref in git.get("refspecs", ()))
        url = shlex.quote(self.clone_url)
        certificates = (
            '-c http.sslCAInfo="$CI_SERVER_TLS_CA_FILE" ' if self.variables.get("CI_SERVER_TLS_CA_FILE") else ""
        )
        fetch = (
            f"git {certificates}fetch origin --prune --quiet {f'--depth {depth} ' if depth else ''}{refspecs}".rstrip()
        )
        lines = [
            green(f"Fetching changes with git depth set to {depth}..." if depth else "Fetching changes..."),
            "export GIT_TERMINAL_PROMPT=0",
            f"rm -f {folder}/.git/index.lock {folder}/.git/shallow.lock",
            f"git -c init.defaultBranch=none init {folder}",
            f"cd {folder}",
            f"if git remote add origin {url} 2>/dev/null; then {green('Created fresh repository.')}; "
            f"else git remote set-url origin {url}; fi",
            fetch,
        ]
        return [*lines, *self._checkout(sha, ref), *self._submodules(certificates)]

    def _submodules(self, certificates: str) -> list[str]:
        strategy = self.variables.get("GIT_SUBMODULE_STRATEGY")
        if strategy not in ("normal", "recursive"):
            return [green("Skipping Git submodules setup")]
        recursive, words = (" --recursive", "recursively ") if strategy == "recursive" else ("", "")
        return [
            green(f"Updating/initializing submodules {words}with git depth set to {GIT_DEPTH}..."),
            f"git submodule sync{recursive}",
            f"git {certificates}submodule update --init{recursive} --force",
        ]

    def _checkout(self, sha: str, ref: str) -> list[str]:
        if self.variables.get("GIT_CHECKOUT") == "false":
            return [green("Skipping Git checkout")]
        detached = self.version >= DETACHED_HEAD_SINCE
        what = f"Checking out {sha[:8]} as " + (f"detached HEAD (ref is {ref})..." if detached else f"{ref}...")
        clean = self.variables.get("GIT_CLEAN_FLAGS") or "-ffdx"
        lines = [green(what), f"git checkout -f -q {shlex.quote(sha)}"]
        return lines if clean == "none" else [*lines, f"git clean {clean} --quiet"]

    def restore_cache(self) -> list[str] | None:
        wanted = [cache for cache in self._caches() if cache.get("policy", "pull-push") in ("pull", "pull-push")]
        lines = [line for cache in wanted for line in self._restore(cache)]
        return self._in_project(lines)

    def _restore(self, cache: Mapping[str, Any]) -> list[str]:
        keys = [self.variables.expand(str(key)) for key in (cache.get("key", ""), *(cache.get("fallback_keys") or ()))]
        attempts = [
            f"{green(f'Checking cache for {key}...')}; "
            f"{HELPER} cache-extractor --file {shlex.quote(self.cache_file(key))} --timeout {CACHE_TIMEOUT_MINUTES}"
            for key in keys
            if key
        ]
        if not attempts:
            return []
        first, *others = attempts
        chain = "".join(f"elif {attempt}; then {green('Successfully extracted cache')}\n" for attempt in others)
        found = f"if {first}; then {green('Successfully extracted cache')}\n{chain}else {yellow('Failed to extract cache')}; fi"
        return [self._with_helper(found, "Extracting cache")]

    def archive_cache(self) -> list[str] | None:
        return self._archive("on_success")

    def archive_cache_on_failure(self) -> list[str] | None:
        return self._archive("on_failure")

    def _archive(self, when: str) -> list[str] | None:
        wanted = [
            cache
            for cache in self._caches()
            if cache.get("policy", "pull-push") in ("push", "pull-push")
            and cache.get("when", "on_success") in (when, "always")
        ]
        lines = [line for cache in wanted for line in self._save(cache)]
        return self._in_project(lines)

    def _save(self, cache: Mapping[str, Any]) -> list[str]:
        key = self.variables.expand(str(cache.get("key", "")))
        what = self._files(cache)
        if not key or not what:
            return []
        archive = f"{HELPER} cache-archiver --file {shlex.quote(self.cache_file(key))} --timeout {CACHE_TIMEOUT_MINUTES} {what}"
        saved = f"if {archive}; then {green('Created cache')}; else {yellow('Failed to create cache')}; fi"
        return [green(f"Creating cache {key}..."), self._with_helper(saved, "Creating cache")]

    def download_artifacts(self) -> list[str] | None:
        wanted = [
            row for row in self.job.get("dependencies") or () if (row.get("artifacts_file") or {}).get("filename")
        ]
        lines = [
            line
            for row in wanted
            for line in (
                green(f"Downloading artifacts for {row['name']} ({row['id']})..."),
                f"{HELPER} artifacts-downloader {self._coordinator_options(str(row['token']), row['id'])}",
            )
        ]
        return self._in_project(lines)

    def upload_on_success(self) -> list[str] | None:
        return self._upload("on_success")

    def upload_on_failure(self) -> list[str] | None:
        return self._upload("on_failure")

    def _upload(self, when: str) -> list[str] | None:
        lines: list[str] = []
        for artifact in self.job.get("artifacts") or ():
            what = self._files(artifact)
            if what and (artifact.get("when") or "on_success") in (when, "always"):
                options = {
                    "--name": self.variables.expand(str(artifact.get("name") or "")),
                    "--expire-in": artifact.get("expire_in"),
                    "--artifact-format": artifact.get("artifact_format"),
                    "--artifact-type": artifact.get("artifact_type"),
                }
                words = " ".join(f"{key} {shlex.quote(str(value))}" for key, value in options.items() if value)
                own = self._coordinator_options(str(self.job.get("token", "")), self.job.get("id", 0))
                lines += [green("Uploading artifacts..."), f"{HELPER} artifacts-uploader {own} {what} {words}".rstrip()]
        return self._in_project(lines)

    def step_script(self) -> list[str]:
        lines = [line for step in self._steps("script") for line in step.get("script", ())]
        before = _lines_of(self.runner.get("pre_build_script"))
        after = _lines_of(self.runner.get("post_build_script"))
        return [f"cd {shlex.quote(self.project_dir)}", *self._shown([*before, *lines, *after])]

    def after_script(self) -> list[str] | None:
        lines = [line for step in self._steps("after_script") for line in step.get("script", ())]
        if not lines:
            return None
        return [f"cd {shlex.quote(self.project_dir)}", green("Running after script..."), *self._shown(lines)]

    def cleanup(self) -> list[str] | None:
        has_files = any(row.file for row in self.variables)
        if not has_files and not Behaviour.CLEANUP_ALWAYS.of(self.version):
            return None
        return [f"rm -rf {shlex.quote(self.temporary_dir)}"]

    # --- pieces -------------------------------------------------------------------------------------------------------

    def _steps(self, name: str) -> Sequence[Mapping[str, Any]]:
        return [step for step in self.job.get("steps") or () if step.get("name") == name]

    def _caches(self) -> Sequence[Mapping[str, Any]]:
        return list(self.job.get("cache") or ())

    def _hook(self, name: str) -> list[str]:
        return self._shown(_lines_of(self.runner.get(name)))

    def _shown(self, lines: Iterable[str]) -> list[str]:
        """Each line as a runner shows it, then the line itself; an empty one is an empty line of the trace."""
        shown: list[str] = []
        for line in lines:
            first, *rest = line.strip("\n").split("\n")
            shown.append(
                green(f"$ {first}" + (" # collapsed multi-line command" if rest else "")) if line.strip() else "echo"
            )
            shown.append(line)
        return shown

    def _in_project(self, lines: list[str]) -> list[str] | None:
        return [f"cd {shlex.quote(self.project_dir)}", *lines] if lines else None

    def _with_helper(self, command: str, what: str) -> str:
        missing = yellow(f"Missing {HELPER}. {what} is disabled.")
        return f"if {HELPER} --version >/dev/null 2>/dev/null; then\n{command}\nelse {missing}; fi"

    def _files(self, section: Mapping[str, Any]) -> str:
        words = [f"--path {shlex.quote(self.variables.expand(str(path)))}" for path in section.get("paths") or ()]
        words += [f"--exclude {shlex.quote(self.variables.expand(str(path)))}" for path in section.get("exclude") or ()]
        words += ["--untracked"] if section.get("untracked") else []
        return " ".join(words)

    def _coordinator_options(self, token: str, job_id: Any) -> str:
        url = shlex.quote(str(self.runner.get("url", "")))
        certificates = '--tls-ca-file "$CI_SERVER_TLS_CA_FILE"' if self.variables.get("CI_SERVER_TLS_CA_FILE") else ""
        return f"--url {url} --token {shlex.quote(token)} --id {job_id} {certificates}".rstrip()


def green(text: str) -> str:
    """A command that prints *text* as a runner's scripts print what they do."""
    return f"printf '%s\\n' {shlex.quote(f'{BOLD_GREEN}{text}{RESET}')}"


def yellow(text: str) -> str:
    """A command that prints *text* as a warning."""
    return f"printf '%s\\n' {shlex.quote(f'{YELLOW}{text}{RESET}')}"


def _lines_of(text: str | None) -> list[str]:
    return str(text).splitlines() if text else []


_SOURCES: Mapping[str, Callable[[Scripts], list[str]]] = {
    "none": Scripts._no_sources,
    "empty": Scripts._no_sources,
    "clone": Scripts._clone,
    "fetch": Scripts._fetch,
}

_BODIES: Mapping[Stage, Callable[[Scripts], list[str] | None]] = {
    PREPARE: Scripts.prepare,
    GET_SOURCES: Scripts.get_sources,
    RESTORE_CACHE: Scripts.restore_cache,
    DOWNLOAD_ARTIFACTS: Scripts.download_artifacts,
    STEP_SCRIPT: Scripts.step_script,
    AFTER_SCRIPT: Scripts.after_script,
    ARCHIVE_CACHE: Scripts.archive_cache,
    ARCHIVE_CACHE_ON_FAILURE: Scripts.archive_cache_on_failure,
    UPLOAD_ON_SUCCESS: Scripts.upload_on_success,
    UPLOAD_ON_FAILURE: Scripts.upload_on_failure,
    CLEANUP: Scripts.cleanup,
}
