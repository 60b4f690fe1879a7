"""One job from its first line in the trace to its verdict."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from runbook.runner import names, pods
from runbook.runner.behaviours import Behaviour
from runbook.runner.variables import Assignment, flag_is_on, flags
from runbook.runner.version import Version
from sandbox.runner import script as scripts
from sandbox.runner.attach import DETECT_SHELL, detect_shell, trapped
from sandbox.runner.coordinator import Coordinator
from sandbox.runner.endings import (
    IMAGE_PULL_FAILURE,
    SCRIPT_FAILURE,
    SYSTEM_FAILURE,
    TIMEOUT,
    UNKNOWN,
    BuildFailure,
    JobEnded,
    SystemFailure,
    canceled,
    interrupted,
    took_too_long,
)
from sandbox.runner.executor import KubernetesExecutor, with_advice
from sandbox.runner.script import Scripts, Stage
from sandbox.runner.trace import DEFAULT_LIMIT_KIB, Masker, Trace, TraceSender

PREPARE_ATTEMPTS = 3
PREPARE_PAUSE_SECONDS = 3.0
ATTEMPTS = {
    scripts.GET_SOURCES: "GET_SOURCES_ATTEMPTS",
    scripts.RESTORE_CACHE: "RESTORE_CACHE_ATTEMPTS",
    scripts.DOWNLOAD_ARTIFACTS: "ARTIFACT_DOWNLOAD_ATTEMPTS",
}
ALWAYS_SUPPORTED = {SCRIPT_FAILURE, SYSTEM_FAILURE, TIMEOUT}
FALLBACK_REASONS = {IMAGE_PULL_FAILURE: SYSTEM_FAILURE}


@dataclass(frozen=True)
class Verdict:
    """What GitLab is told at the end."""

    state: str
    failure_reason: str | None = None
    exit_code: int | None = None

    @classmethod
    def of(cls, ending: JobEnded | None, job: Mapping[str, Any], version: Version) -> Verdict:
        """The verdict of a job that ended so (None: well), in the words that this GitLab and this runner know."""
        if ending is None:
            return cls("success")
        known = ALWAYS_SUPPORTED | set((job.get("features") or {}).get("failure_reasons") or ())
        reason = ending.reason if ending.reason in known else FALLBACK_REASONS.get(ending.reason, UNKNOWN)
        return cls("failed", reason, ending.exit_code if Behaviour.EXIT_CODE_SENT.of(version) else None)


class Job:
    """A job that this runner was given. `run` returns when everything is done and GitLab was told."""

    def __init__(
        self,
        runner: Mapping[str, Any],
        payload: Mapping[str, Any],
        version: Version,
        coordinator: Coordinator,
        given: Assignment,
        *,
        system_id: str = "",
        say: Callable[[str], None] = print,
    ) -> None:
        self.runner, self.payload, self.version, self.given = runner, payload, version, given
        self.id = int(payload["id"])
        self._say = say
        self._system_id = system_id
        self._stop = threading.Event()
        self._why: JobEnded | None = None
        self.trace = Trace(
            Masker(_secrets(payload), _token_prefixes(payload, version)),
            version,
            limit=1024 * int(runner.get("output_limit") or DEFAULT_LIMIT_KIB),
        )
        self._sender = TraceSender(self.trace, coordinator, payload, lambda _: self.abort(canceled()))
        self._executor = KubernetesExecutor(runner, payload, version, given, self.trace, self._stop)
        self._scripts = Scripts(payload, runner, self._executor.variables, version, socket.gethostname())
        self._executor.scripts = {
            DETECT_SHELL: detect_shell(),
            **{stage.name: trapped(text) for stage in scripts.STAGES if (text := self._scripts.of(stage))},
        }

    def abort(self, why: JobEnded) -> None:
        """End the job as soon as possible, for this reason."""
        if self._why is None:
            self._why = why
            self._stop.set()

    def interrupt(self) -> None:
        """End the job because the runner is being stopped."""
        self.abort(interrupted())

    def run(self) -> Verdict:
        """Carry the job out."""
        started = time.monotonic()
        timeout = int((self.payload.get("runner_info") or {}).get("timeout") or 3600)
        timer = threading.Timer(timeout, self.abort, [took_too_long(pods.go_duration(timeout))])
        timer.daemon = True
        timer.start()
        self._sender.start()
        self._greet()
        ending = self._ending()
        timer.cancel()
        self._executor.close()
        self._conclude(ending)
        verdict = Verdict.of(ending, self.payload, self.version)
        self._report(verdict)
        what = "Job succeeded" if ending is None else ending.line.removeprefix("ERROR: ")
        self._say(f"{what} duration_s={time.monotonic() - started:.3f} job={self.id} runner={self._short_token}")
        return verdict

    @property
    def _short_token(self) -> str:
        return names.short_token(str(self.runner.get("token", "")), self.version)

    def _greet(self) -> None:
        self.trace.println(f"Running with gitlab-runner {self.version} ({self.given.revision})")
        system = f", system ID: {self._system_id}" if self._system_id and Behaviour.SYSTEM_ID.of(self.version) else ""
        self.trace.println(f"  on {self.runner.get('name', '')} {self._short_token}{system}")
        changed = {
            name: flag_is_on(name, self.runner, self.payload, self.version)
            for name, default in flags(self.version).items()
            if flag_is_on(name, self.runner, self.payload, self.version) != default
        }
        if changed:
            listed = ", ".join(f"{name}:{str(value).lower()}" for name, value in changed.items())
            self.trace.println(f"  feature flags: {listed}")

    def _ending(self) -> JobEnded | None:
        try:
            with self.trace.section("prepare_executor", 'Preparing the "kubernetes" executor'):
                self._prepare()
            self._stages()
        except JobEnded as ending:
            return self._why or ending
        except Exception as error:
            # a fault of our own must not leave GitLab waiting for a verdict
            self._say(f"job={self.id} {type(error).__name__}: {error}")
            return self._why or SystemFailure(f"{type(error).__name__}: {error}")
        return self._why

    def _prepare(self) -> None:
        for attempt in range(1, PREPARE_ATTEMPTS + 1):
            try:
                self._executor.prepare()
                return
            except SystemFailure as failure:
                if attempt == PREPARE_ATTEMPTS:
                    raise
                self.trace.error(f"ERROR: Preparation failed: {failure.message}")
                self.trace.println(f"Will be retried in {PREPARE_PAUSE_SECONDS:.0f}s ...")
                if self._stop.wait(PREPARE_PAUSE_SECONDS):
                    raise

    def _stages(self) -> None:
        try:
            self._run(scripts.PREPARE)
        except JobEnded as ending:
            raise with_advice(ending) from None
        failure = self._main_stages()
        if failure is not None and (isinstance(failure, SystemFailure) or failure.exit_code is None):
            # the pod is gone, or this job may not go on: no stage is left that could run
            raise failure
        succeeded = failure is None
        self._after_script(succeeded)
        after = self._closing_stages(succeeded)
        first = failure or after
        if first is not None:
            raise first

    def _main_stages(self) -> JobEnded | None:
        try:
            for stage in (scripts.GET_SOURCES, scripts.RESTORE_CACHE, scripts.DOWNLOAD_ARTIFACTS, scripts.STEP_SCRIPT):
                self._run(stage)
        except JobEnded as failure:
            return failure
        return None

    def _after_script(self, succeeded: bool) -> None:
        try:
            self._run(scripts.AFTER_SCRIPT, succeeded)
        except BuildFailure as failure:
            self.trace.warning(f"after_script failed, but job will continue unaffected: {failure.message}")

    def _closing_stages(self, succeeded: bool) -> JobEnded | None:
        stages = (
            (scripts.ARCHIVE_CACHE, scripts.UPLOAD_ON_SUCCESS)
            if succeeded
            else (scripts.ARCHIVE_CACHE_ON_FAILURE, scripts.UPLOAD_ON_FAILURE)
        )
        failure: JobEnded | None = None
        for stage in (*stages, scripts.CLEANUP):
            try:
                self._run(stage, succeeded)
            except JobEnded as ending:
                failure = failure or ending
        return failure

    def _run(self, stage: Stage, succeeded: bool | None = None) -> None:
        text = self._scripts.of(stage, succeeded=succeeded)
        if text is None:
            return
        if self._why is not None:
            raise self._why
        with self.trace.section(stage.name, stage.title):
            self._attempt(stage, text)

    def _attempt(self, stage: Stage, text: str) -> None:
        """Run a stage as often as its *_ATTEMPTS variable allows."""
        given = self._executor.variables.get(ATTEMPTS.get(stage, ""))
        left = int(given) if given.isdigit() else 1
        while True:
            try:
                self._executor.run(stage, text)
                return
            except BuildFailure:
                left -= 1
                if left < 1 or self._stop.is_set():
                    raise
                self.trace.warning("Retrying...")

    def _conclude(self, ending: JobEnded | None) -> None:
        if ending is None:
            self.trace.notice("Job succeeded")
        else:
            self.trace.error(ending.line)
        self.trace.close()

    def _report(self, verdict: Verdict) -> None:
        more: dict[str, Any] = {}
        if Behaviour.EXIT_CODE_SENT.of(self.version):
            output = {"checksum": self.trace.checksum, "bytesize": len(self.trace.content)}
            more = {"checksum": self.trace.checksum, "output": output, "exit_code": verdict.exit_code}
        status = self._sender.finish(state=verdict.state, failure_reason=verdict.failure_reason, **more)
        if status != 200:
            self._say(f"job={self.id} GitLab answered {status or 'nothing'} to the final update")


def _secrets(payload: Mapping[str, Any]) -> list[str]:
    return [str(row.get("value", "")) for row in payload.get("variables") or () if row.get("masked")]


def _token_prefixes(payload: Mapping[str, Any], version: Version) -> list[str]:
    known = Behaviour.TOKENS_MASKED.of(version)
    return list((payload.get("features") or {}).get("token_mask_prefixes") or ()) if known else []
