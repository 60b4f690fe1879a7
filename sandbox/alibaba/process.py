"""A practice Alibaba Cloud as a child process: `with Alibaba(directory, journal=path) as alibaba: alibaba.endpoint`."""

from __future__ import annotations

import json
import os
import sys
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sandbox.process import Process

_ROOT = Path(__file__).resolve().parents[2]
_READY_SECONDS = 20.0


class Alibaba:
    """Starts `python -m sandbox.alibaba` with `directory` as its own; `options` are that command's long options."""

    def __init__(self, directory: Path | str, **options: str | int | float | Path) -> None:
        self.directory = Path(directory).resolve()
        command: list[str | Path] = [sys.executable, "-m", "sandbox.alibaba", "--dir", self.directory]
        for name, value in options.items():
            command += [f"--{name.replace('_', '-')}", str(value)]
        path = os.pathsep.join([str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        environment = {**os.environ, "PYTHONPATH": path}
        self._process = Process("the practice Alibaba", command, log=self.directory / "alibaba.log", env=environment)
        self._ready: dict[str, Any] = {}

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> Self:
        """Start and wait until it answers. Raises SandboxError with the end of its log."""
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
        return bool(self._ready["pid"] == self._process.pid)

    def stop(self) -> None:
        """End the process; twice is fine."""
        self._process.stop(grace=5)
        self._process.log.unlink(missing_ok=True)

    @property
    def url(self) -> str:
        """`http://HOST:PORT`: the endpoint of ECI, ECS and BSS alike."""
        return str(self._ready["url"])

    def access_key(self, name: str = "reader") -> tuple[str, str]:
        """AccessKey id and secret: of `reader`, or of `without-rights`."""
        key = self._ready["access_keys"][name]
        return str(key["id"]), str(key["secret"])

    def fault(self, action: str, **fault: Any) -> None:
        """Spoil the calls whose action matches; see `sandbox.alibaba.app.Fault`."""
        self._ask("POST", {"action": action, **fault})

    def heal(self) -> None:
        """Take all faults back."""
        self._ask("DELETE")

    def _ask(self, method: str, body: dict[str, Any] | None = None) -> None:
        content = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(f"{self.url}/-/sandbox/faults", content, method=method)
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10).close()
