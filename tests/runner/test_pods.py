"""The pod that a runner makes: pinned by a recorded pod of 14.7.1, and row by row for what newer versions do."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from runbook.errors import ConfigTomlError
from runbook.runner import names, pods
from runbook.runner.behaviours import Behaviour
from runbook.runner.variables import Assignment
from runbook.runner.version import Version, parse

TRACES = os.environ.get("RUNBOOK_TRACES")
RECORDINGS = Path(TRACES or "/nonexistent") / "runner-recordings"
NEW, OLD = parse("17.9.2"), parse("14.7.1")

needs_recordings = pytest.mark.skipif(
    not RECORDINGS.is_dir(), reason="RUNBOOK_TRACES does not point to a folder with runner-recordings/"
)

SET_BY_API_SERVER = {
    "spec": {"enableServiceLinks", "nodeName", "preemptionPolicy", "priority", "schedulerName", "serviceAccount"},
    "container": {"terminationMessagePath", "terminationMessagePolicy"},
}


def runner(**kubernetes: Any) -> dict[str, Any]:
    """A `[[runners]]` section with *kubernetes* in its executor's part."""
    return {
        "name": "eci",
        "token": "glrt-t3_abcdefghijklmn",
        "executor": "kubernetes",
        "kubernetes": {"image": "alpine:3", **kubernetes},
    }


def job(**changes: Any) -> dict[str, Any]:
    """The sample job with *changes*; `variables` given as a dict are added as public ones."""
    base = pods.sample_job()
    rows = [{"key": key, "value": value, "public": True} for key, value in changes.pop("variables", {}).items()]
    return {**base, **changes, "variables": [*base["variables"], *rows]}


def container(pod: dict[str, Any], name: str) -> dict[str, Any]:
    """The container *name* of *pod*, init containers included."""
    return next(
        row for row in [*pod["spec"]["containers"], *pod["spec"].get("initContainers", [])] if row["name"] == name
    )


def container_names(pod: dict[str, Any]) -> list[str]:
    """Names of the pod's containers in order."""
    return [row["name"] for row in pod["spec"]["containers"]]


def without_env(pod: dict[str, Any]) -> dict[str, Any]:
    """*pod* without the job's variables."""
    for row in pod["spec"]["containers"]:
        row.pop("env", None)
    return pod


# --- recorded ---------------------------------------------------------------------------------------------------------


def recorded_pod() -> dict[str, Any]:
    """The recorded pod without what the API server and the node wrote."""
    pod = yaml.safe_load((RECORDINGS / "pod-14.7.1-attach.yaml").read_text())
    spec = {key: value for key, value in pod["spec"].items() if key not in SET_BY_API_SERVER["spec"]}
    del spec["securityContext"], spec["serviceAccountName"]
    spec["tolerations"] = [row for row in spec["tolerations"] if "tolerationSeconds" not in row]
    for kind in ("containers", "initContainers"):
        spec[kind] = [
            {key: value for key, value in row.items() if key not in SET_BY_API_SERVER["container"]}
            for row in spec[kind]
        ]
        for row in spec[kind]:
            assert row.pop("imagePullPolicy") == "IfNotPresent"
    metadata = pod["metadata"]
    written_by_node = {"ProviderCreate", "topology.kubernetes.io/region", "topology.kubernetes.io/zone"}
    for part in ("labels", "annotations"):
        metadata[part] = {
            key: value
            for key, value in metadata[part].items()
            if key not in written_by_node and "/eci-instance-" not in key
        }
    kept = {key: metadata[key] for key in ("generateName", "namespace", "labels", "annotations")}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": kept, "spec": spec}


def recorded_job(pod: dict[str, Any]) -> dict[str, Any]:
    """The payload that led to the recorded pod: its variables stand between CI_JOB_STATUS and CI_DISPOSABLE_ENVIRONMENT."""
    env = pod["spec"]["containers"][0]["env"]
    keys = [row["name"] for row in env]
    sent = env[keys.index("CI_JOB_STATUS") + 1 : keys.index("CI_DISPOSABLE_ENVIRONMENT")]
    values = {row["name"]: row["value"] for row in sent}
    return {
        "id": int(values["CI_JOB_ID"]),
        "job_info": {"name": values["CI_JOB_NAME"], "project_id": int(values["CI_PROJECT_ID"]), "project_name": "demo"},
        "git_info": {"repo_url": values["CI_REPOSITORY_URL"], "sha": "0306fdae" + "0" * 32, "ref": "main"},
        "runner_info": {"timeout": 3600},
        "variables": [{"key": row["name"], "value": row["value"], "public": True} for row in sent],
        "image": {"name": "registry.example/build:1"},
    }


@needs_recordings
def test_pod_of_14_7_is_the_recorded_one() -> None:
    """For 14.7.1 every field equals that of the pod a real binary made, but for what API server and node wrote."""
    expected = recorded_pod()
    config = tomllib.loads((RECORDINGS / "config-14.7.1.toml").read_text())
    scripts = next(row for row in expected["spec"]["volumes"] if row["name"] == "scripts")["configMap"]["name"]
    made = pods.job_pod(
        config["runners"][0],
        recorded_job(expected),
        OLD,
        Assignment(revision="feas", scripts_config_map=scripts),
    )
    assert made == expected


# --- versions ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("behaviour", list(Behaviour), ids=lambda behaviour: behaviour.name)
def test_behaviours_begin_with_their_version(behaviour: Behaviour) -> None:
    """A behaviour is there from its first version on, and not one minor before."""
    since = behaviour.since
    before = Version(since.major, since.minor - 1, 99) if since.minor else Version(since.major - 1, 99, 99)
    assert behaviour.of(since) and not behaviour.of(before)
    assert behaviour.note


def test_pod_name_is_drawn_by_the_manager_from_16_2() -> None:
    """From 16.2 the name ends in 8 random characters and fits 63; before, the API server completes generateName."""
    named = pods.job_pod(runner(), job(), NEW, Assignment(suffix="x1y2z3w4"))["metadata"]
    assert named["name"] == "runner-abcdefghi-project-1-concurrent-0-x1y2z3w4"
    assert len(named["name"]) <= 63
    assert pods.job_pod(runner(), job(), parse("16.1.0"))["metadata"]["generateName"].startswith("runner-")


def test_labels_of_17_9() -> None:
    """From 17.9 labels say project and manager, cleaned to what a label may hold; pod_labels cannot overwrite them."""
    section = runner(pod_labels={"team": "a/b c", "project.runner.gitlab.com/id": "666", "x.runner.gitlab.com/y": "z"})
    labels = pods.job_pod(section, job(variables={"CI_PROJECT_NAMESPACE": "group/sub"}), NEW)["metadata"]["labels"]
    assert labels["project.runner.gitlab.com/id"] == "1"
    assert labels["project.runner.gitlab.com/namespace"] == "group_sub"
    assert labels["manager.runner.gitlab.com/id-short"] == "abcdefghi"
    assert labels["team"] == "a_b_c"
    assert "x.runner.gitlab.com/y" not in labels
    older = pods.job_pod(section, job(), parse("17.8.0"))["metadata"]["labels"]
    assert older["project.runner.gitlab.com/id"] == "666"
    assert set(older) == {"pod", "team", "project.runner.gitlab.com/id", "x.runner.gitlab.com/y"}


def test_annotations_of_15_9() -> None:
    """From 15.9 annotations lead from the pod to its job; pod_annotations may overwrite them; 17.11 adds the timeout."""
    section = runner(
        pod_annotations={
            "k8s.aliyun.com/eci-spot-strategy": "SpotAsPriceGo",
            "job.runner.gitlab.com/ref": "$CI_JOB_NAME",
        }
    )
    annotations = pods.job_pod(section, job(), NEW)["metadata"]["annotations"]
    assert annotations["job.runner.gitlab.com/id"] == "1"
    assert annotations["job.runner.gitlab.com/url"] == "https://gitlab.example.com/group/project/-/jobs/1"
    assert annotations["job.runner.gitlab.com/ref"] == "sample"
    assert "job.runner.gitlab.com/timeout" not in annotations
    newer = pods.job_pod(section, job(), parse("17.11.0"))["metadata"]["annotations"]
    assert newer["job.runner.gitlab.com/timeout"] == "1h0m0s"
    assert set(pods.job_pod(section, job(), parse("15.8.0"))["metadata"]["annotations"]) == set(
        section["kubernetes"]["pod_annotations"]
    )


def test_scripts_move_from_config_map_to_empty_dir() -> None:
    """Scripts come in a ConfigMap until 15.7 and in an emptyDir after; exec strategy needs neither."""

    def sources(section: dict[str, Any], version: str) -> dict[str, Any]:
        pod = pods.job_pod(section, job(), parse(version), Assignment(scripts_config_map="scripts-1"))
        return {row.pop("name"): row for row in pod["spec"]["volumes"]}

    assert sources(runner(), "15.7.0")["scripts"]["configMap"]["name"] == "scripts-1"
    assert sources(runner(), "15.8.0")["scripts"] == {"emptyDir": {}}
    execs = {**runner(), "feature_flags": {"FF_USE_LEGACY_KUBERNETES_EXECUTION_STRATEGY": True}}
    assert set(sources(execs, "17.9.2")) == {"repo"}
    assert "initContainers" not in pods.job_pod(execs, job(), NEW)["spec"]


def test_init_container_has_the_helpers_resources_from_14_8() -> None:
    """init-permissions asks for what the helper asks from 14.8 on, for nothing before; ECI sizes by the larger of init and sum."""
    section = runner(helper_cpu_request="250m", helper_memory_request="512Mi")
    assert container(pods.job_pod(section, job(), OLD), "init-permissions")["resources"] == {}
    assert container(pods.job_pod(section, job(), parse("14.8.0")), "init-permissions")["resources"] == {
        "requests": {"cpu": "250m", "memory": "512Mi"}
    }


def test_active_deadline_from_16_5() -> None:
    """From 16.5 a pod ends by itself a second after the job's timeout, unless the flag is off."""
    assert pods.job_pod(runner(), job(), NEW)["spec"]["activeDeadlineSeconds"] == 3601
    assert "activeDeadlineSeconds" not in pods.job_pod(runner(), job(), parse("16.4.0"))["spec"]
    off = {**runner(), "feature_flags": {"FF_USE_POD_ACTIVE_DEADLINE_SECONDS": False}}
    assert "activeDeadlineSeconds" not in pods.job_pod(off, job(), NEW)["spec"]


def test_pod_resources_from_18_10() -> None:
    """pod_cpu_request is known from 18.10, which always writes the field, and ignored before."""
    section = runner(pod_cpu_request="4", pod_memory_request="8Gi")
    assert pods.job_pod(section, job(), parse("18.10.0"))["spec"]["resources"] == {
        "requests": {"cpu": "4", "memory": "8Gi"}
    }
    assert pods.job_pod(runner(), job(), parse("18.10.0"))["spec"]["resources"] == {}
    assert "resources" not in pods.job_pod(section, job(), NEW)["spec"]


def test_a_namespace_for_each_job_from_16_10() -> None:
    """namespace_per_job puts the pod into ci-job-<id> from 16.10, and is ignored before."""
    section = runner(namespace="ci", namespace_per_job=True)
    assert pods.job_pod(section, job(id=7), NEW)["metadata"]["namespace"] == "ci-job-7"
    assert pods.job_pod(section, job(id=7), parse("16.9.0"))["metadata"]["namespace"] == "ci"
    assert pods.job_pod(runner(), job(), NEW)["metadata"]["namespace"] == "default"


def test_keys_of_later_versions_are_ignored() -> None:
    """A key that the version does not know leaves no trace in the pod."""
    section = runner(
        runtime_class_name="rune", priority_class_name="ci", scheduler_name="eci", automount_service_account_token=False
    )
    assert not {"runtimeClassName", "priorityClassName", "schedulerName", "automountServiceAccountToken"} & set(
        pods.job_pod(section, job(), OLD)["spec"]
    )
    spec = pods.job_pod(section, job(), NEW)["spec"]
    assert (spec["runtimeClassName"], spec["priorityClassName"], spec["schedulerName"]) == ("rune", "ci", "eci")
    assert spec["automountServiceAccountToken"] is False


# --- services ---------------------------------------------------------------------------------------------------------


def test_service_containers_bear_their_alias_from_17_9() -> None:
    """A service's container is called by its first usable alias from 17.9, sorted; `svc-<i>` before or where none is usable."""
    services = [
        {"name": "redis:7", "alias": "queue"},
        {"name": "postgres:16", "alias": "db, main-db"},
        {"name": "nginx"},
    ]
    assert container_names(pods.job_pod(runner(), job(services=services), NEW)) == [
        "build",
        "helper",
        "db",
        "queue",
        "svc-2",
    ]
    assert container_names(pods.job_pod(runner(), job(services=services), parse("17.8.0"))) == [
        "build", "helper", "svc-0", "svc-1", "svc-2",
    ]  # fmt: skip


def test_two_services_with_one_alias_get_two_names() -> None:
    """A name that is taken, or belongs to the runner, is not given twice."""
    services = [{"name": "a", "alias": "db"}, {"name": "b", "alias": "db"}, {"name": "c", "alias": "build"}]
    assert container_names(pods.job_pod(runner(), job(services=services), NEW))[2:] == ["db", "svc-1", "svc-2"]


def test_service_names_lead_to_localhost() -> None:
    """Image and alias names of services are host names of 127.0.0.1, configured ones come after; an invalid alias fails the job."""
    section = runner(host_aliases=[{"ip": "10.0.0.9", "hostnames": ["registry"]}])
    services = [{"name": "registry.example.com/a/redis:7"}, {"name": "postgres:16", "alias": "db main-db"}]
    assert pods.job_pod(section, job(services=services), NEW)["spec"]["hostAliases"] == [
        {"ip": "127.0.0.1", "hostnames": ["registry.example.com-a-redis", "postgres", "db", "main-db"]},
        {"ip": "10.0.0.9", "hostnames": ["registry"]},
    ]
    with pytest.raises(ConfigTomlError, match="Bad_Alias"):
        pods.job_pod(runner(), job(services=[{"name": "a", "alias": "Bad_Alias"}]), NEW)


@pytest.mark.parametrize(
    ("image", "hosts"),
    [
        ("postgres", ["postgres"]),
        ("postgres:16@sha256:" + "a" * 64, ["postgres"]),
        ("registry.example.com:5000/team/redis:7", ["registry.example.com-team-redis"]),
    ],
)
def test_host_names_of_images(image: str, hosts: list[str]) -> None:
    """Tag, digest and registry port are no part of a service's host name; slashes become dashes."""
    assert names.image_host_names(image) == hosts


def test_services_of_the_configuration_join_every_job() -> None:
    """Services from config.toml come first, with their environment, and cost as much as those of the job."""
    section = runner(
        services=[
            {"name": "postgres:16", "alias": "db", "environment": ["POSTGRES_DB=ci"], "command": ["-c", "fsync=off"]}
        ],
        service_cpu_request="1",
    )
    service = container(pods.job_pod(section, job(), NEW), "db")
    assert {"name": "POSTGRES_DB", "value": "ci"} in service["env"]
    assert service["args"] == ["-c", "fsync=off"]
    assert service["resources"] == {"requests": {"cpu": "1"}}


def test_resources_of_one_service_from_16_9() -> None:
    """A service's own KUBERNETES_SERVICE_* variables count from 16.9, within the maximum, and only where one is set."""
    asked = [{"key": "KUBERNETES_SERVICE_CPU_REQUEST", "value": "2"}]
    services = [{"name": "postgres", "alias": "db", "variables": asked}, {"name": "redis", "alias": "queue"}]
    section = runner(service_cpu_request="1", service_cpu_request_overwrite_max_allowed="4")
    pod = pods.job_pod(section, job(services=services), NEW)
    assert container(pod, "db")["resources"]["requests"] == {"cpu": "2"}
    assert container(pod, "queue")["resources"]["requests"] == {"cpu": "1"}
    unlimited = runner(service_cpu_request="1")
    assert container(pods.job_pod(unlimited, job(services=services), NEW), "db")["resources"]["requests"] == {
        "cpu": "1"
    }
    old = pods.job_pod(section, job(services=services), parse("16.8.0"))
    assert container(old, "svc-0")["resources"]["requests"] == {"cpu": "1"}


# --- overwrites -------------------------------------------------------------------------------------------------------


def test_a_job_may_ask_for_more_within_the_maximum() -> None:
    """KUBERNETES_CPU_REQUEST counts up to cpu_request_overwrite_max_allowed; beyond it the job fails; without it, it is ignored."""
    asks = job(variables={"KUBERNETES_CPU_REQUEST": "3", "KUBERNETES_HELPER_MEMORY_LIMIT": "1Gi"})
    section = runner(
        cpu_request="1", cpu_request_overwrite_max_allowed="4", helper_memory_limit_overwrite_max_allowed="2Gi"
    )
    pod = pods.job_pod(section, asks, NEW)
    assert container(pod, "build")["resources"] == {"requests": {"cpu": "3"}}
    assert container(pod, "helper")["resources"] == {"limits": {"memory": "1Gi"}}
    assert container(pods.job_pod(runner(cpu_request="1"), asks, NEW), "build")["resources"] == {
        "requests": {"cpu": "1"}
    }
    with pytest.raises(ConfigTomlError, match="cpu_request"):
        pods.job_pod(runner(cpu_request_overwrite_max_allowed="2"), asks, NEW)


@pytest.mark.parametrize(
    ("key", "variable", "value", "found"),
    [
        ("namespace", "KUBERNETES_NAMESPACE_OVERWRITE", "ci-team", lambda pod: pod["metadata"]["namespace"] == "ci-team"),
        ("service_account", "KUBERNETES_SERVICE_ACCOUNT_OVERWRITE", "ci-team", lambda pod: pod["spec"]["serviceAccountName"] == "ci-team"),
        ("pod_labels", "KUBERNETES_POD_LABELS_1", "team=ci-team", lambda pod: pod["metadata"]["labels"]["team"] == "ci-team"),
        ("pod_annotations", "KUBERNETES_POD_ANNOTATIONS_1", "team=ci-team", lambda pod: pod["metadata"]["annotations"]["team"] == "ci-team"),
        ("node_selector", "KUBERNETES_NODE_SELECTOR_ZONE", "zone=ci-team", lambda pod: pod["spec"]["nodeSelector"] == {"zone": "ci-team"}),
        ("node_tolerations", "KUBERNETES_NODE_TOLERATIONS_1", "team=ci-team:NoSchedule",
         lambda pod: pod["spec"]["tolerations"] == [{"key": "team", "operator": "Equal", "value": "ci-team", "effect": "NoSchedule"}]),
    ],
)  # fmt: skip
def test_overwrites_need_permission(key: str, variable: str, value: str, found: Any) -> None:
    """An overwrite counts where its regexp allows it, fails the job where it does not match, and is ignored without one."""
    asks = job(variables={variable: value})
    assert found(pods.job_pod(runner(**{f"{key}_overwrite_allowed": "ci-.*"}), asks, NEW))
    with pytest.raises(ConfigTomlError, match="regexp"):
        pods.job_pod(runner(**{f"{key}_overwrite_allowed": "^prod-"}), asks, NEW)
    assert without_env(pods.job_pod(runner(), asks, NEW)) == without_env(pods.job_pod(runner(), job(), NEW))


# --- images and policies ----------------------------------------------------------------------------------------------


def test_the_jobs_image_wins() -> None:
    """The job's image is used before the configured one, with its variables expanded; without any the runner refuses."""
    asks = job(image={"name": "registry/$CI_JOB_NAME:1"})
    assert container(pods.job_pod(runner(), asks, NEW), "build")["image"] == "registry/sample:1"
    assert container(pods.job_pod(runner(), job(), NEW), "build")["image"] == "alpine:3"
    with pytest.raises(ConfigTomlError, match="no image specified"):
        pods.job_pod(runner(image=""), job(), NEW)


def test_helper_image_follows_the_version() -> None:
    """Without `helper_image` it is GitLab's for the version; a configured one may name the version by a variable."""
    assert container(pods.job_pod(runner(), job(), NEW), "helper")["image"].endswith(":x86_64-v17.9.2")
    mirrored = runner(helper_image="mirror/helper:v${CI_RUNNER_VERSION}")
    assert container(pods.job_pod(mirrored, job(), NEW), "helper")["image"] == "mirror/helper:v17.9.2"


@pytest.mark.parametrize(
    ("key", "changes"),
    [
        ("allowed_images", {"image": {"name": "evil.example/x"}}),
        ("allowed_services", {"services": [{"name": "evil.example/x"}]}),
    ],
)
def test_images_outside_the_allow_list_are_refused(key: str, changes: dict[str, Any]) -> None:
    """An image that no pattern allows fails the job; `*` stays within one path segment, `**` does not."""
    assert pods.job_pod(runner(**{key: ["evil.example/**"]}), job(**changes), NEW)
    with pytest.raises(ConfigTomlError, match="not present on list of allowed"):
        pods.job_pod(runner(**{key: ["*"]}), job(**changes), NEW)


def test_pull_policies_are_tried_in_turn() -> None:
    """A list of policies is one policy a try; the job's own must be among the allowed ones."""
    section = runner(pull_policy=["always", "if-not-present"])
    for attempt, policy in enumerate(["Always", "IfNotPresent", "IfNotPresent"]):
        pod = pods.job_pod(section, job(), NEW, Assignment(pull_attempt=attempt))
        assert container(pod, "build")["imagePullPolicy"] == policy
    with pytest.raises(ConfigTomlError, match="not allowed"):
        pods.job_pod(section, job(image={"name": "a", "pull_policy": ["never"]}), NEW)
    assert "imagePullPolicy" not in container(pods.job_pod(runner(), job(), NEW), "build")


# --- volumes, security, the rest --------------------------------------------------------------------------------------


def test_every_kind_of_volume() -> None:
    """Each table of [runners.kubernetes.volumes] becomes a volume, mounted into every container; nfs only from 19.0."""
    section = runner(
        volumes={
            "host_path": [{"name": "docker", "mount_path": "/var/run/docker.sock"}],
            "pvc": [{"name": "cache-$CI_CONCURRENT_ID", "mount_path": "/cache", "sub_path": "$CI_PROJECT_ID"}],
            "config_map": [{"name": "settings", "mount_path": "/etc/s", "items": {"key": "file"}}],
            "secret": [{"name": "keys", "mount_path": "/etc/k", "read_only": True}],
            "empty_dir": [{"name": "memory", "mount_path": "/ram", "medium": "Memory", "size_limit": "1Gi"}],
            "csi": [{"name": "bucket", "mount_path": "/b", "driver": "ossplugin.csi.alibabacloud.com"}],
            "nfs": [{"name": "nas", "mount_path": "/nas", "server": "10.0.0.1", "path": "/x"}],
        }
    )
    spec = pods.job_pod(section, job(), NEW)["spec"]
    sources = {row["name"]: row for row in spec["volumes"]}
    assert sources["docker"]["hostPath"] == {"path": "/var/run/docker.sock"}
    assert sources["cache-0"]["persistentVolumeClaim"] == {"claimName": "cache-0"}
    assert sources["settings"]["configMap"] == {"name": "settings", "items": [{"key": "key", "path": "file"}]}
    assert sources["keys"]["secret"] == {"secretName": "keys"}
    assert sources["memory"]["emptyDir"] == {"medium": "Memory", "sizeLimit": "1Gi"}
    assert sources["bucket"]["csi"]["driver"] == "ossplugin.csi.alibabacloud.com"
    assert "nas" not in sources
    for row in [*spec["containers"], *spec["initContainers"]]:
        mounted = {mount["name"]: mount for mount in row["volumeMounts"]}
        assert mounted["cache-0"] == {"name": "cache-0", "mountPath": "/cache", "subPath": "1"}
        assert mounted["keys"]["readOnly"] is True
    newest = pods.job_pod(section, job(), parse("19.0.0"))["spec"]["volumes"]
    assert {"name": "nas", "nfs": {"server": "10.0.0.1", "path": "/x"}} in newest


def test_a_claim_mounted_twice_is_one_volume() -> None:
    """Two mounts of one claim share one volume."""
    claims = [{"name": "ci", "mount_path": "/cache"}, {"name": "ci", "mount_path": "/more"}]
    spec = pods.job_pod(runner(volumes={"pvc": claims}), job(), NEW)["spec"]
    assert [row["name"] for row in spec["volumes"]].count("ci") == 1
    assert [row["mountPath"] for row in spec["containers"][0]["volumeMounts"] if row["name"] == "ci"] == [
        "/cache",
        "/more",
    ]


def test_a_volume_at_builds_dir_replaces_repo() -> None:
    """Where the configuration mounts something at the builds directory, `repo` is left out and the directory is shared."""
    section = runner(volumes={"pvc": [{"name": "builds", "mount_path": "/builds"}]})
    pod = pods.job_pod(section, job(), NEW)
    assert "repo" not in {row["name"] for row in pod["spec"]["volumes"]}
    env = {row["name"]: row["value"] for row in container(pod, "build")["env"]}
    assert env["CI_PROJECT_DIR"] == "/builds/abcdefghi/0/group/project"


def test_security_contexts_and_capabilities() -> None:
    """NET_RAW is dropped unless it is asked for; what is dropped is not added; pod and container contexts are spelled for Kubernetes."""
    section = runner(
        cap_add=["NET_RAW", "SYS_PTRACE"],
        cap_drop=["SYS_PTRACE"],
        privileged=False,
        pod_security_context={"run_as_user": 1000, "supplemental_groups": [5], "selinux_type": "x_t"},
        build_container_security_context={"run_as_non_root": True},
    )
    pod = pods.job_pod(section, job(), NEW)
    assert pod["spec"]["securityContext"] == {
        "runAsUser": 1000,
        "supplementalGroups": [5],
        "seLinuxOptions": {"type": "x_t"},
    }
    assert container(pod, "build")["securityContext"] == {
        "runAsNonRoot": True,
        "privileged": False,
        "capabilities": {"add": ["NET_RAW"], "drop": ["SYS_PTRACE"]},
    }
    assert container(pods.job_pod(runner(), job(), NEW), "helper")["securityContext"] == {
        "capabilities": {"drop": ["NET_RAW"]}
    }
    assert "securityContext" not in container(pods.job_pod(runner(), job(), parse("13.4.0")), "helper")


def test_tolerations_and_affinity() -> None:
    """Tolerations read `key` or `key=value`, an empty key tolerates all; affinity is spelled for Kubernetes, its labels are kept."""
    section = runner(
        node_tolerations={"virtual-kubelet.io/provider": "NoSchedule", "": ""},
        affinity={"pod_anti_affinity": {"required_during_scheduling_ignored_during_execution": [
            {"topology_key": "zone", "label_selector": {"match_labels": {"my_label": "a"}}}]}},
    )  # fmt: skip
    spec = pods.job_pod(section, job(), NEW)["spec"]
    assert spec["tolerations"] == [
        {"key": "virtual-kubelet.io/provider", "operator": "Exists", "effect": "NoSchedule"},
        {"operator": "Exists"},
    ]
    term = spec["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][0]
    assert term == {"topologyKey": "zone", "labelSelector": {"matchLabels": {"my_label": "a"}}}


@pytest.mark.parametrize(
    "patch",
    [
        {"patch": 'containers: [{name: build, resources: {limits: {cpu: "8"}}}]'},
        {
            "patch_type": "json",
            "patch": '[{"op": "add", "path": "/containers/0/resources/limits", "value": {"cpu": "8"}}]',
        },
    ],
)
def test_pod_spec_patches(patch: dict[str, str]) -> None:
    """A patch of the podSpec is laid over the finished pod where the feature flag is on; metadata stays."""
    section = {
        **runner(cpu_request="1", pod_spec=[{"name": "big", **patch}]),
        "feature_flags": {"FF_USE_ADVANCED_POD_SPEC_CONFIGURATION": True},
    }
    pod = pods.job_pod(section, job(), NEW)
    assert container(pod, "build")["resources"] == {"requests": {"cpu": "1"}, "limits": {"cpu": "8"}}
    assert container_names(pod) == ["build", "helper"]
    assert container(pods.job_pod({**section, "feature_flags": {}}, job(), NEW), "build")["resources"] == {
        "requests": {"cpu": "1"}
    }


def test_secrets_of_the_job_stay_out_of_the_pod() -> None:
    """Variables that GitLab did not mark public are in no container's environment, nor is the runner's token."""
    asks = job()
    asks["variables"].append({"key": "DEPLOY_KEY", "value": "hunter2", "public": False, "masked": True})
    text = str(pods.job_pod(runner(), asks, NEW))
    assert "hunter2" not in text and "abcdefghijklmn" not in text


def test_environment_of_the_configuration_reaches_the_pod() -> None:
    """`environment` of config.toml is in the build container's environment: how CI_SERVICE_HOST gets there."""
    section = {**runner(), "environment": ["CI_SERVICE_HOST=127.0.0.1"]}
    assert {"name": "CI_SERVICE_HOST", "value": "127.0.0.1"} in container(pods.job_pod(section, job(), NEW), "build")[
        "env"
    ]


def test_a_container_can_be_changed_alone() -> None:
    """No two containers share a part, so a caller may change one."""
    pod = pods.job_pod(runner(), job(), NEW)
    container(pod, "build")["volumeMounts"].clear()
    assert container(pod, "helper")["volumeMounts"]


@given(st.text(max_size=80))
def test_any_text_becomes_a_label(text: str) -> None:
    """Whatever a job is called, its label is one that Kubernetes accepts."""
    value = names.label_value(text)
    assert len(value) <= 63
    assert value == "" or (value[0].isascii() and value[0].isalnum() and value[-1].isalnum())


@given(st.integers(min_value=0, max_value=100_000))
def test_durations_add_up(seconds: int) -> None:
    """A duration in Go's form, read back, is the same number of seconds."""
    units = {"h": 3600, "m": 60, "s": 1}
    total, number = 0, ""
    for character in pods.go_duration(seconds):
        if character in units:
            total, number = total + int(number) * units[character], ""
        else:
            number += character
    assert total == seconds
