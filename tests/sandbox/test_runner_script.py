"""The scripts of a job's stages, run by this machine's bash."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from runbook.runner import pods
from runbook.runner.variables import Assignment, Variable, Variables, of_job
from runbook.runner.version import parse
from sandbox.runner import script as stages
from sandbox.runner.script import STAGES, Scripts

NEW = parse("17.9.2")
GREEN = "\x1b[32;1m"
RESET = "\x1b[0;m"


def scripts(
    tmp: Path,
    *,
    version: str = "17.9.2",
    variables: tuple[Variable, ...] = (),
    runner: dict[str, Any] | None = None,
    **job: Any,
) -> Scripts:
    """Scripts of the sample job, with its project directory below *tmp*."""
    rows = (Variable("CI_PROJECT_DIR", str(tmp / "group" / "project")), *variables)
    section = {"url": "https://gitlab.example.com", "cache_dir": str(tmp / "cache"), **(runner or {})}
    return Scripts(
        {**pods.sample_job(), "token": "glcbt-job", **job}, section, Variables(rows), parse(version), "manager"
    )


def run(text: str | None, *, shell: str = "bash") -> subprocess.CompletedProcess[str]:
    """Run a stage's script as a runner does: on the shell's standard input."""
    assert text is not None
    return subprocess.run([shell], input=text, capture_output=True, text=True, check=False, timeout=60)


def steps(*lines: str, after: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    """`steps` of a payload."""
    rows = [{"name": "script", "script": list(lines)}]
    return [*rows, {"name": "after_script", "script": list(after)}] if after else rows


def repository(path: Path) -> str:
    """A repository at *path* with one commit on main that holds README; the commit's name is returned."""
    work = path.with_name("work")
    for command in (
        ["git", "init", "-q", "-b", "main", str(work)],
        ["git", "-C", str(work), "config", "user.email", "a@example.com"],
        ["git", "-C", str(work), "config", "user.name", "a"],
    ):
        subprocess.run(command, check=True)
    (work / "README").write_text("hello\n")
    subprocess.run(["git", "-C", str(work), "add", "."], check=True)
    subprocess.run(["git", "-C", str(work), "commit", "-q", "-m", "first"], check=True)
    subprocess.run(["git", "clone", "-q", "--bare", str(work), str(path)], check=True)
    return subprocess.run(
        ["git", "-C", str(work), "rev-parse", "HEAD"], check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.mark.parametrize("shell", ["bash", "sh"])
def test_a_script_shows_its_lines_and_ends_with_their_code(tmp_path: Path, shell: str) -> None:
    """Each line is shown in green before it runs; the first that fails ends the script with its exit code."""
    (tmp_path / "group" / "project").mkdir(parents=True)
    job = scripts(tmp_path, steps=steps("echo one", "echo two\necho three", "exit 42", "echo never"))
    done = run(job.of(stages.STEP_SCRIPT), shell=shell)
    assert done.stdout == (
        f"{GREEN}$ echo one{RESET}\none\n"
        f"{GREEN}$ echo two # collapsed multi-line command{RESET}\ntwo\nthree\n"
        f"{GREEN}$ exit 42{RESET}\n"
    )
    assert done.returncode == 42


def test_a_failing_pipe_fails_the_script(tmp_path: Path) -> None:
    """A command that fails within a pipe fails the job, as bash does with pipefail."""
    (tmp_path / "group" / "project").mkdir(parents=True)
    assert run(scripts(tmp_path, steps=steps("false | cat")).of(stages.STEP_SCRIPT)).returncode == 1


def test_variables_reach_the_script_whatever_they_hold(tmp_path: Path) -> None:
    """Quotes, dollars and newlines arrive as they were sent; a file variable names a file with the value."""
    (tmp_path / "group" / "project").mkdir(parents=True)
    awkward = 'it\'s "$HOME" `id` \\ \n second'
    rows = (Variable("AWKWARD", awkward), Variable("KEY", "-----BEGIN-----\n", file=True), Variable("not a name", "x"))
    done = run(
        scripts(tmp_path, variables=rows, steps=steps('printf %s "$AWKWARD"', 'cat "$KEY"')).of(stages.STEP_SCRIPT)
    )
    assert awkward in done.stdout and "-----BEGIN-----" in done.stdout
    assert (tmp_path / "group" / "project.tmp" / "KEY").read_text() == "-----BEGIN-----\n"


def test_after_script_knows_how_the_script_ended(tmp_path: Path) -> None:
    """CI_JOB_STATUS is success or failed in after_script, and a job without one has no such stage."""
    (tmp_path / "group" / "project").mkdir(parents=True)
    job = scripts(tmp_path, steps=steps("true", after=("echo $CI_JOB_STATUS",)))
    assert run(job.of(stages.AFTER_SCRIPT, succeeded=False)).stdout.endswith("failed\n")
    assert run(job.of(stages.AFTER_SCRIPT, succeeded=True)).stdout.endswith("success\n")
    assert scripts(tmp_path, steps=steps("true")).of(stages.AFTER_SCRIPT) is None


def test_sources_are_fetched_and_checked_out(tmp_path: Path) -> None:
    """The commit of the job is in the project directory, fresh the first time and again after a change."""
    sha = repository(tmp_path / "project.git")
    git = {
        "repo_url": f"file://{tmp_path}/project.git",
        "sha": sha,
        "ref": "main",
        "refspecs": ["+refs/heads/*:refs/remotes/origin/*"],
        "depth": 20,
    }
    job = scripts(tmp_path, git_info=git)
    # a file:// address knows no user, so the token is left out of it here
    text = (job.of(stages.GET_SOURCES) or "").replace("gitlab-ci-token:glcbt-job@", "")
    first = run(text)
    assert first.returncode == 0, first.stderr
    shown = [line.removeprefix(GREEN).removesuffix(RESET) for line in first.stdout.splitlines()]
    assert shown == [
        "Fetching changes with git depth set to 20...",
        f"Initialized empty Git repository in {tmp_path}/group/project/.git/",
        "Created fresh repository.",
        f"Checking out {sha[:8]} as detached HEAD (ref is main)...",
        "Skipping Git submodules setup",
    ]
    left = tmp_path / "group" / "project" / "left-over"
    left.write_text("x")
    assert run(text).returncode == 0
    assert not left.exists() and (tmp_path / "group" / "project" / "README").read_text() == "hello\n"


def test_no_sources_are_wanted(tmp_path: Path) -> None:
    """GIT_STRATEGY none skips all three steps and says so."""
    done = run(scripts(tmp_path, variables=(Variable("GIT_STRATEGY", "none"),)).of(stages.GET_SOURCES))
    assert done.stdout.count("Skipping Git") == 3


def test_clone_url_replaces_the_address_and_keeps_the_token(tmp_path: Path) -> None:
    """`clone_url` changes host and scheme of the address that is cloned; the job's token stays its user."""
    given = {"repo_url": "https://gitlab-ci-token:old@gitlab.example.com/a/b.git"}
    assert scripts(tmp_path, git_info=given).clone_url == "https://gitlab-ci-token:glcbt-job@gitlab.example.com/a/b.git"
    inside = {"clone_url": "http://10.0.0.5:8080/git"}
    assert (
        scripts(tmp_path, runner=inside, git_info=given).clone_url
        == "http://gitlab-ci-token:glcbt-job@10.0.0.5:8080/git/a/b.git"
    )


def test_caches_lie_below_group_and_project(tmp_path: Path) -> None:
    """A cache's archive is <cache_dir>/<group>/<project>/<key>/cache.zip, its key expanded: shared by all runners of the volume."""
    job = scripts(tmp_path, variables=(Variable("REF", "main"),))
    assert job.cache_file("$REF-1") == f"{tmp_path}/cache/group/project/main-1/cache.zip"


def test_cache_policies_and_conditions(tmp_path: Path) -> None:
    """pull only restores, push only saves; `when` decides which ending saves."""
    pull = scripts(tmp_path, cache=[{"key": "k", "paths": ["a"], "policy": "pull"}])
    push = scripts(tmp_path, cache=[{"key": "k", "paths": ["a"], "policy": "push"}])
    failed = scripts(tmp_path, cache=[{"key": "k", "paths": ["a"], "policy": "pull-push", "when": "on_failure"}])
    assert pull.of(stages.RESTORE_CACHE) and pull.of(stages.ARCHIVE_CACHE) is None
    assert push.of(stages.RESTORE_CACHE) is None and push.of(stages.ARCHIVE_CACHE)
    assert failed.of(stages.ARCHIVE_CACHE) is None and failed.of(stages.ARCHIVE_CACHE_ON_FAILURE)


def test_without_helper_a_job_goes_on(tmp_path: Path) -> None:
    """Where the helper image lacks its program, caching is skipped with a warning and nothing fails."""
    (tmp_path / "group" / "project").mkdir(parents=True)
    text = scripts(tmp_path, cache=[{"key": "k", "paths": ["a"]}]).of(stages.RESTORE_CACHE)
    done = run((text or "").replace("gitlab-runner-helper --version", "no-such-program --version"))
    assert done.returncode == 0 and "Missing gitlab-runner-helper. Extracting cache is disabled." in done.stdout


@pytest.mark.parametrize(
    ("when", "on_success", "on_failure"),
    [(None, True, False), ("on_success", True, False), ("on_failure", False, True), ("always", True, True)],
)
def test_artifacts_are_uploaded_when_they_should_be(
    tmp_path: Path, when: str | None, on_success: bool, on_failure: bool
) -> None:
    """`when` of an artifact decides whether a good or a bad end uploads it."""
    job = scripts(
        tmp_path, artifacts=[{"paths": ["out/"], "when": when, "artifact_type": "archive", "artifact_format": "zip"}]
    )
    assert (job.of(stages.UPLOAD_ON_SUCCESS) is not None) is on_success
    assert (job.of(stages.UPLOAD_ON_FAILURE) is not None) is on_failure


def test_only_dependencies_with_artifacts_are_downloaded(tmp_path: Path) -> None:
    """A dependency without an archive is left out; none at all is no stage."""
    rows = [
        {"id": 1, "name": "a", "token": "t1", "artifacts_file": {"filename": "a.zip"}},
        {"id": 2, "name": "b", "token": "t2"},
    ]
    text = scripts(tmp_path, dependencies=rows).of(stages.DOWNLOAD_ARTIFACTS) or ""
    assert "--id 1" in text and "--id 2" not in text
    assert scripts(tmp_path, dependencies=rows[1:]).of(stages.DOWNLOAD_ARTIFACTS) is None


def test_every_stage_is_bash(tmp_path: Path) -> None:
    """Every script of a job that uses everything is one that bash can read."""
    everything = scripts(
        tmp_path,
        steps=steps("true", after=("true",)),
        cache=[{"key": "k", "paths": ["a b"], "untracked": True, "fallback_keys": ["f"], "when": "always"}],
        artifacts=[
            {"paths": ["out/**"], "exclude": ["out/x"], "name": "it's", "when": "always", "expire_in": "1 week"}
        ],
        dependencies=[{"id": 1, "name": "a", "token": "t", "artifacts_file": {"filename": "a.zip"}}],
        runner={"pre_get_sources_script": "echo before", "post_build_script": "echo after"},
    )
    for stage in STAGES:
        text = everything.of(stage)
        assert text is not None, stage
        done = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (stage, done.stderr)


def test_certificates_go_with_git_and_artifacts(tmp_path: Path) -> None:
    """With `tls-ca-file` set, git and the helper trust the same certificates, from a file variable."""
    rows = (Variable("CI_SERVER_TLS_CA_FILE", "PEM", file=True),)
    job = scripts(tmp_path, variables=rows, artifacts=[{"paths": ["a"]}])
    assert 'http.sslCAInfo="$CI_SERVER_TLS_CA_FILE"' in (job.of(stages.GET_SOURCES) or "")
    assert '--tls-ca-file "$CI_SERVER_TLS_CA_FILE"' in (job.of(stages.UPLOAD_ON_SUCCESS) or "")


def test_pod_and_scripts_agree_on_the_project_directory() -> None:
    """The directory that scripts use is the one in the pod's environment."""
    variables = of_job({"token": "t"}, pods.sample_job(), NEW, Assignment())
    assert Scripts(pods.sample_job(), {}, variables, NEW, "m").project_dir == "/builds/group/project"


def test_submodules_are_updated_where_they_are_wanted(tmp_path: Path) -> None:
    """GIT_SUBMODULE_STRATEGY recursive updates submodules at every depth; without it they are skipped."""
    wanted = scripts(tmp_path, variables=(Variable("GIT_SUBMODULE_STRATEGY", "recursive"),)).of(stages.GET_SOURCES)
    assert "submodule update --init --recursive" in (wanted or "")
    assert "Skipping Git submodules setup" in (scripts(tmp_path).of(stages.GET_SOURCES) or "")
