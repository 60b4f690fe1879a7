"""What notebook 10 makes of the facts, without any cluster."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import yaml

from runbook.clients.kubernetes import ServerVersion
from runbook.clients.permissions import Permission
from runbook.clients.tls import Handshake
from runbook.onboarding import connection
from runbook.onboarding.connection import Facts, Network, Node, Product
from runbook.report import Report, Status, Unknown
from runbook.settings import Settings

NOW = datetime(2026, 11, 24, 12, 0, 0, 500_000, tzinfo=UTC)
THIS_SECOND = NOW.replace(microsecond=0)
VIRTUAL = Node("virtual-kubelet-cn-hangzhou-j", True, True, "cn-hangzhou-j")
ECS = Node("cn-hangzhou.192.168.0.1", False, True, "cn-hangzhou-j")


def settings(**sections: Any) -> Settings:
    values = {
        "name": "test",
        "region": "cn-hangzhou",
        "cache": {"enabled": False},
        "gitlab": {"url": "https://gitlab.example.com"},
        "smoke": {"project": "a/b"},
    }
    return Settings.parse(values | sections, where="card.yaml")


def version(server_time: datetime | None = THIS_SECOND, git: str = "v1.36.3-aliyun.1") -> ServerVersion:
    return ServerVersion(git, NOW, NOW + timedelta(milliseconds=20), server_time)


def facts(**changes: Any) -> Facts:
    """Facts of a sound ACK Serverless cluster, changed as given."""
    good = Facts(
        source="kubeconfig",
        context="ack",
        server="https://192.168.0.9:6443",
        runner_server="https://192.168.0.9:6443",
        user="admin",
        client_version="37.0.2",
        version=version(),
        nodes=(VIRTUAL, replace(VIRTUAL, name="virtual-kubelet-cn-hangzhou-k", zone="cn-hangzhou-k")),
        instances=("eci",),
        namespace=True,
        answers=(
            ("20-grant-access", Permission("create", "roles", "rbac.authorization.k8s.io", namespace="ci"), True),
        ),
        server_certificate=Handshake(True, True, NOW + timedelta(days=400)),
        runner_endpoint=Handshake(True, True, NOW + timedelta(days=400)),
        client_certificate=NOW + timedelta(days=400),
    )
    return replace(good, **changes)


def judged(card: Settings | None = None, **changes: Any) -> Report:
    return connection.judge(facts(**changes), card or settings())


def test_a_sound_cluster_is_green_without_remarks() -> None:
    """Nothing is wrong, so nothing but passes is said."""
    assert judged().verdict == "green"


# -- addresses


@pytest.mark.parametrize(
    ("url", "network"),
    [
        ("https://10.0.0.1:6443", Network.PRIVATE),
        ("https://172.16.5.4:6443", Network.PRIVATE),
        ("https://192.168.1.2:6443", Network.PRIVATE),
        ("https://100.100.2.1:6443", Network.PRIVATE),
        ("https://[fd00::1]:6443", Network.PRIVATE),
        ("https://127.0.0.1:6443", Network.LOOPBACK),
        ("https://localhost:6443", Network.LOOPBACK),
        ("https://47.96.10.20:6443", Network.PUBLIC),
        ("https://apiserver.c0ffee.cn-hangzhou.cs.aliyuncs.com:6443", Network.VPC_NAME),
        ("https://kubernetes.example.com", Network.NAME),
        ("https://cs.aliyuncs.com.example.com", Network.NAME),
    ],
)
def test_networks_are_recognised_by_address(url: str, network: Network) -> None:
    """Private ranges, loopback, Alibaba's private names and public addresses are told apart without resolving anything."""
    assert connection.network_of(url) is network


def test_runner_on_the_same_public_address_is_a_warning() -> None:
    """Where the card gives no address for the runner and this machine's is public, the private one is recommended."""
    check = judged(server="https://47.96.10.20:6443", runner_server="https://47.96.10.20:6443")["runner-endpoint"]
    assert check.status is Status.WARN
    assert "access.host" in check.remedy


RUNNER = {"access": {"host": "https://192.168.0.9:6443"}}


@pytest.mark.parametrize(
    ("runner_server", "shaken", "status", "said"),
    [
        ("https://192.168.0.9:6443", Handshake(True, True, NOW), Status.PASS, "its certificate fits"),
        (
            "https://192.168.0.9:6443",
            Handshake(False, False, None, "no connection within 15 s"),
            Status.SKIP,
            "curl --cacert",
        ),
        ("https://47.96.10.20:6443", Handshake(False, False, None, "refused"), Status.FAIL, "refused"),
        (
            "https://192.168.0.9:6443",
            Handshake(True, False, NOW, "IP address mismatch"),
            Status.FAIL,
            "IP address mismatch",
        ),
        (
            "http://192.168.0.9:8080",
            Handshake(True, False, None, "no TLS there"),
            Status.FAIL,
            "http://192.168.0.9:8080",
        ),
    ],
)
def test_the_runners_address_is_judged_by_what_can_be_seen_from_here(
    runner_server: str, shaken: Handshake, status: Status, said: str
) -> None:
    """Verified passes, a private address out of reach is left to a command for the runner's host, all else fails."""
    check = judged(settings(**RUNNER), runner_server=runner_server, runner_endpoint=shaken)["runner-endpoint"]
    assert check.status is status
    assert said in check.observed


# -- the cluster


@pytest.mark.parametrize(
    ("git", "nodes", "instances", "product"),
    [
        ("v1.36.3-aliyun.1", (VIRTUAL,), ("eci",), Product.ACK_SERVERLESS),
        ("v1.36.3-aliyun.1", (VIRTUAL,), (), Product.ACK_SERVERLESS),
        ("v1.36.3-aliyun.1", (VIRTUAL, ECS), ("eci",), Product.ACK),
        ("v1.36.3-aliyun.1", (VIRTUAL, ECS), ("acs", "eci"), Product.ACK),
        ("v1.36.3-aliyun.1", (VIRTUAL,), ("acs",), Product.ACS),
        ("v1.36.3-aliyun.1", (ECS,), (), Product.ACK_WITHOUT_ECI),
        ("v1.36.3", (VIRTUAL,), ("eci",), Product.OTHER),
    ],
)
def test_the_cluster_is_recognised(
    git: str, nodes: tuple[Node, ...], instances: tuple[str, ...], product: Product
) -> None:
    """Server version, nodes and instance ids together say which product it is."""
    assert connection.recognise(git, nodes, instances) is product


@pytest.mark.parametrize(
    ("changes", "status", "said"),
    [
        ({}, Status.PASS, "every pod becomes one ECI instance"),
        ({"instances": ()}, Status.PASS, "ACS cannot be ruled out"),
        ({"nodes": (VIRTUAL, ECS)}, Status.PASS, 'alibabacloud.com/eci: "true"'),
        ({"instances": ("acs",)}, Status.WARN, "ECI's prices do not apply"),
        ({"version": version(git="v1.33.1+k3s1")}, Status.WARN, "not a cluster of Alibaba Cloud"),
        ({"nodes": (ECS,)}, Status.FAIL, "no pod can become an ECI instance"),
        ({"nodes": Unknown("403 on nodes")}, Status.SKIP, "403 on nodes"),
    ],
)
def test_each_kind_of_cluster_is_said_with_its_consequence(changes: dict[str, Any], status: Status, said: str) -> None:
    """What the cluster is matters by what it means for a job pod; an unread fact is skipped with its reason."""
    check = judged(**changes)["cluster-kind"]
    assert check.status is status
    assert said in check.observed


def test_a_card_that_says_otherwise_is_a_warning() -> None:
    """The card's word for the cluster and what is seen must agree."""
    check = judged(settings(kubernetes={"kind": "ack"}))["cluster-kind"]
    assert check.status is Status.WARN
    assert "the card says ack" in check.observed


def manifest(name: str, labels: dict[str, str], ready: str = "True") -> dict[str, Any]:
    return {
        "metadata": {"name": name, "labels": labels},
        "status": {"conditions": [{"type": "Ready", "status": ready}]},
    }


@pytest.mark.parametrize(
    ("seen", "node"),
    [
        (manifest("virtual-kubelet-cn-hangzhou-j", {}), VIRTUAL),
        (manifest("virtual-node-eci-0", {"type": "virtual-kubelet"}), Node("virtual-node-eci-0", True, True, "")),
        (manifest("n", {"topology.kubernetes.io/zone": "z"}, "Unknown"), Node("n", False, False, "z")),
        ({"metadata": {"name": "bare"}}, Node("bare", False, False, "")),
    ],
)
def test_a_node_is_virtual_by_label_or_name(seen: dict[str, Any], node: Node) -> None:
    """Old and new virtual nodes are recognised; the zone comes from the label, else from the name."""
    assert Node.of(seen) == node


@pytest.mark.parametrize(
    ("nodes", "status", "said"),
    [
        ((VIRTUAL,), Status.PASS, "one zone only"),
        ((VIRTUAL, replace(VIRTUAL, ready=False, name="b", zone="k")), Status.WARN, "not Ready: b"),
        ((replace(VIRTUAL, ready=False),), Status.FAIL, "1 of 1 not Ready"),
    ],
)
def test_virtual_nodes_must_be_ready(nodes: tuple[Node, ...], status: Status, said: str) -> None:
    """One that sleeps is a warning, all asleep is a failure."""
    check = judged(nodes=nodes)["virtual-nodes"]
    assert check.status is status
    assert said in check.observed


@pytest.mark.parametrize(
    ("git", "status", "said"),
    [
        ("v1.37.0-aliyun.1", Status.PASS, "the same minor version as"),
        ("v1.36.3-aliyun.1", Status.PASS, "1 minor version behind"),
        ("v1.39.0", Status.PASS, "2 minor versions ahead of"),
        ("v1.21.9-aliyun.1", Status.FAIL, "16 minor versions behind"),
        ("master", Status.FAIL, "'master'"),
    ],
)
def test_the_distance_of_client_and_server_is_said(git: str, status: Status, said: str) -> None:
    """Only a server without server-side apply fails; any other distance is named."""
    check = judged(version=version(git=git))["server-version"]
    assert check.status is status
    assert said in check.observed


# -- what this account may do


def test_missing_permissions_come_as_rules_ready_to_apply() -> None:
    """Each refused permission is listed under its notebook, and the remedy is YAML for this very user."""
    role = Permission("create", "roles", "rbac.authorization.k8s.io", namespace="ci")
    volume = Permission("create", "persistentvolumes")
    answers = (("20-grant-access", role, False), ("30-create-cache-volume", volume, False), ("80", volume, True))
    check = judged(user="alice", answers=answers)["account-permissions"]
    assert check.status is Status.FAIL
    assert "20-grant-access: create roles.rbac.authorization.k8s.io in namespace ci" in check.observed
    documents = list(yaml.safe_load_all(check.remedy))
    assert [one["kind"] for one in documents] == ["Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"]
    assert {one["subjects"][0]["name"] for one in documents[1::2]} == {"alice"}


def test_unknown_permissions_are_skipped_with_their_reason() -> None:
    """An access review that could not be made is not a refusal."""
    check = judged(answers=(("20", Permission("get", "pods"), Unknown("reviews are forbidden")),))[
        "account-permissions"
    ]
    assert check.status is Status.SKIP
    assert "reviews are forbidden" in check.observed


# -- clocks and certificates


@pytest.mark.parametrize(
    ("ahead", "status"),
    [
        (timedelta(), Status.PASS),
        (timedelta(seconds=4), Status.PASS),
        (timedelta(seconds=-4), Status.PASS),
        (timedelta(seconds=10), Status.WARN),
        (timedelta(seconds=-10), Status.WARN),
        (timedelta(minutes=6), Status.FAIL),
        (timedelta(minutes=-6), Status.FAIL),
    ],
)
def test_clocks_may_differ_by_seconds_only(ahead: timedelta, status: Status) -> None:
    """Seconds pass, more than five warn, minutes fail, in both directions."""
    assert judged(version=version(THIS_SECOND + ahead))["clock-skew"].status is status


def test_a_truncated_date_header_is_no_skew() -> None:
    """The header is cut to seconds: up to one second of seeming delay is none."""
    asked = datetime(2026, 1, 1, 12, 0, 0, 999_000, tzinfo=UTC)
    seen = ServerVersion("v1", asked, asked + timedelta(milliseconds=10), datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC))
    assert connection.skew(seen) == timedelta()


def test_without_a_date_header_the_clock_is_skipped() -> None:
    """What cannot be compared is said to be so."""
    assert judged(version=version(None))["clock-skew"].status is Status.SKIP


@pytest.mark.parametrize("id", ["client-certificate", "server-certificate"])
@pytest.mark.parametrize(
    ("left", "status", "said"),
    [
        (timedelta(days=31), Status.PASS, "30 days left"),
        (timedelta(days=29), Status.WARN, "28 days left"),
        (timedelta(days=-2), Status.FAIL, "expired on 2026-11-22 12:00 UTC"),
    ],
)
def test_certificates_are_judged_by_the_days_left(id: str, left: timedelta, status: Status, said: str) -> None:
    """Less than thirty days warn, none fail."""
    end = NOW + left
    check = judged(client_certificate=end, server_certificate=Handshake(True, True, end))[id]
    assert check.status is status
    assert said in check.observed


def test_an_account_with_a_token_has_no_certificate_to_expire() -> None:
    """Without a client certificate the check is skipped, not failed."""
    assert judged(client_certificate=None)["client-certificate"].status is Status.SKIP


def test_an_unverified_server_is_a_warning() -> None:
    """A kubeconfig that skips verification is said to do so."""
    check = judged(server_certificate=Handshake(True, False, NOW, "self-signed certificate"))["server-certificate"]
    assert check.status is Status.WARN
    assert "insecure-skip-tls-verify" in check.observed


# -- the facts themselves


def test_facts_can_be_saved() -> None:
    """Facts become JSON, unknown ones included."""
    saved = json.dumps(facts(nodes=Unknown("403")).as_dict())
    assert json.loads(saved)["server"] == "https://192.168.0.9:6443"


def test_facts_have_two_faces() -> None:
    """The same rows stand in the terminal and in JupyterLab."""
    seen = facts(nodes=(replace(VIRTUAL, ready=False), ECS), namespace=False)
    for face in (str(seen), seen._repr_html_()):
        assert "cn-hangzhou-j (not Ready)" in face
        assert "not there yet: notebook 20 makes it" in face
