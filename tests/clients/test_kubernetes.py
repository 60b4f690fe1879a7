"""The Kubernetes API's every failure is a page, tried on a TLS server that answers as the test says."""

from __future__ import annotations

import base64
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml

from runbook.clients import connect
from runbook.clients.kubernetes import Cluster, known
from runbook.clients.permissions import Permission, grants, rules
from runbook.errors import KubernetesError
from runbook.plan import Action, Change, Plan
from runbook.report import Unknown
from runbook.settings import Settings

TOKEN = "planted-token-that-nobody-may-see"
Answer = tuple[int, Any, dict[str, str]]


class ApiServer:
    """A TLS server that answers each request by `answers(method, path, body)` and remembers what it was asked."""

    def __init__(self, answers: Callable[[str, str, Any], Answer], **certificate: Any) -> None:
        self.authority = trustme.CA()
        self.asked: list[tuple[str, str, str, Any]] = []
        self.tokens: list[str | None] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _answer(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(length)) if length else None
                server.asked.append((self.command, self.path, self.headers.get("Content-Type", ""), body))
                server.tokens.append(self.headers.get("Authorization"))
                status, said, headers = answers(self.command, self.path, body)
                content = said if isinstance(said, bytes) else json.dumps(said).encode()
                self.send_response(status)
                for name, value in ({"Content-Type": "application/json"} | headers).items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PATCH = do_DELETE = _answer

            def handle(self) -> None:
                try:
                    super().handle()
                except OSError:  # a client that does not trust the certificate hangs up: that is what is tested
                    self.close_connection = True

            def log_message(self, *_: object) -> None:
                """Tests are quiet."""

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        names = certificate.pop("names", ("127.0.0.1",))
        self.authority.issue_cert(*names, **certificate).configure_cert(context)
        self._http.socket = context.wrap_socket(self._http.socket, server_side=True, do_handshake_on_connect=False)
        self.url = f"https://127.0.0.1:{self._http.server_address[1]}"
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        self._http.shutdown()
        self._http.server_close()


Serve = Callable[..., ApiServer]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start API servers; all are stopped afterwards."""
    servers = []

    def start(answers: Callable[[str, str, Any], Answer] | Answer, **certificate: Any) -> ApiServer:
        fixed = answers if callable(answers) else lambda *_: answers
        servers.append(ApiServer(fixed, **certificate))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


def encoded(pem: bytes) -> str:
    return base64.b64encode(pem).decode()


def kubeconfig(path: Path, server: str, ca: trustme.CA, user: dict[str, Any] | None = None) -> Path:
    """Write a kubeconfig with one context, `here`; its user has TOKEN unless another one is given."""
    cluster = {"server": server, "certificate-authority-data": encoded(ca.cert_pem.bytes())}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": {"token": TOKEN} if user is None else user}],
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "here",
    }
    path.write_text(yaml.safe_dump(document))
    return path


def card(**kubernetes: Any) -> Settings:
    """A card whose kubernetes section is as given."""
    values = {
        "name": "test",
        "region": "cn-hangzhou",
        "kubernetes": {key: str(value) if isinstance(value, Path) else value for key, value in kubernetes.items()},
        "cache": {"enabled": False},
        "gitlab": {"url": "https://gitlab.example.com"},
        "smoke": {"project": "a/b"},
    }
    return Settings.parse(values, where="card.yaml")


def cluster_of(server: ApiServer, folder: Path, **more: Any) -> Cluster:
    return connect.kubernetes(card(kubeconfig=kubeconfig(folder / "kubeconfig", server.url, server.authority), **more))


def page(error: pytest.ExceptionInfo[KubernetesError]) -> str:
    """The error as a reader sees it, after making sure that it holds no secret."""
    text = str(error.value)
    assert TOKEN not in text
    return text


# -- the kubeconfig


def test_missing_kubeconfig_names_card_field_and_path(tmp_path: Path) -> None:
    """A kubeconfig that is not there is reported with the card's field, the path, and how to get one."""
    with pytest.raises(KubernetesError) as error:
        connect.kubernetes(card(kubeconfig=tmp_path / "absent"))
    assert "There is no kubeconfig." in page(error)
    assert "card.yaml: kubernetes.kubeconfig" in page(error)
    assert str(tmp_path / "absent") in page(error)
    assert "console" in page(error)


def test_unknown_context_lists_those_there(tmp_path: Path) -> None:
    """A context that the kubeconfig does not have is answered with the names that it has."""
    path = kubeconfig(tmp_path / "kubeconfig", "https://127.0.0.1:1", trustme.CA())
    with pytest.raises(KubernetesError) as error:
        connect.kubernetes(card(kubeconfig=path, context="production"))
    assert "card.yaml: kubernetes.context" in page(error)
    assert "'production'" in page(error)
    assert "allowed: here" in page(error)


def test_kubeconfig_without_current_context_asks_for_one(tmp_path: Path) -> None:
    """Where neither card nor file names a context, the error says so instead of choosing one."""
    path = kubeconfig(tmp_path / "kubeconfig", "https://127.0.0.1:1", trustme.CA())
    path.write_text(path.read_text().replace("current-context: here", "current-context: ''"))
    with pytest.raises(KubernetesError, match="no current-context, and the card names none"):
        connect.kubernetes(card(kubeconfig=path))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "empty or not a mapping"),
        ("- a\n- b\n", "empty or not a mapping"),
        (f"users:\n- token: {TOKEN}\n  broken: [\n", r"not YAML \(line"),
        ("\x00\x01", "not YAML"),
    ],
)
def test_damaged_kubeconfig_is_not_quoted(tmp_path: Path, content: str, problem: str) -> None:
    """A file that is no kubeconfig is named, and nothing of its content is shown."""
    path = tmp_path / "kubeconfig"
    path.write_text(content)
    with pytest.raises(KubernetesError, match=problem) as error:
        connect.kubernetes(card(kubeconfig=path))
    assert str(path) in page(error)


def test_kubeconfig_with_a_broken_certificate_is_damaged(tmp_path: Path) -> None:
    """Certificate data that is not base64 is called damage, without showing it."""
    user = {"client-certificate-data": "abc", "client-key-data": TOKEN}
    path = kubeconfig(tmp_path / "kubeconfig", "https://127.0.0.1:1", trustme.CA(), user)
    with pytest.raises(KubernetesError, match="damaged") as error:
        connect.kubernetes(card(kubeconfig=path))
    assert "context here" in page(error)


def test_client_certificate_that_is_none_is_a_page(tmp_path: Path, serve: Serve) -> None:
    """Certificate data that is base64 but no certificate ends in a page about TLS, not in a stack of frames."""
    server = serve((200, {}, {}))
    user = {"client-certificate-data": encoded(b"no certificate"), "client-key-data": encoded(TOKEN.encode())}
    path = kubeconfig(tmp_path / "kubeconfig", server.url, server.authority, user)
    with pytest.raises(KubernetesError, match="No TLS connection"):
        connect.kubernetes(card(kubeconfig=path)).version()


def test_context_without_credentials_is_refused_before_a_call(tmp_path: Path) -> None:
    """A user without certificate and token does not go on as anonymous."""
    path = kubeconfig(tmp_path / "kubeconfig", "https://127.0.0.1:1", trustme.CA(), {})
    with pytest.raises(KubernetesError, match="no usable credentials"):
        connect.kubernetes(card(kubeconfig=path))


def test_in_cluster_outside_a_cluster_says_where_it_works() -> None:
    """in_cluster on a machine that is no pod names the field and the way out."""
    with pytest.raises(KubernetesError) as error:
        connect.kubernetes(card(in_cluster=True))
    assert "card.yaml: kubernetes.in_cluster" in page(error)
    assert "in_cluster: false" in page(error)


def test_client_names_its_source_and_hides_its_token(tmp_path: Path, serve: Serve) -> None:
    """The client's repr says server, file and context, and no credential."""
    server = serve((200, {}, {}))
    client = cluster_of(server, tmp_path)
    assert repr(client) == f"Cluster({server.url}, {tmp_path / 'kubeconfig'}, context here)"


# -- the way to the server


def test_wrong_ca_is_named(tmp_path: Path, serve: Serve) -> None:
    """A server whose certificate another CA signed is recognised as such."""
    server = serve((200, {}, {}))
    path = kubeconfig(tmp_path / "kubeconfig", server.url, trustme.CA())
    with pytest.raises(KubernetesError, match="wrong CA") as error:
        connect.kubernetes(card(kubeconfig=path)).version()
    assert server.url in page(error)
    assert server.asked == []


def test_certificate_for_another_address_is_named(tmp_path: Path, serve: Serve) -> None:
    """A certificate that does not name the address is told apart from a wrong CA."""
    server = serve((200, {}, {}), names=("kubernetes.example.com",))
    with pytest.raises(KubernetesError, match="another address"):
        cluster_of(server, tmp_path).version()


def test_expired_server_certificate_is_named(tmp_path: Path, serve: Serve) -> None:
    """An expired server certificate is told apart from a wrong CA."""
    server = serve((200, {}, {}), not_before=datetime(2020, 1, 1), not_after=datetime(2021, 1, 1))
    with pytest.raises(KubernetesError, match="has expired"):
        cluster_of(server, tmp_path).version()


def test_no_server_is_refused(tmp_path: Path, serve: Serve) -> None:
    """Where nothing listens, the error says so at once, with the address and the kubeconfig."""
    server = serve((200, {}, {}))
    client = cluster_of(server, tmp_path)
    server.stop()
    began = time.monotonic()
    with pytest.raises(KubernetesError, match="refuses connections") as error:
        client.version()
    assert time.monotonic() - began < 5
    assert server.url in page(error)


def test_unknown_name_is_told_apart(tmp_path: Path) -> None:
    """A name that does not resolve mentions that Alibaba's private names resolve in the VPC only."""
    path = kubeconfig(
        tmp_path / "kubeconfig", "https://apiserver.c0.cn-hangzhou.cs.aliyuncs.invalid:6443", trustme.CA()
    )
    with pytest.raises(KubernetesError, match="cannot be resolved") as error:
        connect.kubernetes(card(kubeconfig=path)).version()
    assert "VPC" in page(error)


def test_slow_server_is_given_the_cards_time(tmp_path: Path, serve: Serve) -> None:
    """A server that does not answer in time ends in an error that names the seconds and the card's field."""

    def slowly(*_: Any) -> Answer:
        time.sleep(2)
        return 200, {}, {}

    client = cluster_of(serve(slowly), tmp_path, request_timeout=0.3)
    began = time.monotonic()
    with pytest.raises(KubernetesError, match=r"no answer within 0\.3 s") as error:
        client.version()
    assert time.monotonic() - began < 2
    assert "kubernetes.request_timeout" in page(error)


def test_a_web_page_is_no_api_server(tmp_path: Path, serve: Serve) -> None:
    """HTML in place of JSON is called what it is, and not shown."""
    server = serve((200, b"<html>welcome</html>", {"Content-Type": "text/html"}))
    with pytest.raises(KubernetesError, match="not a Kubernetes API server") as error:
        cluster_of(server, tmp_path).version()
    assert "welcome" not in page(error)


# -- answers

NAMESPACE = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}}
SECRET = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "n"}}
PLAN = Plan(
    "p",
    [
        Change(Action.CREATE, "Namespace", "n", desired=NAMESPACE),
        Change(Action.CREATE, "Secret", "n/s", desired=SECRET),
    ],
)


def status(code: int, message: str) -> Answer:
    return code, {"kind": "Status", "code": code, "message": message}, {}


def test_unauthorized_with_an_expired_certificate_says_so(tmp_path: Path, serve: Serve) -> None:
    """401 with a client certificate that has ended names the day, not just the refusal."""
    server = serve(status(401, "Unauthorized"))
    mine = server.authority.issue_cert("u", not_before=datetime(2020, 1, 1), not_after=datetime(2021, 1, 1))
    user = {
        "client-certificate-data": encoded(mine.cert_chain_pems[0].bytes()),
        "client-key-data": encoded(mine.private_key_pem.bytes()),
    }
    path = kubeconfig(tmp_path / "kubeconfig", server.url, server.authority, user)
    with pytest.raises(KubernetesError, match="expired on 2021-01-01") as error:
        connect.kubernetes(card(kubeconfig=path)).list("Pod")
    assert error.value.status == 401
    assert "PRIVATE KEY" not in page(error)


def test_unauthorized_with_a_token_says_what_may_be_wrong(tmp_path: Path, serve: Serve) -> None:
    """401 with a token names the kubeconfig that it came from."""
    with pytest.raises(KubernetesError, match="does not know this account") as error:
        cluster_of(serve(status(401, "Unauthorized")), tmp_path).list("Pod")
    assert str(tmp_path / "kubeconfig") in page(error)


def test_forbidden_prints_the_missing_rule(tmp_path: Path, serve: Serve) -> None:
    """403 ends with a Role and a RoleBinding for the very user, ready to apply."""
    refusal = status(
        403, 'pods is forbidden: User "alice" cannot list resource "pods" in API group "" in the namespace "ci"'
    )
    with pytest.raises(KubernetesError, match="may not list pods in namespace ci") as error:
        cluster_of(serve(refusal), tmp_path).list("Pod", "ci")
    _, _, rule = str(error.value.remedy).partition("\n")
    role, binding = yaml.safe_load_all(rule)
    assert role["rules"] == [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}]
    assert binding["subjects"][0]["name"] == "alice"
    assert binding["metadata"]["namespace"] == "ci"


def test_forbidden_names_the_verb_that_the_server_missed(tmp_path: Path, serve: Serve) -> None:
    """An apply needs patch, and create where there is nothing yet: the printed rule holds the one that is missing."""
    said = 'User "bob" cannot create resource "roles" in API group "rbac.authorization.k8s.io" in the namespace "n"'
    with pytest.raises(KubernetesError, match=r"may not create roles\.rbac") as error:
        cluster_of(serve(status(403, said)), tmp_path).apply({**SECRET, "kind": "Role"}, dry_run=False)
    assert "- create" in str(error.value.remedy)


def test_handing_out_more_than_one_has_is_explained(tmp_path: Path, serve: Serve) -> None:
    """Kubernetes' refusal of an escalation is told apart from a missing verb."""
    said = 'user "bob" (groups=["x"]) is attempting to grant RBAC permissions not currently held: {...}'
    with pytest.raises(KubernetesError, match="rights that it does not have itself") as error:
        cluster_of(serve(status(403, said)), tmp_path).apply({**SECRET, "kind": "Role"}, dry_run=False)
    assert "Notebook 10" in page(error)


@pytest.mark.parametrize("code", [409, 422, 500, 503])
def test_other_refusals_carry_status_and_the_servers_words(tmp_path: Path, serve: Serve, code: int) -> None:
    """Every refused change keeps its status for the caller and the server's message for the reader."""
    with pytest.raises(KubernetesError, match=rf"\({code}\)") as error:
        cluster_of(serve(status(code, "because of this")), tmp_path).apply(SECRET, dry_run=False)
    assert error.value.status == code
    assert "because of this" in page(error)


def test_overloaded_server_is_asked_again(tmp_path: Path, serve: Serve) -> None:
    """A read that gets 429 is repeated, however long the server asks us to wait."""
    answers = iter([(429, {}, {"Retry-After": "86400"}), (200, {"items": [{"metadata": {"name": "one"}}]}, {})])
    server = serve(lambda *_: next(answers))
    assert [item["metadata"]["name"] for item in cluster_of(server, tmp_path).list("Pod")] == ["one"]
    assert len(server.asked) == 2


def test_a_change_is_never_sent_twice(tmp_path: Path, serve: Serve) -> None:
    """A change that fails on the server's side is not repeated behind the caller's back."""
    server = serve(status(503, "try later"))
    with pytest.raises(KubernetesError):
        cluster_of(server, tmp_path).create({"kind": "Pod", "metadata": {"name": "p", "namespace": "n"}}, dry_run=False)
    assert len(server.asked) == 1


def test_absent_object_is_none(tmp_path: Path, serve: Serve) -> None:
    """404 on one object is an answer, not an error."""
    assert cluster_of(serve(status(404, "not found")), tmp_path).get("Secret", "s", "n") is None


def test_deleting_what_is_gone_succeeds(tmp_path: Path, serve: Serve) -> None:
    """Deleting twice is as good as once."""
    cluster_of(serve(status(404, "not found")), tmp_path).delete("Pod", "p", "n", dry_run=False)


def test_lists_are_read_to_their_end(tmp_path: Path, serve: Serve) -> None:
    """A list that comes in pages is one list."""

    def pages(_: str, path: str, __: Any) -> Answer:
        last = "continue=more" in path
        return 200, {"items": [{"n": 2 if last else 1}], "metadata": {} if last else {"continue": "more"}}, {}

    assert cluster_of(serve(pages), tmp_path).list("Pod", "ci", labels="a=b") == [{"n": 1}, {"n": 2}]


def test_apply_is_a_server_side_apply_and_rehearses_on_the_server(tmp_path: Path, serve: Serve) -> None:
    """A dry run is the server's: the same request with dryRun=All, by our field manager."""
    server = serve((200, {"kind": "Secret"}, {}))
    client = cluster_of(server, tmp_path)
    for dry_run in (True, False):
        client.apply(SECRET, dry_run=dry_run)
    assert [(method, path) for method, path, _, _ in server.asked] == [
        ("PATCH", "/api/v1/namespaces/n/secrets/s?fieldManager=runbook&force=true&dryRun=All"),
        ("PATCH", "/api/v1/namespaces/n/secrets/s?fieldManager=runbook&force=true"),
    ]
    assert server.asked[0][2] == "application/apply-patch+yaml"
    assert server.asked[0][3] == SECRET


def test_another_account_does_not_show_the_first_ones_token(tmp_path: Path, serve: Serve) -> None:
    """with_token talks to the same server with that token only, and leaves the first client as it was."""
    server = serve((200, {"status": {"userInfo": {"username": "bob"}}}, {}))
    client = cluster_of(server, tmp_path)
    assert client.with_token("other").whoami() == "bob"
    client.whoami()
    assert server.tokens == ["Bearer other", f"Bearer {TOKEN}"]


# -- values


def test_known_keeps_a_refusal_as_a_fact() -> None:
    """What the server refuses becomes Unknown with the reason; a server that is not there still raises."""

    def fail(code: int | None) -> None:
        error = KubernetesError("Not allowed.")
        error.status = code
        raise error

    assert known(lambda: fail(403)) == Unknown("Not allowed")
    for code in (None, 401):
        with pytest.raises(KubernetesError):
            known(lambda code=code: fail(code))


def test_rules_are_as_few_as_possible() -> None:
    """Verbs of one resource, and resources with the same verbs, share a rule."""
    asked = [Permission(verb, plural) for plural in ("pods", "secrets") for verb in ("get", "list")]
    assert rules([*asked, Permission("create", "pods", subresource="exec")]) == [
        {"apiGroups": [""], "resources": ["pods", "secrets"], "verbs": ["get", "list"]},
        {"apiGroups": [""], "resources": ["pods/exec"], "verbs": ["create"]},
    ]


def test_grants_bind_a_service_account_where_it_lives() -> None:
    """Rights for the whole cluster become a ClusterRole, and a ServiceAccount is bound as one."""
    documents = list(yaml.safe_load_all(grants([Permission("list", "nodes")], "system:serviceaccount:ns:me")))
    assert [one["kind"] for one in documents] == ["ClusterRole", "ClusterRoleBinding"]
    assert documents[1]["subjects"] == [{"kind": "ServiceAccount", "namespace": "ns", "name": "me"}]


def test_rehearsal_passes_over_objects_of_a_namespace_to_come(tmp_path: Path, serve: Serve) -> None:
    """In a dry run, what lies in a namespace that the same plan creates is returned, and only asked about."""
    server = serve((200, {"status": {"allowed": True}}, {}))
    assert list(cluster_of(server, tmp_path).carry_out(PLAN, dry_run=True)) == PLAN.changes[1:]
    changing = [path for method, path, _, _ in server.asked if method == "PATCH"]
    assert changing == ["/api/v1/namespaces/n?fieldManager=runbook&force=true&dryRun=All"]


def test_a_refusal_comes_before_the_first_change(tmp_path: Path, serve: Serve) -> None:
    """A plan of which one part is forbidden changes nothing at all, and prints the missing rule."""
    server = serve((200, {"status": {"allowed": False, "userInfo": {"username": "alice"}}}, {}))
    with pytest.raises(KubernetesError, match="may not create secrets in namespace n") as error:
        cluster_of(server, tmp_path).carry_out(PLAN, dry_run=False)
    assert "name: alice" in page(error)
    assert all("dryRun=All" in path for method, path, _, _ in server.asked if method == "PATCH")
