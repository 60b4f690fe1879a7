"""A job's trace: written by the runner and the script, masked, cut at its limit, sent to GitLab piece by piece.

The forms of lines and sections are those of the recorded traces of 14.7.1 and 13.6.0.
"""

from __future__ import annotations

import re
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import requests

from runbook.runner.version import Version
from sandbox.runner.coordinator import Coordinator

CLEAR, BOLD_CYAN, BOLD_GREEN, YELLOW, BOLD_RED, RESET = (
    f"\x1b[{code}" for code in ("0K", "36;1m", "32;1m", "0;33m", "31;1m", "0;m")
)
MASK = b"[MASKED]"
UPDATE_INTERVAL_SECONDS = 3.0
KEEP_ALIVE_SECONDS = 30.0
DEFAULT_LIMIT_KIB = 4096
RESET_BEFORE_NEWLINE_SINCE = Version(14, 0)
FINAL_UPDATE_TRIES = 10


class Masker:
    """Replaces secrets in a stream of bytes, also where one is split over two pieces."""

    def __init__(self, secrets: Iterable[str], token_prefixes: Iterable[str] = ()) -> None:
        values = sorted({secret.encode() for secret in secrets if secret}, key=len, reverse=True)
        prefixes = [re.escape(prefix.encode()) for prefix in token_prefixes if prefix]
        parts = [re.escape(value) for value in values]
        self._values = re.compile(b"|".join(parts)) if parts else None
        self._tokens = re.compile(b"(" + b"|".join(prefixes) + rb")[A-Za-z0-9_.=-]+") if prefixes else None
        self._held_back = max((len(value) for value in values), default=1) - 1
        self._pending = b""

    def feed(self, piece: bytes) -> bytes:
        """What of the stream may be shown now; the end is held back while it might be the beginning of a secret."""
        text = self._masked(self._pending + piece)
        # a line's end cannot stand within a masked value, so complete lines need not wait
        keep = min(self._held_back, len(text) - (text.rfind(b"\n") + 1))
        self._pending = text[len(text) - keep :]
        return text[: len(text) - keep]

    def flush(self) -> bytes:
        """The rest."""
        rest, self._pending = self._masked(self._pending), b""
        return rest

    def _masked(self, text: bytes) -> bytes:
        if self._values is not None:
            text = self._values.sub(MASK, text)
        if self._tokens is not None:
            text = self._tokens.sub(rb"\1" + MASK, text)
        return text


class Trace:
    """The growing text of a job's log; safe to write to from several threads.

    `clock` gives the time of sections, `limit` is in bytes.
    """

    def __init__(self, masker: Masker, version: Version, *, limit: int, clock: Callable[[], float] = time.time) -> None:
        self._masker = masker
        self._version = version
        self._limit = limit
        self._clock = clock
        self._lock = threading.Lock()
        self._content = bytearray()
        self._full = False

    @property
    def content(self) -> bytes:
        """Everything that may be sent so far."""
        with self._lock:
            return bytes(self._content)

    @property
    def checksum(self) -> str:
        """As GitLab compares it: ``crc32:`` and eight hexadecimal digits."""
        return f"crc32:{zlib.crc32(self.content):08x}"

    def write(self, piece: bytes) -> None:
        """Output of the job, as it came."""
        with self._lock:
            self._append(self._masker.feed(piece))

    def close(self) -> None:
        """Nothing more will come: what was held back for masking is released."""
        with self._lock:
            self._append(self._masker.flush())

    def println(self, text: str) -> None:
        """A line of the runner itself."""
        self._line(CLEAR + text)

    def header(self, text: str) -> None:
        """The title of a section."""
        ending = f"{RESET}{RESET}\n" if self._resets_before_newline else f"{RESET}\n{RESET}"
        self.write(f"{CLEAR}{BOLD_CYAN}{text}{ending}".encode())

    def notice(self, text: str) -> None:
        """A green line: the good end."""
        self._line(BOLD_GREEN + text)

    def warning(self, text: str) -> None:
        """A yellow line."""
        self._line(f"{YELLOW}WARNING: {text}")

    def error(self, text: str) -> None:
        """A red line: why the job failed."""
        self.write(f"{BOLD_RED}{text}\n{RESET}".encode() + (b"\n" if self._resets_before_newline else b""))

    @contextmanager
    def section(self, name: str, title: str) -> Iterator[None]:
        """A collapsible part of the log, with the times of its start and end."""
        self.write(f"section_start:{int(self._clock())}:{name}\r{CLEAR}".encode())
        self.header(title)
        try:
            yield
        finally:
            self.write(f"section_end:{int(self._clock())}:{name}\r{CLEAR}".encode())

    @property
    def _resets_before_newline(self) -> bool:
        return self._version >= RESET_BEFORE_NEWLINE_SINCE

    def _line(self, text: str) -> None:
        self.write(f"{text}{RESET}\n".encode() if self._resets_before_newline else f"{text}\n{RESET}".encode())

    def _append(self, piece: bytes) -> None:
        if self._full:
            return
        room = self._limit - len(self._content)
        self._content += piece[:room]
        if len(piece) > room:
            self._full = True
            self._content += f"\n{BOLD_RED}Job's log exceeded limit of {self._limit} bytes.\n{RESET}".encode()


class TraceSender:
    """Sends a trace while the job runs, and the last word when it is over.

    `cancel` is called with GitLab's word for it (`canceled`, `canceling`, `failed`) when GitLab wants the job to end.
    """

    def __init__(
        self, trace: Trace, coordinator: Coordinator, job: Mapping[str, Any], cancel: Callable[[str], None]
    ) -> None:
        self._trace = trace
        self._coordinator = coordinator
        self._id, self._token = int(job["id"]), str(job["token"])
        self._cancel = cancel
        self._sent = 0
        self._interval = UPDATE_INTERVAL_SECONDS
        self._last_word = time.monotonic()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name=f"trace-{self._id}", daemon=True)

    def start(self) -> None:
        """Begin sending."""
        self._thread.start()

    def finish(self, **verdict: Any) -> int:
        """Send what is left, then the verdict; GitLab's last status code is returned."""
        self._stop.set()
        self._thread.join()
        status = 0
        for attempt in range(FINAL_UPDATE_TRIES):
            self._send_everything()
            status = self._try(lambda: self._coordinator.update_job(self._id, self._token, **verdict).status)
            if status == 412:
                self._sent = 0
            elif status not in (0, 202, 429) and status < 500:
                break
            time.sleep(min(0.2 * 2**attempt, 5.0))
        return status

    def _loop(self) -> None:
        while not self._stop.wait(self._interval):
            self._send_piece()
            if time.monotonic() - self._last_word >= KEEP_ALIVE_SECONDS:
                self._keep_alive()

    def _send_everything(self) -> None:
        for _ in range(FINAL_UPDATE_TRIES):
            if self._sent >= len(self._trace.content):
                return
            self._send_piece()

    def _send_piece(self) -> None:
        piece = self._trace.content[self._sent :]
        if piece:
            self._try(lambda: self._patch(piece))

    def _patch(self, piece: bytes) -> int:
        answer = self._coordinator.patch_trace(self._id, self._token, piece, self._sent)
        self._last_word = time.monotonic()
        if answer.status == 202:
            self._sent += len(piece)
            self._interval = float(answer.headers.get("X-GitLab-Trace-Update-Interval") or UPDATE_INTERVAL_SECONDS)
        elif answer.status == 416 and "-" in answer.headers.get("Range", ""):
            self._sent = int(answer.headers["Range"].rpartition("-")[2])
        self._obey(answer.status, answer.job_status)
        return answer.status

    def _keep_alive(self) -> None:
        def update() -> int:
            answer = self._coordinator.update_job(self._id, self._token, state="running")
            self._last_word = time.monotonic()
            self._obey(answer.status, answer.job_status)
            return answer.status

        self._try(update)

    def _obey(self, status: int, job_status: str) -> None:
        if job_status in ("canceled", "canceling", "failed"):
            self._cancel(job_status)
        elif status in (403, 404):
            self._cancel("canceled")

    def _try(self, send: Callable[[], int]) -> int:
        try:
            return send()
        except requests.RequestException:
            # GitLab may be away for a while; the trace is kept and sent again
            return 0
