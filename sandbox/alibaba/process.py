"""A practice Alibaba Cloud as a child process: `with Alibaba(directory, journal=path) as alibaba: alibaba.url`."""

from __future__ import annotations

import json
import urllib.request
from typing import Any

from sandbox.server_process import ServerProcess


class Alibaba(ServerProcess):
    """`python -m sandbox.alibaba`; its `url` is the endpoint of ECI, ECS and BSS alike."""

    module = "sandbox.alibaba"
    name = "the practice Alibaba"

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
