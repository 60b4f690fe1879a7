"""A pod's life on a virtual node, and all its ends."""

from __future__ import annotations

import json
import subprocess
import time
from datetime import datetime

import pytest

from tests.practice.eci_node.stage import FACTOR, Stage, annotation, condition, terminated

pytestmark = pytest.mark.timeout(120)


def test_exit_codes_decide_the_phase(stage: Stage) -> None:
    """Succeeded for 0, Failed for anything else, with code and reason on the container, and the charge ends."""
    well, badly = stage.run("true"), stage.run("sh", "-c", "exit 42")
    assert terminated(stage.phase(well, "Succeeded"))["reason"] == "Completed"
    pod = stage.phase(badly, "Failed")
    assert (terminated(pod)["exitCode"], terminated(pod)["reason"]) == (42, "Error")
    assert stage.event(badly, "StopCharge")["source"]["component"] == "EciService"


def test_a_deleted_pod_gets_its_final_status_first(stage: Stage) -> None:
    """A watcher sees the containers terminated before the pod is gone."""
    name = stage.run(
        "sh", "-c", "trap 'exit 3' TERM; echo ready; while :; do sleep 0.01; done", terminationGracePeriodSeconds=600
    )
    stage.phase(name, "Running")
    while "ready" not in stage.kubectl("logs", name).stdout:
        time.sleep(0.05)
    watch = subprocess.Popen(
        stage.kubectl_command("get", "pod", name, "--watch", "-o", "json", "--output-watch-events"),
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
    pod = stage.wait(
        name,
        lambda pod: (
            pod["status"]["containerStatuses"][0]["restartCount"] == 1
            and pod["status"]["containerStatuses"][0]["ready"]
        ),
    )
    assert pod["status"]["containerStatuses"][0]["lastState"]["terminated"]["exitCode"] == 1
    assert stage.kubectl("logs", name, "--previous").stdout == "first life\n"


def test_init_containers_run_first_and_in_order(stage: Stage) -> None:
    """Each sees what the one before it has done; a failing one fails the pod."""
    mounts = [{"name": "work", "mountPath": "/share"}]
    init = [
        {"name": "one", "image": "alpine", "command": ["sh", "-c", "echo 1 >> /share/log"], "volumeMounts": mounts},
        {"name": "two", "image": "alpine", "command": ["sh", "-c", "echo 2 >> /share/log"], "volumeMounts": mounts},
    ]
    volumes = [{"name": "work", "emptyDir": {}}]
    name = stage.run("cat", "/share/log", container={"volumeMounts": mounts}, initContainers=init, volumes=volumes)
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


def test_a_sidecar_ends_with_the_others(stage: Stage) -> None:
    """A container declared a sidecar is killed when the ordinary ones have ended, and its exit code is left out if asked."""
    sidecar = [
        {"name": "ECI_CONTAINER_TYPE", "value": "sidecar"},
        {"name": "ECI_CONTAINER_IGNORE_EXIT_CODE", "value": "true"},
    ]
    containers = [
        {"name": "build", "image": "alpine", "command": ["sleep", "0.3"]},
        {"name": "sidecar", "image": "alpine", "command": ["sleep", "3600"], "env": sidecar},
    ]
    stage.phase(stage.run(containers=containers), "Succeeded")


def test_a_container_knows_its_instance(stage: Stage) -> None:
    """Variables whose value is one of ECI's words hold the real value."""
    words = ("__ECI_ID__", "__ZONE_ID__", "__REGION_ID__", "__CONTAINER_NAME__")
    env = [{"name": f"V{number}", "value": word} for number, word in enumerate(words)]
    name = stage.run("sh", "-c", "echo $V0 $V1 $V2 $V3", container={"env": env})
    pod = stage.phase(name, "Succeeded")
    zone = annotation(pod, "eci-instance-zone")
    known = [annotation(pod, "eci-instance-id"), zone, "cn-hangzhou", "build"]
    assert stage.kubectl("logs", name).stdout.split() == known


def test_a_pod_of_the_same_name_is_a_new_one(stage: Stage) -> None:
    """Deleted and made again at once, a pod gets an instance of its own."""
    seen = set()
    for _ in range(3):
        stage.serial = 9000
        name = stage.run()
        seen.add(annotation(stage.phase(name, "Running"), "eci-instance-id"))
        stage.kubectl("delete", "pod", name, "--grace-period=0", "--force")
    assert len(seen) == 3


def test_another_user_runs_the_container(stage: Stage) -> None:
    """runAsUser and runAsGroup are those of the process."""
    name = stage.run("id", "-u", container={"securityContext": {"runAsUser": 1000, "runAsGroup": 1000}})
    stage.phase(name, "Succeeded")
    assert stage.kubectl("logs", name).stdout == "1000\n"


def test_foreign_finalizers_and_labels_survive(stage: Stage) -> None:
    """The node writes only what is its own: what others add to a running pod stays."""
    name = stage.run("sleep", "0.5")
    stage.phase(name, "Running")
    patch = '{"metadata":{"labels":{"added":"yes"},"annotations":{"added":"yes"},"finalizers":["example.com/keep"]}}'
    assert stage.kubectl("patch", "pod", name, "--type=merge", "-p", patch).returncode == 0
    meta = stage.phase(name, "Succeeded")["metadata"]
    assert (meta["labels"]["added"], meta["annotations"]["added"]) == ("yes", "yes")
    assert meta["finalizers"] == ["example.com/keep"]
    stage.kubectl("patch", "pod", name, "--type=merge", "-p", '{"metadata":{"finalizers":null}}')


@pytest.mark.parametrize("propagation", ["foreground", "background"])
def test_a_deletion_ends_whatever_its_propagation(stage: Stage, propagation: str) -> None:
    """Foreground, which older runners ask for, puts a finalizer on the pod; it goes all the same, and at once."""
    name = stage.run()
    stage.phase(name, "Running")
    start = time.monotonic()
    assert stage.kubectl("delete", "pod", name, f"--cascade={propagation}").returncode == 0
    assert stage.pod(name) == {}
    assert time.monotonic() - start < 5


def test_a_pending_pod_can_be_deleted(stage: Stage) -> None:
    """Deleted while it waits for stock, a pod goes without ever having had an instance."""
    stage.node.faults.no_stock()
    name = stage.run()
    stage.event(name, "NoStock")
    start = time.monotonic()
    assert stage.kubectl("delete", "pod", name).returncode == 0
    assert time.monotonic() - start < 5
    assert "StopCharge" not in [event["reason"] for event in stage.events(name)]


def test_an_init_container_can_be_deleted_away(stage: Stage) -> None:
    """Deleted while an init container runs, the pod goes and nothing of it runs on."""
    init = [{"name": "long", "image": "alpine", "command": ["sleep", "86399"]}]
    name = stage.run(initContainers=init)
    stage.wait(name, lambda pod: "running" in pod["status"]["initContainerStatuses"][0]["state"])
    assert stage.kubectl("delete", "pod", name).returncode == 0
    deadline = time.monotonic() + 10  # the library removes a pod's object at once when no main container runs
    while stage.node.faults.state()["instances"] and time.monotonic() < deadline:
        time.sleep(0.1)
    assert stage.node.faults.state()["instances"] == []
