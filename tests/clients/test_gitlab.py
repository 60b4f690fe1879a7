"""GitLab's refusals as pages: python-gitlab's errors in, our errors out. Real answers are in tests/practice/test_bad_gitlab.py."""

from __future__ import annotations

import json

import pytest
import requests
from gitlab.exceptions import GitlabAuthenticationError, GitlabError, GitlabHttpError, GitlabParsingError, RedirectError

from runbook.clients.gitlab import GitLabClient
from runbook.errors import TROUBLESHOOTING, GitLabError, GitLabForbidden, GitLabNotFound

TOKEN = "glpat-planted"
URL = "https://gitlab.example.com"


def page(error: Exception, scope: str = "api") -> GitLabError:
    """What a caller gets where python-gitlab raises `error`."""
    client = GitLabClient(URL, TOKEN)
    with pytest.raises(GitLabError) as failed, client.reading("the runner", scope=scope):
        raise error
    assert TOKEN not in str(failed.value) and failed.value.remedy
    return failed.value


def answer(code: int, body: object = None) -> GitlabError:
    kind = GitlabAuthenticationError if code == 401 else GitlabHttpError
    return kind("message", code, json.dumps(body or {"message": f"{code} Something"}).encode())


@pytest.mark.parametrize(
    ("code", "says", "anchor"),
    [
        (400, "refused with 400", "#gitlab-refused"),
        (401, "does not accept the access token", "#gitlab-token"),
        (403, "forbids this to the token's user", "#gitlab-role"),
        (404, "does not know it, or does not show it", "#gitlab-not-found"),
        (409, "refused with 409", "#gitlab-refused"),
        (410, "switched this off", "#gitlab-gone"),
        (422, "refused with 422", "#gitlab-refused"),
        (429, "still limits", "#gitlab-rate-limit"),
        (500, "500 to every attempt", "#gitlab-server-error"),
        (503, "503 to every attempt", "#gitlab-server-error"),
    ],
)
def test_each_status_has_its_page(code: int, says: str, anchor: str) -> None:
    """Problem, what was asked, what to do, and where to read more."""
    seen = page(answer(code))
    assert says in seen.problem and seen.where == f"{URL} (the runner)" and seen.page == TROUBLESHOOTING + anchor


def test_forbidden_and_not_found_can_be_caught_by_name() -> None:
    """A caller tells a missing right from a missing thing without reading a message."""
    assert isinstance(page(answer(403)), GitLabForbidden)
    assert isinstance(page(answer(404)), GitLabNotFound)


def test_a_missing_scope_names_every_scope_that_would_do() -> None:
    """GitLab's own list joins what the caller knows."""
    body = {"error": "insufficient_scope", "error_description": "…", "scope": "api create_runner"}
    seen = page(answer(403, body), scope="create_runner")
    assert isinstance(seen, GitLabForbidden) and seen.allowed == "one of the scopes create_runner or api"


def test_gitlabs_own_words_are_kept_and_its_status_line_is_not() -> None:
    """`400 Bad Request` says nothing; a validation message does."""
    assert "GitLab says" not in page(answer(404)).problem
    words = page(answer(400, {"message": {"maximum_timeout": ["needs to be at least 10 minutes"]}})).problem
    assert "maximum_timeout needs to be at least 10 minutes" in words


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (GitlabParsingError("Failed to parse the server message"), "instead of JSON"),
        (RedirectError("redirect"), "redirects"),
        (GitlabHttpError("<html>no</html>", 502, b"<html>no</html>"), "502"),
        (requests.exceptions.SSLError("certificate verify failed"), "certificate is not trusted"),
        (requests.exceptions.SSLError("wrong version number"), "does not speak TLS"),
        (requests.exceptions.ConnectTimeout("timed out"), "did not answer in time"),
        (requests.exceptions.ConnectionError("[Errno 111] Connection refused"), "refused"),
        (requests.exceptions.ConnectionError("NameResolutionError(…)"), "host name is not known"),
        (requests.exceptions.ChunkedEncodingError("broken"), "cannot be reached"),
    ],
)
def test_faults_of_the_way_are_told_apart(error: Exception, says: str) -> None:
    """Certificate, scheme, name, port, time: each has a sentence, and none shows a stack or HTML."""
    text = str(page(error))
    assert says in text and "<html>" not in text and "Errno" not in text


def test_a_private_ca_is_pointed_to_the_card() -> None:
    """The remedy of an untrusted certificate is a field, never to look away."""
    assert "gitlab.ca_file" in str(page(requests.exceptions.SSLError("certificate verify failed")).remedy)


def test_the_client_never_shows_its_token() -> None:
    """Its repr is its address."""
    assert repr(GitLabClient(f"{URL}/", TOKEN)) == f"GitLabClient('{URL}')"


@pytest.mark.parametrize("url", ["gitlab.example.com", "ftp://gitlab.example.com", "https://", ""])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    """Only http and https with a host."""
    with pytest.raises(GitLabError, match="not a web address"):
        GitLabClient(url, TOKEN)


def test_an_address_with_a_password_is_refused_and_not_repeated() -> None:
    """A password in a URL would end up in logs."""
    with pytest.raises(GitLabError) as failed:
        GitLabClient("https://user:planted@gitlab.example.com", TOKEN)
    assert "planted" not in str(failed.value)


@pytest.mark.parametrize(("url", "public"), [("https://gitlab.com", True), ("https://gitlab.com.example.org", False)])
def test_gitlab_com_is_known_by_its_host(url: str, public: bool) -> None:
    """Not by a part of the name."""
    assert GitLabClient(url, TOKEN).is_gitlab_com is public
