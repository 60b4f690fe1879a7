"""A runner as a child process: the stand-in, or the real binary that GITLAB_RUNNER names."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from sandbox.process import Process

BINARY_VARIABLE = "GITLAB_RUNNER"
DEFAULT_VERSION = "17.9.2"
LOADED = "Configuration loaded"
STOP_SECONDS = 20.0
_ROOT = Path(__file__).parents[2]


class Runner:
    """`gitlab-runner run` on a config.toml that is there already: ``with Runner(path, version="14.7.1") as runner: ...``

    The stand-in plays *version*; a real binary is the version it is. *log* is where the process writes, by default
    beside *config*. Raises SandboxError where it does not come up.
    """

    def __init__(self, config: Path, *, version: str = DEFAULT_VERSION, log: Path | None = None) -> None:
        self.config = config
        self.log = log or config.with_name("runner.log")
        self._process = Process("gitlab-runner", command(config, version), log=self.log, env=_environment())

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def alive(self) -> bool:
        return self._process.alive

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def output(self) -> str:
        """What it has written so far."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def start(self) -> Self:
        """Start and wait until the configuration is loaded."""
        before = self.output.count(LOADED)
        self._process.start().wait_until(lambda: self.output.count(LOADED) > before)
        return self

    def reload(self) -> None:
        """SIGHUP: read config.toml again now, not at the next look."""
        self._process.signal(signal.SIGHUP)

    def finish(self) -> None:
        """SIGQUIT: take no more jobs, end when the running ones have."""
        self._process.signal(signal.SIGQUIT)

    def stop(self) -> None:
        """SIGTERM: abort what runs, delete its pods, end. Twice is fine."""
        self._process.stop(grace=STOP_SECONDS)


def command(config: Path, version: str) -> list[str]:
    """The command line of the runner that is to run."""
    binary = os.environ.get(BINARY_VARIABLE)
    if binary:
        return [binary, "run", "--config", str(config)]
    return [sys.executable, "-m", "sandbox.runner", "run", "--config", str(config), "--version", version]


def _environment() -> dict[str, str]:
    # the child may be started from any folder, and finds the sandbox all the same
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH", "")]))}
