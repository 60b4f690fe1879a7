"""The Kubernetes API: plain manifests in and out, every failure a page.

The official client reads the configuration and signs the requests; what goes over its connection pool are dicts, so
that a manifest in a plan is the very thing that is sent. Changes are server-side applies by the field manager
`runbook`, and a dry run is the server's own rehearsal (`dryRun=All`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote, urlencode

from runbook.clients import kubernetes_errors, tls
from runbook.clients.permissions import RBAC, Permission
from runbook.errors import KubernetesError
from runbook.moments import Clock
from runbook.plan import Action, Change, Plan
from runbook.report import Unknown

if TYPE_CHECKING:
    import urllib3
    from kubernetes.client import ApiClient

FIELD_MANAGER = "runbook"
"""Who owns the fields that the notebooks apply, in `metadata.managedFields`."""

PAGE_SIZE = 500
"""Objects in one answer to a list, as kubectl asks for them."""

Manifest = dict[str, Any]
Manifests = list[Manifest]
Seen = TypeVar("Seen")


@dataclass(frozen=True)
class Kind:
    """Where the API serves a kind: `apiVersion`, plural and scope."""

    api_version: str
    plural: str
    namespaced: bool = True

    @property
    def group(self) -> str:
        return self.api_version.rpartition("/")[0]

    def path(self, namespace: str | None = None, name: str | None = None) -> str:
        """The path of one object, or of the collection; without a namespace a namespaced kind spans all of them."""
        root = "apis" if self.group else "api"
        parts = [root, self.api_version]
        if self.namespaced and namespace:
            parts += ["namespaces", quote(namespace, safe="")]
        parts.append(self.plural)
        if name:
            parts.append(quote(name, safe=""))
        return "/" + "/".join(parts)


KINDS = {
    "ClusterRole": Kind(RBAC, "clusterroles", namespaced=False),
    "ClusterRoleBinding": Kind(RBAC, "clusterrolebindings", namespaced=False),
    "ConfigMap": Kind("v1", "configmaps"),
    "CSIDriver": Kind("storage.k8s.io/v1", "csidrivers", namespaced=False),
    "Event": Kind("v1", "events"),
    "ImageCache": Kind("eci.alibabacloud.com/v1", "imagecaches", namespaced=False),
    "Namespace": Kind("v1", "namespaces", namespaced=False),
    "Node": Kind("v1", "nodes", namespaced=False),
    "PersistentVolume": Kind("v1", "persistentvolumes", namespaced=False),
    "PersistentVolumeClaim": Kind("v1", "persistentvolumeclaims"),
    "Pod": Kind("v1", "pods"),
    "Role": Kind(RBAC, "roles"),
    "RoleBinding": Kind(RBAC, "rolebindings"),
    "Secret": Kind("v1", "secrets"),
    "Service": Kind("v1", "services"),
    "ServiceAccount": Kind("v1", "serviceaccounts"),
    "StorageClass": Kind("storage.k8s.io/v1", "storageclasses", namespaced=False),
}
"""The kinds that the notebooks read or write."""


@dataclass(frozen=True)
class ServerVersion:
    """The API server's `/version`, with the moments that its clock is compared by (aware, UTC).

    `server_time` is the answer's Date header, cut to whole seconds, None where there is none.
    """

    git_version: str
    asked: datetime
    answered: datetime
    server_time: datetime | None


class Cluster:
    """One API server as one account sees it. `runbook.clients.connect.kubernetes(settings)` makes it."""

    def __init__(
        self,
        api: ApiClient,
        *,
        source: str,
        context: str | None,
        timeout: float,
        clock: Clock,
    ) -> None:
        self._api = api
        self.server: str = api.configuration.host.rstrip("/")
        self.source = source
        """Where its address and account were read from: a path, or `in-cluster`."""
        self.context = context
        self.timeout = timeout
        """Seconds that one call may take."""
        self.clock = clock

    def __repr__(self) -> str:
        return f"Cluster({self.server}, {self.source}{f', context {self.context}' if self.context else ''})"

    def with_token(self, token: str) -> Cluster:
        """The same API server through another account: a bearer token in place of this one's credentials."""
        from kubernetes.client import ApiClient

        configuration = copy(self._api.configuration)
        configuration.cert_file = configuration.key_file = None
        configuration.refresh_api_key_hook = None
        configuration.api_key = {"authorization": f"Bearer {token}"}
        other = ApiClient(configuration)
        return Cluster(other, source="a bearer token", context=None, timeout=self.timeout, clock=self.clock)

    @property
    def client_version(self) -> str:
        """Version of the official client; its first number is the Kubernetes minor version that it was made for."""
        from kubernetes import __version__

        return str(__version__)

    @property
    def certificate_authority(self) -> str | None:
        """The CA certificate that the server's is checked against, PEM; None where the system's own are used."""
        path = self._api.configuration.ssl_ca_cert
        return Path(path).read_text() if path else None

    @property
    def client_certificate(self) -> str | None:
        """The certificate that this account shows, PEM; None where it has a token. Its key stays where it is."""
        path = self._api.configuration.cert_file
        return Path(path).read_text() if path else None

    @property
    def tls_server_name(self) -> str | None:
        """The name that the server's certificate must bear, where it is not that of the address."""
        name = self._api.configuration.tls_server_name
        return str(name) if name else None

    # -- reading

    def get(self, kind: str, name: str, namespace: str | None = None) -> Manifest | None:
        """One object, or None where there is none of that name (or no such kind on this server)."""
        try:
            return self._json(
                "GET", _kind(kind).path(namespace, name), what=Permission(*_asked("get", kind, namespace, name))
            )
        except KubernetesError as error:
            if error.status == 404:
                return None
            raise

    def list(
        self,
        kind: str,
        namespace: str | None = None,
        labels: str | None = None,
        *,
        fields: str | None = None,
        at_most: int | None = None,
    ) -> Manifests:
        """All objects of a kind in a namespace, or in all of them; `labels` and `fields` are kubectl's selectors."""
        found: Manifests = []
        query: dict[str, str] = {"limit": str(min(PAGE_SIZE, at_most or PAGE_SIZE))}
        query |= {key: text for key, text in (("labelSelector", labels), ("fieldSelector", fields)) if text}
        what = Permission(*_asked("list", kind, namespace))
        while True:
            page = self._json("GET", _kind(kind).path(namespace), query, what=what)
            found += page.get("items") or []
            following = page.get("metadata", {}).get("continue")
            if not following or (at_most and len(found) >= at_most):
                return found[:at_most]
            query["continue"] = following

    def version(self) -> ServerVersion:
        """What the server says it is, and what time it has. Needs no rights."""
        asked = self.clock.now()
        answer = self.request("GET", "/version")
        date = answer.headers.get("Date")
        seen = _decoded(answer, self.server)
        return ServerVersion(
            str(seen.get("gitVersion", "")), asked, self.clock.now(), parsedate_to_datetime(date) if date else None
        )

    def whoami(self) -> str | Unknown:
        """The name by which the server knows this account (SelfSubjectReview, Kubernetes 1.28 and later)."""
        review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
        seen = known(lambda: self._json("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", body=review))
        return seen if isinstance(seen, Unknown) else str(seen["status"]["userInfo"]["username"])

    def allowed(
        self,
        verb: str,
        resource: str,
        *,
        group: str = "",
        namespace: str | None = None,
        name: str | None = None,
        subresource: str | None = None,
    ) -> bool | Unknown:
        """Whether this account may do so (SelfSubjectAccessReview); `resource` is the plural."""
        return self.may(Permission(verb, resource, group, subresource or "", namespace, name))

    def may(self, permission: Permission) -> bool | Unknown:
        """The same for a Permission."""
        attributes = {
            "verb": permission.verb,
            "resource": permission.resource,
            "group": permission.group,
            "subresource": permission.subresource,
            "namespace": permission.namespace,
            "name": permission.name,
        }
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": {key: text for key, text in attributes.items() if text}},
        }
        path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        seen = known(lambda: self._json("POST", path, body=review))
        return seen if isinstance(seen, Unknown) else bool(seen["status"]["allowed"])

    def logs(self, pod: str, namespace: str, container: str | None = None) -> str:
        """What a container has written so far."""
        query = {"container": container} if container else {}
        what = Permission("get", "pods", subresource="log", namespace=namespace, name=pod)
        answer = self.request("GET", _kind("Pod").path(namespace, pod) + "/log", query, what=what)
        return bytes(answer.data).decode("utf-8", "replace")

    # -- changing

    def apply(self, manifest: Manifest, *, dry_run: bool) -> Manifest:
        """Make the live object say what `manifest` says (server-side apply); the fields it does not name stay."""
        kind, namespace, name = _identity(manifest)
        query = {"fieldManager": FIELD_MANAGER, "force": "true", **_rehearsal(dry_run)}
        what = Permission(*_asked("patch", kind, namespace, name))
        return self._json(
            "PATCH", _kind(kind).path(namespace, name), query, manifest, "application/apply-patch+yaml", what=what
        )

    def create(self, manifest: Manifest, *, dry_run: bool) -> Manifest:
        """Make a new object; one of that name already there is a KubernetesError with status 409."""
        kind, namespace, _ = _identity(manifest)
        query = {"fieldManager": FIELD_MANAGER, **_rehearsal(dry_run)}
        return self._json(
            "POST", _kind(kind).path(namespace), query, manifest, what=Permission(*_asked("create", kind, namespace))
        )

    def patch(self, kind: str, name: str, body: Manifest, namespace: str | None = None, *, dry_run: bool) -> Manifest:
        """A JSON merge patch: the keys given replace those there, null removes one."""
        query = {"fieldManager": FIELD_MANAGER, **_rehearsal(dry_run)}
        what = Permission(*_asked("patch", kind, namespace, name))
        return self._json(
            "PATCH", _kind(kind).path(namespace, name), query, body, "application/merge-patch+json", what=what
        )

    def delete(
        self, kind: str, name: str, namespace: str | None = None, *, dry_run: bool, grace: int | None = None
    ) -> None:
        """Delete one object; one that is not there is as good as deleted. `grace` is seconds."""
        query = _rehearsal(dry_run) | ({} if grace is None else {"gracePeriodSeconds": str(grace)})
        try:
            self._json(
                "DELETE",
                _kind(kind).path(namespace, name),
                query,
                what=Permission(*_asked("delete", kind, namespace, name)),
            )
        except KubernetesError as error:
            if error.status != 404:
                raise

    def carry_out(self, plan: Plan, *, dry_run: bool) -> Sequence[Change]:
        """Apply or delete every pending change of `plan` whose `desired` is a manifest, in order.

        All of it is rehearsed by the server first, so that a refusal comes before anything is changed. The server
        cannot rehearse what needs another object of the same plan: anything in a namespace to come, a binding to a
        Role to come. Of these it is asked whether this account may make them, and they are returned.
        """
        plan.raise_for_blockers()
        changes = [change for change in plan.pending if isinstance(change.desired, dict)]
        passed_over = self._rehearse(changes)
        if not dry_run:
            for change in changes:
                self._carry_out(change, dry_run=False)
        return passed_over

    def _rehearse(self, changes: Sequence[Change]) -> Sequence[Change]:
        to_come = {change.label for change in changes if change.action is Action.CREATE}
        passed_over = [change for change in changes if to_come & _needed_first(change.desired)]
        for change in changes:
            if change not in passed_over:
                self._carry_out(change, dry_run=True)
        for change in passed_over:
            kind, namespace, _ = _identity(change.desired)
            for verb in ("create", "patch"):
                needed = Permission(*_asked(verb, kind, namespace))
                if self.may(needed) is False:
                    user = self.whoami()
                    raise kubernetes_errors.forbidden(
                        needed, "USER" if isinstance(user, Unknown) else user, self.server
                    )
        return passed_over

    def _carry_out(self, change: Change, *, dry_run: bool) -> None:
        kind, namespace, name = _identity(change.desired)
        if change.action is Action.DELETE:
            self.delete(kind, name, namespace, dry_run=dry_run)
        else:
            self.apply(change.desired, dry_run=dry_run)

    # -- the wire

    def request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
        *,
        what: Permission | None = None,
        stream: bool = False,
        timeout: float | None = None,
    ) -> urllib3.BaseHTTPResponse:
        """One call, its answer as it came over the wire; anything but 2xx raises KubernetesError.

        `stream` leaves the answer's body on the connection (a watch, a long list); `timeout` are seconds of silence,
        else the card's. `what` is the right that the call needs, for the page of a 403.
        """
        import urllib3

        headers = {"Accept": "application/json", "User-Agent": "gitlab-ci-on-eci"}
        for signature in self._api.configuration.auth_settings().values():
            headers[signature["key"]] = signature["value"]
        if body is not None:
            headers["Content-Type"] = content_type
        url = self.server + path + (f"?{urlencode(query)}" if query else "")
        seconds = timeout or self.timeout
        # A busy server is asked again after 0, 1 and 2 s, whatever it may ask for. A change is never sent twice.
        retries = urllib3.Retry(
            connect=0,
            read=0,
            redirect=0,
            other=0,
            status=3,
            status_forcelist=(429, 503),
            allowed_methods=("GET",),
            respect_retry_after_header=False,
            backoff_factor=0.5,
            raise_on_status=False,
        )
        try:
            answer = self._api.rest_client.pool_manager.request(
                method,
                url,
                body=None if body is None else json.dumps(body).encode(),
                headers=headers,
                retries=retries,
                timeout=urllib3.Timeout(connect=seconds, read=seconds),
                preload_content=not stream,
            )
        except urllib3.exceptions.HTTPError as error:
            raise kubernetes_errors.unreachable(error, f"{self.server} (from {self.source})", seconds) from None
        where = f"{method} {self.server}{path}"
        if answer.status == 401:
            certificate = self.client_certificate
            end = tls.not_after(certificate) if certificate else None
            raise kubernetes_errors.unauthorized(f"{where} (account from {self.source})", end, self.clock.now())
        if not 200 <= answer.status < 300:
            raise kubernetes_errors.refused(answer, where, what)
        return answer

    def _json(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
        *,
        what: Permission | None = None,
    ) -> Manifest:
        return _decoded(self.request(method, path, query, body, content_type, what=what), self.server)


def known(read: Callable[[], Seen]) -> Seen | Unknown:
    """What `read` returns, or Unknown with the reason where the server answered that it may not or cannot be read.

    A server that cannot be reached, or does not know the account, still raises: no fact could be known then.
    """
    try:
        return read()
    except KubernetesError as error:
        if error.status in (None, 401):
            raise
        return Unknown(error.problem.rstrip("."))


def _kind(name: str) -> Kind:
    try:
        return KINDS[name]
    except KeyError:
        raise ValueError(f"unknown kind {name!r}; known are {', '.join(KINDS)}") from None


def _asked(
    verb: str, kind: str, namespace: str | None, name: str | None = None
) -> tuple[str, str, str, str, str | None, str | None]:
    where = _kind(kind)
    return verb, where.plural, where.group, "", namespace if where.namespaced else None, name


def _identity(manifest: Manifest) -> tuple[str, str | None, str]:
    metadata = manifest["metadata"]
    return manifest["kind"], metadata.get("namespace"), metadata.get("name", "")


def _needed_first(manifest: Manifest) -> set[str]:
    """The labels (as `Change.label`) of the objects that must be there before this one can be made."""
    _, namespace, _ = _identity(manifest)
    needed = {f"Namespace {namespace}"} if namespace else set()
    if role := manifest.get("roleRef"):
        needed.add(
            f"{role['kind']} {namespace}/{role['name']}" if role["kind"] == "Role" else f"ClusterRole {role['name']}"
        )
    return needed


def _rehearsal(dry_run: bool) -> dict[str, str]:
    return {"dryRun": "All"} if dry_run else {}


def _decoded(answer: urllib3.BaseHTTPResponse, server: str) -> Manifest:
    try:
        seen = json.loads(answer.data)
    except ValueError:
        seen = None
    if not isinstance(seen, dict):
        raise KubernetesError(
            "What answers there is not a Kubernetes API server: its answer is not JSON.",
            where=server,
            value=answer.headers.get("Content-Type"),
            remedy="Compare the address with the cluster's page in the console; a proxy may answer in its place.",
            page="#api-server",
        )
    return seen
