"""Who calls, and whether the token's scopes open the door: GitLab's 401 and 403 in GitLab's words."""

from __future__ import annotations

import base64
import binascii

from starlette.requests import Request

from sandbox.gitlab.answers import ApiError, error
from sandbox.gitlab.endpoint import Call, Endpoint
from sandbox.gitlab.instance import Instance
from sandbox.gitlab.records import HELD_STATUSES, AccessToken, Job, Project, User

ALL_SCOPES = (
    "api", "read_api", "read_user", "create_runner", "manage_runner", "read_repository", "write_repository",
    "read_registry", "write_registry", "k8s_proxy", "ai_features", "sudo", "admin_mode",
)  # fmt: skip


def authenticate(call: Call, endpoint: Endpoint) -> None:
    """Fill in `user`, `token` and `job` of a call, or raise the 401 or 403 that GitLab answers."""
    if endpoint.access == "token":
        return
    if endpoint.access == "user_or_job":
        job = _job(call)
        if job is not None:
            call.job, call.user = job, call.instance.users[job.user_id]
            return
    value = _secret(call)
    if value is None:
        raise error(401)
    token = call.instance.find_token(value)
    if token is None:
        raise error(401)
    _check_alive(call.instance, token)
    _check_scopes(token, endpoint, call.request.method)
    call.token, call.user = token, call.instance.users[token.user_id]


def _secret(call: Call) -> str | None:
    headers = call.request.headers
    bearer = headers.get("authorization", "")
    candidates = (
        headers.get("private-token"), call.arguments.get("private_token"),
        bearer.removeprefix("Bearer ") if bearer.startswith("Bearer ") else None, call.arguments.get("access_token"),
    )  # fmt: skip
    return next((str(value) for value in candidates if value), None)


def _job(call: Call) -> Job | None:
    value = call.header("job-token") or call.arguments.get("job_token")
    if value is None:
        return None
    job = call.instance.find_job(str(value))
    if job is None or job.status not in HELD_STATUSES:
        raise error(401)
    return job


def _check_alive(instance: Instance, token: AccessToken) -> None:
    if token.revoked:
        raise _invalid("Token was revoked. You have to re-authorize from the user.")
    if token.expires_at is not None and token.expires_at <= instance.now().date():
        raise _invalid("Token is expired. You can either do re-authorization or token refresh.")


def _invalid(description: str) -> ApiError:
    return ApiError(401, {"error": "invalid_token", "error_description": description})


def _check_scopes(token: AccessToken, endpoint: Endpoint, method: str) -> None:
    named = [*endpoint.scopes, "api", "read_api"]
    allowed = set(named) if method in ("GET", "HEAD") else {*endpoint.scopes, "api"}
    if not set(token.scopes) & allowed:
        raise ApiError(403, {
            "error": "insufficient_scope",
            "error_description": "The request requires higher privileges than provided by the access token.",
            # GitLab names read_api here even where it would not do.
            "scope": " ".join(dict.fromkeys(named)),
        })  # fmt: skip


# ------------------------------------------------------------------------------------------- git over HTTP


def basic_secret(request: Request) -> str | None:
    """The password of HTTP Basic: git sends a user's token or a job's token there; the user name does not matter."""
    header = request.headers.get("authorization", "")
    if not header.lower().startswith("basic "):
        return None
    try:
        return base64.b64decode(header[6:]).decode().partition(":")[2] or None
    except (binascii.Error, UnicodeDecodeError):
        return None


def git_user(instance: Instance, project: Project, secret: str, *, write: bool) -> User | None:
    """The user that a password of git stands for, None where it may not even look. Job tokens only read."""
    job = instance.find_job(secret)
    if job is not None:
        same = job.project_id == project.id or instance.project_role(instance.users[job.user_id], project) > 0
        return instance.users[job.user_id] if same and job.status in HELD_STATUSES and not write else None
    token = instance.find_token(secret)
    if token is None or token.revoked:
        return None
    wanted = {"write_repository", "api"} if write else {"read_repository", "write_repository", "api"}
    return instance.users[token.user_id] if wanted & set(token.scopes) else None
