"""kubectl's verbs on a pod of a virtual node: logs, exec, attach, cp and port-forward, with the right exit codes."""

from __future__ import annotations

import os
import pty
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.practice.eci_node.stage import Stage

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def shell(stage: Stage) -> str:
    """A running pod whose container `build` is a shell that reads its standard input."""
    name = stage.run("sh", "-c", "echo ready; exec sh", container={"stdin": True, "image": "debian:12"})
    stage.phase(name, "Running")
    return name


def in_terminal(command: list[str]) -> tuple[int, str]:
    """Run a command in a terminal of 100 columns and 30 rows; its exit code and all that it showed."""
    pid, master = pty.fork()
    if pid == 0:
        os.execvp(command[0], command)
    os.set_blocking(master, True)
    shown = b""
    try:
        while piece := os.read(master, 4096):
            shown += piece
    except OSError:
        pass  # the terminal's other end is closed
    finally:
        os.close(master)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), shown.decode()


@pytest.mark.parametrize("code", [0, 1, 7, 137])
def test_exec_ends_with_the_commands_exit_code(stage: Stage, shell: str, code: int) -> None:
    """Whatever the command's code, kubectl exec has the same."""
    assert stage.kubectl("exec", shell, "--", "sh", "-c", f"exit {code}").returncode == code


def test_exec_keeps_both_outputs_apart(stage: Stage, shell: str) -> None:
    """Standard output and standard error arrive as such."""
    done = stage.kubectl("exec", shell, "--", "sh", "-c", "echo out; echo err >&2")
    assert (done.stdout, done.stderr) == ("out\n", "err\n")


def test_exec_reads_a_script_from_standard_input(stage: Stage, shell: str) -> None:
    """The client's end of input is the command's, so a shell ends with its last command's code."""
    done = stage.kubectl("exec", "-i", shell, "--", "bash", stdin="echo one; exit 5\n")
    assert (done.returncode, done.stdout) == (5, "one\n")


def test_exec_carries_large_input_and_output(stage: Stage, shell: str) -> None:
    """Nothing is lost of eight mebibytes there and back."""
    text = "0123456789abcde\n" * (8 * 65536)
    assert stage.kubectl("exec", "-i", shell, "--", "cat", stdin=text).stdout == text


def test_a_silent_command_is_waited_for(stage: Stage, shell: str) -> None:
    """A stream that says nothing for longer than the library's own limit of 30 seconds is no success."""
    start = time.monotonic()
    done = stage.kubectl("exec", shell, "--", "sh", "-c", "sleep 33; echo last; exit 3")
    assert (done.returncode, done.stdout) == (3, "last\n")
    assert time.monotonic() - start > 33


def test_exec_in_a_terminal_is_one(stage: Stage, shell: str) -> None:
    """`exec -it` gives a terminal that knows its name, and passes the exit code."""
    code, shown = in_terminal(stage.kubectl_command("exec", "-it", shell, "--", "sh", "-c", "tty && exit 3"))
    assert code == 3
    assert "/dev/pts/0" in shown


def test_exec_needs_a_container_that_runs(stage: Stage, shell: str) -> None:
    """A container that is not there is an error, not silence."""
    done = stage.kubectl("exec", shell, "-c", "absent", "--", "true")
    assert done.returncode == 1
    assert "absent" in done.stderr


def test_attach_feeds_the_container_and_may_come_again(stage: Stage, shell: str) -> None:
    """What is sent goes to the container's own input; the client's end does not close it."""
    for word in ("first", "second"):
        client = subprocess.Popen(
            stage.kubectl_command("attach", "-i", "-q", shell), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        try:
            assert client.stdin is not None and client.stdout is not None
            client.stdin.write(f"echo {word}\n")
            client.stdin.close()
            assert client.stdout.readline() == f"{word}\n"
        finally:
            client.kill()
            client.wait()
    assert stage.kubectl("logs", shell).stdout == "ready\nfirst\nsecond\n"


def test_logs_follow_to_the_end(stage: Stage) -> None:
    """`logs -f` shows what comes and ends with the container."""
    name = stage.run("sh", "-c", "for n in 1 2 3; do echo $n; sleep 0.3; done")
    stage.phase(name, "Running", "Succeeded")
    assert stage.kubectl("logs", "-f", name).stdout == "1\n2\n3\n"


def test_logs_tail_and_timestamps(stage: Stage) -> None:
    """--tail counts lines, --timestamps puts the played moment before each."""
    name = stage.run("sh", "-c", "echo one; echo two")
    stage.phase(name, "Succeeded")
    assert stage.kubectl("logs", "--tail=1", name).stdout == "two\n"
    stamped = stage.kubectl("logs", "--timestamps", name).stdout.splitlines()
    assert [line.split(" ", 1)[1] for line in stamped] == ["one", "two"]
    assert stamped[0].startswith("20")


def test_cp_brings_files_in_and_out(stage: Stage, shell: str, tmp_path: Path) -> None:
    """A folder goes in and a file comes back, by tar through exec."""
    (tmp_path / "sources").mkdir()
    (tmp_path / "sources" / "file").write_text("content\n")
    assert stage.kubectl("cp", str(tmp_path / "sources"), f"{shell}:/tmp/there").returncode == 0
    assert stage.kubectl("cp", f"{shell}:/tmp/there/file", str(tmp_path / "back")).returncode == 0
    assert (tmp_path / "back").read_text() == "content\n"


@pytest.fixture
def forwarded(stage: Stage) -> Iterator[int]:
    """The local port of a port-forward to a pod's service on 5432."""
    name = stage.run(containers=[{"name": "db", "image": "postgres:13"}])
    stage.phase(name, "Running")
    while "ready" not in stage.kubectl("logs", name).stdout:
        time.sleep(0.05)
    client = subprocess.Popen(
        stage.kubectl_command("port-forward", f"pod/{name}", ":5432", "--address=127.0.0.1"),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert client.stdout is not None
        yield int(client.stdout.readline().split(":")[1].split()[0])
    finally:
        client.kill()
        client.wait()


def test_port_forward_reaches_a_service(forwarded: int) -> None:
    """A client of the forwarded port speaks with the service in the pod: PostgreSQL's answer to a request for TLS is N."""
    with socket.create_connection(("127.0.0.1", forwarded), timeout=10) as connection:
        connection.sendall(bytes([0, 0, 0, 8, 4, 210, 22, 47]))
        assert connection.recv(1) == b"N"


def test_ten_pods_start_at_once(stage: Stage) -> None:
    """Parallel pods do not wait for one another."""
    names = [stage.run("sh", "-c", "exit 0") for _ in range(10)]
    for name in names:
        stage.phase(name, "Succeeded")
