"""A practice server of this package as a child process, which says in `ready.json` where it listens and what it made."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

from sandbox.process import Process

_ROOT = Path(__file__).resolve().parent.parent
_READY_SECONDS = 20.0


class ServerProcess:
    """Starts `python -m MODULE` with its state in `directory`, and leaves nothing behind; `options` are that command's long options."""

    module: ClassVar[str]
    name: ClassVar[str]

    def __init__(self, directory: Path | str, **options: str | int | float | Path) -> None:
        self.directory = Path(directory).resolve()
        command: list[str | Path] = [sys.executable, "-m", self.module, "--dir", self.directory]
        for name, value in options.items():
            command += [f"--{name.replace('_', '-')}", str(value)]
        path = os.pathsep.join([str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        log = self.directory / f"{self.module.rpartition('.')[2]}.log"
        self._process = Process(self.name, command, log=log, env={**os.environ, "PYTHONPATH": path})
        self._made_directory = False
        self._ready: dict[str, Any] = {}

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> Self:
        """Start and wait until it answers. Raises SandboxError with the end of its log."""
        self._made_directory = not self.directory.exists()
        try:
            self._process.start().wait_until(self._is_ready, timeout=_READY_SECONDS)
        except BaseException:
            self.stop()
            raise
        return self

    def _is_ready(self) -> bool:
        file = self.directory / "ready.json"
        if not file.exists():
            return False
        self._ready = json.loads(file.read_text())
        # A file of a server that was killed in this folder earlier does not count.
        return bool(self._ready["pid"] == self._process.pid)

    def stop(self) -> None:
        """End the process and remove what it left; twice is fine."""
        self._process.stop(grace=5)
        self._process.log.unlink(missing_ok=True)
        if self._made_directory:
            shutil.rmtree(self.directory, ignore_errors=True)

    @property
    def url(self) -> str:
        """`http://HOST:PORT`."""
        return str(self._ready["url"])
