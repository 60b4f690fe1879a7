"""The practice cluster as one thing: control plane, eci-node, GitLab and a runner, in one folder, on loopback."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from runbook.report import text_pairs
from sandbox.alibaba.process import Alibaba
from sandbox.control_plane import ControlPlane
from sandbox.eci_node import EciNode, NodeSettings, kubelet_keys
from sandbox.gitlab.process import GitLab
from sandbox.process import SandboxError
from sandbox.runner.process import Runner
from sandbox.toolchain import programs

ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / "var" / "practice"
CARD = ROOT / "data" / "clusters" / "practice.yaml"

BRISK = NodeSettings(schedule_seconds=0.5, pull_seconds=1, buckets=("practice-ci-cache",))
"""A virtual node that starts a pod in under two seconds, so that a person sees each stage and waits for none."""

FRESH_CONFIG = """\
# As the gitlab-runner package leaves it. Kept by hand; changes are read without a restart.
concurrent = 1
check_interval = 1
shutdown_timeout = 0

[session_server]
  session_timeout = 1800
"""


class PracticeCluster:
    """Started with `start` or `with`, gone with `stop`; several may run at once, each in a folder of its own.

    `node` says how its virtual nodes behave. `say` receives a line for each step that takes time.
    """

    def __init__(self, folder: Path = HOME, *, node: NodeSettings = BRISK, say: Callable[[str], None] = print) -> None:
        self.folder = folder.resolve()
        self._node = node
        self._say = say
        self._mark = self.folder / "running"

    def start(self) -> PracticeCluster:
        """Build what is not built yet, start everything, and return when jobs can run. Raises SandboxError."""
        self._claim_folder()
        try:
            built = programs(say=self._say)
            started = time.monotonic()
            self._start_gitlab()
            self._start_control_plane(built)
            self._start_node(built)
            self._start_alibaba()
            self._start_runner()
            self.seconds_to_start = time.monotonic() - started
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Stop every program in reverse order and remove the folder."""
        for part in ("runner", "alibaba", "node", "control_plane", "gitlab"):
            if hasattr(self, part):
                getattr(self, part).stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> PracticeCluster:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def how_to_reach(self) -> str:
        """What a person needs to use it, as a few lines."""
        shown = self.card.relative_to(ROOT) if self.card.is_relative_to(ROOT) else self.card
        rows = {
            "card": str(shown),
            "Kubernetes": f"export KUBECONFIG={self.kubeconfig}",
            "GitLab": f"{self.gitlab.url}   (token of root: {self.folder / 'gitlab' / 'root-token'})",
            "try": f"papermill notebooks/onboarding/10-check-connection.ipynb out.ipynb -p cluster {shown}",
        }
        return text_pairs(f"The practice cluster is ready ({self.seconds_to_start:.1f} s).", rows)

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.folder / "kubeconfig"

    @property
    def card(self) -> Path:
        """The cluster card of this instance: data/clusters/practice.yaml, or a copy that names this folder."""
        if self.folder == HOME:
            return CARD
        path = self.folder / "card.yaml"
        if not path.exists():
            path.write_text(CARD.read_text().replace("var/practice", str(self.folder)))
        return path

    def restricted_kubeconfig(
        self, name: str, rules: Sequence[dict[str, Any]] = (), namespace: str | None = None
    ) -> Path:
        """A kubeconfig of a user who may do what `rules` (RBAC PolicyRules) say, in one namespace or everywhere; no rules, no rights."""
        path = self.control_plane.kubeconfig(name)
        if rules:
            self._grant(name, rules, namespace)
        return path

    def expired_kubeconfig(self, name: str) -> Path:
        """A kubeconfig whose client certificate ended in 2021."""
        return self.control_plane.kubeconfig(
            name, group="system:masters", not_before=datetime(2020, 11, 1), not_after=datetime(2021, 11, 1)
        )

    def _grant(self, name: str, rules: Sequence[dict[str, Any]], namespace: str | None) -> None:
        kind = "Role" if namespace else "ClusterRole"
        meta = {"name": name, **({"namespace": namespace} if namespace else {})}
        group = {"apiGroup": "rbac.authorization.k8s.io"}
        role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": meta, "rules": list(rules)}
        binding = {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": f"{kind}Binding",
            "metadata": meta,
            "subjects": [{"kind": "User", "name": name, **group}],
            "roleRef": {"kind": kind, "name": name, **group},
        }
        self.kubectl(
            "apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": [role, binding]})
        )

    def kubectl(self, *arguments: str, stdin: str = "") -> str:
        """Run kubectl as administrator and return what it printed. Raises SandboxError with its complaint."""
        done = subprocess.run(
            [kubectl_program(), "--kubeconfig", str(self.kubeconfig), *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise SandboxError(f"kubectl {' '.join(arguments)} failed.", value=done.stderr.strip())
        return done.stdout

    def _claim_folder(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        if self._mark.exists() and _alive(int(self._mark.read_text() or 0)):
            raise SandboxError(
                "A practice cluster is running in this folder already.",
                where=str(self.folder),
                value=f"process {self._mark.read_text()}",
                remedy="Use that one, or stop it first (Ctrl-C where it runs).",
            )
        self._mark.write_text(str(os.getpid()))

    def _start_gitlab(self) -> None:
        self.gitlab = GitLab(self.folder / "gitlab-server").start()
        self._write("gitlab/url", self.gitlab.url)
        self._write("gitlab/root-token", self.gitlab.token("root"))

    def _start_control_plane(self, built: Mapping[str, Path]) -> None:
        self.control_plane = ControlPlane(self.folder / "control-plane", built).start()
        shutil.copy(self.control_plane.admin, self.kubeconfig)

    def _start_node(self, built: Mapping[str, Path]) -> None:
        self._write("oss/access-key-id", "LTAI" + secrets.token_hex(8))
        self._write("oss/access-key-secret", secrets.token_hex(15))
        settings = replace(
            self._node,
            reachable=(self.gitlab.url.removeprefix("http://"),),
            gitlab_runner_helper=built["gitlab-runner-helper"],
        )
        keys = kubelet_keys(self.control_plane.keys.folder)
        self.node = EciNode(built["eci-node"], self.kubeconfig, self.folder / "eci-node", keys, settings).start()

    def _start_alibaba(self) -> None:
        # The bill shows the running day too: nobody practises until tomorrow.
        self.alibaba = Alibaba(
            self.folder / "alibaba-server",
            journal=self.node.journal,
            region=self._node.region,
            bill_delay_hours=-24,
        ).start()
        key, secret = self.alibaba.access_key()
        self._write("alibaba/url", self.alibaba.url)
        self._write("alibaba/access-key-id", key)
        self._write("alibaba/access-key-secret", secret)

    def _start_runner(self) -> None:
        self._write("runner/config.toml", FRESH_CONFIG)
        self.runner = Runner(self.folder / "runner" / "config.toml").start()

    def _write(self, name: str, value: str) -> None:
        """A file that only its owner reads: the practice card refers to it."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.write_text(value)
        path.chmod(0o600)


def kubectl_program() -> str:
    """kubectl of the virtual environment that runs us, else the one on PATH."""
    beside = Path(sys.executable).parent / "kubectl"
    return str(beside) if beside.exists() else "kubectl"


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return pid > 0
