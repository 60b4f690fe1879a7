"""The REST API of the GitLab stand-in, driven by python-gitlab as our notebooks drive it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import gitlab
import httpx
import pytest
from gitlab.v4.objects import CurrentUserRunnerManager, Project

from sandbox.gitlab.process import GitLab

API = "/api/v4"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GitLab]:
    with GitLab(tmp_path_factory.mktemp("gitlab")) as one:
        yield one


@pytest.fixture(scope="module")
def dot_com(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GitLab]:
    with GitLab(tmp_path_factory.mktemp("gitlab-com"), flavour="gitlab.com", registration_tokens="off") as one:
        yield one


def client(server: GitLab, token: str = "root", **options: Any) -> gitlab.Gitlab:
    return gitlab.Gitlab(server.url, private_token=server.token(token), **options)


def project(server: GitLab, name: str = "echo", token: str = "maintainer") -> Project:
    return client(server, token).projects.get(f"practice/{name}")


def refused(call: Any) -> tuple[int | None, Any]:
    """Status and message of the error that a call of python-gitlab ends with."""
    with pytest.raises(gitlab.GitlabError) as caught:
        call()
    return caught.value.response_code, caught.value.error_message


def plain(server: GitLab, token: str | None, method: str, path: str, **options: Any) -> httpx.Response:
    headers = {} if token is None else {"PRIVATE-TOKEN": server.token(token)}
    return httpx.request(method, f"{server.url}{API}{path}", headers=headers, **options)


# ------------------------------------------------------------------------------------------- tokens and scopes

RUNNER = {"runner_type": "project_type", "project_id": 2, "run_untagged": True}
SCOPES = "The request requires higher privileges than provided by the access token."


@pytest.mark.parametrize(
    ("token", "method", "path", "status"),
    [
        ("root", "GET", "/user", 200),
        ("root-read-api", "GET", "/user", 200),
        ("developer-read-user", "GET", "/user", 200),
        ("developer-read-user", "GET", "/version", 200),
        ("developer-read-user", "GET", "/projects", 403),
        ("maintainer-create-runner", "GET", "/user", 403),
        ("maintainer-create-runner", "POST", "/user/runners", 201),
        ("maintainer-manage-runner", "POST", "/user/runners", 403),
        ("maintainer-read-api", "POST", "/user/runners", 403),
        ("maintainer", "POST", "/user/runners", 201),
        ("developer", "POST", "/user/runners", 403),
        ("stranger", "POST", "/user/runners", 403),
        ("maintainer-create-runner", "GET", "/personal_access_tokens/self", 200),
        ("root-read-api", "GET", "/runners/all", 200),
        ("maintainer", "GET", "/runners/all", 403),
        ("developer", "GET", "/projects/practice%2Fecho", 200),
        ("stranger", "GET", "/projects/practice%2Fecho", 404),
        ("developer", "GET", "/projects/practice%2Fecho/runners", 403),
        ("developer-read-repository", "GET", "/projects/practice%2Fecho/repository/files/README.md?ref=main", 200),
        ("expired", "GET", "/user", 401),
        ("revoked", "GET", "/user", 401),
        (None, "GET", "/user", 401),
        ("developer", "GET", "/no/such/door", 404),
    ],
)
def test_scopes_and_roles(server: GitLab, token: str | None, method: str, path: str, status: int) -> None:
    """A token opens what its scopes and its user's role open, and nothing else."""
    body = {**RUNNER, "project_id": server.projects["practice/echo"]} if method == "POST" else None
    assert plain(server, token, method, path, json=body).status_code == status


def test_words_of_refusals(server: GitLab) -> None:
    """401, 403 and 404 come in GitLab's own words."""
    assert plain(server, None, "GET", "/user").json() == {"message": "401 Unauthorized"}
    assert plain(server, "expired", "GET", "/user").json()["error"] == "invalid_token"
    assert plain(server, "developer-read-user", "POST", "/user/runners").json() == {
        "error": "insufficient_scope", "error_description": SCOPES, "scope": "create_runner api read_api"
    }  # fmt: skip
    assert plain(server, "stranger", "GET", "/projects/1").json() == {"message": "404 Project Not Found"}
    assert plain(server, "root", "GET", "/runners/999").json() == {"message": "404 Runner Not Found"}
    assert plain(server, "root", "GET", "/nowhere").json() == {"error": "404 Not Found"}
    assert plain(server, "root", "PATCH", "/user").json() == {"error": "405 Not Allowed"}


def test_bearer_and_query_tokens(server: GitLab) -> None:
    """The token may come as bearer or in the query."""
    token = server.token("root")
    assert httpx.get(f"{server.url}{API}/user", headers={"Authorization": f"Bearer {token}"}).status_code == 200
    assert httpx.get(f"{server.url}{API}/user", params={"private_token": token}).status_code == 200


def test_a_token_says_what_it_may(server: GitLab) -> None:
    """Every token may look at itself, without its value."""
    own = client(server, "maintainer-runners").personal_access_tokens.get("self")
    assert own.scopes == ["create_runner", "manage_runner", "read_api"] and own.active
    assert server.token("maintainer-runners") not in str(own.attributes)


# -------------------------------------------------------------------------------------------------- runners


def test_a_runner_from_birth_to_death(server: GitLab) -> None:
    """Create, look, change, verify, renew the token, delete: all by python-gitlab."""
    gl = client(server)
    made = CurrentUserRunnerManager(gl).create(
        {"runner_type": "instance_type", "tag_list": ["b", "a"], "description": "d", "paused": True,
         "run_untagged": False, "maintenance_note": "mark", "maximum_timeout": 3600}
    )  # fmt: skip
    assert made.token.startswith("glrt-t1_") and made.attributes.keys() == {"id", "token", "token_expires_at"}
    runner = gl.runners.get(made.id)
    assert (runner.tag_list, runner.paused, runner.status, runner.maintenance_note) == (
        ["a", "b"],
        True,
        "never_contacted",
        "mark",
    )
    assert "token" not in runner.attributes
    gl.runners.update(made.id, {"paused": False, "tag_list": ["docker"], "locked": False})
    assert gl.runners.get(made.id).tag_list == ["docker"] and not gl.runners.get(made.id).paused
    gl.runners.verify(made.token)
    renewed = gl.http_post(f"/runners/{made.id}/reset_authentication_token")
    assert refused(lambda: gl.runners.verify(made.token)) == (403, "403 Forbidden")
    gl.runners.verify(renewed["token"])
    gl.runners.delete(made.id)
    assert refused(lambda: gl.runners.get(made.id)) == (404, "404 Runner Not Found")


@pytest.mark.parametrize(
    ("token", "body", "status", "message"),
    [
        ("root", {}, 400, "runner_type is missing, runner_type does not have a valid value"),
        ("root", {"runner_type": "car"}, 400, "runner_type does not have a valid value"),
        ("root", {"runner_type": "group_type"}, 400, "group_id is missing"),
        ("root", {"runner_type": "group_type", "group_id": 999}, 400, "400 Bad request - Missing/invalid scope"),
        ("maintainer", {"runner_type": "instance_type"}, 403, "403 Forbidden - Insufficient permissions"),
        ("maintainer", {"runner_type": "group_type", "group_id": "GROUP"}, 403,
         "403 Forbidden - Insufficient permissions"),
        ("developer", {"runner_type": "project_type", "project_id": "PROJECT"}, 403,
         "403 Forbidden - Insufficient permissions"),
        ("root", {"runner_type": "instance_type", "maximum_timeout": 60}, 400,
         "400 Bad request - Maximum timeout needs to be at least 10 minutes"),
        ("root", {"runner_type": "instance_type", "maximum_timeout": "long"}, 400, "maximum_timeout is invalid"),
        ("root", {"runner_type": "instance_type", "run_untagged": False}, 400,
         "400 Bad request - Tags list can not be empty when runner is not allowed to pick untagged jobs"),
        ("root", {"runner_type": "instance_type", "maintenance_note": "x" * 1025}, 400,
         "400 Bad request - Maintenance note is too long (maximum is 1024 characters)"),
        ("root", {"runner_type": "instance_type", "access_level": "all"}, 400,
         "access_level does not have a valid value"),
    ],
)  # fmt: skip
def test_runners_that_are_not_made(server: GitLab, token: str, body: dict[str, Any], status: int, message: str) -> None:
    """What is wrong with a new runner is said as GitLab says it, and nothing is made."""
    named = {"GROUP": server.groups["practice"], "PROJECT": server.projects["practice/echo"]}
    before = len(client(server).runners_all.list(get_all=True))
    sent = {key: named.get(value, value) for key, value in body.items()}
    assert refused(lambda: client(server, token).http_post("/user/runners", post_data=sent)) == (status, message)
    assert len(client(server).runners_all.list(get_all=True)) == before


def test_updates_that_are_refused(server: GitLab) -> None:
    """A PUT needs something to change, and keeps a runner useful."""
    gl = client(server)
    number = gl.http_post("/user/runners", post_data={"runner_type": "instance_type"})["id"]
    assert refused(lambda: gl.runners.update(number, {}))[0] == 400
    assert refused(lambda: gl.runners.update(number, {"run_untagged": False})) == (
        400, {"tags_list": ["can not be empty when runner is not allowed to pick untagged jobs"]}
    )  # fmt: skip
    assert refused(lambda: client(server, "developer").runners.update(number, {"paused": True})) == (
        403, "403 Forbidden - No access granted"
    )  # fmt: skip


def test_registration_tokens_on_and_off(server: GitLab, dot_com: GitLab) -> None:
    """The legacy door makes a runner where it is open, and answers 410 where it is closed."""
    body = {"token": server.registration_token, "tag_list": "a,b", "info": {"name": "gitlab-runner"}}
    made = httpx.post(f"{server.url}{API}/runners", json=body)
    assert made.status_code == 201 and made.json()["token"].startswith("glrtr-")
    assert client(server).runners.get(made.json()["id"]).tag_list == ["a", "b"]
    wrong = httpx.post(f"{server.url}{API}/runners", json={"token": "no"})
    assert (wrong.status_code, wrong.json()) == (403, {"message": "403 Forbidden - invalid token supplied"})
    closed = httpx.post(f"{dot_com.url}{API}/runners", json={"token": dot_com.registration_token})
    assert (closed.status_code, closed.json()) == (410, {"message": "410 Gone - runner registration disallowed"})


def test_gitlab_com_has_no_instance_runners_for_customers(dot_com: GitLab) -> None:
    """On gitlab.com nobody of ours is administrator: no instance runner, no list of all runners; group runners work."""
    gl = client(dot_com)
    assert refused(lambda: gl.http_post("/user/runners", post_data={"runner_type": "instance_type"})) == (
        403, "403 Forbidden - Insufficient permissions"
    )  # fmt: skip
    assert refused(lambda: gl.runners_all.list(get_all=True)) == (403, "403 Forbidden")
    made = gl.http_post(
        "/user/runners", post_data={"runner_type": "group_type", "group_id": dot_com.groups["practice"]}
    )
    assert made["token"].startswith("glrt-t2_")
    assert [runner.id for runner in gl.groups.get("practice").runners.list(get_all=True)] == [made["id"]]


def test_runner_lists_are_filtered(server: GitLab) -> None:
    """Type, tags, paused and status narrow the list; a project shows what serves it."""
    gl = client(server)
    for number, tags in enumerate((["one"], ["one", "two"])):
        body = {**RUNNER, "project_id": server.projects["practice/smoke"], "tag_list": tags, "paused": bool(number)}
        gl.http_post("/user/runners", post_data=body)
    assert len(gl.runners_all.list(tag_list="one,two", get_all=True)) == 1
    assert len(gl.runners_all.list(tag_list="one", paused=True, get_all=True)) == 1
    assert len(gl.runners_all.list(tag_list="one", type="project_type", status="never_contacted", get_all=True)) == 2
    mine = project(server, "smoke").runners.list(type="project_type", get_all=True)
    assert (
        len(mine) == 2 and project(server, "echo").runners.list(type="project_type", tag_list="one", get_all=True) == []
    )


def test_a_runner_is_lent_to_another_project(server: GitLab) -> None:
    """Assigning needs an unlocked project runner; unassigning leaves it its owner project."""
    echo, smoke = project(server), project(server, "smoke")
    number = client(server, "maintainer").http_post(
        "/user/runners", post_data={**RUNNER, "project_id": echo.id, "locked": True}
    )["id"]
    assert refused(lambda: smoke.runners.create({"runner_id": number})) == (403, "403 Forbidden - Runner is locked")
    client(server).runners.update(number, {"locked": False})
    smoke.runners.create({"runner_id": number})
    assert refused(lambda: client(server, "maintainer").runners.delete(number)) == (
        403, "403 Forbidden - Runner associated with more than one project"
    )  # fmt: skip
    smoke.runners.delete(number)
    assert refused(lambda: echo.runners.delete(number))[0] == 403


# ---------------------------------------------------------------------------------------- pages and patience


@pytest.fixture(scope="module")
def many_jobs(server: GitLab) -> int:
    """A project with 45 jobs in nine pipelines."""
    text = "".join(f"job-{number}: {{script: x, tags: [never]}}\n" for number in range(5))
    article = project(server, "article")
    article.commits.create({
        "branch": "many", "start_branch": "main", "commit_message": "Many jobs [skip ci]",
        "actions": [{"action": "update", "file_path": ".gitlab-ci.yml", "content": text}],
    })  # fmt: skip
    for _ in range(9):
        article.pipelines.create({"ref": "many"})
    return int(article.id)


def test_offset_pages(server: GitLab, many_jobs: int) -> None:
    """Offset pages carry GitLab's headers, and python-gitlab walks through them."""
    pipelines = client(server, per_page=4).projects.get(many_jobs).pipelines
    assert len(pipelines.list(iterator=True)) == len(pipelines.list(get_all=True)) == 9
    answer = plain(server, "root", "GET", f"/projects/{many_jobs}/pipelines?per_page=4&page=2&ref=many")
    wanted = {
        "X-Total": "9",
        "X-Total-Pages": "3",
        "X-Page": "2",
        "X-Per-Page": "4",
        "X-Next-Page": "3",
        "X-Prev-Page": "1",
    }
    assert {name: answer.headers[name] for name in wanted} == wanted
    assert {'rel="prev"', 'rel="next"', 'rel="first"', 'rel="last"'} == {
        part.split("; ")[1] for part in answer.headers["Link"].split(", ")
    }
    assert "ref=many" in answer.headers["Link"]


def test_jobs_are_not_counted(server: GitLab, many_jobs: int) -> None:
    """The list of a project's jobs has no totals, and is complete all the same."""
    answer = plain(server, "root", "GET", f"/projects/{many_jobs}/jobs?per_page=20")
    assert "X-Total" not in answer.headers and 'rel="last"' not in answer.headers["Link"]
    assert len(list(client(server).projects.get(many_jobs).jobs.list(iterator=True, per_page=20))) == 45


@pytest.mark.parametrize("sort", ["asc", "desc"])
def test_keyset_pages(server: GitLab, many_jobs: int, sort: str) -> None:
    """Keyset pages give every job once, in the order asked for."""
    listed = (
        client(server)
        .projects.get(many_jobs)
        .jobs.list(iterator=True, pagination="keyset", order_by="id", sort=sort, per_page=7)
    )
    ids = [job.id for job in listed]
    assert len(ids) == 45 and ids == sorted(ids, reverse=sort == "desc")


def test_wrong_pages_are_refused(server: GitLab, many_jobs: int) -> None:
    """Pages and filters that GitLab does not know are 400."""
    for query in ("per_page=0", "page=x", "scope[]=tired", "pagination=keyset&cursor=oops"):
        assert plain(server, "root", "GET", f"/projects/{many_jobs}/jobs?{query}").status_code == 400, query


def test_rate_limits_are_obeyed(tmp_path: Any) -> None:
    """Above the limit 429 names the wait, and python-gitlab waits and goes on."""
    with GitLab(tmp_path / "gitlab", flavour="gitlab.com", rate_limit=3) as server:
        answers = [plain(server, "root", "GET", "/version") for _ in range(4)]
        while answers[-1].status_code == 200:
            answers.append(plain(server, "root", "GET", "/version"))
        assert answers[0].headers["RateLimit-Limit"] == "3" and answers[0].headers["RateLimit-Remaining"] == "2"
        assert answers[-1].status_code == 429 and answers[-1].text == "Retry later\n"
        assert 1 <= int(answers[-1].headers["Retry-After"]) <= 60


def test_a_throttled_call_waits_as_long_as_told(server: GitLab) -> None:
    """python-gitlab obeys Retry-After: the call succeeds, later."""
    httpx.post(
        f"{server.url}/-/sandbox/faults",
        json={"path": "/version$", "status": 429, "headers": {"Retry-After": "1"}, "times": 1},
    )
    began = time.monotonic()
    assert client(server).version()[0] == "17.9.2"
    assert 1 <= time.monotonic() - began < 5


def test_transient_errors_are_retried(server: GitLab) -> None:
    """python-gitlab gets over a 500, a 502 in HTML and a reset connection when it may retry."""
    faults = ({"status": 500}, {"status": 502}, {"reset": True})
    for fault in faults:
        httpx.post(f"{server.url}/-/sandbox/faults", json={"path": "/user$", "times": 1, **fault})
    gl = client(server, retry_transient_errors=True)
    gl.auth()
    assert gl.user is not None and gl.user.username == "root"


# ------------------------------------------------------------------------------------- repository and pipelines


def test_commits_write_to_the_repository(server: GitLab) -> None:
    """A commit with actions makes a branch, files come back as they were written, and the branch goes away again."""
    echo = project(server, token="developer")
    echo.commits.create({
        "branch": "feature/x", "start_branch": "main", "commit_message": "Try\n\n[skip ci]",
        "actions": [
            {"action": "create", "file_path": "a dir/ü.txt", "content": "hällo\n"},
            {"action": "create", "file_path": "run.sh", "content": "IyEvYmluL3No", "encoding": "base64",
             "execute_filemode": True},
            {"action": "update", "file_path": "README.md", "content": "new"},
        ],
    })  # fmt: skip
    assert echo.files.get("a dir/ü.txt", ref="feature/x").decode() == "hällo\n".encode()
    assert echo.files.raw("run.sh", ref="feature/x") == b"#!/bin/sh"
    modes = {
        entry["path"]: entry["mode"] for entry in echo.repository_tree(ref="feature/x", recursive=True, get_all=True)
    }
    assert modes["run.sh"] == "100755" and "a dir/ü.txt" in modes
    assert [commit.title for commit in echo.commits.list(ref_name="feature/x", get_all=True)] == [
        "Try",
        "Add the practice project",
    ]
    echo.commits.create({
        "branch": "feature/x", "commit_message": "Tidy [skip ci]",
        "actions": [
            {"action": "delete", "file_path": "README.md"},
            {"action": "move", "previous_path": "run.sh", "file_path": "bin/run.sh"},
        ],
    })  # fmt: skip
    assert refused(lambda: echo.files.get("README.md", ref="feature/x")) == (404, "404 File Not Found")
    assert echo.files.raw("bin/run.sh", ref="feature/x") == b"#!/bin/sh"
    echo.branches.delete("feature/x")
    assert [branch.name for branch in echo.branches.list(get_all=True)] == ["main"]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"branch": "main"}, "You are not allowed to push into this branch"),
        ({"branch": "nowhere", "start_branch": None}, "You can only create or edit files when you are on a branch"),
        (
            {"actions": [{"action": "create", "file_path": "README.md", "content": "x"}]},
            "A file with this name already exists",
        ),
        ({"actions": [{"action": "update", "file_path": "no", "content": "x"}]}, "A file with this name doesn't exist"),
        (
            {"actions": [{"action": "create", "file_path": "../x", "content": "x"}]},
            "Path cannot include directory traversal",
        ),
    ],
)
def test_commits_that_are_refused(server: GitLab, changed: dict[str, Any], message: str) -> None:
    """A commit that cannot be made says why, and leaves no branch behind."""
    body = {
        "branch": "wrong", "start_branch": "main", "commit_message": "m",
        "actions": [{"action": "create", "file_path": "x", "content": "x"}], **changed,
    }  # fmt: skip
    echo = project(server, token="developer")
    assert refused(lambda: echo.commits.create({k: v for k, v in body.items() if v is not None})) == (400, message)
    assert "wrong" not in [branch.name for branch in echo.branches.list(get_all=True)]


def test_a_pushed_branch_makes_a_pipeline(server: GitLab) -> None:
    """A commit starts a pipeline on its branch, unless its message says to skip."""
    echo = project(server, token="developer")
    action = {"action": "create", "file_path": "x", "content": "x"}
    for branch, message in (("loud", "Do it"), ("quiet", "Do it [skip ci]")):
        echo.commits.create({"branch": branch, "start_branch": "main", "commit_message": message, "actions": [action]})
    (pipeline,) = echo.pipelines.list(ref="loud", get_all=True)
    assert (pipeline.source, pipeline.status) == ("push", "pending") and echo.pipelines.list(
        ref="quiet", get_all=True
    ) == []
    for branch in ("loud", "quiet"):
        echo.branches.delete(branch)


def test_a_pipeline_is_started_followed_and_canceled(server: GitLab) -> None:
    """Create with variables, look at its jobs, bridges and variables, cancel, retry."""
    smoke = project(server, "smoke", token="developer")
    pipeline = smoke.pipelines.create({"ref": "main", "variables": [{"key": "SMOKE_TAG", "value": "nobody"}]})
    jobs = {job.name: job for job in pipeline.jobs.list(get_all=True)}
    assert {name: (job.status, job.tag_list) for name, job in jobs.items()} == {
        "write-cache": ("pending", ["nobody"]), "read-cache": ("created", ["nobody"])
    }  # fmt: skip
    assert pipeline.bridges.list(get_all=True) == []
    assert [(one.key, one.value) for one in pipeline.variables.list(get_all=True)] == [("SMOKE_TAG", "nobody")]
    pipeline.cancel()
    pipeline.refresh()
    assert pipeline.status == "canceled"
    pipeline.retry()
    pipeline.refresh()
    assert pipeline.status == "pending"
    again = {job.name: job.status for job in pipeline.jobs.list(get_all=True)}
    assert again == {"write-cache": "pending", "read-cache": "created"}
    assert len(pipeline.jobs.list(include_retried=True, get_all=True)) == 4
    pipeline.cancel()


@pytest.mark.parametrize(("ref", "message"), [("nowhere", "Reference not found"), ("empty", "Missing CI config file")])
def test_pipelines_that_are_not_made(server: GitLab, ref: str, message: str) -> None:
    """No branch or no file: 400 with GitLab's base error."""
    echo = project(server)
    if ref == "empty":
        echo.commits.create({
            "branch": ref, "start_branch": "main", "commit_message": "m",
            "actions": [{"action": "delete", "file_path": ".gitlab-ci.yml"}],
        })  # fmt: skip
    assert refused(lambda: echo.pipelines.create({"ref": ref})) == (400, {"base": [message]})


def test_lint(server: GitLab) -> None:
    """Lint tells a good file from a bad one, and shows the jobs that it would make."""
    article = project(server, "article", token="developer")
    good = article.ci_lint.get(dry_run=True, include_jobs=True)
    assert good.valid and [job["name"] for job in good.jobs] == ["test"]
    bad = article.ci_lint.create({"content": "a: {script: x, parallel: 3}", "dry_run": True})
    assert not bad.valid and bad.errors == ["jobs:a:parallel is not supported by the practice GitLab"]


def test_variables_reach_the_job(server: GitLab) -> None:
    """Project and group variables are kept, changed and removed; a protected one stays on protected branches."""
    smoke = project(server, "smoke")
    smoke.variables.create({"key": "SECRET", "value": "maskable-value", "masked": True, "protected": True})
    group = client(server).groups.get("practice")
    group.variables.create({"key": "SHARED", "value": "1"})
    gl = client(server)
    body = {"runner_type": "instance_type", "tag_list": ["v"], "run_untagged": False}
    token = gl.http_post("/user/runners", post_data=body)["token"]
    seen = {}
    smoke.branches.create({"branch": "open", "ref": "main"})
    for branch in ("main", "open"):
        smoke.pipelines.create({"ref": branch, "variables": [{"key": "SMOKE_TAG", "value": "v"}]})
        job = httpx.post(f"{server.url}{API}/jobs/request", json={"token": token, "info": {"features": {}}}).json()
        seen[branch] = {one["key"]: one for one in job["variables"]}
        httpx.put(f"{server.url}{API}/jobs/{job['id']}", json={"token": job["token"], "state": "failed"})
    smoke.branches.delete("open")
    assert seen["main"]["SECRET"] == {"key": "SECRET", "value": "maskable-value", "public": False, "masked": True}
    assert "SECRET" not in seen["open"] and seen["open"]["SHARED"]["value"] == "1"
    assert refused(lambda: smoke.variables.create({"key": "SECRET", "value": "x"}))[0] == 400
    assert refused(lambda: smoke.variables.create({"key": "SHORT", "value": "x", "masked": True}))[0] == 400
    smoke.variables.update("SECRET", {"value": "another-value"})
    assert smoke.variables.get("SECRET").value == "another-value"
    smoke.variables.delete("SECRET")
    group.variables.delete("SHARED")
    assert refused(lambda: smoke.variables.get("SECRET")) == (404, "404 Variable Not Found")
