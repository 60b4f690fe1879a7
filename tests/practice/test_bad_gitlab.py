"""What bad answers of GitLab get: one test a fault, each on a server that really answers so.

Reading, GitLab's faults become one page that says what was asked and what to do; writing, nothing is half done.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from runbook.clients import connect
from runbook.clients.gitlab import RETRIES, GitLabClient
from runbook.errors import GitLabError, RunbookError
from runbook.onboarding import registration
from runbook.settings import Settings
from sandbox.gitlab.process import GitLab

Spoil = Callable[..., None]
FAULTS = "/-/sandbox/faults"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GitLab]:
    """A GitLab that these tests may spoil."""
    with GitLab(tmp_path_factory.mktemp("gitlab"), registration_tokens="off") as gitlab:
        yield gitlab


@pytest.fixture
def spoil(server: GitLab) -> Iterator[Spoil]:
    """Adds a fault to the server (see sandbox.gitlab.faults); all are gone after the test, and so are its runners."""

    def add(path: str, **fault: Any) -> None:
        httpx.post(server.url + FAULTS, json={"path": path, **fault}).raise_for_status()

    yield add
    httpx.delete(server.url + FAULTS).raise_for_status()
    administrator = GitLabClient(server.url, server.token("root"))
    for runner in runners(server):
        administrator.delete(f"/runners/{runner['id']}", what="a runner of the test")


@pytest.fixture
def settings(server: GitLab, tmp_path: Path) -> Settings:
    """A card for an instance runner whose token goes into this test's folder."""
    return card(server, tmp_path)


def card(server: GitLab, folder: Path, *, token: str = "root", url: str | None = None) -> Settings:
    (folder / "access").write_text(server.token(token))
    return Settings.parse(
        {
            "name": "spoiled",
            "region": "cn-hangzhou",
            "cache": {"enabled": False},
            "gitlab": {"url": url or server.url, "token": f"file:{folder / 'access'}"},
            "runner": {"token": f"file:{folder / 'token'}"},
            "smoke": {"project": "practice/smoke"},
        },
        where="test card",
        dry_run=False,
    )


def runners(server: GitLab) -> list[dict[str, Any]]:
    return GitLabClient(server.url, server.token("root")).list("/runners/all", what="all runners")


def page_of(settings: Settings) -> str:
    """The page that looking gets, checked to hold no token."""
    with pytest.raises(GitLabError) as failed:
        registration.look(connect.gitlab(settings), settings)
    text = str(failed.value)
    assert "glpat-" not in text and "glrt-" not in text
    assert failed.value.page and failed.value.remedy
    return text


def create(settings: Settings) -> None:
    gitlab = connect.gitlab(settings)
    plan = registration.plan(registration.look(gitlab, settings), settings)
    registration.apply(plan, gitlab, settings, dry_run=False).raise_for_failures()


@pytest.mark.parametrize("token", ["expired", "revoked"])
def test_401_names_the_reference_and_the_scope(server: GitLab, tmp_path: Path, token: str) -> None:
    """An expired and a revoked token are told apart from a missing right."""
    page = page_of(card(server, tmp_path, token=token))
    assert "401" in page and "gitlab.token" in page


def test_403_while_looking_is_a_reason_not_a_crash(server: GitLab, tmp_path: Path) -> None:
    """A token that may not list runners stops the plan, with the scope that it lacks."""
    settings = card(server, tmp_path, token="root-create-runner")
    plan = registration.plan(registration.look(connect.gitlab(settings), settings), settings)
    assert "lacks a scope" in plan.blockers[0].observed and "read_api" in plan.blockers[0].observed


def test_403_while_creating_names_the_role(spoil: Spoil, server: GitLab, settings: Settings) -> None:
    """A refusal that could not be foreseen explains who may create such a runner."""
    spoil("/user/runners$", method="POST", status=403)
    with pytest.raises(GitLabError, match="administrator"):
        create(settings)
    assert runners(server) == []


def test_404_says_that_gitlab_hides_what_a_user_may_not_see(server: GitLab, tmp_path: Path) -> None:
    """A path of the card that is wrong or hidden is named, with both causes."""
    settings = card(server, tmp_path, token="stranger")
    settings = settings.model_copy(
        update={"runner": settings.runner.model_copy(update={"type": "project", "project": "practice/smoke"})}
    )
    page = page_of(settings)
    assert "404" in page and "runner.project: practice/smoke" in page and "may not see" in page


def test_404_on_creating_names_gitlabs_older_than_the_workflow(spoil: Spoil, settings: Settings) -> None:
    """A GitLab without POST /user/runners is sent to existing_token."""
    spoil("/user/runners$", method="POST", status=404)
    with pytest.raises(GitLabError, match="existing_token"):
        create(settings)


def test_410_says_which_workflow_takes_the_place_of_registration_tokens(server: GitLab) -> None:
    """Where registration tokens are switched off, the page leads to the create-runner workflow."""
    gitlab = GitLabClient(server.url, server.token("root"))
    with pytest.raises(GitLabError) as failed:
        gitlab.post("/runners", {"token": server.registration_token}, what="registering the old way")
    assert "410" in str(failed.value) and "notebook 40" in str(failed.value)
    assert server.registration_token not in str(failed.value)


def test_429_waits_as_long_as_gitlab_asks_and_then_goes_on(
    spoil: Spoil, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    """A rate limit is waited out, the wait is said, and the work is done."""
    spoil("/runners/all", status=429, headers={"Retry-After": "1"}, times=2)
    start = time.monotonic()
    create(settings)
    assert time.monotonic() - start >= 2
    assert "waiting 1 s" in capsys.readouterr().out


def test_429_while_creating_makes_one_runner(spoil: Spoil, server: GitLab, settings: Settings) -> None:
    """A creation that was refused for the rate limit is sent again, and carried out once."""
    spoil("/user/runners$", method="POST", status=429, headers={"Retry-After": "1"}, times=1)
    create(settings)
    assert len(runners(server)) == 1


def test_429_that_asks_for_an_hour_is_an_error_at_once(spoil: Spoil, settings: Settings) -> None:
    """A scheduler's job does not hang for an hour: it ends, and says when to come back."""
    spoil("/personal_access_tokens/self", status=429, headers={"Retry-After": "3600"})
    assert "1 h" in page_of(settings)


@pytest.mark.parametrize("status", [500, 502, 503])
def test_5xx_is_tried_again_and_then_said(spoil: Spoil, settings: Settings, status: int) -> None:
    """A server error that lasts is a page with the status and the number of attempts, not with GitLab's HTML."""
    spoil("/personal_access_tokens/self", status=status)
    page = page_of(settings)
    assert str(status) in page and str(RETRIES) in page and "<html>" not in page


def test_5xx_that_passes_is_not_noticed(spoil: Spoil, server: GitLab, settings: Settings) -> None:
    """A few errors in reading are retried, and the runner is there."""
    spoil("/runners/all", status=503, times=2)
    create(settings)
    assert len(runners(server)) == 1


def test_5xx_while_creating_is_not_sent_twice(spoil: Spoil, server: GitLab, settings: Settings) -> None:
    """GitLab may have made the runner before it failed, so the creation is not repeated blindly."""
    spoil("/user/runners$", method="POST", status=502, times=1)
    with pytest.raises(GitLabError, match="sent only once"):
        create(settings)
    assert runners(server) == []
    create(settings)
    assert len(runners(server)) == 1


def test_html_in_place_of_json_is_recognised(spoil: Spoil, settings: Settings) -> None:
    """A sign-in page with status 200 is not taken for an answer."""
    spoil("/api/v4/", html=True)
    page = page_of(settings)
    assert "web page instead of JSON" in page and "gitlab.url" in page and "<html>" not in page


def test_a_broken_answer_is_retried_and_then_a_page(spoil: Spoil, settings: Settings) -> None:
    """A connection that ends in the middle of an answer is a fault of the way, and said so."""
    spoil("/personal_access_tokens/self", reset=True)
    assert "curl" in page_of(settings)


def test_a_broken_answer_that_passes_is_not_noticed(spoil: Spoil, server: GitLab, settings: Settings) -> None:
    """One lost connection in reading is repeated."""
    spoil("/runners/all", reset=True, times=1)
    create(settings)
    assert len(runners(server)) == 1


def test_a_slow_gitlab_is_not_waited_for_without_end(spoil: Spoil, server: GitLab) -> None:
    """Each request has a time of its own; past it the page says that GitLab did not answer."""
    spoil("/version", delay=2.0)
    gitlab = GitLabClient(server.url, server.token("root"), timeout=0.2)
    with pytest.raises(GitLabError, match="did not answer in time"):
        gitlab.get("/version", what="the version")


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://127.0.0.1:1", "refused"),
        ("https://gitlab.invalid", "host name is not known"),
        ("gitlab.example.com", "not a web address"),
        ("https://user:word@gitlab.example.com", "user name or a password"),
    ],
)
def test_an_address_that_leads_nowhere_is_told_apart(server: GitLab, tmp_path: Path, url: str, says: str) -> None:
    """Refused, unknown host, no address at all, an address with a password: a page each."""
    (tmp_path / "url").write_text(url)
    settings = card(server, tmp_path, url=f"file:{tmp_path / 'url'}")
    with pytest.raises(RunbookError) as failed:
        registration.look(connect.gitlab(settings), settings)
    assert says in str(failed.value) and "word@" not in str(failed.value)


def test_tls_where_plain_http_is_spoken_is_said(server: GitLab, tmp_path: Path) -> None:
    """https:// before an http server is a mistake in the card's scheme or port."""
    assert "does not speak TLS" in page_of(card(server, tmp_path, url=server.url.replace("http:", "https:")))


def test_a_token_that_cannot_be_stored_after_all_takes_its_runner_along(
    spoil: Spoil, server: GitLab, settings: Settings, tmp_path: Path
) -> None:
    """Where the place fails between check and write, the runner just made is deleted again: nothing is left half done."""
    gitlab = connect.gitlab(settings)
    plan = registration.plan(registration.look(gitlab, settings), settings)

    class Vanishing(GitLabClient):
        """GitLab, and a disk that loses the token's folder while the runner is made."""

        def post(self, path: str, body: dict[str, Any], *, what: str, scope: str = "api") -> Any:
            answer = super().post(path, body, what=what, scope=scope)
            if path == "/user/runners":
                (tmp_path / "token").mkdir()
            return answer

    with pytest.raises(RunbookError, match="deleted again"):
        registration.apply(plan, Vanishing(server.url, server.token("root")), settings, dry_run=False)
    assert runners(server) == []
