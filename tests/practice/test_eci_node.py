"""What ECI's virtual nodes show to Kubernetes, seen through a real API server.

The nodes here are the module's own: their clock runs 120 times as fast as real time, and tests ask them for faults.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from sandbox.control_plane import ControlPlane
from sandbox.eci_node import EciNode, NodeSettings, kubelet_keys
from sandbox.practice import kubectl_program
from sandbox.process import SandboxError
from sandbox.toolchain import programs

pytestmark = pytest.mark.timeout(120)

ZONES = ("cn-hangzhou-i", "cn-hangzhou-j")
FACTOR = 120.0
ECI = "k8s.aliyun.com/"


@dataclass
class Stage:
    """An API server with virtual nodes, and what tests do with pods."""

    control_plane: ControlPlane
    node: EciNode
    program: Path
    serial: int = 0

    def kubectl(self, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [kubectl_program(), "--kubeconfig", str(self.control_plane.admin), *arguments],
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

    def run(self, *command: str, annotations: dict[str, str] | None = None, **spec: Any) -> str:
        """Make a pod of one container `build` that runs a command, and return its name; `spec` overrides."""
        self.serial += 1
        name = f"pod-{self.serial}"
        container = {"name": "build", "image": "alpine:3", "command": list(command) or ["sleep", "3600"]}
        container |= spec.pop("container", {})
        body = {"restartPolicy": "Never", "terminationGracePeriodSeconds": 0, "containers": [container]} | spec
        meta = {"name": name, "namespace": "default", "annotations": annotations or {}}
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


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """An API server with two virtual nodes whose clock runs fast."""
    built = programs(("etcd", "kube-apiserver", "kube-controller-manager", "eci-node"))
    folder = tmp_path_factory.mktemp("eci-node")
    control_plane = ControlPlane(folder / "control-plane", built).start()
    settings = NodeSettings(zones=ZONES, time_factor=FACTOR, buckets=("ci-cache",))
    keys = kubelet_keys(control_plane.keys.folder)
    node = EciNode(built["eci-node"], control_plane.admin, folder / "node", keys, settings)
    try:
        yield Stage(control_plane, node.start(), built["eci-node"])
    finally:
        node.stop()
        control_plane.stop()


@pytest.fixture(autouse=True)
def healthy(stage: Stage) -> Iterator[None]:
    """Each test starts without faults and without pods."""
    yield
    faults = stage.node.faults
    faults.restock()
    faults.heal_pulls()
    faults.quota(0)
    faults.stream_ending("killed")
    stage.kubectl("delete", "pods", "--all", "--grace-period=0", "--wait=true")


def annotation(pod: dict[str, Any], name: str) -> str | None:
    value: str | None = pod["metadata"].get("annotations", {}).get(ECI + name)
    return value


def condition(pod: dict[str, Any], kind: str) -> dict[str, Any]:
    return next((one for one in pod["status"].get("conditions", []) if one["type"] == kind), {})


def terminated(pod: dict[str, Any], container: str = "build") -> dict[str, Any]:
    status = next(one for one in pod["status"]["containerStatuses"] if one["name"] == container)
    answer: dict[str, Any] = status["state"].get("terminated", {})
    return answer


# Nodes and binding


def test_each_zone_has_a_node_as_ack_writes_it(stage: Stage) -> None:
    """A node is Ready, named after its zone, tainted, and reports the server's version."""
    nodes = {one["metadata"]["name"]: one for one in json.loads(stage.kubectl("get", "nodes", "-o", "json").stdout)["items"]}
    assert set(nodes) == {f"virtual-kubelet-{zone}" for zone in ZONES}
    node = nodes["virtual-kubelet-cn-hangzhou-i"]
    assert node["metadata"]["labels"]["type"] == "virtual-kubelet"
    assert node["metadata"]["labels"]["topology.kubernetes.io/zone"] == "cn-hangzhou-i"
    taint = {"key": "virtual-kubelet.io/provider", "value": "alibabacloud", "effect": "NoSchedule"}
    assert taint in node["spec"]["taints"]  # beside it, for a moment, the API server's own not-ready
    assert "-aliyun." in node["status"]["nodeInfo"]["kubeletVersion"]
    assert condition(node, "Ready")["status"] == "True"


def test_a_pod_goes_to_the_zone_that_it_selects(stage: Stage) -> None:
    """A nodeSelector on the zone is honoured."""
    name = stage.run(nodeSelector={"topology.kubernetes.io/zone": "cn-hangzhou-j"})
    pod = stage.phase(name, "Running")
    assert pod["spec"]["nodeName"] == "virtual-kubelet-cn-hangzhou-j"
    assert annotation(pod, "eci-instance-zone") == "cn-hangzhou-j"


def test_a_pod_that_no_zone_fits_says_so(stage: Stage) -> None:
    """It stays Pending with the scheduler's words, instead of nothing."""
    name = stage.run(nodeSelector={"topology.kubernetes.io/zone": "cn-hangzhou-z"})
    pod = stage.wait(name, lambda pod: condition(pod, "PodScheduled"))
    assert condition(pod, "PodScheduled")["reason"] == "Unschedulable"
    assert "0/2 nodes are available" in stage.event(name, "FailedScheduling")["message"]


# Sizes and annotations

SIZES: Sequence[tuple[dict[str, str], list[dict[str, Any]], str, str]] = [
    ({}, [{}], "2.0-4.0Gi", ""),
    ({}, [{"requests": {"cpu": "2", "memory": "6Gi"}}, {"requests": {"cpu": "1250m", "memory": "1.5Gi"}}], "4.0-8.0Gi", "AutoInstanceTypeMatch"),
    ({}, [{"requests": {"cpu": "4", "memory": "8Gi"}, "limits": {"cpu": "4", "memory": "8Gi"}}, {"requests": {"cpu": "8"}}], "4.0-8.0Gi", ""),
    ({"eci-use-specs": "2-4Gi,4-8Gi"}, [{"requests": {"cpu": "16"}}], "2.0-4.0Gi", "UserInstanceTypeSpec"),
    ({"eci-use-specs": "ecs.c6.xlarge"}, [{}], "ecs.c6.xlarge", "UserInstanceTypeSpec"),
]


@pytest.mark.parametrize(("notes", "resources", "spec", "event"), SIZES)
def test_the_billed_size_is_written_on_the_pod(
    stage: Stage, notes: dict[str, str], resources: list[dict[str, Any]], spec: str, event: str
) -> None:
    """Specs named by the user win, else limits, else requests are summed and rounded up the ladder."""
    containers = [
        {"name": f"c{number}", "image": "alpine", "command": ["sleep", "9"], "resources": one}
        for number, one in enumerate(resources)
    ]
    name = stage.run(annotations={ECI + key: value for key, value in notes.items()}, containers=containers)
    pod = stage.phase(name, "Running")
    assert annotation(pod, "eci-instance-spec") == spec
    assert str(annotation(pod, "eci-instance-id")).startswith("eci-bp1")
    assert pod["metadata"]["annotations"]["ProviderCreate"] == "done"
    assert pod["status"]["hostIP"] == pod["status"]["podIP"]
    assert condition(pod, "ContainerInstanceCreated")["status"] == "True"
    if event:
        told = stage.event(name, event)
        assert told["source"]["component"] == "EciService"
        assert spec in told["message"]


def test_a_pod_asking_too_much_is_refused(stage: Stage) -> None:
    """No size holds it: ProviderFailed, with the reason."""
    name = stage.run(container={"resources": {"requests": {"cpu": "65"}}})
    pod = stage.phase(name, "Failed")
    assert pod["status"]["reason"] == "ProviderFailed"
    assert "65.0 vCPU" in pod["status"]["message"]


# Life and its ends


def test_exit_codes_decide_the_phase(stage: Stage) -> None:
    """Succeeded for 0, Failed for anything else, with code and reason on the container, and the charge ends."""
    well, badly = stage.run("true"), stage.run("sh", "-c", "exit 42")
    assert terminated(stage.phase(well, "Succeeded"))["reason"] == "Completed"
    pod = stage.phase(badly, "Failed")
    assert (terminated(pod)["exitCode"], terminated(pod)["reason"]) == (42, "Error")
    assert stage.event(badly, "StopCharge")["source"]["component"] == "EciService"


def test_a_deleted_pod_gets_its_final_status_first(stage: Stage) -> None:
    """A watcher sees the containers terminated before the pod is gone."""
    name = stage.run("sh", "-c", "trap 'exit 3' TERM; echo ready; while :; do sleep 0.01; done", terminationGracePeriodSeconds=600)
    stage.phase(name, "Running")
    while "ready" not in stage.kubectl("logs", name).stdout:
        time.sleep(0.05)
    watch = subprocess.Popen(
        [kubectl_program(), "--kubeconfig", str(stage.control_plane.admin), "get", "pod", name, "--watch", "-o", "json",
         "--output-watch-events"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        time.sleep(0.5)
        start = time.monotonic()
        stage.kubectl("delete", "pod", name)
        assert time.monotonic() - start < 4
        decoder, text, seen = json.JSONDecoder(), "", []
        assert watch.stdout is not None
        while not seen or seen[-1]["type"] != "DELETED":
            text = (text + watch.stdout.readline()).lstrip()
            try:
                event, end = decoder.raw_decode(text)
            except ValueError:
                continue
            seen.append(event)
            text = text[end:]
    finally:
        watch.kill()
        watch.wait()
    before = seen[-2]["object"]
    assert terminated(before)["exitCode"] == 3
    assert before["status"]["phase"] == "Failed"


def test_a_restart_keeps_the_log_before(stage: Stage) -> None:
    """With restartPolicy OnFailure a container starts anew, is counted, and `logs --previous` shows its last life."""
    script = "test -e /state/once && exec sleep 3600; touch /state/once; echo first life; exit 1"
    name = stage.run(
        restartPolicy="OnFailure",
        container={"command": ["sh", "-c", script], "volumeMounts": [{"name": "state", "mountPath": "/state"}]},
        volumes=[{"name": "state", "emptyDir": {}}],
    )
    pod = stage.wait(name, lambda pod: pod["status"]["containerStatuses"][0]["restartCount"] == 1 and pod["status"]["containerStatuses"][0]["ready"])
    assert pod["status"]["containerStatuses"][0]["lastState"]["terminated"]["exitCode"] == 1
    assert stage.kubectl("logs", name, "--previous").stdout == "first life\n"


def test_init_containers_run_first_and_in_order(stage: Stage) -> None:
    """Each sees what the one before it has done; a failing one fails the pod."""
    mounts = [{"name": "work", "mountPath": "/work"}]
    init = [
        {"name": "one", "image": "alpine", "command": ["sh", "-c", "echo 1 >> /work/log"], "volumeMounts": mounts},
        {"name": "two", "image": "alpine", "command": ["sh", "-c", "echo 2 >> /work/log"], "volumeMounts": mounts},
    ]
    volumes = [{"name": "work", "emptyDir": {}}]
    name = stage.run("cat", "/work/log", container={"volumeMounts": mounts}, initContainers=init, volumes=volumes)
    stage.phase(name, "Succeeded")
    assert stage.kubectl("logs", name).stdout == "1\n2\n"
    broken = stage.run(initContainers=[{"name": "one", "image": "alpine", "command": ["false"]}])
    assert condition(stage.phase(broken, "Failed"), "Initialized")["status"] == "False"


def test_a_deadline_ends_the_pod(stage: Stage) -> None:
    """activeDeadlineSeconds is counted in played time."""
    pod = stage.phase(stage.run(activeDeadlineSeconds=60), "Failed")
    assert pod["status"]["reason"] == "DeadlineExceeded"


def test_a_command_that_is_not_there_is_a_start_error(stage: Stage) -> None:
    """The container ends as a runtime has it, with 128 and StartError."""
    pod = stage.phase(stage.run("no-such-program"), "Failed")
    assert (terminated(pod)["exitCode"], terminated(pod)["reason"]) == (128, "StartError")


def test_played_time_is_what_the_node_writes(stage: Stage) -> None:
    """A container that ran half a real second ran about a played minute."""
    end = terminated(stage.phase(stage.run("sleep", "0.5"), "Succeeded"))
    ran = datetime.fromisoformat(end["finishedAt"]) - datetime.fromisoformat(end["startedAt"])
    assert 0.5 * FACTOR <= ran.total_seconds() < 0.5 * FACTOR * 4


# Stock, quota, images, pending


def test_without_stock_a_pod_waits_and_is_not_charged(stage: Stage) -> None:
    """Fail-back: Pending with the condition and the event, no instance; it starts when there is stock again."""
    stage.node.faults.no_stock()
    name = stage.run()
    pod = stage.wait(name, lambda pod: "NoStock" in condition(pod, "ContainerInstanceCreated").get("reason", ""))
    assert pod["status"]["phase"] == "Pending"
    assert condition(pod, "ContainerInstanceCreated") | {"message": "", "lastTransitionTime": "", "lastProbeTime": ""} == {
        "type": "ContainerInstanceCreated", "status": "False", "reason": "ContainerGroup.NoStock",
        "message": "", "lastTransitionTime": "", "lastProbeTime": "",
    } | ({"observedGeneration": pod["status"]["conditions"][0]["observedGeneration"]} if "observedGeneration" in pod["status"]["conditions"][0] else {})
    assert annotation(pod, "eci-instance-id") is None
    assert stage.event(name, "NoStock")["type"] == "Warning"
    stage.node.faults.restock()
    stage.phase(name, "Running")


def test_fail_fast_tells_at_once_that_there_is_no_stock(stage: Stage) -> None:
    """Fail-fast: the pod is ProviderFailed instead of waiting."""
    stage.node.faults.no_stock()
    pod = stage.phase(stage.run(annotations={ECI + "eci-fail-strategy": "fail-fast"}), "Failed")
    assert pod["status"]["reason"] == "ProviderFailed"
    assert condition(pod, "ContainerInstanceCreated")["reason"] == "ContainerGroup.NoStock"


def test_named_sizes_are_tried_in_order(stage: Stage) -> None:
    """What is out of stock is passed over."""
    stage.node.faults.no_stock(spec="2-4Gi")
    name = stage.run(annotations={ECI + "eci-use-specs": "2-4Gi,4-8Gi,8-16Gi"})
    assert annotation(stage.phase(name, "Running"), "eci-instance-spec") == "4.0-8.0Gi"


def test_spot_falls_back_to_pay_as_you_go(stage: Stage) -> None:
    """With eci-spot-fallback a pod without spot stock starts all the same, and says SpotDegraded."""
    stage.node.faults.no_stock(spot=True)
    notes = {ECI + "eci-spot-strategy": "SpotAsPriceGo", ECI + "eci-spot-fallback": "true"}
    name = stage.run(annotations=notes)
    assert condition(stage.phase(name, "Running"), "ContainerInstanceCreated")["reason"] == "SpotDegraded"
    assert "will be degraded" in stage.event(name, "SpotDegraded")["message"]


def test_the_quota_holds_back_what_is_too_much(stage: Stage) -> None:
    """A second pod waits until the first has given its vCPUs back."""
    stage.node.faults.quota(2)
    first = stage.run()
    stage.phase(first, "Running")
    second = stage.run()
    assert "quota is exceeded" in stage.event(second, "QuotaExceeded")["message"]
    stage.kubectl("delete", "pod", first)
    stage.phase(second, "Running")


def test_an_unknown_image_is_a_pull_error(stage: Stage) -> None:
    """ErrImagePull, then ImagePullBackOff; and after the pending limit, which is charged, the pod has failed."""
    name = stage.run(container={"image": "registry.invalid/team/app:1"}, annotations={ECI + "eci-max-pending-minute": "10"})

    def waiting(pod: dict[str, Any]) -> str:
        return str(pod["status"]["containerStatuses"][0]["state"].get("waiting", {}).get("reason", ""))

    stage.wait(name, lambda pod: waiting(pod) in {"ErrImagePull", "ImagePullBackOff"})
    stage.wait(name, lambda pod: waiting(pod) == "ImagePullBackOff")
    assert "no such host" in stage.event(name, "Failed")["message"]
    pod = stage.phase(name, "Failed")
    assert "10 minutes" in pod["status"]["message"]
    stage.event(name, "StopCharge")


def test_a_slow_pull_takes_its_time(stage: Stage) -> None:
    """A delayed image keeps the pod Pending, with an instance that is charged already."""
    stage.node.faults.pull("*/team/build:9", delay_seconds=240)
    name = stage.run(container={"image": "registry.example.com/team/build:9"})
    stage.event(name, "Pulling")
    assert annotation(stage.wait(name, lambda pod: annotation(pod, "eci-instance-id")), "eci-instance-spec") == "2.0-4.0Gi"
    assert stage.pod(name)["status"]["phase"] == "Pending"
    stage.phase(name, "Running")


def test_an_image_cache_becomes_ready_and_is_hit(stage: Stage) -> None:
    """The custom resource is installed; a pod of cached images says so and pulls nothing."""
    image = "registry.example.com/team/build:7"
    stage.apply(
        {"apiVersion": "eci.alibabacloud.com/v1", "kind": "ImageCache", "metadata": {"name": "ci"}, "spec": {"images": [image]}}
    )
    deadline = time.monotonic() + 10
    cache: dict[str, Any] = {}
    while cache.get("status", {}).get("phase") != "Ready":
        assert time.monotonic() < deadline, cache
        cache = json.loads(stage.kubectl("get", "imagecache", "ci", "-o", "json").stdout)
    name = stage.run("sleep", "9", container={"image": image, "imagePullPolicy": "IfNotPresent"})
    pod = stage.phase(name, "Running")
    assert annotation(pod, "eci-matched-image-cache") == cache["status"]["imageCacheId"]
    assert cache["status"]["imageCacheId"] in stage.event(name, "SuccessfulHitImageCache")["message"]
    assert "already present on machine" in stage.event(name, "Pulled")["message"]


def test_a_missed_image_cache_is_made_for_the_next_pod(stage: Stage) -> None:
    """ImageCacheMissed and ImageCacheAutoCreated for the first pod, a hit for the second; `eci-auto-imc: false` asks for neither."""
    image = "registry.example.com/team/build:8"
    first = stage.run(container={"image": image})
    stage.event(first, "ImageCacheMissed")
    made = stage.event(first, "ImageCacheAutoCreated")["message"]
    pod = stage.phase(stage.run(container={"image": image}), "Running")
    assert str(annotation(pod, "eci-matched-image-cache")) in made
    plain = stage.run(container={"image": image}, annotations={ECI + "eci-auto-imc": "false"})
    assert annotation(stage.phase(plain, "Running"), "eci-matched-image-cache") is None


# Spot and memory

SPOT = {ECI + "eci-spot-strategy": "SpotAsPriceGo", ECI + "eci-spot-duration": "0"}


def test_a_reclaimed_spot_instance_is_announced_and_then_bid_failed(stage: Stage) -> None:
    """SpotToBeReleased three played minutes before; then Failed, BidFailed, with the moment."""
    name = stage.run(annotations=SPOT)
    stage.phase(name, "Running")
    stage.node.faults.reclaim("default", name)
    assert stage.event(name, "SpotToBeReleased")["message"] == "Spot ECI will be released in 3 minutes"
    assert stage.pod(name)["status"]["phase"] == "Running"
    pod = stage.phase(name, "Failed")
    assert pod["status"]["reason"] == "BidFailed"
    assert pod["status"]["message"].startswith("The pod is spot instance, and have been released at 20")
    assert condition(pod, "ContainerInstanceExpired")["status"] == "True"
    assert terminated(pod)["exitCode"] == 137
    stage.event(name, "StopCharge")


def test_the_protection_hour_is_kept(stage: Stage) -> None:
    """Within the hour, and for what is not spot, a reclaim is refused."""
    protected = stage.run(annotations={ECI + "eci-spot-strategy": "SpotAsPriceGo"})
    plain = stage.run()
    for name, reason in ((protected, "is protected until"), (plain, "is not a spot instance")):
        stage.phase(name, "Running")
        with pytest.raises(SandboxError, match=reason):
            stage.node.faults.reclaim("default", name)


def test_api_evict_evicts_the_pod_at_the_announcement(stage: Stage) -> None:
    """With eci-spot-release-strategy api-evict the pod is deleted by eviction before its instance is released."""
    name = stage.run(annotations=SPOT | {ECI + "eci-spot-release-strategy": "api-evict"})
    stage.phase(name, "Running")
    stage.node.faults.reclaim("default", name, lead_seconds=3600)
    assert stage.kubectl("wait", "--for=delete", f"pod/{name}", "--timeout=10s").returncode == 0


STREAM_ENDINGS = {
    "killed": (137, "exit code 137"),
    "dropped": (0, ""),  # the client library takes a connection that closes without a word for success
    "error": (1, "released"),
}


@pytest.mark.parametrize("ending", STREAM_ENDINGS)
def test_how_a_reclaim_ends_an_exec_is_a_setting(stage: Stage, ending: Any) -> None:
    """Killed ends with the exit code, error with an error; what dropped looks like is the client's affair."""
    code, words = STREAM_ENDINGS[ending]
    stage.node.faults.stream_ending(ending)
    name = stage.run(annotations=SPOT)
    stage.phase(name, "Running")
    session = subprocess.Popen(
        [kubectl_program(), "--kubeconfig", str(stage.control_plane.admin), "exec", name, "--", "sleep", "3600"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )
    time.sleep(1)
    stage.node.faults.reclaim("default", name, lead_seconds=1)
    _, stderr = session.communicate(timeout=20)
    if ending != "dropped":
        assert session.returncode == code, stderr
        assert words in stderr
    pod = stage.phase(name, "Failed")
    assert pod["status"]["reason"] == "BidFailed"
    assert bool(terminated(pod)) == (ending == "killed")


def test_a_container_out_of_memory_is_oom_killed(stage: Stage) -> None:
    """Asked for by a test: OOMKilled, 137, and ECI's event."""
    name = stage.run()
    stage.phase(name, "Running")
    stage.node.faults.out_of_memory("default", name, "build")
    pod = stage.phase(name, "Failed")
    assert (terminated(pod)["reason"], terminated(pod)["exitCode"]) == ("OOMKilled", 137)
    assert stage.event(name, "OOMKilled")["source"]["component"] == "EciService"


def test_the_memory_limit_is_the_kernels(stage: Stage) -> None:
    """A container that really uses more than its limit is OOMKilled."""
    limits = stage.node.faults.state()["memory_limits"]
    if limits != "enforced":
        pytest.skip(f"memory limits cannot be enforced here: {limits}")
    name = stage.run("tail", "/dev/zero", container={"resources": {"limits": {"memory": "64Mi", "cpu": "1"}}})
    assert terminated(stage.phase(name, "Failed"))["reason"] == "OOMKilled"


# Volumes and network


def test_everything_a_pod_mounts_is_where_it_says(stage: Stage) -> None:
    """ConfigMap with mode 0777, Secret, downward API, token and CA, subPath, and variables from all of them."""
    stage.apply(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "scripts", "namespace": "default"}, "data": {"run": "#!/bin/sh\necho ran\n"}},
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys", "namespace": "default"}, "stringData": {"a": "secret-a"}},
    )
    script = "/scripts/run; cat /keys/a /info/name; echo; ls /var/run/secrets/kubernetes.io/serviceaccount; echo $WHO $KEY; cat /only"
    name = stage.run(
        "sh", "-c", script,
        container={
            "env": [
                {"name": "WHO", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "a"}}},
            ],
            "volumeMounts": [
                {"name": "scripts", "mountPath": "/scripts"},
                {"name": "keys", "mountPath": "/keys", "readOnly": True},
                {"name": "keys", "mountPath": "/only", "subPath": "a"},
                {"name": "info", "mountPath": "/info"},
            ],
        },
        volumes=[
            {"name": "scripts", "configMap": {"name": "scripts", "defaultMode": 0o777}},
            {"name": "keys", "secret": {"secretName": "keys"}},
            {"name": "info", "downwardAPI": {"items": [{"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}]}},
        ],
    )
    stage.phase(name, "Succeeded")
    assert stage.kubectl("logs", name).stdout.split() == [
        "ran", f"secret-a{name}", "ca.crt", "namespace", "token", name, "secret-a", "secret-a",
    ]


def oss_volume(name: str, *, bucket: str, secret: str) -> list[dict[str, Any]]:
    """A static volume on OSS, its claim, and no Secret."""
    csi = {
        "driver": "ossplugin.csi.alibabacloud.com",
        "volumeHandle": name,
        "nodePublishSecretRef": {"name": secret, "namespace": "default"},
        "volumeAttributes": {"bucket": bucket, "url": "oss-cn-hangzhou-internal.aliyuncs.com", "path": "/ci"},
    }
    common = {"accessModes": ["ReadWriteMany"], "storageClassName": ""}
    claim = common | {"resources": {"requests": {"storage": "5Gi"}}, "volumeName": name}
    volume = common | {"capacity": {"storage": "5Gi"}, "csi": csi, "persistentVolumeReclaimPolicy": "Retain"}
    return [
        {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": volume},
        {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name, "namespace": "default"}, "spec": claim},
    ]


def test_a_claim_on_oss_outlives_the_pod(stage: Stage) -> None:
    """What one pod writes below the claim, the next one reads, and it lies in the bucket's folder."""
    keys = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "oss", "namespace": "default"}, "stringData": {"akId": "i", "akSecret": "s"}}
    stage.apply(keys, *oss_volume("cache", bucket="ci-cache", secret="oss"))
    mounted = {
        "volumes": [{"name": "cache", "persistentVolumeClaim": {"claimName": "cache"}}],
        "container": {"volumeMounts": [{"name": "cache", "mountPath": "/cache"}]},
    }
    stage.phase(stage.run("sh", "-c", "echo kept > /cache/file", **mounted), "Succeeded")
    reader = stage.run("cat", "/cache/file", **mounted)
    stage.phase(reader, "Succeeded")
    assert stage.kubectl("logs", reader).stdout == "kept\n"
    assert (stage.node.buckets / "ci-cache" / "ci" / "file").read_text() == "kept\n"


@pytest.mark.parametrize(
    ("name", "bucket", "secret", "words"),
    [("wrong-bucket", "not-mine", "oss-2", "NoSuchBucket"), ("no-secret", "ci-cache", "absent", 'secret "absent" not found')],
)
def test_a_volume_that_cannot_be_mounted_says_why(stage: Stage, name: str, bucket: str, secret: str, words: str) -> None:
    """The claim binds all the same, the pod stays Pending, and the event names the cause."""
    keys = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "oss-2", "namespace": "default"}, "stringData": {"akId": "i", "akSecret": "s"}}
    stage.apply(keys, *oss_volume(name, bucket=bucket, secret=secret))
    pod = stage.run(
        volumes=[{"name": "cache", "persistentVolumeClaim": {"claimName": name}}],
        container={"volumeMounts": [{"name": "cache", "mountPath": "/cache"}]},
    )
    deadline = time.monotonic() + 10
    while not any(words in event["message"] for event in stage.events(pod)):
        assert time.monotonic() < deadline, stage.events(pod)
        time.sleep(0.1)
    assert stage.pod(pod)["status"]["phase"] == "Pending"


def test_a_service_answers_on_loopback_and_under_its_alias(stage: Stage) -> None:
    """Two pods serve the same port at the same time, each to itself."""
    check = """for host in 127.0.0.1 db; do exec 3<>/dev/tcp/$host/5432 && echo $host; exec 3>&-; done"""
    script = f"until (exec 3<>/dev/tcp/127.0.0.1/5432) 2>/dev/null; do sleep 0.05; done; {check}"
    containers = [
        {"name": "build", "image": "debian", "command": ["bash", "-c", script + "; sleep 3600"]},
        {"name": "svc-0", "image": "postgres:13"},
    ]
    aliases = [{"ip": "127.0.0.1", "hostnames": ["postgres", "db"]}]
    names = [stage.run(containers=containers, hostAliases=aliases) for _ in range(2)]
    for name in names:
        stage.phase(name, "Running")
        deadline = time.monotonic() + 10
        while stage.kubectl("logs", name, "-c", "build").stdout != "127.0.0.1\ndb\n":
            assert time.monotonic() < deadline, stage.kubectl("logs", name, "-c", "build").stdout
            time.sleep(0.1)


def test_a_pod_reaches_only_what_it_is_given(stage: Stage) -> None:
    """A port of this machine is closed to a pod until it is named."""
    port = stage.control_plane.port  # the API server is always given
    script = f"(exec 3<>/dev/tcp/127.0.0.1/{port}) && echo open; (exec 3<>/dev/tcp/127.0.0.1/{int(stage.node.faults._address.split(':')[1])}) 2>/dev/null || echo closed"
    name = stage.run("bash", "-c", script, container={"image": "debian"})
    stage.phase(name, "Succeeded")
    assert stage.kubectl("logs", name).stdout == "open\nclosed\n"


# Faults of the node itself


def test_a_node_that_comes_back_tells_its_pods_that_they_are_lost(stage: Stage) -> None:
    """After a power cut nothing of the pod runs; when the node is back, the pod is Failed, not run a second time."""
    name = stage.run(nodeSelector={"topology.kubernetes.io/zone": "cn-hangzhou-j"})
    stage.phase(name, "Running")
    stage.node.faults.stop_node("cn-hangzhou-j")
    assert stage.pod(name)["status"]["phase"] == "Running"
    stage.node.faults.start_node("cn-hangzhou-j")
    pod = stage.phase(name, "Failed")
    assert pod["status"]["reason"] == "NodeLost"
    assert terminated(pod)["exitCode"] == 137


def test_nothing_is_left_after_a_crash(stage: Stage, tmp_path: Path) -> None:
    """A killed node program takes its processes with it, leaves no mount, and the next one in its folder starts clean."""
    settings = replace(stage.node.settings, region="cn-shanghai", zones=("cn-shanghai-l",))
    keys = kubelet_keys(stage.control_plane.keys.folder)
    folder = tmp_path / "node"
    node = EciNode(stage.program, stage.control_plane.admin, folder, keys, settings).start()
    name = stage.run("sleep", "86400", nodeName="virtual-kubelet-cn-shanghai-l")
    stage.phase(name, "Running")
    node.kill()
    deadline = time.monotonic() + 5
    while processes_mentioning(str(folder)):
        assert time.monotonic() < deadline, processes_mentioning(str(folder))
        time.sleep(0.05)
    assert str(folder) not in Path("/proc/self/mountinfo").read_text()
    with EciNode(stage.program, stage.control_plane.admin, folder, keys, settings):
        stage.phase(name, "Failed")
        assert list((folder / "instances").glob("*")) == []
    assert str(folder) not in Path("/proc/self/mountinfo").read_text()
    stage.kubectl("delete", "node", "virtual-kubelet-cn-shanghai-l")


def processes_mentioning(text: str) -> list[str]:
    """Command lines of running bubblewrap processes that name a folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue  # it has just ended
        if "bwrap" in words and text in words:
            found.append(words)
    return found
