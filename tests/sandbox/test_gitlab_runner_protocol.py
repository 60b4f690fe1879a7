"""The runner protocol of the GitLab stand-in: each documented request and its answer is one row."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from sandbox.gitlab.process import GitLab

CI = """
stages: [build, test]
variables: {GREETING: hello}
build:
  stage: build
  image: {name: "alpine:3.20", entrypoint: [""], pull_policy: [if-not-present]}
  tags: ["$TAG"]
  services:
    - {name: "postgres:10-alpine", alias: "db,database", command: ["postgres", "-c", "fsync=off"], variables: {A: "1"}}
  before_script: [echo before]
  script: [echo one, "echo two"]
  after_script: [echo after]
  timeout: 20 minutes
  retry: {max: 1, when: runner_system_failure}
  cache: {key: "k-$CI_COMMIT_REF_SLUG", paths: [.cache/], policy: pull-push}
  artifacts: {paths: [out/], name: result, expire_in: 2 days, when: always, reports: {junit: "r/*.xml"}}
test:
  stage: test
  tags: ["$TAG"]
  script: echo test
"""
FEATURES = {"upload_multiple_artifacts": True, "cancel_gracefully": True, "return_exit_code": True}


@dataclass
class Runner:
    """One runner with a job that only it can take, spoken to without any client between."""

    gitlab: GitLab
    tag: str
    id: int
    token: str
    pipeline: int
    http: httpx.Client
    job: dict[str, Any] = field(default_factory=dict)

    def request(self, **changed: Any) -> httpx.Response:
        info = {"name": "gitlab-runner", "version": "17.9.2", "executor": "kubernetes", "features": FEATURES}
        body = {"token": self.token, "system_id": "s_0123456789ab", "info": info, **changed}
        return self.http.post("/jobs/request", json=body)

    def take(self) -> Runner:
        answer = self.request()
        assert answer.status_code == 201, answer.text
        self.job = answer.json()
        return self

    @property
    def path(self) -> str:
        return f"/jobs/{self.job['id']}"

    @property
    def job_token(self) -> Mapping[str, str]:
        return {"JOB-TOKEN": self.job["token"]}

    def patch(self, content: bytes, content_range: str | None, token: str | None = None) -> httpx.Response:
        headers = {"JOB-TOKEN": token or self.job["token"], "Content-Type": "text/plain"}
        if content_range is not None:
            headers["Content-Range"] = content_range
        return self.http.patch(f"{self.path}/trace?debug_trace=false", content=content, headers=headers)

    def put(self, **body: Any) -> httpx.Response:
        return self.http.put(self.path, json={"token": self.job["token"], **body})

    def upload(self, content: bytes, **query: str) -> httpx.Response:
        files = {"file": ("artifacts.zip", content, "application/octet-stream")}
        return self.http.post(f"{self.path}/artifacts", params=query, files=files, headers=self.job_token)

    def as_user(self, method: str, path: str, **options: Any) -> httpx.Response:
        return self.http.request(method, path, headers={"PRIVATE-TOKEN": self.gitlab.token("root")}, **options)

    def api_job(self) -> dict[str, Any]:
        job: dict[str, Any] = self.as_user("GET", f"/projects/practice%2Fecho{self.path}").json()
        return job


@pytest.fixture(scope="module")
def gitlab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GitLab]:
    with GitLab(tmp_path_factory.mktemp("gitlab")) as server:
        headers = {"PRIVATE-TOKEN": server.token("root")}
        commit = {
            "branch": "protocol", "start_branch": "main", "commit_message": "Describe the jobs [skip ci]",
            "actions": [{"action": "update", "file_path": ".gitlab-ci.yml", "content": CI}],
        }  # fmt: skip
        url = f"{server.url}/api/v4/projects/practice%2Fecho/repository/commits"
        assert httpx.post(url, json=commit, headers=headers).status_code == 201
        yield server


@pytest.fixture
def runner(gitlab: GitLab, request: pytest.FixtureRequest) -> Iterator[Runner]:
    tag = re.sub(r"\W+", "-", request.node.name)
    with httpx.Client(base_url=f"{gitlab.url}/api/v4", timeout=10) as http:
        headers = {"PRIVATE-TOKEN": gitlab.token("root")}
        made = http.post(
            "/user/runners",
            headers=headers,
            json={"runner_type": "instance_type", "tag_list": [tag], "run_untagged": False},
        ).json()
        variables = [{"key": "TAG", "value": tag}]
        pipeline = http.post(
            "/projects/practice%2Fecho/pipeline", headers=headers, json={"ref": "protocol", "variables": variables}
        ).json()
        yield Runner(gitlab, tag, made["id"], made["token"], pipeline["id"], http)
        http.delete(f"/runners/{made['id']}", headers=headers)
        http.delete(f"/projects/practice%2Fecho/pipelines/{pipeline['id']}", headers=headers)


# ---------------------------------------------------------------------------------------------------- the table


@dataclass(frozen=True)
class Row:
    """A request in a situation, and the answer: status, headers as patterns, body (None: not looked at)."""

    promise: str
    send: Callable[[Runner], httpx.Response]
    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Any = None


def _finished(runner: Runner) -> Runner:
    runner.take().put(state="success")
    return runner


def _canceling(runner: Runner) -> Runner:
    runner.take().as_user("POST", f"/projects/practice%2Fecho{runner.path}/cancel")
    return runner


def _canceled(runner: Runner) -> Runner:
    runner.take().as_user("POST", f"/projects/practice%2Fecho{runner.path}/cancel?force=true")
    return runner


def _erased(runner: Runner) -> Runner:
    _finished(runner).as_user("POST", f"/projects/practice%2Fecho{runner.path}/erase")
    return runner


def _paused(runner: Runner) -> Runner:
    runner.as_user("PUT", f"/runners/{runner.id}", json={"paused": True})
    return runner


def _written(runner: Runner, content: bytes = b"hello") -> Runner:
    assert runner.take().patch(content, f"0-{len(content) - 1}").status_code == 202
    return runner


def _uploaded(runner: Runner) -> Runner:
    assert runner.take().upload(b"zip").status_code == 201
    return runner


def _nothing_new(runner: Runner) -> httpx.Response:
    runner.take()
    known = runner.request().headers["X-GitLab-Last-Update"]
    return runner.request(last_update=known)


def _dependent(runner: Runner) -> httpx.Response:
    """The second job fetches the artifacts of the first with its own token."""
    first = _uploaded(runner).job
    runner.put(state="success")
    runner.take()
    return runner.http.get(f"/jobs/{first['id']}/artifacts", headers=runner.job_token)


FORBIDDEN = {"message": "403 Forbidden"}
NOT_RUNNING = {"message": "403 Forbidden - Job is not running"}
JSON = {"content-type": "application/json"}
ROWS = (
    # POST /runners/verify and its neighbours
    Row(
        "a known token is verified",
        lambda r: r.http.post("/runners/verify", json={"token": r.token, "system_id": "s_1"}),
        200,
        JSON,
    ),
    Row(
        "an unknown token is not verified",
        lambda r: r.http.post("/runners/verify", json={"token": "no"}),
        403,
        JSON,
        FORBIDDEN,
    ),
    Row(
        "a missing token is a bad request",
        lambda r: r.http.post("/runners/verify", json={}),
        400,
        JSON,
        {"error": "token is missing"},
    ),
    Row("a manager is removed by its system id", lambda r: _removed_manager(r), 204),
    Row(
        "a runner is deleted by its token", lambda r: r.http.request("DELETE", "/runners", json={"token": r.token}), 204
    ),
    Row(
        "a wrong token deletes nothing",
        lambda r: r.http.request("DELETE", "/runners", json={"token": "no"}),
        403,
        JSON,
        FORBIDDEN,
    ),
    Row(
        "a runner renews its token",
        lambda r: r.http.post("/runners/reset_authentication_token", json={"token": r.token}),
        201,
        JSON,
    ),
    Row(
        "there is no job router",
        lambda r: r.http.get("/runners/router/discovery", headers={"RUNNER-TOKEN": r.token}),
        501,
    ),
    # POST /jobs/request
    Row("a waiting job is handed out", lambda r: r.request(), 201, JSON),
    Row(
        "the token may come in the header",
        lambda r: r.http.post("/jobs/request", json={}, headers={"RUNNER-TOKEN": r.token}),
        204,
    ),
    Row(
        "no job is 204 with the queue's value",
        lambda r: r.take().request(),
        204,
        {"X-GitLab-Last-Update": r"[0-9a-f]+"},
    ),
    Row("nothing new is 204 with the same value", _nothing_new, 204, {"X-GitLab-Last-Update": r"[0-9a-f]+"}),
    Row("a paused runner gets nothing", lambda r: _paused(r).request(), 204, {"X-GitLab-Last-Update": r"[0-9a-f]+"}),
    Row("an unknown runner is refused", lambda r: r.request(token="glrt-unknown"), 403, JSON, FORBIDDEN),
    # PUT /jobs/:id
    Row("a running job is kept alive", lambda r: r.take().put(state="running"), 200, {"Job-Status": "running"}, "200"),
    Row(
        "success ends the job",
        lambda r: r.take().put(state="success", output={"checksum": "crc32:0", "bytesize": 0}),
        200,
        {},
        "200",
    ),
    Row(
        "failure ends the job",
        lambda r: r.take().put(state="failed", failure_reason="script_failure", exit_code=42),
        200,
        {},
        "200",
    ),
    Row("another state is refused", lambda r: r.take().put(state="asleep"), 400, {}, "400"),
    Row("a wrong job token is refused", lambda r: r.take().put(token="wrong", state="running"), 403, {}, FORBIDDEN),
    Row(
        "an unknown job is refused, not missing",
        lambda r: r.http.put("/jobs/999999", json={"token": "t"}),
        403,
        {},
        FORBIDDEN,
    ),
    Row(
        "a finished job says so",
        lambda r: _finished(r).put(state="running"),
        403,
        {"Job-Status": "success"},
        NOT_RUNNING,
    ),
    Row(
        "a job being canceled says so",
        lambda r: _canceling(r).put(state="running"),
        200,
        {"Job-Status": "canceling"},
        "200",
    ),
    Row(
        "a canceled job is refused",
        lambda r: _canceled(r).put(state="running"),
        403,
        {"Job-Status": "canceled"},
        NOT_RUNNING,
    ),
    Row(
        "an erased job is refused",
        lambda r: _erased(r).put(state="running"),
        403,
        {},
        {"message": "403 Forbidden - Job has been erased!"},
    ),
    # PATCH /jobs/:id/trace
    Row(
        "the first bytes are accepted",
        lambda r: r.take().patch(b"hello", "0-4"),
        202,
        {"Range": "0-5", "Job-Status": "running", "X-GitLab-Trace-Update-Interval": "3"},
    ),
    Row("the next bytes are accepted", lambda r: _written(r).patch(b" you", "5-8"), 202, {"Range": "0-9"}),
    Row("no bytes are accepted too", lambda r: r.take().patch(b"", "0-0"), 202, {"Range": "0-0"}),
    Row(
        "a gap is refused",
        lambda r: _written(r).patch(b"x", "9-9"),
        416,
        {"Range": "0-5"},
        {"error": "416 Range Not Satisfiable"},
    ),
    Row("an overlap is refused", lambda r: _written(r).patch(b"lo", "3-4"), 416, {"Range": "0-5"}),
    Row(
        "a missing range is a bad request",
        lambda r: r.take().patch(b"x", None),
        400,
        {},
        {"error": "400 Missing header Content-Range"},
    ),
    Row("a wrong token writes nothing", lambda r: r.take().patch(b"x", "0-0", token="wrong"), 403, {}, FORBIDDEN),
    Row(
        "a canceled job takes no more trace",
        lambda r: _canceled(r).patch(b"x", "0-0"),
        403,
        {"Job-Status": "canceled"},
        NOT_RUNNING,
    ),
    Row(
        "a job being canceled still takes trace",
        lambda r: _canceling(r).patch(b"x", "0-0"),
        202,
        {"Job-Status": "canceling"},
    ),
    # artifacts
    Row(
        "an upload is authorized",
        lambda r: r.take().http.post(f"{r.path}/artifacts/authorize", json={"filesize": 10}, headers=r.job_token),
        200,
        {"content-type": "application/vnd.gitlab-workhorse\\+json"},
    ),
    Row(
        "an upload that is too large is not",
        lambda r: r.take().http.post(f"{r.path}/artifacts/authorize", json={"filesize": 1 << 40}, headers=r.job_token),
        413,
    ),
    Row(
        "an archive is taken",
        lambda r: r.take().upload(b"zip", artifact_format="zip", artifact_type="archive", expire_in="1 day"),
        201,
        {},
        "201",
    ),
    Row(
        "a report is taken beside it",
        lambda r: _uploaded(r).upload(b"gz", artifact_format="gzip", artifact_type="junit"),
        201,
        {},
        "201",
    ),
    Row("the same archive again is fine", lambda r: _uploaded(r).upload(b"zip"), 201, {}, "201"),
    Row(
        "another archive is not",
        lambda r: _uploaded(r).upload(b"other"),
        400,
        {},
        {"message": "another artifact of the same type already exists"},
    ),
    Row(
        "an upload without a file is refused",
        lambda r: r.take().http.post(f"{r.path}/artifacts", headers=r.job_token),
        400,
        {},
        {"error": "file is missing"},
    ),
    Row(
        "an unknown kind is refused",
        lambda r: r.take().upload(b"x", artifact_type="song"),
        400,
        {},
        {"error": "artifact_type does not have a valid value"},
    ),
    Row(
        "a finished job takes no artifacts",
        lambda r: _finished(r).upload(b"x"),
        403,
        {"Job-Status": "success"},
        NOT_RUNNING,
    ),
    Row(
        "a job reads its own artifacts",
        lambda r: _uploaded(r).http.get(f"{r.path}/artifacts", headers=r.job_token),
        200,
        {"content-type": "application/octet-stream"},
    ),
    Row("a later job reads them with its token", _dependent, 200, {"content-length": "3"}),
    Row(
        "no artifacts are 404",
        lambda r: r.take().http.get(f"{r.path}/artifacts", headers=r.job_token),
        404,
        {},
        {"message": "404 Not Found"},
    ),
    Row(
        "a stranger reads none",
        lambda r: _uploaded(r).http.get(f"{r.path}/artifacts", headers={"JOB-TOKEN": "no"}),
        403,
        {},
        FORBIDDEN,
    ),
)


def _removed_manager(runner: Runner) -> httpx.Response:
    runner.request()
    body = {"token": runner.token, "system_id": "s_0123456789ab"}
    return runner.http.request("DELETE", "/runners/managers", json=body)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.promise.replace(" ", "-"))
def test_row(runner: Runner, row: Row) -> None:
    """Each request of the protocol gets the documented status, headers and body."""
    answer = row.send(runner)
    assert answer.status_code == row.status, answer.text
    for name, pattern in row.headers.items():
        assert re.fullmatch(pattern, answer.headers[name]), (name, answer.headers[name])
    if row.body is not None:
        assert answer.json() == row.body


# --------------------------------------------------------------------------------------------------- the payload


def test_the_payload_says_what_the_file_says(runner: Runner) -> None:
    """Image, services, steps, cache, artifacts and timeout arrive as `.gitlab-ci.yml` wrote them."""
    job = runner.take().job
    assert job["image"] == {
        "name": "alpine:3.20", "entrypoint": [""], "ports": [], "executor_opts": {}, "pull_policy": ["if-not-present"]
    }  # fmt: skip
    (service,) = job["services"]
    assert (service["name"], service["alias"], service["command"]) == (
        "postgres:10-alpine", "db,database", ["postgres", "-c", "fsync=off"]
    )  # fmt: skip
    assert service["variables"] == [{"key": "A", "value": "1", "public": True, "masked": False}]
    assert [step["script"] for step in job["steps"]] == [["echo before", "echo one", "echo two"], ["echo after"]]
    assert [(step["name"], step["when"], step["allow_failure"], step["timeout"]) for step in job["steps"]] == [
        ("script", "on_success", False, 1200), ("after_script", "always", True, 1200)
    ]  # fmt: skip
    (cache,) = job["cache"]
    assert (cache["key"], cache["paths"], cache["policy"]) == (
        "k-$CI_COMMIT_REF_SLUG-non_protected",
        [".cache/"],
        "pull-push",
    )
    archive, junit = job["artifacts"]
    assert (archive["name"], archive["paths"], archive["when"], archive["expire_in"]) == (
        "result",
        ["out/"],
        "always",
        "2 days",
    )
    assert (junit["artifact_type"], junit["artifact_format"], junit["paths"]) == ("junit", "gzip", ["r/*.xml"])
    assert job["runner_info"]["timeout"] == 1200
    assert job["features"]["trace_sections"] is True


def test_the_payload_names_the_job_and_its_commit(runner: Runner) -> None:
    """`job_info` and `git_info` carry what pod labels, annotations and the clone are made of."""
    job = runner.take().job
    info, git = job["job_info"], job["git_info"]
    assert (info["name"], info["stage"], info["project_full_path"]) == ("build", "build", "practice/echo")
    assert (info["pipeline_id"], info["project_name"]) == (runner.pipeline, "echo")
    assert info["namespace_id"] == info["root_namespace_id"] == runner.gitlab.groups["practice"]
    assert re.fullmatch(r"[0-9a-f]{40}", git["sha"]) and git["ref_type"] == "branch" and git["depth"] == 20
    assert git["refspecs"] == [
        f"+refs/pipelines/{runner.pipeline}:refs/pipelines/{runner.pipeline}",
        "+refs/heads/protocol:refs/remotes/origin/protocol",
    ]
    assert git["repo_url"].endswith(f":{job['token']}@{runner.gitlab.url.removeprefix('http://')}/practice/echo.git")


NEEDED_VARIABLES = (
    "CI", "GITLAB_CI", "CI_JOB_ID", "CI_JOB_NAME", "CI_JOB_STAGE", "CI_JOB_URL", "CI_JOB_TOKEN", "CI_PIPELINE_ID",
    "CI_PIPELINE_SOURCE", "CI_PROJECT_ID", "CI_PROJECT_NAME", "CI_PROJECT_PATH", "CI_PROJECT_NAMESPACE",
    "CI_PROJECT_NAMESPACE_ID", "CI_PROJECT_ROOT_NAMESPACE", "CI_COMMIT_SHA", "CI_COMMIT_BEFORE_SHA", "CI_COMMIT_BRANCH",
    "CI_COMMIT_REF_NAME", "CI_COMMIT_REF_SLUG", "CI_RUNNER_ID", "CI_RUNNER_TAGS", "CI_SERVER_URL", "CI_SERVER_VERSION",
    "CI_API_V4_URL", "GITLAB_USER_LOGIN", "CI_REPOSITORY_URL",
)  # fmt: skip


def test_the_payload_carries_the_predefined_variables(runner: Runner) -> None:
    """A job has GitLab's predefined variables; those with a secret are masked and kept out of the pod."""
    variables = {one["key"]: one for one in runner.take().job["variables"]}
    assert set(NEEDED_VARIABLES) <= variables.keys()
    assert variables["GREETING"]["value"] == "hello" and variables["TAG"]["value"] == runner.tag
    assert variables["CI_JOB_NAME"] == {"key": "CI_JOB_NAME", "value": "build", "public": True, "masked": False}
    secret = [one["key"] for one in variables.values() if runner.job["token"] in one["value"]]
    assert set(secret) >= {"CI_JOB_TOKEN", "CI_REPOSITORY_URL"}
    assert all(variables[key]["masked"] and not variables[key]["public"] for key in secret)


@pytest.mark.parametrize(
    ("depth", "expected", "branches"),
    [("5", 5, "+refs/heads/protocol:refs/remotes/origin/protocol"), ("0", 0, "+refs/heads/*:refs/remotes/origin/*")],
)
def test_the_depth_of_the_clone(runner: Runner, depth: str, expected: int, branches: str) -> None:
    """GIT_DEPTH sets how deep the runner clones; 0 asks for all branches and tags."""
    variables = [{"key": "TAG", "value": runner.tag}, {"key": "GIT_DEPTH", "value": depth}]
    runner.as_user("POST", f"/projects/practice%2Fecho/pipelines/{runner.pipeline}/cancel")
    body = {"ref": "protocol", "variables": variables}
    runner.as_user("POST", "/projects/practice%2Fecho/pipeline", json=body)
    git = runner.take().job["git_info"]
    assert git["depth"] == expected and branches in git["refspecs"]


def test_variables_are_filled_in_before_they_are_sent(runner: Runner) -> None:
    """References between variables are resolved, unknown ones and circles stay."""
    written = {"A": "$CI_JOB_NAME-${B}", "B": "b", "C": "$UNKNOWN $$B", "D": "$E", "E": "$D", "TAG": runner.tag}
    runner.as_user("POST", f"/projects/practice%2Fecho/pipelines/{runner.pipeline}/cancel")
    body = {"ref": "protocol", "variables": [{"key": key, "value": value} for key, value in written.items()]}
    runner.as_user("POST", "/projects/practice%2Fecho/pipeline", json=body)
    sent = {one["key"]: one["value"] for one in runner.take().job["variables"]}
    assert (sent["A"], sent["C"], sent["D"]) == ("build-b", "$UNKNOWN $$B", "$D")


# -------------------------------------------------------------------------------------------------- whole stories


def test_a_job_from_request_to_success(runner: Runner) -> None:
    """What the runner reports is what the API shows: trace, status, runner and its manager."""
    _written(runner, b"line one\n")
    runner.patch(b"line two\n", "9-17")
    runner.put(state="success", output={"bytesize": 18})
    job = runner.api_job()
    assert (job["status"], job["runner"]["id"], job["tag_list"]) == ("success", runner.id, [runner.tag])
    assert job["runner_manager"]["system_id"] == "s_0123456789ab" and job["duration"] >= 0
    assert runner.as_user("GET", f"/projects/practice%2Fecho{runner.path}/trace").text == "line one\nline two\n"


def test_a_part_of_the_trace(runner: Runner) -> None:
    """A Range header gets that part of the trace, as 206."""
    _written(runner, b"0123456789")
    url = f"/projects/practice%2Fecho{runner.path}/trace"
    headers = {"PRIVATE-TOKEN": runner.gitlab.token("root"), "Range": "bytes=4-6"}
    answer = runner.http.get(url, headers=headers)
    assert (answer.status_code, answer.text, answer.headers["Content-Range"]) == (206, "456", "bytes 4-6/10")


def test_the_trace_hides_the_job_token(runner: Runner) -> None:
    """Whoever reads a trace does not find the job's token in it."""
    token = runner.take().job["token"].encode()
    runner.patch(b"token " + token, f"0-{len(token) + 5}")
    text = runner.as_user("GET", f"/projects/practice%2Fecho{runner.path}/trace").text
    assert text == "token " + "x" * len(token)


def test_a_failure_keeps_reason_and_is_retried(runner: Runner) -> None:
    """`retry: when` of the file makes a new job for that reason, and only as often as it says."""
    first = runner.take().job["id"]
    runner.put(state="failed", failure_reason="runner_system_failure")
    assert runner.api_job()["failure_reason"] == "runner_system_failure"
    second = runner.take().job["id"]
    assert second != first and runner.job["job_info"]["name"] == "build"
    runner.put(state="failed", failure_reason="runner_system_failure")
    assert runner.request().status_code == 204
    pipeline = runner.as_user("GET", f"/projects/practice%2Fecho/pipelines/{runner.pipeline}").json()
    assert pipeline["status"] == "failed"


def test_a_reason_that_gitlab_does_not_know(runner: Runner) -> None:
    """An unknown failure reason is stored as `unknown_failure`."""
    runner.take().put(state="failed", failure_reason="eaten_by_dog")
    assert runner.api_job()["failure_reason"] == "unknown_failure"


def test_a_graceful_cancel_ends_canceled(runner: Runner) -> None:
    """A job being canceled stays so until the runner has ended it, then it is canceled whatever the runner says."""
    _canceling(runner)
    assert runner.api_job()["status"] == "canceling"
    runner.put(state="success")
    assert runner.api_job()["status"] == "canceled"


def test_a_runner_without_the_needed_feature(runner: Runner) -> None:
    """A job with a report fails as `runner_unsupported` on a runner that does not upload several artifacts."""
    assert runner.request(info={"features": {}}).status_code == 204
    url = f"/projects/practice%2Fecho/pipelines/{runner.pipeline}/jobs"
    failed = [job for job in runner.as_user("GET", url).json() if job["status"] == "failed"]
    assert [job["failure_reason"] for job in failed] == ["runner_unsupported"]


def test_artifacts_reach_the_next_job_and_the_user(runner: Runner) -> None:
    """The archive of one job is a dependency of the next, and users read it whole or file by file."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as zipped:
        zipped.writestr("out/a.txt", "content\r\n--with a dash")
    runner.take().upload(buffer.getvalue(), expire_in="1 day")
    first = runner.job
    runner.put(state="success")
    (dependency,) = runner.take().job["dependencies"]
    assert (dependency["id"], dependency["name"], dependency["token"]) == (first["id"], "build", first["token"])
    assert dependency["artifacts_file"] == {"filename": "artifacts.zip", "size": len(buffer.getvalue())}
    url = f"/projects/practice%2Fecho/jobs/{first['id']}/artifacts"
    assert runner.as_user("GET", url).content == buffer.getvalue()
    assert runner.as_user("GET", f"{url}/out/a.txt").text == "content\r\n--with a dash"


def test_a_new_runner_waits_for_its_acknowledgement(tmp_path: Path) -> None:
    """From 18.5 on a job stays pending until the runner says that it works on it."""
    with GitLab(tmp_path / "gitlab", version="18.5.0") as server, httpx.Client(base_url=f"{server.url}/api/v4") as http:
        user = {"PRIVATE-TOKEN": server.token("root")}
        token = http.post("/user/runners", headers=user, json={"runner_type": "instance_type"}).json()["token"]
        http.post("/projects/practice%2Fecho/pipeline", headers=user, json={"ref": "main"})
        body = {"token": token, "info": {"features": {"two_phase_job_commit": True}}}
        job = http.post("/jobs/request", json=body).json()
        url = f"/projects/practice%2Fecho/jobs/{job['id']}"
        assert http.get(url, headers=user).json()["status"] == "pending"
        assert http.post("/jobs/request", json=body).status_code == 204
        said = {
            state: http.put(f"/jobs/{job['id']}", json={"token": job["token"], "state": state})
            for state in ("pending", "running")
        }
        assert {state: answer.status_code for state, answer in said.items()} == {"pending": 200, "running": 200}
        assert http.get(url, headers=user).json()["status"] == "running"


def recorded(traces: Path) -> list[list[dict[str, Any]]]:
    """What real runners (14.7.1, 13.6.0) sent, one list a job, in order."""
    stories: list[list[dict[str, Any]]] = []
    for line in (traces / "runner-recordings" / "updates.jsonl").read_text().splitlines():
        event = json.loads(line)
        if event["what"] == "assigned":
            stories.append([])
        stories[-1].append(event)
    return stories


def test_recordings_of_real_runners_are_accepted(gitlab: GitLab, traces: Path) -> None:
    """Every request that a real runner was seen to send is answered as it needs; its verdict is what the API shows."""
    api = f"{gitlab.url}/api/v4"
    user = {"PRIVATE-TOKEN": gitlab.token("root")}
    made = {"runner_type": "instance_type", "tag_list": ["recorded"], "run_untagged": False}
    text = "job: {script: x, tags: [recorded], artifacts: {paths: [out/]}}"
    commit = {
        "branch": "recorded", "start_branch": "main", "commit_message": "Describe the job [skip ci]",
        "actions": [{"action": "update", "file_path": ".gitlab-ci.yml", "content": text}],
    }  # fmt: skip
    with httpx.Client(base_url=api, headers=user) as http:
        token = http.post("/user/runners", json=made).json()["token"]
        assert http.post("/projects/practice%2Fecho/repository/commits", json=commit).status_code == 201
        for story in recorded(traces):
            http.post("/projects/practice%2Fecho/pipeline", json={"ref": "recorded"})
            assigned, *events = story
            job = http.post("/jobs/request", json={"token": token, "info": assigned["info"]}).json()
            written = 0
            for event in events:
                written = _send(http, job, event, written)
            ended = events[-1]
            shown = http.get(f"/projects/practice%2Fecho/jobs/{job['id']}").json()
            assert shown["status"] == ended["state"]
            assert shown.get("failure_reason") == ended["failure_reason"]


def _send(http: httpx.Client, job: dict[str, Any], event: dict[str, Any], written: int) -> int:
    """Send one recorded event again; returns how long the trace is now."""
    token = {"JOB-TOKEN": job["token"]}
    if event["what"] == "trace":
        end = written + event["bytes"]
        headers = {**token, "Content-Range": f"{written}-{end - 1}", "Content-Type": "text/plain"}
        answer = http.patch(f"/jobs/{job['id']}/trace", content=b"." * event["bytes"], headers=headers)
        assert (answer.status_code, answer.headers["Range"]) == (202, f"0-{end}")
        return end
    if event["what"] == "artifacts":
        files = {"file": ("artifacts.zip", b"z" * event["bytes"])}
        assert http.post(f"/jobs/{job['id']}/artifacts", files=files, headers=token).status_code == 201
        return written
    said = {key: event[key] for key in ("state", "failure_reason", "exit_code", "output")}
    assert http.put(f"/jobs/{job['id']}", json={"token": job["token"], **said}).status_code == 200
    return written
