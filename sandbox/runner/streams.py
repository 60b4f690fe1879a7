"""exec and attach over a WebSocket, byte for byte, and what the end of such a stream says.

The official client reports an exit code only where the API server sent one. A stream may also just end: the machine is gone, the node's
program died. Go's client takes that for success, which makes a reclaimed job look green; `Ending` keeps the difference.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import websocket
from kubernetes import client, stream
from kubernetes.stream import ws_client

POLL_SECONDS = 0.5
SEND_SECONDS = 3.0


@dataclass(frozen=True)
class Ending:
    """How a stream ended: `status` is the API server's last word, or None where the stream just ended."""

    status: dict[str, Any] | None

    @property
    def exit_code(self) -> int | None:
        """The command's exit code; None where nobody told it."""
        if self.status is None:
            return None
        if self.status.get("status") == "Success":
            return 0
        causes = (self.status.get("details") or {}).get("causes") or ()
        return next((int(cause["message"]) for cause in causes if cause.get("reason") == "ExitCode"), None)

    @property
    def message(self) -> str:
        """The API server's complaint, if it has one."""
        return "" if self.status is None else str(self.status.get("message", ""))


class Container:
    """One container of a running pod."""

    def __init__(self, configuration: client.Configuration, namespace: str, pod: str, name: str) -> None:
        self._configuration = configuration
        self._namespace, self._pod, self._name = namespace, pod, name

    def run(
        self,
        command: list[str],
        *,
        stdin: bytes,
        out: Callable[[bytes], None],
        stop: threading.Event,
    ) -> Ending:
        """Run *command*, give it *stdin*, hand its output on until it ends or *stop* is set.

        Raises kubernetes.client.ApiException where the stream cannot be opened.
        """
        connection = self._open("connect_get_namespaced_pod_exec", command=command, stdout=True, stderr=True)
        return _follow(connection, stdin, out, stop)

    def send(self, text: bytes) -> None:
        """Attach to the container's own process and write *text* to its standard input."""
        connection = self._open("connect_get_namespaced_pod_attach", stdout=False, stderr=False)
        over = threading.Event()
        timer = threading.Timer(SEND_SECONDS, over.set)
        timer.start()
        # the node ends the stream when it has seen the end of our input; one that does not must not keep us
        _follow(connection, text, lambda _: None, over)
        timer.cancel()

    def _open(self, call: str, **options: Any) -> Any:
        # `stream` replaces a method of the client it is given for the length of the call, so each stream has a client of its own
        api = client.CoreV1Api(client.ApiClient(self._configuration))
        return stream.stream(
            getattr(api, call),
            self._pod,
            self._namespace,
            container=self._name,
            stdin=True,
            tty=False,
            binary=True,
            _preload_content=False,
            **options,
        )


def _follow(connection: Any, stdin: bytes, out: Callable[[bytes], None], stop: threading.Event) -> Ending:
    try:
        if stdin:
            connection.write_stdin(stdin)
        connection.close_channel(ws_client.STDIN_CHANNEL)
        while connection.is_open() and not stop.is_set():
            connection.update(timeout=POLL_SECONDS)
            _drain(connection, out)
        _drain(connection, out)
        return Ending(_last_word(connection))
    except (websocket.WebSocketException, OSError):
        # the connection broke: what came before is kept, and nobody told how the command ended
        _drain_closed(connection, out)
        return Ending(None)
    finally:
        connection.close()


def _drain(connection: Any, out: Callable[[bytes], None]) -> None:
    for channel in (ws_client.STDOUT_CHANNEL, ws_client.STDERR_CHANNEL):
        piece = connection.read_channel(channel)
        if piece:
            out(piece)


def _drain_closed(connection: Any, out: Callable[[bytes], None]) -> None:
    connection.sock.shutdown()
    _drain(connection, out)


def _last_word(connection: Any) -> dict[str, Any] | None:
    text = connection.read_channel(ws_client.ERROR_CHANNEL)
    return json.loads(text) if text else None
