"""git over HTTP against the GitLab stand-in: clone for users and jobs, push for users."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import gitlab
import httpx
import pytest

from sandbox.gitlab.process import GitLab

AUTHOR = {"GIT_AUTHOR_NAME": "D", "GIT_AUTHOR_EMAIL": "d@example.com"}
COMMITTER = {"GIT_COMMITTER_NAME": "D", "GIT_COMMITTER_EMAIL": "d@example.com"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GitLab]:
    with GitLab(tmp_path_factory.mktemp("gitlab")) as one:
        yield one


def git(*arguments: str, at: Path) -> subprocess.CompletedProcess[str]:
    quiet = {"GIT_TERMINAL_PROMPT": "0", "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull}
    environment = {**os.environ, **quiet, **AUTHOR, **COMMITTER}
    return subprocess.run(["git", *arguments], cwd=at, env=environment, capture_output=True, text=True, timeout=30)


def address(server: GitLab, secret: str, project: str = "practice/article") -> str:
    return f"http://anything:{secret}@{server.url.removeprefix('http://')}/{project}.git"


def job_token(server: GitLab) -> tuple[str, dict[str, str]]:
    """The token of a running job of the echo project, and how to end that job."""
    gl = gitlab.Gitlab(server.url, private_token=server.token("root"))
    token = gl.http_post("/user/runners", post_data={"runner_type": "instance_type", "tag_list": ["git"]})["token"]
    gl.projects.get("practice/echo").pipelines.create({"ref": "main"})
    job = httpx.post(f"{server.url}/api/v4/jobs/request", json={"token": token, "info": {}}).json()
    return job["token"], {"url": f"{server.url}/api/v4/jobs/{job['id']}", "token": job["token"]}


def cloned(server: GitLab, folder: Path, token: str = "developer") -> Path:
    """A clone of the article's project with one commit that is not pushed."""
    assert git("clone", "-q", address(server, server.token(token)), "clone", at=folder).returncode == 0
    clone = folder / "clone"
    (clone / "new.txt").write_text("new\n")
    git("add", "new.txt", at=clone)
    git("commit", "-q", "-m", "New [skip ci]", at=clone)
    return clone


def test_a_user_clones(server: GitLab, tmp_path: Path) -> None:
    """A clone has the files of the project, and scripts stay executable."""
    assert (
        git("clone", "-q", address(server, server.token("developer-read-repository")), "c", at=tmp_path).returncode == 0
    )
    assert (tmp_path / "c" / ".gitlab-ci.yml").exists()
    assert os.access(tmp_path / "c" / "check.sh", os.X_OK)


@pytest.mark.parametrize("token", ["developer-read-user", "maintainer-create-runner", "revoked", "stranger"])
def test_tokens_that_do_not_open(server: GitLab, tmp_path: Path, token: str) -> None:
    """Without a repository scope, without membership or with a dead token there is no clone."""
    assert git("clone", "-q", address(server, server.token(token)), "c", at=tmp_path).returncode != 0


def test_a_job_clones_as_a_runner_does(server: GitLab, tmp_path: Path) -> None:
    """The refspecs of the payload fetch the pipeline's commit with the job's token, while the job runs."""
    token, job = job_token(server)
    url = address(server, token, "practice/echo")
    git("init", "-q", ".", at=tmp_path)
    refspecs = ("+refs/pipelines/1:refs/pipelines/1", "+refs/heads/main:refs/remotes/origin/main")
    assert git("fetch", "-q", "--depth", "20", url, *refspecs, at=tmp_path).returncode == 0
    assert git("checkout", "-q", "refs/pipelines/1", at=tmp_path).returncode == 0
    assert (tmp_path / "README.md").read_text().startswith("# Echo")
    httpx.put(job["url"], json={"token": job["token"], "state": "success"})
    assert git("ls-remote", url, at=tmp_path).returncode != 0


def test_a_job_may_not_push(server: GitLab, tmp_path: Path) -> None:
    """A job token reads only."""
    token, job = job_token(server)
    clone = cloned(server, tmp_path)
    assert "403" in git("push", address(server, token, "practice/article"), "HEAD:refs/heads/x", at=clone).stderr
    httpx.put(job["url"], json={"token": job["token"], "state": "success"})


def test_a_developer_pushes_a_branch(server: GitLab, tmp_path: Path) -> None:
    """A pushed branch is there for the API, and gone after it is deleted."""
    clone = cloned(server, tmp_path)
    assert git("push", "-q", "origin", "HEAD:refs/heads/mine", at=clone).returncode == 0
    project = gitlab.Gitlab(server.url, private_token=server.token("developer")).projects.get("practice/article")
    assert project.files.raw("new.txt", ref="mine") == b"new\n"
    assert git("push", "-q", "origin", ":refs/heads/mine", at=clone).returncode == 0
    assert [branch.name for branch in project.branches.list(get_all=True)] == ["main"]


def test_a_push_starts_a_pipeline(server: GitLab, tmp_path: Path) -> None:
    """A push of a commit that does not ask to skip makes a pipeline of that commit."""
    clone = cloned(server, tmp_path)
    git("commit", "-q", "--amend", "-m", "New", at=clone)
    assert git("push", "-q", "origin", "HEAD:refs/heads/loud", at=clone).returncode == 0
    head = git("rev-parse", "HEAD", at=clone).stdout.strip()
    project = gitlab.Gitlab(server.url, private_token=server.token("developer")).projects.get("practice/article")
    assert [(one.sha, one.source) for one in project.pipelines.list(ref="loud", get_all=True)] == [(head, "push")]
    project.branches.delete("loud")


def test_a_protected_branch_is_for_maintainers(server: GitLab, tmp_path: Path) -> None:
    """A developer's push to main is refused with GitLab's words; a maintainer's is not."""
    clone = cloned(server, tmp_path)
    refused = git("push", "origin", "HEAD:main", at=clone)
    assert refused.returncode != 0 and "not allowed to push code to protected branches" in refused.stderr
    assert git("push", "-q", address(server, server.token("maintainer")), "HEAD:main", at=clone).returncode == 0


def test_a_large_push_comes_in_chunks(server: GitLab, tmp_path: Path) -> None:
    """A push that git sends in chunks arrives whole."""
    clone = cloned(server, tmp_path)
    content = os.urandom(3_000_000)
    (clone / "large.bin").write_bytes(content)
    git("add", "large.bin", at=clone)
    git("commit", "-q", "-m", "Large [skip ci]", at=clone)
    assert git("push", "-q", "origin", "HEAD:refs/heads/large", at=clone).returncode == 0
    project = gitlab.Gitlab(server.url, private_token=server.token("developer")).projects.get("practice/article")
    assert project.files.raw("large.bin", ref="large") == content
