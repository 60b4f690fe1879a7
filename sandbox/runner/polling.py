"""The runner process: watches config.toml, asks GitLab for jobs within the limits, runs each in a thread.

Source: GitLab Runner, ``commands/multi.go``.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import requests

from runbook.runner import names
from runbook.runner.variables import Assignment
from runbook.runner.version import Version
from sandbox.runner import config as configuration
from sandbox.runner.config import Config, ConfigRefused
from sandbox.runner.coordinator import Coordinator
from sandbox.runner.job import Job

RELOAD_SECONDS = 3.0
UNHEALTHY_REQUESTS = 3
UNHEALTHY_SECONDS = 3600.0
REVISION = "practice"

Runner = Mapping[str, Any]


class Slots:
    """Who runs what: keeps `concurrent` and each runner's `limit`, and numbers the slots."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken: dict[int, tuple[str, int, Assignment]] = {}
        self._next = 0

    def reserve(self, runner: Runner, concurrent: int) -> int | None:
        """A place for one more job of *runner*, or None where a limit is reached."""
        with self._lock:
            own = sum(token == runner["token"] for token, _, _ in self._taken.values())
            limit = int(runner.get("limit") or 0)
            if len(self._taken) >= concurrent or (limit and own >= limit):
                return None
            self._next += 1
            self._taken[self._next] = (str(runner["token"]), -1, Assignment())
            return self._next

    def assign(self, place: int, project: int) -> Assignment:
        """The lowest free numbers among the jobs of this runner and of this project, for CI_CONCURRENT_ID and the pod's name."""
        with self._lock:
            token = self._taken[place][0]
            others = [row for key, row in self._taken.items() if key != place and row[0] == token and row[1] >= 0]
            numbers = {row[2].concurrent for row in others}
            of_project = {row[2].project_concurrent for row in others if row[1] == project}
            given = Assignment(concurrent=_lowest(numbers), project_concurrent=_lowest(of_project), revision=REVISION)
            self._taken[place] = (token, project, given)
            return given

    def release(self, place: int) -> None:
        """The job is over, or none came."""
        with self._lock:
            del self._taken[place]

    @property
    def busy(self) -> int:
        """Jobs that run, or are being asked for."""
        with self._lock:
            return len(self._taken)


class Multi:
    """`gitlab-runner run`: one process for all `[[runners]]` of a file."""

    def __init__(self, path: Path, version: Version, *, say: Callable[[str], None] = print) -> None:
        self._path, self._version, self._say = path, version, say
        self._slots = Slots()
        self._jobs: dict[int, Job] = {}
        self._pollers: list[threading.Thread] = []
        self._workers: list[threading.Thread] = []
        self._quit = threading.Event()
        self._lock = threading.Lock()
        self._aborting = False
        self._reload = threading.Event()
        self._config: Config | None = None
        self._modified = 0.0
        self._generation = threading.Event()

    def run(self) -> int:
        """Run until a signal comes; the process's exit code is returned."""
        self._say(f"Starting multi-runner from {self._path}... builds=0 max_builds=0")
        self._listen_to_signals()
        if not self._load():
            return 1
        assert self._config is not None
        if self._config.concurrent == 0:
            self._say('FATAL: "concurrent" must be greater than 0')
            return 1
        self._system_id = configuration.system_id(self._path)
        self._start_pollers()
        while not self._quit.wait(RELOAD_SECONDS if not self._reload.is_set() else 0):
            self._reload_if_changed()
        self._generation.set()
        # a request for a job may bring one; who stops gracefully waits for it, who aborts leaves it to GitLab
        for thread in [] if self._aborting else self._pollers:
            thread.join()
        for thread in list(self._workers):
            thread.join()
        self._say("All workers stopped. Can exit now")
        return 0

    # --- signals ------------------------------------------------------------------------------------------------------

    def _listen_to_signals(self) -> None:
        signal.signal(signal.SIGHUP, lambda *_: self._reload.set())
        signal.signal(signal.SIGQUIT, self._stop_gracefully)
        signal.signal(signal.SIGTERM, self._stop_now)
        signal.signal(signal.SIGINT, self._stop_now)

    def _stop_gracefully(self, number: int, frame: FrameType | None) -> None:
        self._say("Requested graceful shutdown: waiting for builds to finish")
        self._quit.set()

    def _stop_now(self, number: int, frame: FrameType | None) -> None:
        self._say("Requested forceful shutdown: aborting builds")
        self._aborting = True
        self._quit.set()
        for job in list(self._jobs.values()):
            job.interrupt()

    # --- configuration ------------------------------------------------------------------------------------------------

    def _load(self) -> bool:
        try:
            config = configuration.load(self._path, self._version)
        except ConfigRefused as error:
            self._say(f"ERROR: Failed to load config {error}")
            return False
        self._config = config
        self._modified = self._path.stat().st_mtime
        self._say(f"Configuration loaded builds={self._slots.busy} max_builds={config.concurrent}")
        if not config.runners:
            self._say("No runners are configured: nothing to ask GitLab for")
        return True

    def _reload_if_changed(self) -> None:
        asked = self._reload.is_set()
        self._reload.clear()
        try:
            changed = self._path.stat().st_mtime != self._modified
        except OSError:
            return
        if not (asked or changed):
            return
        self._say("Config modified: loading changes" if changed else "Reloading configuration")
        # the time is kept even for a file that is refused, so that it is complained about once
        self._modified = self._path.stat().st_mtime
        if self._load():
            self._start_pollers()

    def _start_pollers(self) -> None:
        """One thread for each request that may be under way; those of an older configuration end by themselves."""
        assert self._config is not None
        self._generation.set()
        self._generation = threading.Event()
        for runner in self._config.runners:
            coordinator = Coordinator(runner, self._version, revision=REVISION, system_id=self._system_id)
            for _ in range(int(runner.get("request_concurrency") or 1)):
                arguments = (self._config, runner, coordinator.another(), self._generation)
                self._pollers = _with_another(self._pollers, self._poll, *arguments)

    # --- jobs ---------------------------------------------------------------------------------------------------------

    def _poll(self, config: Config, runner: Runner, coordinator: Coordinator, outdated: threading.Event) -> None:
        """Ask for jobs until the configuration changes or the process stops."""
        refusals = self._verify(runner, coordinator)
        while not outdated.is_set():
            place = self._slots.reserve(runner, config.concurrent)
            took_one = False
            if place is not None:
                refused, took_one = self._ask(place, runner, coordinator, outdated)
                refusals = refusals + 1 if refused else 0
            if refusals >= int(runner.get("unhealthy_requests_limit") or UNHEALTHY_REQUESTS):
                self._say(
                    f"Runner {self._short(runner)} is unhealthy and will be disabled for {UNHEALTHY_SECONDS:.0f} seconds!"
                )
                outdated.wait(UNHEALTHY_SECONDS)
                refusals = 0
            elif not took_one or runner.get("strict_check_interval"):
                outdated.wait(config.check_interval)

    def _verify(self, runner: Runner, coordinator: Coordinator) -> int:
        """Say whether GitLab knows the token; 1 if it refuses it."""
        try:
            status = coordinator.verify().status
        except requests.RequestException as error:
            self._say(f"WARNING: Verifying runner... failed runner={self._short(runner)} status={type(error).__name__}")
            return 0
        word = {200: "is valid", 403: "is removed"}.get(status, f"failed status={status}")
        self._say(f"Verifying runner... {word} runner={self._short(runner)}")
        return int(status == 403)

    def _ask(
        self, place: int, runner: Runner, coordinator: Coordinator, outdated: threading.Event
    ) -> tuple[bool, bool]:
        """One request for a job: was the runner refused, was there a job?"""
        payload: Mapping[str, Any] = {}
        refused = False
        try:
            answer = coordinator.request_job()
            payload = answer.payload if answer.status == 201 else {}
            refused = answer.status in (401, 403) or (answer.status == 201 and not payload)
            if answer.status not in (201, 204, 409):
                self._say(
                    f"WARNING: Checking for jobs... {'forbidden' if refused else 'failed'} runner={self._short(runner)} status={answer.status}"
                )
        except requests.RequestException as error:
            refused = True
            self._say(
                f"WARNING: Checking for jobs... failed runner={self._short(runner)} status={type(error).__name__}"
            )
        if not payload:
            self._slots.release(place)
            return refused, False
        self._say(f"Checking for jobs... received job={payload['id']} runner={self._short(runner)}")
        with self._lock:
            self._workers = _with_another(self._workers, self._run_job, place, runner, payload, coordinator.another())
        return False, True

    def _run_job(self, place: int, runner: Runner, payload: Mapping[str, Any], coordinator: Coordinator) -> None:
        try:
            if (payload.get("features") or {}).get("two_phase_job_commit"):
                accepted = coordinator.update_job(payload["id"], payload["token"], state="running")
                if accepted.status != 200:
                    self._say(f"job={payload['id']} was taken back by GitLab status={accepted.status}")
                    return
            given = self._slots.assign(place, int((payload.get("job_info") or {}).get("project_id") or 0))
            given = replace(given, tls_ca=_read(runner.get("tls-ca-file")))
            job = Job(runner, payload, self._version, coordinator, given, system_id=self._system_id, say=self._say)
            self._jobs[place] = job
            if self._aborting:
                job.interrupt()
            job.run()
        finally:
            self._jobs.pop(place, None)
            self._slots.release(place)

    def _short(self, runner: Runner) -> str:
        return names.short_token(str(runner.get("token", "")), self._version)


def _with_another(
    threads: list[threading.Thread], target: Callable[..., None], *arguments: Any
) -> list[threading.Thread]:
    """The threads that are still alive, and one more that begins now."""
    thread = threading.Thread(target=target, args=arguments, daemon=True)
    thread.start()
    return [*(other for other in threads if other.is_alive()), thread]


def _read(path: str | None) -> str:
    return Path(path).read_text() if path else ""


def _lowest(taken: set[int]) -> int:
    return next(number for number in range(len(taken) + 1) if number not in taken)
