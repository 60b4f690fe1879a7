"""What a pod mounts, and whom it reaches."""

from __future__ import annotations

import socket
import time
from typing import Any

import pytest

from tests.practice.eci_node.stage import Stage

pytestmark = pytest.mark.timeout(120)


def test_everything_a_pod_mounts_is_where_it_says(stage: Stage) -> None:
    """ConfigMap with mode 0777, Secret, downward API, token and CA, subPath, and variables from all of them."""
    stage.apply(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "scripts", "namespace": "default"},
            "data": {"run": "#!/bin/sh\necho ran\n"},
        },
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "keys", "namespace": "default"},
            "stringData": {"a": "secret-a"},
        },
    )
    script = "/scripts/run; cat /keys/a /info/name; echo; ls /var/run/secrets/kubernetes.io/serviceaccount; echo $WHO $KEY; cat /only"
    name = stage.run(
        "sh",
        "-c",
        script,
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
        "ran",
        f"secret-a{name}",
        "ca.crt",
        "namespace",
        "token",
        name,
        "secret-a",
        "secret-a",
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
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": name, "namespace": "default"},
            "spec": claim,
        },
    ]


def test_a_claim_on_oss_outlives_the_pod(stage: Stage) -> None:
    """What one pod writes below the claim, the next one reads, and it lies in the bucket's folder."""
    keys = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "oss", "namespace": "default"},
        "stringData": {"akId": "i", "akSecret": "s"},
    }
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
    [
        ("wrong-bucket", "not-mine", "oss-2", "NoSuchBucket"),
        ("no-secret", "ci-cache", "absent", 'secret "absent" not found'),
    ],
)
def test_a_volume_that_cannot_be_mounted_says_why(
    stage: Stage, name: str, bucket: str, secret: str, words: str
) -> None:
    """The claim binds all the same, the pod stays Pending, and the event names the cause."""
    keys = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "oss-2", "namespace": "default"},
        "stringData": {"akId": "i", "akSecret": "s"},
    }
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
    with socket.create_server(("127.0.0.1", 0)) as server:
        host, port = server.getsockname()
        script = f"until (exec 3<>/dev/tcp/{host}/{port}) 2>/dev/null; do echo closed; sleep 0.2; done; echo open"
        name = stage.run("bash", "-c", script, container={"image": "debian"})
        stage.phase(name, "Running")
        stage.node.faults.reachable(f"{host}:{port}")
        stage.phase(name, "Succeeded")
    lines = stage.kubectl("logs", name).stdout.split()
    assert (lines[0], lines[-1]) == ("closed", "open")
