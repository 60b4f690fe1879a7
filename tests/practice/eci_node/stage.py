"""The stage of these tests: an API server with virtual nodes whose clock runs 120 times as fast as real time."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sandbox.control_plane import ControlPlane
from sandbox.eci_node import EciNode
from sandbox.practice import kubectl_program

ZONES = ("cn-hangzhou-i", "cn-hangzhou-j")
FACTOR = 120.0
ECI = "k8s.aliyun.com/"
SPOT = {ECI + "eci-spot-strategy": "SpotAsPriceGo", ECI + "eci-spot-duration": "0"}


@dataclass
class Stage:
    """An API server with virtual nodes, and what tests do with pods."""

    control_plane: ControlPlane
    node: EciNode
    program: Path
    serial: int = 0

    def kubectl_command(self, *arguments: str) -> list[str]:
        """The command line of kubectl as administrator."""
        return [kubectl_program(), "--kubeconfig", str(self.control_plane.admin), *arguments]

    def kubectl(self, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run kubectl to its end; its exit code and what it printed are the answer."""
        return subprocess.run(
            self.kubectl_command(*arguments),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def apply(self, *objects: dict[str, Any]) -> None:
        items = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        done = self.kubectl("apply", "-f", "-", stdin=json.dumps(items))
        assert done.returncode == 0, done.stderr

    def run(
        self,
        *command: str,
        annotations: dict[str, str] | None = None,
        labels: dict[str, str] | None = None,
        **spec: Any,
    ) -> str:
        """Make a pod of one container `build` that runs a command, and return its name; `spec` overrides."""
        self.serial += 1
        name = f"pod-{self.serial}"
        container = {"name": "build", "image": "alpine:3", "command": list(command) or ["sleep", "3600"]}
        container |= spec.pop("container", {})
        body = {"restartPolicy": "Never", "terminationGracePeriodSeconds": 0, "containers": [container]} | spec
        meta = {"name": name, "namespace": "default", "annotations": annotations or {}, "labels": labels or {}}
        self.apply({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": body})
        return name

    def pod(self, name: str) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self.kubectl("get", "pod", name, "-o", "json").stdout or "{}")
        return answer

    def wait(self, name: str, until: Callable[[dict[str, Any]], object], seconds: float = 20) -> dict[str, Any]:
        """Look at a pod until it is as wanted; fails with what it is instead."""
        deadline = time.monotonic() + seconds
        while True:
            pod = self.pod(name)
            if pod and until(pod):
                return pod
            assert time.monotonic() < deadline, f"{name}: {json.dumps(pod.get('status'), indent=1)}"
            time.sleep(0.05)

    def phase(self, name: str, *phases: str) -> dict[str, Any]:
        return self.wait(name, lambda pod: pod["status"].get("phase") in phases)

    def events(self, name: str) -> list[dict[str, Any]]:
        found = self.kubectl("get", "events", "-o", "json", "--field-selector", f"involvedObject.name={name}")
        return list(json.loads(found.stdout)["items"])

    def event(self, name: str, reason: str) -> dict[str, Any]:
        """Wait for an event of a pod."""
        deadline = time.monotonic() + 10
        while True:
            found = self.events(name)
            for event in found:
                if event["reason"] == reason:
                    return event
            assert time.monotonic() < deadline, [event["reason"] for event in found]
            time.sleep(0.05)


def annotation(pod: dict[str, Any], name: str) -> str | None:
    value: str | None = pod["metadata"].get("annotations", {}).get(ECI + name)
    return value


def condition(pod: dict[str, Any], kind: str) -> dict[str, Any]:
    return next((one for one in pod["status"].get("conditions", []) if one["type"] == kind), {})


def terminated(pod: dict[str, Any], container: str = "build") -> dict[str, Any]:
    status = next(one for one in pod["status"]["containerStatuses"] if one["name"] == container)
    answer: dict[str, Any] = status["state"].get("terminated", {})
    return answer
