"""Journals as `eci-node` writes them, made by hand: so a test says what happened, and when, without a cluster."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any


class JournalWriter:
    """Adds lines to a journal file; moments are seconds after `start`."""

    def __init__(self, path: Path, start: datetime, *, region: str = "cn-hangzhou", factor: float = 1.0) -> None:
        self.path = path
        self.start = start
        self.clock(0, region=region, factor=factor)

    def clock(self, second: float, *, region: str = "cn-hangzhou", factor: float = 1.0) -> None:
        self._line(second, "clock", "", region=region, factor=factor)

    def made(
        self,
        second: float,
        name: str,
        *,
        vcpu: float = 2,
        memory_gib: float = 4,
        spot: bool = False,
        ecs_type: str = "",
        category: str = "",
        annotations: Mapping[str, str] | None = None,
        script: Mapping[str, Any] | None = None,
    ) -> str:
        """An instance for the pod `name`, two seconds after its order; returns the instance's id."""
        notes = dict(annotations or {})
        if spot:
            notes.setdefault("k8s.aliyun.com/eci-spot-strategy", "SpotAsPriceGo")
        instance = {
            "id": f"eci-bp1{name}", "namespace": "gitlab-ci", "pod": name, "zone": "cn-hangzhou-i",
            "address": "172.16.0.1", "eni": f"eni-bp1{name}", "spec": ecs_type or f"{float(vcpu)}-{float(memory_gib)}Gi",
            "vcpu": vcpu, "memory_gib": memory_gib, "ecs_type": ecs_type, "spot": spot, "category": category,
            "accepted_at": self._at(second - 2), "restart_policy": "Never", "annotations": notes,
            "containers": [{"name": "build", "image": "alpine:3.20", "vcpu": 1, "memory_gib": 2},
                           {"name": "helper", "image": "helper:1", "vcpu": 0.5, "memory_gib": 0.5}],
        }  # fmt: skip
        self._line(second, "instance", f"uid-{name}", instance=instance | ({"script": script} if script else {}))
        return str(instance["id"])

    def ran(self, second: float, name: str) -> None:
        """Both containers run from now on."""
        state = {"running": {"startedAt": self._at(second)}}
        self._status(second, name, "Running", state)

    def ended(self, second: float, name: str, *, exit_code: int = 0, reason: str = "", started: float = 0) -> None:
        """All containers have ended and so has the charge."""
        state = {
            "terminated": {
                "startedAt": self._at(started), "finishedAt": self._at(second), "exitCode": exit_code,
                "reason": "Error" if exit_code else "Completed",
            }
        }  # fmt: skip
        self._status(second, name, "Failed" if exit_code or reason else "Succeeded", state, reason)
        self._line(second, "charged", f"uid-{name}")
        self.told(second, name, "StopCharge")

    def told(self, second: float, name: str, reason: str, message: str = "", component: str = "EciService") -> None:
        event = {"type": "Normal", "reason": reason, "message": message, "component": component}
        self._line(second, "event", f"uid-{name}", event=event)

    def removed(self, second: float, name: str) -> None:
        self._line(second, "removed", f"uid-{name}")

    def _status(self, second: float, name: str, phase: str, state: dict[str, Any], reason: str = "") -> None:
        containers = [{"name": one, "image": "alpine:3.20", "state": state} for one in ("build", "helper")]
        status = {"phase": phase, "containerStatuses": containers} | ({"reason": reason} if reason else {})
        self._line(second, "status", f"uid-{name}", status=status)

    def _at(self, second: float) -> str:
        return (self.start + timedelta(seconds=second)).isoformat().replace("+00:00", "Z")

    def _line(self, second: float, kind: str, uid: str, **rest: Any) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps({"at": self._at(second), "kind": kind, "uid": uid, **rest}) + "\n")
