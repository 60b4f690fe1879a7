"""The virtual nodes of the practice cluster: starts and stops the `eci-node` program, and asks it for faults.

One process plays one node for each zone. What it writes into Kubernetes is in played time, which runs `time_factor`
times as fast as real time from the moment of its start.
"""

from __future__ import annotations

import json
import signal
import sys
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

from sandbox.process import Process, SandboxError

StreamEnding = Literal["killed", "dropped", "error"]


@dataclass(frozen=True)
class KubeletKeys:
    """Files of the certificate that the kubelet port shows, and of the CA that the API server's certificate is from."""

    certificate: Path
    key: Path
    client_ca: Path


def _python_beside_usr() -> tuple[Path, ...]:
    """Where the Python that runs us lives, unless containers see it already below /usr."""
    prefix = Path(sys.base_prefix).resolve()
    return () if prefix.is_relative_to("/usr") else (prefix,)


@dataclass(frozen=True)
class NodeSettings:
    """How the nodes behave. All times are in played seconds."""

    region: str = "cn-hangzhou"
    zones: tuple[str, ...] = ("cn-hangzhou-i", "cn-hangzhou-j")
    cluster_kind: Literal["ack-serverless", "ack"] = "ack-serverless"
    time_factor: float = 1
    schedule_seconds: float = 0
    pull_seconds: float = 0
    spot_lead_seconds: float = 180
    retry_seconds: float = 2
    stream_ending: StreamEnding = "killed"
    spot_spec_ecs_type: bool = False
    reachable: tuple[str, ...] = ()
    """Addresses of this machine, `HOST:PORT`, that pods reach under the same port of their own loopback."""
    buckets: tuple[str, ...] = ()
    """OSS buckets that exist; without any, every bucket does."""
    tool_paths: tuple[Path, ...] = field(default_factory=_python_beside_usr)
    """Folders of this machine whose `bin/` containers may use, beside /usr: the Python that runs us."""
    gitlab_runner_helper: Path | None = None

    def arguments(self) -> list[str]:
        """The command line of `eci-node`."""
        words = [
            f"--region={self.region}",
            f"--cluster-kind={self.cluster_kind}",
            f"--time-factor={self.time_factor}",
            f"--schedule-seconds={self.schedule_seconds}",
            f"--pull-seconds={self.pull_seconds}",
            f"--spot-lead-seconds={self.spot_lead_seconds}",
            f"--retry-seconds={self.retry_seconds}",
            f"--stream-ending={self.stream_ending}",
            f"--spot-spec-ecs-type={str(self.spot_spec_ecs_type).lower()}",
        ]
        words += [f"--zone={zone}" for zone in self.zones]
        words += [f"--reachable={address}" for address in self.reachable]
        words += [f"--bucket={bucket}" for bucket in self.buckets]
        words += [f"--tool-path={path}" for path in self.tool_paths]
        if self.gitlab_runner_helper is not None:
            words.append(f"--gitlab-runner-helper={self.gitlab_runner_helper}")
        return words


class EciNode:
    """The running program; `start` returns when all nodes are Ready.

    `program` is the built binary (`sandbox.toolchain.programs`), `folder` its own: instances, buckets and its log.
    """

    def __init__(
        self,
        program: Path,
        kubeconfig: Path,
        folder: Path,
        keys: KubeletKeys,
        settings: NodeSettings = NodeSettings(),
    ) -> None:
        self.folder = folder
        self.settings = settings
        self._process = Process(
            "eci-node",
            [
                program,
                f"--kubeconfig={kubeconfig}",
                f"--dir={folder}",
                f"--tls-cert={keys.certificate}",
                f"--tls-key={keys.key}",
                f"--client-ca={keys.client_ca}",
                *settings.arguments(),
            ],
            log=folder.with_name(folder.name + ".log"),
        )

    def start(self) -> Self:
        """Start the program. Raises SandboxError with the end of its log when it does not come up."""
        self._ready_file.unlink(missing_ok=True)
        self._process.start()
        self._process.wait_until(self._ready_file.exists, timeout=60, every=0.02)
        self.faults = Faults(json.loads(self._ready_file.read_text())["control_address"])
        return self

    def stop(self) -> None:
        """Stop the program; nothing of it is left but its folder's buckets and its log."""
        self._process.stop(grace=20)

    def kill(self) -> None:
        """End the program at once, as a crash would. `start` of a new EciNode in the same folder cleans up after it."""
        self._process.signal(signal.SIGKILL)
        self._process.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def buckets(self) -> Path:
        """The folder that holds one folder for each OSS bucket; it outlives pods."""
        return self.folder / "buckets"

    @property
    def journal(self) -> Path:
        """What the nodes did, a line each; Alibaba's API is played from it. It outlives the program."""
        return self.folder / "journal.jsonl"

    @property
    def _ready_file(self) -> Path:
        return self.folder / "ready.json"


class Faults:
    """The control port of a running `eci-node`: what a test may ask it to do wrong.

    Every method raises SandboxError where the program refuses (a pod that it does not have, a protected spot instance).
    """

    def __init__(self, address: str) -> None:
        self._address = address

    def state(self) -> dict[str, Any]:
        """Faults, nodes, reachable addresses, instances (pod, id, spec, spot, phase) and the played time."""
        return self._ask("GET", "/state")

    def no_stock(
        self,
        *,
        zone: str = "",
        spec: str = "",
        spot: bool | None = None,
        reason: Literal["NoStock", "StockExhaust", "StockClose", "InsufficientBalance"] = "NoStock",
    ) -> None:
        """Refuse a zone, a spec (`4.0-8.0Gi` or an ECS type), spot or pay-as-you-go; what is left out means all."""
        question: dict[str, Any] = {"zone": zone, "spec": spec, "reason": reason}
        if spot is not None:
            question["spot"] = spot
        self._ask("POST", "/no-stock", question)

    def restock(self) -> None:
        """Everything is in stock again."""
        self._ask("DELETE", "/no-stock")

    def pull(self, image: str, *, delay_seconds: float = 0, failure: str = "") -> None:
        """Slow down (played seconds) or refuse the pull of an image: its name, or a pattern of the full name."""
        self._ask("POST", "/pulls", {"image": image, "delay_seconds": delay_seconds, "failure": failure})

    def heal_pulls(self) -> None:
        """All images can be pulled again."""
        self._ask("DELETE", "/pulls")

    def quota(self, vcpu: float) -> None:
        """Limit the vCPUs of all instances together; 0 lifts the limit."""
        self._ask("POST", "/quota", {"vcpu": vcpu})

    def stream_ending(self, ending: StreamEnding) -> None:
        """Choose how the streams of a reclaimed instance end; how real ECI's do is not known."""
        self._ask("POST", "/stream-ending", {"ending": ending})

    def reclaim(self, namespace: str, pod: str, *, lead_seconds: float | None = None, force: bool = False) -> None:
        """Announce the release of a spot instance and take it away after the lead time (played seconds).

        Within its protection hour, or if it is not spot, it is refused unless forced.
        """
        question: dict[str, Any] = {"namespace": namespace, "pod": pod, "force": force}
        if lead_seconds is not None:
            question["lead_seconds"] = lead_seconds
        self._ask("POST", "/reclaim", question)

    def out_of_memory(self, namespace: str, pod: str, container: str) -> None:
        """Kill a container as the kernel does when its memory is used up."""
        self._ask("POST", "/oom", {"namespace": namespace, "pod": pod, "container": container})

    def drop_streams(self, namespace: str, pod: str) -> int:
        """Cut the connections of exec, attach, logs and port-forward of a pod without a word; returns how many."""
        return int(self._ask("POST", "/drop-streams", {"namespace": namespace, "pod": pod})["dropped"])

    def stop_node(self, zone: str) -> None:
        """Cut the power of a zone's node: its pods' processes are gone and nobody tells the API server."""
        self._ask("POST", "/stop-node", {"zone": zone})

    def start_node(self, zone: str) -> None:
        """Bring the node back; pods that it ran before are told that they are lost."""
        self._ask("POST", "/start-node", {"zone": zone})

    def reachable(self, address: str) -> None:
        """Let all pods reach one more address of this machine, `HOST:PORT`, on that port of their own loopback."""
        self._ask("POST", "/reachable", {"address": address})

    def _ask(self, method: str, path: str, question: dict[str, Any] | None = None) -> dict[str, Any]:
        body = json.dumps(question).encode() if question is not None else None
        request = urllib.request.Request(f"http://{self._address}{path}", body, method=method)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=30) as reply:
                answer: dict[str, Any] = json.load(reply)
                return answer
        except urllib.error.HTTPError as error:
            raise SandboxError(f"eci-node refused {method} {path}.", value=json.load(error)["error"]) from error
        except OSError as error:
            raise SandboxError(f"eci-node does not answer on {self._address}.", value=str(error)) from error


def kubelet_keys(folder: Path) -> KubeletKeys:
    """The files that the control plane writes into its `pki` folder."""
    return KubeletKeys(folder / "kubelet.crt", folder / "kubelet.key", folder / "ca.crt")
