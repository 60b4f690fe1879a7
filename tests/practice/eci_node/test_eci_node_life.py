"""A pod's life on a virtual node, and all its ends."""

from __future__ import annotations

import json
import subprocess
import time
from datetime import datetime

import pytest

from tests.practice.eci_node.stage import FACTOR, Stage, condition, terminated

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
