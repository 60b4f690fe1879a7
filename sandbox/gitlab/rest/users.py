"""Who am I, which server is this."""

from __future__ import annotations

from starlette.responses import Response

from sandbox.gitlab import entities
from sandbox.gitlab.access import ALL_SCOPES
from sandbox.gitlab.answers import ApiError, answer, not_found
from sandbox.gitlab.endpoint import Call, Endpoint
from sandbox.gitlab.instance import GITLAB_COM
from sandbox.gitlab.pagination import page
from sandbox.gitlab.parameters import Parameter, declared


def version(call: Call) -> Response:
    options = call.instance.options
    return answer({"version": options.version, "revision": options.revision})


def metadata(call: Call) -> Response:
    options = call.instance.options
    kas = {"enabled": False, "externalUrl": None, "externalK8sProxyUrl": None, "version": None}
    return answer(
        {
            "version": options.version,
            "revision": options.revision,
            "kas": kas,
            "enterprise": options.flavour == GITLAB_COM,
        }
    )


def current_user(call: Call) -> Response:
    return answer(entities.user_public(call.instance, call.caller))


def users(call: Call) -> Response:
    wanted = declared(call.arguments, (Parameter("username"), Parameter("search"))).get("username")
    rows = [user for user in call.instance.users.values() if wanted is None or user.username == wanted]
    return page(call, rows, lambda row: entities.user_basic(call.instance, row))


def user(call: Call) -> Response:
    row = call.instance.users.get(int(call.path["id"])) if call.path["id"].isdigit() else None
    if row is None:
        raise not_found("User")
    return answer(entities.user_basic(call.instance, row))


def own_token(call: Call) -> Response:
    if call.token is None:
        raise ApiError(
            400, {"message": "400 Bad request - This endpoint requires token type to be a personal access token"}
        )
    return answer(entities.access_token(call.token))


ENDPOINTS = (
    Endpoint("GET", "/version", version, scopes=("read_user",)),
    Endpoint("GET", "/metadata", metadata, scopes=("read_user",)),
    Endpoint("GET", "/user", current_user, scopes=("read_user",)),
    Endpoint("GET", "/users", users, scopes=("read_user",)),
    Endpoint("GET", "/users/{id}", user, scopes=("read_user",)),
    Endpoint("GET", "/personal_access_tokens/self", own_token, scopes=ALL_SCOPES),
)
