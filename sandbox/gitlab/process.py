"""A practice GitLab as a child process: `with GitLab(directory) as gitlab: gitlab.url`."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

READY_SECONDS = 20.0
_STOP_SECONDS = 5.0
_LOG = "gitlab.log"


class GitLabFailed(RuntimeError):
    """The server did not come up; the message ends with what it wrote."""


class GitLab:
    """Starts `python -m sandbox.gitlab` with its state in `directory`, and leaves nothing behind.

    `options` are the long options of that command: ``GitLab(d, flavour="gitlab.com", registration_tokens="off")``.
    """

    def __init__(self, directory: Path | str, **options: str | int) -> None:
        self.directory = Path(directory)
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self._made_directory = False
        self._ready: dict[str, Any] = {}

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> Self:
        """Start and wait until it answers. Raises GitLabFailed."""
        self._made_directory = not self.directory.exists()
        self.directory.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "sandbox.gitlab", "--dir", str(self.directory)]
        for name, value in self._options.items():
            command += [f"--{name.replace('_', '-')}", str(value)]
        with (self.directory / _LOG).open("wb") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=Path(__file__).parents[2]
            )
        self._ready = self._wait(self._process)
        return self

    def _wait(self, process: subprocess.Popen[bytes]) -> dict[str, Any]:
        file = self.directory / "ready.json"
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            if file.exists():
                ready: dict[str, Any] = json.loads(file.read_text())
                if ready["pid"] == process.pid:
                    return ready
            if process.poll() is not None:
                break
            time.sleep(0.02)
        written = (self.directory / _LOG).read_text(errors="replace")[-2000:]
        self.stop()
        raise GitLabFailed(f"the practice GitLab did not start within {READY_SECONDS:.0f} s:\n{written}")

    def stop(self) -> None:
        """End the process and remove what it left; twice is fine."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None
        (self.directory / _LOG).unlink(missing_ok=True)
        if self._made_directory:
            shutil.rmtree(self.directory, ignore_errors=True)

    @property
    def url(self) -> str:
        return str(self._ready["url"])

    @property
    def registration_token(self) -> str:
        return str(self._ready["registration_token"])

    @property
    def projects(self) -> dict[str, int]:
        """Path to id."""
        return dict(self._ready["projects"])

    @property
    def groups(self) -> dict[str, int]:
        return dict(self._ready["groups"])

    def token(self, name: str) -> str:
        """The personal access token of that name; see `sandbox.gitlab.seed`."""
        return str(self._ready["tokens"][name])
