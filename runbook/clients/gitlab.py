"""GitLab's REST API through python-gitlab: every failure becomes a page for a person.

`GitLabClient.get/list/post/put/delete` say what they were reading or doing when something goes wrong. Whoever needs
an object of python-gitlab itself takes `client.api` and wraps the calls in `with client.reading("the pipeline"):`.

What is waited for here, and only here: a rate limit (429) as long as GitLab asks, at most `LONGEST_WAIT` seconds, and
passing faults (5xx, a lost connection) with growing pauses, `RETRIES` times. A POST is never repeated after a
fault, because GitLab may have carried it out already: a runner must not be made twice.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import gitlab
import requests
from gitlab.exceptions import GitlabError as ApiError
from gitlab.exceptions import GitlabParsingError, RedirectError

from runbook.errors import GitLabError, GitLabForbidden, GitLabNotFound
from runbook.moments import duration

RETRIES = 4
LONGEST_WAIT = 300.0
"""Seconds that a rate limit may make us wait at once."""

_SAID = 1.0  # seconds: shorter waits pass unnoticed
_SCOPES = re.compile(r"[a-z_]+")


class GitLabClient:
    """One GitLab server and one access token.

    `url` is the server's address; `api` python-gitlab's own client. `show` receives a line for each wait that a person
    would notice. `timeout` is seconds a request. Nothing is sent before the first call; the token is never shown.
    """

    def __init__(
        self,
        url: str,
        token: str,
        *,
        ca_file: str | Path | None = None,
        timeout: float = 15,
        show: Callable[[str], None] = print,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise GitLabError(
                "The address of GitLab is not a web address.",
                where="gitlab.url",
                value=url if "@" not in url else None,
                allowed="https://gitlab.example.com",
                page="#gitlab-connection",
            )
        if parts.username or parts.password:
            raise GitLabError(
                "The address of GitLab holds a user name or a password.",
                where="gitlab.url",
                remedy="Leave the address bare and name the token in gitlab.token.",
                page="#gitlab-connection",
            )
        self.url = url.rstrip("/")
        self._show = show
        session = requests.Session()
        session.hooks["response"].append(self._inspect)
        self.api: gitlab.Gitlab = _Api(
            self.url,
            private_token=token,
            ssl_verify=str(ca_file) if ca_file else True,
            timeout=timeout,
            retry_transient_errors=True,
            session=session,
        )

    @property
    def is_gitlab_com(self) -> bool:
        """Whether this is GitLab's own public server, which has no instance runners of yours."""
        return urlsplit(self.url).hostname == "gitlab.com"

    def get(self, path: str, *, what: str, scope: str = "read_api", **query: Any) -> Any:
        """The JSON value at an API path such as `/runners/7`. `what` names it in errors, `scope` is what it needs."""
        with self.reading(what, scope=scope):
            return self.api.http_get(path, query_data=query)

    def list(self, path: str, *, what: str, scope: str = "read_api", **query: Any) -> list[dict[str, Any]]:
        """All items of an API path, page after page."""
        with self.reading(what, scope=scope):
            return list(self.api.http_list(path, query_data={"per_page": 100, **query}, iterator=True))

    def post(self, path: str, body: dict[str, Any], *, what: str, scope: str = "api") -> Any:
        """POST, once."""
        with self.reading(what, scope=scope):
            return self.api.http_post(path, post_data=body)

    def put(self, path: str, body: dict[str, Any], *, what: str, scope: str = "api") -> Any:
        with self.reading(what, scope=scope):
            return self.api.http_put(path, post_data=body)

    def delete(self, path: str, body: dict[str, Any] | None = None, *, what: str, scope: str = "api") -> None:
        """DELETE; a secret that names what to delete goes into `body`, never into the address."""
        with self.reading(what, scope=scope):
            self.api.http_delete(path, post_data=body)

    @contextmanager
    def reading(self, what: str, *, scope: str = "api") -> Iterator[None]:
        """Turn whatever python-gitlab or the network raises inside into a GitLabError.

        `what` says which thing was read or done ("the list of runners", "creating the runner"); `scope` is the token
        scope that the call needs.
        """
        try:
            yield
        except ApiError as error:
            raise _refused(error, what, scope, self.url) from None
        except requests.RequestException as error:
            raise _unreachable(error, what, self.url) from None

    def __repr__(self) -> str:
        return f"GitLabClient({self.url!r})"

    def _inspect(self, response: requests.Response, *args: Any, **kwargs: Any) -> None:
        if response.status_code == 429:
            self._announce(_wait_of(response))
        # A sign-in page, a proxy's notice: python-gitlab would hand it on as if it were the answer.
        if response.ok and _is_html(response) and "/artifacts" not in response.url:
            raise _not_json(self.url)

    def _announce(self, seconds: float) -> None:
        if seconds > LONGEST_WAIT:
            raise GitLabError(
                f"GitLab limits the number of requests and asks to wait {duration(seconds)}.",
                where=self.url,
                allowed=f"waits up to {duration(LONGEST_WAIT)}",
                remedy="Run this notebook again later; what was done is found and kept.",
                page="#gitlab-rate-limit",
            )
        if seconds >= _SAID:
            self._show(f"GitLab limits the number of requests; waiting {duration(seconds)}")


class _Api(gitlab.Gitlab):
    """python-gitlab with fewer retries than its ten, and none where a repetition could do something twice."""

    def http_request(self, verb: str, path: str, *args: Any, **kwargs: Any) -> requests.Response:
        kwargs.setdefault("max_retries", RETRIES)
        if verb == "post":
            kwargs.setdefault("retry_transient_errors", False)
        return super().http_request(verb, path, *args, **kwargs)


def _wait_of(response: requests.Response) -> float:
    """Seconds that python-gitlab is about to wait, by the headers of a 429."""
    asked, reset = (response.headers.get(name, "") for name in ("Retry-After", "RateLimit-Reset"))
    if asked.isdigit():
        return float(asked)
    return float(reset) - time.time() if reset.isdigit() else 0.0


def _is_html(response: requests.Response) -> bool:
    return response.headers.get("Content-Type", "").lower().startswith("text/html")


def _not_json(url: str, what: str = "a web page") -> GitLabError:
    return GitLabError(
        f"GitLab's address answered with {what} instead of JSON.",
        where=url,
        remedy=(
            "Check that gitlab.url is GitLab itself, with its path if it has one (https://host/gitlab), and that no proxy or\n"
            f"single sign-on page stands before its API: curl -sI {url}/api/v4/version"
        ),
        page="#gitlab-html",
    )


def _refused(error: ApiError, what: str, scope: str, url: str) -> GitLabError:
    """The page for an answer that was not a success."""
    if isinstance(error, RedirectError):
        return GitLabError(
            "GitLab's address redirects to another one.",
            where=f"{url} ({what})",
            remedy="Write the address that GitLab redirects to into gitlab.url, most often https:// in place of http://.",
            page="#gitlab-connection",
        )
    if isinstance(error, GitlabParsingError) or error.response_code is None:
        return _not_json(url, "something else")
    code = error.response_code
    body = _body(error)
    if code == 403 and body.get("error") == "insufficient_scope":
        return _scope_missing(body, what, scope, url)
    if code >= 500:
        return GitLabError(
            f"GitLab answered {code} to every attempt.",
            where=f"{url} ({what})",
            allowed=f"{RETRIES} repetitions with growing pauses; a request that creates something is sent only once",
            remedy="Look at GitLab's state (its /-/readiness page, its administrators), then run this notebook again.",
            page="#gitlab-server-error",
        )
    problem, remedy, page = _ANSWERS.get(code, _OTHER)
    said = _said(body)
    return _KINDS.get(code, GitLabError)(
        problem.format(code=code) + (f" GitLab says: {said}" if said else ""),
        where=f"{url} ({what})",
        remedy=remedy.format(scope=scope),
        page=page,
    )


_KINDS: dict[int, type[GitLabError]] = {403: GitLabForbidden, 404: GitLabNotFound}
_OTHER = (
    "GitLab refused with {code}.",
    "Correct what GitLab names, in the cluster card, and run this notebook again.",
    "#gitlab-refused",
)
_ANSWERS: dict[int, tuple[str, str, str]] = {
    401: (
        "GitLab does not accept the access token (401).",
        (
            "The reference in gitlab.token must name a token that is neither expired nor revoked. Make one in GitLab under\n"
            "Preferences > Access tokens, with the scope {scope}."
        ),
        "#gitlab-token",
    ),
    403: (
        "GitLab forbids this to the token's user (403).",
        (
            "The scope is not all: an instance runner needs an administrator, a group runner an Owner of the group,\n"
            "a project runner a Maintainer of the project. Use a token of such a user, with the scope {scope}."
        ),
        "#gitlab-role",
    ),
    404: (
        "GitLab does not know it, or does not show it to this token (404).",
        (
            "Check the path or id in the cluster card, and that the token's user is a member there: GitLab answers 404\n"
            "for what a user may not see. A GitLab older than 15.11 has no POST /user/runners: see runner.existing_token."
        ),
        "#gitlab-not-found",
    ),
    410: (
        "GitLab has switched this off (410).",
        (
            "Registration tokens are disabled there, as GitLab does by default since 17.0. Leave runner.existing_token at false\n"
            "and let notebook 40 create the runner, or make one in GitLab's pages and set runner.existing_token: true."
        ),
        "#gitlab-gone",
    ),
    429: (
        "GitLab still limits the number of requests after we waited as long as it asked (429).",
        "Run this notebook again later, or ask GitLab's administrators for the limit of this user.",
        "#gitlab-rate-limit",
    ),
}


def _scope_missing(body: dict[str, Any], what: str, scope: str, url: str) -> GitLabError:
    enough = " or ".join(dict.fromkeys([scope, *_SCOPES.findall(str(body.get("scope", "")))]))
    return GitLabForbidden(
        "The access token lacks a scope (403).",
        where=f"{url} ({what})",
        allowed=f"one of the scopes {enough}" if " or " in enough else f"the scope {enough}",
        remedy="Make a token with that scope (GitLab > Preferences > Access tokens) and put it where gitlab.token says.",
        page="#gitlab-scope",
    )


def _body(error: ApiError) -> dict[str, Any]:
    try:
        body = json.loads(error.response_body or b"")
    except (ValueError, UnicodeDecodeError):
        return {}
    return body if isinstance(body, dict) else {}


def _said(body: dict[str, Any]) -> str:
    """GitLab's own words about a refusal, without its bare status line."""
    message = body.get("message", body.get("error", ""))
    if isinstance(message, dict):
        message = "; ".join(f"{field} {', '.join(map(str, faults))}" for field, faults in message.items())
    text = str(message).strip()
    return "" if re.fullmatch(r"\d{3} [A-Za-z ]+", text) else text[:500]


def _unreachable(error: requests.RequestException, what: str, url: str) -> GitLabError:
    """The page for a connection that did not come about. The exceptions' own text is a stack of objects: it is read, not shown."""
    text = str(error)
    problem, remedy = next(
        (page for test, page in _CONNECTIONS if test(error, text)),
        ("GitLab cannot be reached", "Try it from this machine: curl -sI {url}"),
    )
    return GitLabError(
        f"{problem}.",
        where=f"{url} ({what})",
        remedy=remedy.format(url=url, host=urlsplit(url).hostname),
        page="#gitlab-connection",
    )


_CONNECTIONS: tuple[tuple[Callable[[Exception, str], bool], tuple[str, str]], ...] = (
    (
        lambda error, text: isinstance(error, requests.exceptions.SSLError) and "certificate" in text,
        (
            "GitLab's certificate is not trusted by this machine",
            "For a GitLab with a private CA, set gitlab.ca_file to that CA's certificate.",
        ),
    ),
    (
        lambda error, text: isinstance(error, requests.exceptions.SSLError),
        ("GitLab does not speak TLS at this address", "Check the scheme and the port of gitlab.url: {url}"),
    ),
    (
        lambda error, text: "Name or service not known" in text or "NameResolutionError" in text,
        (
            "GitLab's host name is not known here",
            "getent hosts {host}   # check gitlab.url, the DNS and the VPN of this machine",
        ),
    ),
    (
        lambda error, text: isinstance(error, requests.exceptions.Timeout),
        (
            "GitLab did not answer in time",
            "curl -m 15 -sI {url}   # check network rules and proxies (HTTPS_PROXY, NO_PROXY)",
        ),
    ),
    (
        lambda error, text: "Connection refused" in text,
        (
            "Nobody listens at GitLab's address: the connection was refused",
            "curl -sI {url}   # check the port of gitlab.url",
        ),
    ),
)
