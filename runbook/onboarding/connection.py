"""Notebook 10: can this machine reach the cluster, what is it, and may this account do what the next notebooks do?

Reads only. `look` collects facts, `judge` turns them into a report without asking anybody again.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit

from runbook import html
from runbook.clients import secrets, tls
from runbook.clients.kubernetes import Cluster, ServerVersion, known
from runbook.clients.permissions import Permission, grants
from runbook.clients.tls import Handshake
from runbook.eci import vocabulary
from runbook.moments import duration
from runbook.onboarding import needs
from runbook.report import Check, Report, Unknown, text_pairs
from runbook.settings import ClusterKind, Settings

TITLE = "Connection"

SKEW_WARNS, SKEW_FAILS = timedelta(seconds=5), timedelta(minutes=5)
"""How far the clocks may be apart: first times in the history are wrong, then certificates and tokens refused."""

EXPIRY_WARNS = timedelta(days=30)
"""A certificate that ends sooner is worth a warning."""

OLDEST_SERVER = (1, 22)
"""Server-side apply, by which every change is made, is stable from this version on."""

PODS_READ = 500
"""How many pods are read at most to see whose instance ids they bear."""

ACS_INSTANCE_ID = "alibabacloud.com/instance-id"
"""[D] Annotation by which an ACS pod names its instance, `acs-…`."""

DAY = timedelta(days=1)


# -- addresses


class Network(StrEnum):
    """What an address tells about where it can be reached from."""

    LOOPBACK = "this machine only"
    PRIVATE = "private address: reached from inside the VPC"
    VPC_NAME = "Alibaba Cloud's private name: resolves inside the VPC"
    PUBLIC = "public address"
    NAME = "a name: where it leads is not known"


VPC_SUFFIX = ".cs.aliyuncs.com"
SHARED_RANGE = ipaddress.ip_network("100.64.0.0/10")
"""Alibaba Cloud's own services inside a VPC; Python counts it neither private nor global."""


def network_of(url: str) -> Network:
    """Recognise an endpoint by its address alone: `https://192.168.0.9:6443` -> PRIVATE. Nothing is resolved."""
    host = urlsplit(url).hostname or ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        if host == "localhost":
            return Network.LOOPBACK
        return Network.VPC_NAME if host.endswith(VPC_SUFFIX) else Network.NAME
    if address.is_loopback:
        return Network.LOOPBACK
    return Network.PRIVATE if address.is_private or address in SHARED_RANGE else Network.PUBLIC


# -- nodes, and what the cluster is


@dataclass(frozen=True)
class Node:
    """One node: whether it is virtual (its pods become instances), Ready, in which zone, of which version."""

    name: str
    virtual: bool
    ready: bool
    zone: str

    @classmethod
    def of(cls, manifest: dict[str, Any]) -> Node:
        metadata = manifest["metadata"]
        name, labels = metadata["name"], metadata.get("labels") or {}
        prefix = vocabulary.NODE_NAME_PREFIX
        typed = labels.get(vocabulary.NODE_LABEL_TYPE) == vocabulary.NODE_LABEL_TYPE_VALUE
        named = name.removeprefix(prefix) if name.startswith(prefix) else ""
        zones = (labels.get(key) for key in ("topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/zone"))
        conditions = (manifest.get("status") or {}).get("conditions") or []
        ready = any(one.get("type") == "Ready" and one.get("status") == "True" for one in conditions)
        return cls(name, typed or bool(named), ready, next((zone for zone in zones if zone), named))


class Product(StrEnum):
    """What the cluster is."""

    ACK_SERVERLESS = "ACK Serverless"
    ACK = "ACK with virtual nodes beside ECS nodes"
    ACK_WITHOUT_ECI = "ACK without virtual nodes"
    ACS = "ACS (Container Compute Service)"
    OTHER = "not a cluster of Alibaba Cloud"


CARD_KIND = {ClusterKind.ACK_SERVERLESS: Product.ACK_SERVERLESS, ClusterKind.ACK: Product.ACK}


def recognise(git_version: str, nodes: Sequence[Node], instances: Iterable[str]) -> Product:
    """What a cluster is, by its server's version, its nodes, and how its pods' instance ids begin (`eci`, `acs`).

    ACS names its nodes as ECI does: without a pod to see, it looks like ACK Serverless.
    """
    if vocabulary.SERVER_VERSION_MARK not in git_version:
        return Product.OTHER
    virtual = [node for node in nodes if node.virtual]
    if virtual and set(instances) == {"acs"}:
        return Product.ACS
    if not virtual:
        return Product.ACK_WITHOUT_ECI
    return Product.ACK_SERVERLESS if len(virtual) == len(nodes) else Product.ACK


def read_nodes(client: Cluster) -> tuple[Node, ...] | Unknown:
    """All nodes, or why they cannot be read."""
    seen = known(lambda: client.list("Node"))
    return seen if isinstance(seen, Unknown) else tuple(Node.of(manifest) for manifest in seen)


def read_instances(client: Cluster) -> tuple[str, ...] | Unknown:
    """The beginnings of the instance ids that pods bear: `eci`, `acs`; empty where no pod bears one."""
    seen = known(lambda: client.list("Pod", at_most=PODS_READ))
    if isinstance(seen, Unknown):
        return seen
    annotations = [pod["metadata"].get("annotations") or {} for pod in seen]
    keys = (vocabulary.INSTANCE_ID, ACS_INSTANCE_ID)
    ids = {one[key].partition("-")[0] for one in annotations for key in keys if one.get(key)}
    return tuple(sorted(ids & {"acs", "eci"}))


# -- facts


@dataclass(frozen=True)
class Facts:
    """What was seen of the cluster at one moment. It holds no secret and can be saved as JSON."""

    source: str
    context: str | None
    server: str
    runner_server: str
    user: str | Unknown
    client_version: str
    version: ServerVersion
    nodes: tuple[Node, ...] | Unknown
    instances: tuple[str, ...] | Unknown
    namespace: bool | Unknown
    """Whether the namespace of the job pods is there."""
    answers: tuple[tuple[str, Permission, bool | Unknown], ...]
    """The notebook, what it needs, and whether this account may."""
    server_certificate: Handshake
    runner_endpoint: Handshake
    client_certificate: datetime | None
    """When the account's certificate ends; None where it has none."""

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return dict(json.loads(json.dumps(asdict(self), default=str)))

    @property
    def product(self) -> Product | Unknown:
        if isinstance(self.nodes, Unknown):
            return self.nodes
        return recognise(
            self.version.git_version, self.nodes, () if isinstance(self.instances, Unknown) else self.instances
        )

    def rows(self) -> dict[str, str]:
        virtual = () if isinstance(self.nodes, Unknown) else tuple(node for node in self.nodes if node.virtual)
        others = 0 if isinstance(self.nodes, Unknown) else len(self.nodes) - len(virtual)
        return {
            "kubeconfig": self.source + (f", context {self.context}" if self.context else ""),
            "account": str(self.user),
            "endpoint from here": f"{self.server} ({network_of(self.server)})",
            "endpoint of the runner": f"{self.runner_server} ({network_of(self.runner_server)})",
            "server": self.version.git_version,
            "client": f"Python client {self.client_version}",
            "cluster": str(self.product),
            "virtual nodes": str(self.nodes)
            if isinstance(self.nodes, Unknown)
            else ", ".join(f"{node.zone}{'' if node.ready else ' (not Ready)'}" for node in virtual) or "none",
            "other nodes": str(others),
            "namespace": str(self.namespace)
            if isinstance(self.namespace, Unknown)
            else "there"
            if self.namespace
            else "not there yet: notebook 20 makes it",
        }

    def __str__(self) -> str:
        return text_pairs("Found", self.rows())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return html.block(html.pairs(self.rows()))


def look(client: Cluster, settings: Settings) -> Facts:
    """Ask the server everything that the report is about.

    Raises KubernetesError where the server cannot be reached or does not know the account: nothing can be known then.
    """
    version = client.version()
    user = client.whoami()
    runner_server = secrets.resolve(settings.access.host, client).rstrip("/") if settings.access.host else client.server
    authority, certificate = client.certificate_authority, client.client_certificate
    here = tls.shake_hands(client.server, authority, client.timeout, name=client.tls_server_name)
    namespace = known(lambda: client.get("Namespace", settings.kubernetes.namespace))
    asked = needs.of(settings, namespace_is_there=isinstance(namespace, dict))
    return Facts(
        source=client.source,
        context=client.context,
        server=client.server,
        runner_server=runner_server,
        user=user,
        client_version=client.client_version,
        version=version,
        nodes=read_nodes(client),
        instances=read_instances(client),
        namespace=namespace if isinstance(namespace, Unknown) else namespace is not None,
        answers=tuple((notebook, one, client.may(one)) for notebook, one, _ in asked),
        server_certificate=here,
        runner_endpoint=here
        if runner_server == client.server
        else tls.shake_hands(runner_server, authority, client.timeout),
        client_certificate=tls.not_after(certificate) if certificate else None,
    )


# -- judgement


def judge(facts: Facts, settings: Settings) -> Report:
    """What the facts mean for the next notebooks."""
    now = facts.version.answered
    checks = [
        Check.passed("api-server", "The API server answers and knows this account", f"{facts.server} as {facts.user}"),
        _runner_endpoint(facts, settings),
        _server_version(facts),
        _cluster_kind(facts, settings),
        _virtual_nodes(facts),
        _permissions(facts),
        _clock_skew(facts.version),
        _expiry(
            "client-certificate",
            "The kubeconfig's client certificate is valid for a while",
            facts.client_certificate,
            now,
            absent="this account has no certificate: it shows a token",
            remedy="Get a new kubeconfig from the cluster's page in the console, or by DescribeClusterUserKubeconfig.",
        ),
        _server_certificate(facts.server_certificate, now),
    ]
    return Report(TITLE, checks)


def _runner_endpoint(facts: Facts, settings: Settings) -> Check:
    id, title = "runner-endpoint", "The runner's address of the API server is good for the runner"
    network, shaken = network_of(facts.runner_server), facts.runner_endpoint
    seen = f"{facts.runner_server}: {network}"
    if not facts.runner_server.startswith("https://"):
        return Check.failed(
            id, title, seen, expected="an address that begins with https://", remedy="Correct access.host in the card."
        )
    if shaken.verified:
        if settings.access.host is None and network is Network.PUBLIC:
            return Check.warned(
                id, title, f"{seen}, the same as here",
                expected="the private address, where gitlab-runner's host is in the cluster's VPC",
                remedy="Set access.host in the card to the internal endpoint of the cluster's page in the console.",
            )  # fmt: skip
        return Check.passed(id, title, f"{seen}; tried from here, its certificate fits")
    if shaken.reached:
        return Check.failed(
            id, title, f"{seen}; {shaken.problem}",
            expected="a certificate for this address, signed by the kubeconfig's CA",
            remedy="Use one of the addresses in the certificate (SAN), or add this one: "
            "the cluster's page in the console, custom SAN.",
        )  # fmt: skip
    if network is Network.PUBLIC:
        return Check.failed(
            id,
            title,
            f"{seen}; {shaken.problem}",
            remedy="Check access.host, and the access list of the public endpoint.",
        )
    trial = f"on the runner's host: curl --cacert ca.crt {facts.runner_server}/version"
    return Check.skipped(id, title, f"{seen}; it cannot be reached from here ({shaken.problem}). Try it {trial}")


def _server_version(facts: Facts) -> Check:
    id, title = "server-version", "The server is new enough for what the notebooks do"
    found = re.match(r"v?(\d+)\.(\d+)", facts.version.git_version)
    if not found:
        return Check.failed(
            id, title, f"the server calls itself {facts.version.git_version!r}", expected="vMAJOR.MINOR.PATCH"
        )
    server = (int(found[1]), int(found[2]))
    speaks = int(facts.client_version.partition(".")[0])
    apart = server[1] - speaks
    distance = f"{abs(apart)} minor version{'s' if abs(apart) > 1 else ''}"
    relation = f"{distance} {'ahead of' if apart > 0 else 'behind'}" if apart else "the same minor version as"
    seen = f"{facts.version.git_version}, {relation} the client ({facts.client_version}, made for 1.{speaks})"
    if server < OLDEST_SERVER:
        return Check.failed(
            id, title, seen,
            expected="1.22 or newer: server-side apply", remedy="Upgrade the cluster, step by step, in the console.",
        )  # fmt: skip
    # The notebooks call APIs that have been stable since 1.22, so a distance alone is no fault.
    return Check.passed(id, title, seen)


_CONSEQUENCES = {
    Product.ACK_SERVERLESS: "every pod becomes one ECI instance",
    Product.ACK: f'job pods need the label {vocabulary.LABEL_ECI}: "true", or they land on the ECS nodes',
    Product.ACK_WITHOUT_ECI: "no pod can become an ECI instance",
    Product.ACS: "pods become ACS instances (ids acs-…): ECI's annotations are not read, ECI's prices do not apply",
    Product.OTHER: "ECI's annotations are not read, ECI's prices do not apply",
}


def _cluster_kind(facts: Facts, settings: Settings) -> Check:
    id, title = "cluster-kind", "Job pods become ECI instances in this cluster"
    product = facts.product
    if isinstance(product, Unknown):
        return Check.skipped(id, title, f"the nodes cannot be read: {product.reason}")
    seen = f"{product}: {_CONSEQUENCES[product]}"
    if product is Product.ACK_WITHOUT_ECI:
        return Check.failed(
            id, title, seen,
            expected="at least one virtual node",
            remedy="Install the component ack-virtual-node (console: Operations, Add-ons) with a vSwitch in each zone.",
        )  # fmt: skip
    if product in (Product.ACS, Product.OTHER):
        return Check.warned(id, title, seen, expected="ACK Serverless, or ACK with virtual nodes")
    told = CARD_KIND.get(settings.kubernetes.kind)
    if told not in (None, product):
        return Check.warned(
            id, title, f"{seen}; the card says {settings.kubernetes.kind}",
            expected="the same in both", remedy="Set kubernetes.kind in the card, or leave it out.",
        )  # fmt: skip
    proof = "" if facts.instances else "; no pod with an instance id was seen, so ACS cannot be ruled out"
    return Check.passed(id, title, seen + proof)


def _virtual_nodes(facts: Facts) -> Check:
    id, title = "virtual-nodes", "Virtual nodes are Ready"
    if isinstance(facts.nodes, Unknown):
        return Check.skipped(id, title, f"the nodes cannot be read: {facts.nodes.reason}")
    if facts.product is Product.ACK_WITHOUT_ECI:
        return Check.skipped(id, title, "there is none")
    virtual = [node for node in facts.nodes if node.virtual]
    asleep = [node.name for node in virtual if not node.ready]
    zones = ", ".join(sorted({node.zone or "unknown" for node in virtual}))
    remedy = f"kubectl describe node {' '.join(asleep)}" if asleep else "Install the component ack-virtual-node."
    if len(asleep) == len(virtual):
        return Check.failed(
            id, title, f"{len(asleep)} of {len(virtual)} not Ready" if virtual else "there is none", remedy=remedy
        )
    if asleep:
        return Check.warned(id, title, f"not Ready: {', '.join(asleep)} (zones: {zones})", remedy=remedy)
    one_zone = "; one zone only: no stock there means no job" if len({node.zone for node in virtual}) == 1 else ""
    return Check.passed(id, title, f"{len(virtual)} in {zones}{one_zone}")


def _permissions(facts: Facts) -> Check:
    id, title = "account-permissions", "This account may do what the next notebooks do"
    missing = [(notebook, one) for notebook, one, answer in facts.answers if answer is False]
    unknown = {str(answer) for _, _, answer in facts.answers if isinstance(answer, Unknown)}
    if missing:
        lines = [f"{notebook}: {', '.join(str(one) for other, one in missing if other == notebook)}"
                 for notebook in dict.fromkeys(notebook for notebook, _ in missing)]  # fmt: skip
        user = "USER" if isinstance(facts.user, Unknown) else facts.user
        return Check.failed(
            id, title, "refused:\n" + "\n".join(lines),
            expected="an administrator applies this (kubectl apply -f -), once the namespace is there",
            remedy=grants(dict.fromkeys(one for _, one in missing), user),
        )  # fmt: skip
    if unknown:
        return Check.skipped(id, title, "; ".join(sorted(unknown)))
    return Check.passed(id, title, f"{len({one for _, one, _ in facts.answers})} permissions asked one by one")


def skew(version: ServerVersion) -> timedelta | None:
    """How far the server's clock is ahead of this machine's (negative: behind), as little as the answer allows.

    The Date header is cut to seconds and was written between question and answer; None where there is no header.
    """
    if version.server_time is None:
        return None
    least = version.server_time - version.answered
    most = version.server_time + timedelta(seconds=1) - version.asked
    return least if least > timedelta() else most if most < timedelta() else timedelta()


def _clock_skew(version: ServerVersion) -> Check:
    id, title = "clock-skew", "This machine's clock and the server's agree"
    ahead = skew(version)
    if ahead is None:
        return Check.skipped(id, title, "the server's answer has no Date header")
    if not ahead:
        return Check.passed(id, title, "no difference to be seen, within a second")
    seen = f"this machine is {duration(abs(ahead))} {'behind' if ahead > timedelta() else 'ahead'}"
    remedy = "timedatectl set-ntp true   # on the machine that is wrong; compare both with a third clock"
    if abs(ahead) >= SKEW_FAILS:
        return Check.failed(id, title, seen, expected=f"less than {duration(SKEW_FAILS)}", remedy=remedy)
    if abs(ahead) >= SKEW_WARNS:
        return Check.warned(id, title, seen, expected=f"less than {duration(SKEW_WARNS)}", remedy=remedy)
    return Check.passed(id, title, seen)


def _server_certificate(shown: Handshake, now: datetime) -> Check:
    id, title = "server-certificate", "The API server's certificate is verified, and valid for a while"
    if shown.reached and not shown.verified:
        return Check.warned(
            id,
            title,
            f"not verified: {shown.problem}; calls go through because the kubeconfig says insecure-skip-tls-verify",
            expected="a CA in the kubeconfig that signed this certificate",
            remedy="Get a new kubeconfig from the cluster's page in the console.",
        )
    return _expiry(
        id,
        title,
        shown.not_after,
        now,
        absent=shown.problem,
        remedy="Rotate the cluster's certificates in the console (ACK renews them before their end by itself).",
    )


def _expiry(id: str, title: str, end: datetime | None, now: datetime, *, absent: str, remedy: str) -> Check:
    if end is None:
        return Check.skipped(id, title, absent)
    left = end - now
    if left <= timedelta():
        return Check.failed(id, title, f"expired on {end:%Y-%m-%d %H:%M} UTC, {duration(-left)} ago", remedy=remedy)
    seen = f"{left // DAY} days left, until {end:%Y-%m-%d}"
    if left < EXPIRY_WARNS:
        return Check.warned(id, title, seen, expected=f"at least {EXPIRY_WARNS // DAY} days", remedy=remedy)
    return Check.passed(id, title, seen)
