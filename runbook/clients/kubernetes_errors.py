"""The pages of the Kubernetes API's failures: what went wrong on the way, and what an answer that is not 2xx means."""

from __future__ import annotations

import json
import re
import ssl
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from runbook.clients.permissions import Permission, grants
from runbook.errors import KubernetesError

if TYPE_CHECKING:
    import urllib3


def unreachable(error: Exception, where: str, seconds: float) -> KubernetesError:
    """The page of a call without an answer: `error` is urllib3's, `seconds` what it was given."""
    import urllib3.exceptions as wire

    cause = error.reason if isinstance(error, wire.MaxRetryError) and error.reason else error
    if isinstance(cause, wire.SSLError):
        return _no_tls(cause.args[0] if cause.args else cause, where)
    if isinstance(cause, wire.NameResolutionError):
        return KubernetesError(
            "The API server's name cannot be resolved.",
            where=where,
            remedy="Check the address; a name under cs.aliyuncs.com resolves inside the cluster's VPC only.",
            page="#api-server",
        )
    if isinstance(cause, wire.TimeoutError) and not isinstance(cause, wire.NewConnectionError):
        waiting = "no connection" if isinstance(cause, wire.ConnectTimeoutError) else "no answer"
        return KubernetesError(
            f"The API server is slow or out of reach: {waiting} within {seconds:g} s.",
            where=where,
            remedy="Is this machine in the VPC, or its address in the access list of the public endpoint? "
            "A slow server: raise kubernetes.request_timeout in the card.",
            page="#api-server",
        )
    if isinstance(cause, wire.ProxyError):
        return KubernetesError(
            "The proxy does not connect to the API server.",
            where=where,
            remedy="Check HTTPS_PROXY, or name the server in NO_PROXY.",
            page="#api-server",
        )
    refused = isinstance(cause.__cause__, ConnectionRefusedError)
    return KubernetesError(
        "The API server refuses connections: nothing listens at this address."
        if refused
        else f"The connection to the API server broke ({type(cause.__cause__ or cause).__name__}).",
        where=where,
        remedy="Compare the address with the cluster's page in the console; is the cluster running?",
        page="#api-server",
    )


def refused(answer: urllib3.BaseHTTPResponse, where: str, what: Permission | None = None) -> KubernetesError:
    """The page of an answer that is not 2xx (401 has `unauthorized`); `what` is the right that the call needs."""
    said = _status_message(answer)
    if answer.status == 403:
        return _forbidden_by(said, what, where)
    otherwise = ("The API server failed." if answer.status >= 500 else "The API server refused.", None)
    problem, remedy = _ANSWERS.get(answer.status, otherwise)
    return _with_status(
        answer.status,
        KubernetesError(
            f"{problem} ({answer.status})", where=where, value=said or None, remedy=remedy, page="#api-server"
        ),
    )


def unauthorized(where: str, certificate_end: datetime | None, now: datetime) -> KubernetesError:
    """The page of a 401. The server does not say why; an account whose certificate has ended can be told."""
    problem = (
        f"The client certificate of this account expired on {certificate_end:%Y-%m-%d %H:%M} UTC. (401)"
        if certificate_end and certificate_end < now
        else "The API server does not know this account: "
        "its certificate or token is expired, revoked or of another cluster. (401)"
    )
    return _with_status(
        401,
        KubernetesError(
            problem,
            where=where,
            remedy="Get a new kubeconfig from the cluster's page in the console (Connection Information), "
            "or by the API DescribeClusterUserKubeconfig.",
            page="#kubeconfig",
        ),
    )


def forbidden(permission: Permission, user: str, where: str, said: str | None = None) -> KubernetesError:
    """The page of a 403: what `user` may not do, and the rule that an administrator would apply."""
    return _with_status(
        403,
        KubernetesError(
            f"This account may not {permission}.",
            where=where,
            value=said,
            remedy=f"Have an administrator apply this rule (kubectl apply -f -):\n{grants([permission], user)}",
            page="#account-permissions",
        ),
    )


_REFUSAL = re.compile(
    r'User "(?P<user>[^"]+)" cannot (?P<verb>\S+) resource "(?P<resource>[^"/]+)(?:/(?P<subresource>[^"]+))?" '
    r'in API group "(?P<group>[^"]*)" (?:in the namespace "(?P<namespace>[^"]+)"|at the cluster scope)'
)
"""How RBAC words a refusal. It names the verb that was missing: an apply that makes a new object needs two."""

_ESCALATION = "attempting to grant RBAC permissions not currently held"


def _forbidden_by(said: str, what: Permission | None, where: str) -> KubernetesError:
    """The page of a 403 by the server's own words; `what` was asked for, in case they say nothing."""
    named = _REFUSAL.search(said)
    if named:
        parts = named.groupdict()
        user, subresource = str(parts.pop("user")), parts.pop("subresource") or ""
        return forbidden(Permission(**parts, subresource=subresource), user, where, said)
    if what and _ESCALATION not in said:
        return forbidden(replace(what, name=None), "USER", where, said or None)
    return _with_status(
        403,
        KubernetesError(
            "This account may not give rights that it does not have itself."
            if _ESCALATION in said
            else "This account may not do that.",
            where=where,
            value=said,
            remedy="Notebook 10 prints the rules that this account lacks; or have an administrator run this notebook.",
            page="#account-permissions",
        ),
    )


_ANSWERS: dict[int, tuple[str, str | None]] = {
    404: (
        "It is not there: the namespace, the object or its kind does not exist.",
        "Has the notebook before this one been applied?",
    ),
    409: (
        "The object is there already, or was changed meanwhile.",
        "Run the notebook again: it looks anew and plans anew.",
    ),
    422: ("The API server finds the object invalid.", "An immutable field may have changed; compare the plan's diff."),
    429: ("The API server is overloaded and still refuses after waiting.", "Try again later."),
}


_CERTIFICATE_PROBLEMS = {
    9: "The API server's certificate is not valid yet: one of the clocks is wrong.",
    10: "The API server's certificate, or the CA that signed it, has expired.",
    62: "The API server's certificate is for another name than the address that is used.",
    64: "The API server's certificate is for another address than the one that is used.",
}
"""OpenSSL's verify codes (X509_V_ERR_*) that have a cause of their own; every other one means another CA."""


def _no_tls(error: BaseException, where: str) -> KubernetesError:
    """The page for a TLS handshake that failed."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return KubernetesError(
            _CERTIFICATE_PROBLEMS.get(
                error.verify_code,
                "The API server's certificate was not signed by the CA that the kubeconfig names (wrong CA).",
            ),
            where=where,
            value=error.verify_message,
            remedy="Get a new kubeconfig from the cluster's page in the console. If the message stays, something "
            "between here and the cluster answers in its place.",
            page="#server-certificate",
        )
    return KubernetesError(
        "No TLS connection to the API server could be made.",
        where=where,
        value=getattr(error, "reason", None) or type(error).__name__,
        remedy="Is this the port of the API server, and is the kubeconfig's client certificate whole?",
        page="#server-certificate",
    )


def _status_message(answer: urllib3.BaseHTTPResponse) -> str:
    """The message of a `Status` object; of anything else nothing, since a proxy's page helps nobody."""
    try:
        seen = json.loads(answer.data)
    except ValueError:
        return ""
    return str(seen.get("message", "")) if isinstance(seen, dict) else ""


def _with_status(status: int, error: KubernetesError) -> KubernetesError:
    error.status = status
    return error
