"""A program of the practice cluster: started, waited for, stopped by its pid, and gone when its parent is gone."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

from runbook.errors import RunbookError

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)


class SandboxError(RunbookError):
    """The practice cluster cannot be built or started on this machine."""


def free_ports(count: int) -> list[int]:
    """Ports of loopback that are free now, all different."""
    held = [socket.socket() for _ in range(count)]
    try:
        for one in held:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in held]
    finally:
        for one in held:
            one.close()


class Process:
    """One child process with its log.

    It gets `orphaned` when the process that started it ends in any way, so nothing outlives an interrupted test run:
    SIGTERM where there is something to tidy, SIGKILL where an orderly end would wait for somebody who is gone as well.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str | Path],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        orphaned: signal.Signals = signal.SIGTERM,
    ) -> None:
        self.name = name
        self.argv = [str(part) for part in argv]
        self.log = log
        self.env = dict(env) if env is not None else None
        self.orphaned = orphaned
        self._child: subprocess.Popen[bytes] | None = None
        self._log_file: IO[bytes] | None = None

    @property
    def pid(self) -> int:
        if self._child is None:
            raise SandboxError(f"{self.name} has not been started.")
        return self._child.pid

    @property
    def alive(self) -> bool:
        return self._child is not None and self._child.poll() is None

    def start(self) -> Process:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self._log_file = self.log.open("ab")
        parent = os.getpid()
        self._child = subprocess.Popen(
            self.argv,
            stdin=subprocess.DEVNULL,
            stdout=self._log_file,
            stderr=subprocess.STDOUT,
            env=self.env,
            start_new_session=True,  # Ctrl-C reaches the practice cluster once, which then stops everything in order
            preexec_fn=lambda: _die_with(parent, self.orphaned),
        )
        return self

    def wait_until(self, ready: Callable[[], bool], *, timeout: float = 30, every: float = 0.05) -> Process:
        """Ask `ready` again and again; raise SandboxError with the end of the log when it ends or the time is over."""
        deadline = time.monotonic() + timeout
        while not ready():
            if not self.alive:
                raise SandboxError(
                    f"{self.name} ended at once (exit code {self._child.returncode if self._child else None}).",
                    where=str(self.log),
                    value=self.tail(),
                )
            if time.monotonic() > deadline:
                raise SandboxError(
                    f"{self.name} was not ready after {timeout:g} s.", where=str(self.log), value=self.tail()
                )
            time.sleep(every)
        return self

    def tail(self, lines: int = 12) -> str:
        """The last lines of the log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:]) if self.log.exists() else ""

    def signal(self, number: int) -> None:
        if self.alive:
            os.kill(self.pid, number)

    def stop(self, *, grace: float = 10) -> None:
        """SIGTERM, and SIGKILL after `grace` seconds. Nothing happens when it has ended already."""
        if self._child is None:
            return
        self.signal(signal.SIGTERM)
        try:
            self._child.wait(grace)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        if self._log_file is not None:
            self._log_file.close()


def _die_with(parent: int, orphaned: signal.Signals) -> None:
    """Runs in the child before exec: ask the kernel for a signal at the parent's end, or end if that is past."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, orphaned, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)
