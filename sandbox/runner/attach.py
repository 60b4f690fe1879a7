"""The attach strategy: a stage is started by a line on the container's standard input, its output comes through a file.

A script says itself how it ended, in a JSON line at the end of its output, so nobody depends on the stream. While it runs, the pod is looked
at every `poll_interval`: that is how a runner notices that the instance below it is gone.
"""

from __future__ import annotations

import json
import queue
import shlex
import threading
from typing import TYPE_CHECKING, Any

from runbook.runner import pods, volumes
from runbook.runner.behaviours import Behaviour
from sandbox.runner import cluster
from sandbox.runner.endings import BuildFailure, JobEnded, SystemFailure, script_failed
from sandbox.runner.script import HELPER, Stage

if TYPE_CHECKING:
    from sandbox.runner.executor import KubernetesExecutor

DETECT_SHELL = "detect_shell_script"
TRAP = (
    "runner_script_trap() {\n"
    "\texit_code=$?\n"
    '\techo ""\n'
    '\techo "{\\"command_exit_code\\": $exit_code, \\"script\\": \\"$0\\"}"\n'
    "\texit 0\n"
    "}\n"
    "trap runner_script_trap EXIT\n"
)
RECONNECT_SECONDS = 1.0
RECONNECT_ATTEMPTS = 5
UNKNOWN_EXIT_CODE = 1000
WAIT_FOR_LOG_FILE = "1m"


def trapped(script: str) -> str:
    """*script* with a trap that tells its exit code as a line of output."""
    return f"{TRAP}{script}"


def detect_shell() -> str:
    """The script that runs another one in the first shell that there is."""
    return pods.shell_command()[-1].replace(" \n", ' "$@"\n')


class AttachStrategy:
    """Runs stages in a pod that is up. *executor* gives the pod, its containers and the trace."""

    def __init__(self, executor: KubernetesExecutor) -> None:
        self._executor = executor
        self._scripts_dir = volumes.scripts_dir(executor.runner, executor.job, executor.version)
        self._log_file = volumes.log_file(executor.runner, executor.job, executor.version)
        self._writes_scripts = Behaviour.SCRIPTS_IN_EMPTY_DIR.of(executor.version)
        self._closed = threading.Event()
        self._exit_codes: queue.Queue[int] = queue.Queue()
        if self._writes_scripts:
            self._save("build", DETECT_SHELL, detect_shell())
        self._reader = threading.Thread(target=self._read_log, name="log", daemon=True)
        self._reader.start()

    def run(self, stage: Stage, script: str) -> None:
        """Start a stage and wait for its exit code, or for the end of its pod. Raises JobEnded."""
        if self._writes_scripts:
            self._save(stage.container, stage.name, trapped(script))
        try:
            self._executor.container(stage.container).send(self._command(stage))
        except cluster.FAULTS as error:
            raise SystemFailure(cluster.message(error)) from None
        exit_code = self._wait()
        if exit_code:
            raise script_failed(exit_code)

    def close(self) -> None:
        """Stop reading the log."""
        self._closed.set()
        self._reader.join(timeout=5)

    def _command(self, stage: Stage) -> bytes:
        script = f"{self._scripts_dir}/{stage.name}"
        if stage.container == "helper":
            # gitlab-runner-build hands its input to a shell: the path is that shell's only command
            line = f"gitlab-runner-build <<< {script} 2>&1 | tee -a {self._log_file}"
        else:
            line = f"sh -c '(sh {self._scripts_dir}/{DETECT_SHELL} {script} 2>&1 | tee -a {self._log_file}) &'"
        return f"{line}\n".encode()

    def _save(self, container: str, name: str, text: str) -> None:
        path = f"{self._scripts_dir}/{name}"
        script = f"cat > {path} <<'END_OF_SCRIPT'\n{text}\nEND_OF_SCRIPT\nchmod +x {path}\nexit 0\n"
        output = bytearray()
        try:
            ending = self._executor.container(container).run(
                pods.shell_command(), stdin=script.encode(), out=output.extend, stop=self._executor.stop
            )
        except cluster.FAULTS as error:
            raise SystemFailure(f"setting up trapping scripts on emptyDir: {cluster.message(error)}") from None
        if ending.exit_code:
            raise script_failed(ending.exit_code)

    def _wait(self) -> int:
        while True:
            try:
                return self._exit_codes.get(timeout=self._executor.poll_interval)
            except queue.Empty:
                if self._executor.stop.is_set():
                    raise SystemFailure("build aborted") from None
                self._check_pod()

    def _check_pod(self) -> None:
        try:
            pod = self._executor.read_pod()
        except cluster.FAULTS as error:
            if cluster.is_not_found(error):
                raise SystemFailure(cluster.message(error)) from None
            # an API server that does not answer for a while is no reason to give up a job that runs
            self._executor.trace.warning(f"Getting job pod status {cluster.message(error)}")
            return
        strict = Behaviour.POD_FAILED_IS_SYSTEM_FAILURE.of(self._executor.version)
        ending = _taken_away(pod) if strict else None
        if ending is None and Behaviour.OOM_IS_SYSTEM_FAILURE.of(self._executor.version):
            ending = _container_ended(pod)
        if ending is None and pod.status.phase != "Running":
            text = f'pod "{pod.metadata.name}" status is "{pod.status.phase}"'
            ending = SystemFailure(text) if strict else BuildFailure(text)
        if ending is not None:
            # the script may have told its exit code just before the pod was seen to be gone
            if not self._exit_codes.empty():
                return
            raise ending

    def _read_log(self) -> None:
        """Follow the log file through the helper, from where the last connection ended, until nobody wants it."""
        reader = _LogLines(self._executor.trace.write, self._exit_codes.put)
        failures = 0
        while not self._closed.is_set():
            offset = reader.offset
            command = [
                HELPER, "read-logs", "--path", self._log_file, "--offset", str(offset),
                "--wait-file-timeout", WAIT_FOR_LOG_FILE,
            ]  # fmt: skip
            try:
                self._executor.container("helper").run(command, stdin=b"", out=reader.feed, stop=self._closed)
            except cluster.FAULTS:
                failures += 1
            else:
                failures = 0 if reader.offset > offset else failures + 1
            if failures > RECONNECT_ATTEMPTS:
                self._exit_codes.put(UNKNOWN_EXIT_CODE)
                return
            self._closed.wait(RECONNECT_SECONDS)


class _LogLines:
    """Lines of ``read-logs``, each ``<offset after the line> <line>``: shown, or taken as an exit code."""

    def __init__(self, show: Any, tell_exit_code: Any) -> None:
        self._show, self._tell = show, tell_exit_code
        self._pending = b""
        self.offset = 0

    def feed(self, piece: bytes) -> None:
        *lines, self._pending = (self._pending + piece).split(b"\n")
        for line in lines:
            offset, _, text = line.partition(b" ")
            if offset.isdigit():
                self.offset = int(offset)
                self._take(text)

    def _take(self, text: bytes) -> None:
        exit_code = _exit_code(text)
        if exit_code is None:
            self._show(text + b"\n")
        else:
            self._tell(exit_code)


def _exit_code(line: bytes) -> int | None:
    if not line.startswith(b'{"command_exit_code"'):
        return None
    try:
        return int(json.loads(line)["command_exit_code"])
    except (ValueError, KeyError, TypeError):
        return None


def _taken_away(pod: Any) -> JobEnded | None:
    """What a runner of 17.9 and later takes for the end of a pod, though it is Running."""
    for condition in pod.status.conditions or ():
        if condition.type == "DisruptionTarget" and condition.status == "True":
            what = f"reason {condition.reason!r}, message {condition.message!r}"
            return SystemFailure(f"pod {shlex.quote(pod.metadata.name)} is disrupted: {what}")
    if pod.metadata.deletion_timestamp is not None:
        return SystemFailure(f"pod is being deleted: {pod.metadata.namespace}/{pod.metadata.name}")
    return None


def _container_ended(pod: Any) -> JobEnded | None:
    """`build` or `helper` has ended, which no stage does by itself: killed for memory, most likely (from 17.6)."""
    for status in pod.status.container_statuses or ():
        ended = status.state.terminated if status.state else None
        if status.name in ("build", "helper") and ended is not None:
            return SystemFailure(
                f"Error in container {status.name}: exit code: {ended.exit_code}, reason: '{ended.reason}'"
            )
    return None
