"""The real kube-apiserver on the real etcd, with the controllers that job pods need; loopback only, RBAC and TLS on."""

from __future__ import annotations

import base64
import http.client
import json
import shutil
import signal
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trustme
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from sandbox.process import Process, SandboxError, free_ports

CONTROLLERS = (
    "serviceaccount-controller",  # a `default` ServiceAccount in each namespace, or no pod is accepted
    "serviceaccount-token-controller",  # fills Secrets of type service-account-token: the runner's own token
    "root-ca-certificate-publisher-controller",  # kube-root-ca.crt, which the projected token volume wants
    "garbage-collector-controller",  # gitlab-runner deletes with foreground propagation up to 16.3
    "namespace-controller",  # or a namespace never goes
    "persistentvolume-binder-controller",
    "persistentvolumeclaim-protection-controller",
    "node-lifecycle-controller",
    "pod-garbage-collector-controller",
)


@dataclass(frozen=True)
class Keys:
    """The files of one practice cluster's certificate authority and of those it vouches for."""

    folder: Path
    authority: trustme.CA

    @classmethod
    def make(cls, folder: Path) -> Keys:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        keys = cls(folder, trustme.CA())
        keys.authority.cert_pem.write_to_path(folder / "ca.crt")
        keys.issue("apiserver", "127.0.0.1", "localhost", "kubernetes", "kubernetes.default.svc", "10.96.0.1")
        keys.issue("kubelet", "127.0.0.1", "localhost")
        keys.issue("apiserver-kubelet-client", name="kube-apiserver-kubelet-client", group="system:masters")
        signing = ec.generate_private_key(ec.SECP256R1())
        (folder / "sa.key").write_bytes(
            signing.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.TraditionalOpenSSL,
                serialization.NoEncryption(),
            )
        )
        (folder / "sa.pub").write_bytes(
            signing.public_key().public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            )
        )
        for path in folder.iterdir():
            path.chmod(0o600)
        return keys

    def __getitem__(self, file: str) -> Path:
        return self.folder / file

    def issue(self, file: str, *hosts: str, name: str | None = None, group: str | None = None, **validity: Any) -> None:
        """Write FILE.crt and FILE.key: for `hosts` a server's, for `name` a client's in RBAC `group`."""
        # Go refuses trustme's certificate when it names no host at all, so a client's names one that resolves nowhere.
        hosts = hosts or ("client.invalid",)
        leaf = self.authority.issue_cert(*hosts, common_name=name or hosts[0], organization_name=group, **validity)
        leaf.cert_chain_pems[0].write_to_path(self.folder / f"{file}.crt")
        leaf.private_key_pem.write_to_path(self.folder / f"{file}.key")
        (self.folder / f"{file}.key").chmod(0o600)


class ControlPlane:
    """etcd, kube-apiserver and kube-controller-manager in one folder; `start` returns when /readyz says ok."""

    def __init__(self, folder: Path, programs: Mapping[str, Path]) -> None:
        self.folder = folder
        self.programs = programs
        self.keys = Keys.make(folder / "pki")
        self.server = ""
        self._processes: list[Process] = []

    def start(self) -> ControlPlane:
        self._etcd_port, peer_port, self.port, controller_port = free_ports(4)
        self.server = f"https://127.0.0.1:{self.port}"
        self.kubeconfig("admin", group="system:masters")
        self._start_etcd(self._etcd_port, peer_port)
        self._start_apiserver(self._etcd_port)
        self._start_controllers(controller_port)
        return self

    def stop(self) -> None:
        """Stop everything in reverse order; the data goes with it."""
        for process in reversed(self._processes):
            process.stop()
        self._processes.clear()
        shutil.rmtree(self.folder / "etcd", ignore_errors=True)

    def restart_apiserver(self) -> None:
        """End the API server at once, as a crash would, and start it again at the same address.

        To be called by the thread that stops the practice cluster: a program ends with the thread that started it.
        """
        server = next(process for process in self._processes if process.name == "kube-apiserver")
        server.signal(signal.SIGKILL)
        server.stop()
        server.start()
        server.wait_until(self._apiserver_answers, timeout=60)

    def compact(self) -> int:
        """Let etcd forget everything that happened until now, and return the resource version that is left of it.

        An API server that is restarted afterwards answers 410 to watches from before.
        """
        reached = int(self._ask_etcd("/v3/kv/range", {"key": "AA=="})["header"]["revision"])
        self._ask_etcd("/v3/kv/compaction", {"revision": str(reached), "physical": True})
        return reached

    def _ask_etcd(self, path: str, question: dict[str, Any]) -> dict[str, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self._etcd_port, timeout=30)
        try:
            connection.request("POST", path, json.dumps(question))
            reply = connection.getresponse()
            answer: dict[str, Any] = json.load(reply)
        finally:
            connection.close()
        if reply.status != 200:
            raise SandboxError(f"etcd refused {path}.", value=str(answer))
        return answer

    @property
    def pids(self) -> dict[str, int]:
        return {process.name: process.pid for process in self._processes}

    @property
    def admin(self) -> Path:
        """The administrator's kubeconfig."""
        return self.folder / "admin.kubeconfig"

    def kubeconfig(self, name: str, *, group: str | None = None, **validity: Any) -> Path:
        """Write NAME.kubeconfig for a user of that name, with a client certificate of its own; no right comes with it.

        `validity` takes `not_before` and `not_after`, so that a test can hand out an expired certificate.
        """
        self.keys.issue(name, name=name, group=group, **validity)
        path = self.folder / f"{name}.kubeconfig"
        path.write_text(
            kubeconfig_text(self.server, self.keys["ca.crt"], self.keys[f"{name}.crt"], self.keys[f"{name}.key"], name)
        )
        path.chmod(0o600)
        return path

    def _run(self, name: str, arguments: Sequence[str]) -> Process:
        log = self.folder / "log" / f"{name}.log"
        # Without its etcd a kube-apiserver never ends by SIGTERM, and when our process is gone, so is etcd.
        process = Process(name, [self.programs[name], *arguments], log=log, orphaned=signal.SIGKILL).start()
        self._processes.append(process)
        return process

    def _start_etcd(self, port: int, peer_port: int) -> None:
        client, peer = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{peer_port}"
        self._run(
            "etcd",
            [
                f"--data-dir={self.folder / 'etcd'}",
                f"--listen-client-urls={client}",
                f"--advertise-client-urls={client}",
                f"--listen-peer-urls={peer}",
                f"--initial-advertise-peer-urls={peer}",
                f"--initial-cluster=default={peer}",
                "--unsafe-no-fsync",
                "--log-level=warn",
            ],
        ).wait_until(lambda: _answers(port, "/health"))

    def _start_apiserver(self, etcd_port: int) -> None:
        keys = self.keys
        self._run(
            "kube-apiserver",
            [
                f"--etcd-servers=http://127.0.0.1:{etcd_port}",
                "--bind-address=127.0.0.1",
                f"--secure-port={self.port}",
                "--advertise-address=127.0.0.1",
                "--endpoint-reconciler-type=none",
                f"--tls-cert-file={keys['apiserver.crt']}",
                f"--tls-private-key-file={keys['apiserver.key']}",
                f"--client-ca-file={keys['ca.crt']}",
                "--service-account-issuer=https://kubernetes.default.svc",
                f"--service-account-signing-key-file={keys['sa.key']}",
                f"--service-account-key-file={keys['sa.pub']}",
                "--service-cluster-ip-range=10.96.0.0/24",
                "--authorization-mode=Node,RBAC",
                "--allow-privileged=true",
                f"--kubelet-certificate-authority={keys['ca.crt']}",
                f"--kubelet-client-certificate={keys['apiserver-kubelet-client.crt']}",
                f"--kubelet-client-key={keys['apiserver-kubelet-client.key']}",
                "--kubelet-preferred-address-types=InternalIP",
                f"--cert-dir={self.folder / 'apiserver'}",
            ],
        ).wait_until(self._apiserver_answers, timeout=60)

    def _apiserver_answers(self) -> bool:
        context = ssl.create_default_context(cafile=str(self.keys["ca.crt"]))
        context.load_cert_chain(self.keys["admin.crt"], self.keys["admin.key"])
        return _answers(self.port, "/readyz", context)

    def _start_controllers(self, port: int) -> None:
        self._run(
            "kube-controller-manager",
            [
                f"--kubeconfig={self.admin}",
                "--bind-address=127.0.0.1",
                f"--secure-port={port}",
                "--leader-elect=false",
                "--use-service-account-credentials=true",
                f"--service-account-private-key-file={self.keys['sa.key']}",
                f"--root-ca-file={self.keys['ca.crt']}",
                f"--cert-dir={self.folder / 'controller-manager'}",
                f"--controllers={','.join(CONTROLLERS)}",
            ],
        )


def kubeconfig_text(server: str, ca: Path, cert: Path, key: Path, name: str) -> str:
    """A kubeconfig with one context, the certificates inside it as ACK's console gives them."""

    def data(path: Path) -> str:
        return base64.b64encode(path.read_bytes()).decode()

    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "practice", "cluster": {"server": server, "certificate-authority-data": data(ca)}}],
            "users": [{"name": name, "user": {"client-certificate-data": data(cert), "client-key-data": data(key)}}],
            "contexts": [{"name": f"{name}@practice", "context": {"cluster": "practice", "user": name}}],
            "current-context": f"{name}@practice",
        },
        sort_keys=False,
    )


def _answers(port: int, path: str, context: ssl.SSLContext | None = None) -> bool:
    connection = (
        http.client.HTTPSConnection("127.0.0.1", port, timeout=2, context=context)
        if context
        else http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    )
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()
