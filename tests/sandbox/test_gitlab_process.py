"""The GitLab stand-in as a process: ready file, several at once, TLS, faults on demand, nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gitlab
import httpx
import pytest
import trustme

from sandbox.gitlab.process import GitLab
from sandbox.process import SandboxError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GitLab]:
    with GitLab(tmp_path_factory.mktemp("gitlab")) as one:
        yield one


@pytest.fixture
def faults(server: GitLab) -> Iterator[Any]:
    """A function that adds a fault; all are cleared afterwards."""
    door = f"{server.url}/-/sandbox/faults"

    def add(**fault: Any) -> httpx.Response:
        return httpx.post(door, json=fault)

    yield add
    assert httpx.delete(door).status_code == 204


def get(server: GitLab, path: str = "/version", **options: Any) -> httpx.Response:
    return httpx.get(f"{server.url}/api/v4{path}", headers={"PRIVATE-TOKEN": server.token("root")}, **options)


def test_two_at_once_and_nothing_left(tmp_path: Path) -> None:
    """Two servers do not clash, know nothing of each other, and leave no file and no process."""
    with GitLab(tmp_path / "a") as a, GitLab(tmp_path / "b", flavour="gitlab.com", version="18.4.1") as b:
        assert a.url != b.url and get(b).json()["version"] == "18.4.1"
        foreign = httpx.get(f"{b.url}/api/v4/user", headers={"PRIVATE-TOKEN": a.token("root")})
        assert foreign.status_code == 401
        pids = [json.loads((tmp_path / name / "ready.json").read_text())["pid"] for name in "ab"]
    assert list(tmp_path.iterdir()) == []
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_the_ready_file_is_private(server: GitLab) -> None:
    """ready.json has what a caller needs, readable by its owner only."""
    file = server.directory / "ready.json"
    ready = json.loads(file.read_text())
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert ready.keys() >= {"url", "pid", "tokens", "registration_token", "projects", "groups"}
    assert set(ready["projects"]) == {"practice/smoke", "practice/article", "practice/echo"}


def test_a_term_signal_ends_it_cleanly(tmp_path: Path) -> None:
    """In the foreground, SIGTERM ends the server and takes its files away."""
    command = [sys.executable, "-m", "sandbox.gitlab", "--dir", str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE) as process:
        deadline = time.monotonic() + 20
        while not (tmp_path / "ready.json").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    assert list(tmp_path.iterdir()) == []


def test_a_start_that_fails_says_why(server: GitLab, tmp_path: Path) -> None:
    """A port that is taken is an error with the reason, and nothing stays."""
    with pytest.raises(SandboxError, match="in use"):
        GitLab(tmp_path / "gitlab", port=server.url.rpartition(":")[2]).start()
    assert list(tmp_path.iterdir()) == []


def test_tls(tmp_path: Path) -> None:
    """With a certificate it speaks HTTPS, and links and clone addresses say so."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    certificate.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    with GitLab(tmp_path / "gitlab", tls_cert=str(tmp_path / "cert.pem"), tls_key=str(tmp_path / "key.pem")) as server:
        assert server.url.startswith("https://127.0.0.1:")
        trusting = gitlab.Gitlab(server.url, private_token=server.token("root"), ssl_verify=str(tmp_path / "ca.pem"))
        assert trusting.projects.get("practice/echo").http_url_to_repo == f"{server.url}/practice/echo.git"
        with pytest.raises(httpx.ConnectError):
            get(server)


@pytest.mark.parametrize(
    ("fault", "status", "text"),
    [
        ({"status": 401}, 401, '{"message":"401 Unauthorized"}'),
        ({"status": 403}, 403, '{"message":"403 Forbidden"}'),
        ({"status": 404}, 404, '{"message":"404 Not Found"}'),
        ({"status": 429, "headers": {"Retry-After": "7"}}, 429, "too many times"),
        ({"status": 500}, 500, "500 Internal Server Error"),
        ({"status": 502}, 502, "<html>"),
        ({"status": 503, "body": {"message": "maintenance"}}, 503, '{"message":"maintenance"}'),
        ({"html": True}, 200, "<!DOCTYPE html>"),
    ],
)
def test_a_fault_answers_in_its_place(
    server: GitLab, faults: Any, fault: dict[str, Any], status: int, text: str
) -> None:
    """The path that a fault names gets the asked-for answer, others do not."""
    assert faults(path="/version$", **fault).status_code == 201
    answer = get(server)
    assert (answer.status_code, text in answer.text) == (status, True)
    for name, value in fault.get("headers", {}).items():
        assert answer.headers[name] == value
    assert get(server, "/user").status_code == 200


def test_a_fault_goes_away_after_its_times(server: GitLab, faults: Any) -> None:
    """A fault with `times` spoils so many answers and no more."""
    faults(path="/version$", status=500, times=2)
    assert [get(server).status_code for _ in range(3)] == [500, 500, 200]


def test_a_fault_of_one_method(server: GitLab, faults: Any) -> None:
    """A fault may be for one method only."""
    faults(path="/user/runners", method="POST", status=403)
    body = {"runner_type": "instance_type"}
    url = f"{server.url}/api/v4/user/runners"
    assert httpx.post(url, json=body, headers={"PRIVATE-TOKEN": server.token("root")}).status_code == 403
    assert get(server, "/runners/all").status_code == 200


def test_a_slow_answer(server: GitLab, faults: Any) -> None:
    """A fault with only a delay answers as always, later."""
    faults(path="/version$", delay=0.5)
    began = time.monotonic()
    assert get(server).status_code == 200 and time.monotonic() - began >= 0.5
    with pytest.raises(httpx.ReadTimeout):
        get(server, timeout=0.1)


def test_a_connection_that_breaks(server: GitLab, faults: Any) -> None:
    """A reset is seen by the client as a broken connection."""
    faults(path="/version$", reset=True)
    with pytest.raises(httpx.TransportError):
        get(server)


def test_a_fault_that_is_none(server: GitLab, faults: Any) -> None:
    """A misspelt fault is refused, not taken in silence."""
    assert faults(path="x", stauts=500).status_code == 400


def test_long_polling(tmp_path: Path) -> None:
    """With long polling a request that knows the queue's value waits, and ends when a job comes."""
    with GitLab(tmp_path / "gitlab", long_poll=1) as server:
        gl = gitlab.Gitlab(server.url, private_token=server.token("root"))
        token = gl.http_post("/user/runners", post_data={"runner_type": "instance_type"})["token"]
        url = f"{server.url}/api/v4/jobs/request"
        known = httpx.post(url, json={"token": token}).headers["X-GitLab-Last-Update"]
        began = time.monotonic()
        assert httpx.post(url, json={"token": token, "last_update": known}).status_code == 204
        assert time.monotonic() - began >= 1
        gl.projects.get("practice/echo").pipelines.create({"ref": "main"})
        assert httpx.post(url, json={"token": token, "last_update": known}).status_code == 201
