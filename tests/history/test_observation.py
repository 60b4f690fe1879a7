"""From a pod and its events to a record: every generation of runners, what ECI wrote, the moments, the end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from runbook.history import api_objects
from runbook.history.api_objects import PodEvent
from runbook.history.observation import gone, pod_record
from runbook.history.record import End, JobKnown, Known, PodRecord
from tests.history.pods_of_runners import (
    ECI,
    at,
    condition,
    deleting,
    event,
    killed,
    manifest,
    on_eci,
    read,
    running,
    stamp,
)


def observed(pod: dict[str, Any], *events: PodEvent, seconds: float = 100, **given: Any) -> PodRecord:
    """The record of a pod as it was seen so many seconds after its creation."""
    return pod_record(read(pod), events, cluster="practice", observed_at=at(seconds), **given)


# -- whose job --------------------------------------------------------------------------------------------------------

GENERATIONS = {
    "12.0.0": JobKnown.VARIABLE,
    "13.6.0": JobKnown.VARIABLE,
    "14.7.1": JobKnown.VARIABLE,
    "15.8.0": JobKnown.VARIABLE,
    "15.9.0": JobKnown.ANNOTATION,
    "16.11.0": JobKnown.ANNOTATION,
    "17.9.2": JobKnown.ANNOTATION,
    "18.5.0": JobKnown.ANNOTATION,
    "19.4.0": JobKnown.ANNOTATION,
}


@pytest.mark.parametrize("version", GENERATIONS)
def test_the_job_is_known_from_every_generation_of_runners(version: str) -> None:
    """Without anything of ours in the configuration, job, project, host and ref of a pod are known from 12.0 to 19.4."""
    record = observed(manifest(version, marks=False, variables={"CI_SERVER_URL": "https://gitlab.example.com"}))
    assert record.job_known is GENERATIONS[version]
    assert (record.job_id, record.job_name, record.project_id) == (4711, "sample", 1)
    assert (record.project_path, record.project_namespace) == ("group/project", "group")
    assert (record.gitlab_host, record.runner_slot) == ("gitlab.example.com", 0)


@pytest.mark.parametrize("version", GENERATIONS)
def test_our_marks_add_stage_and_pipeline(version: str) -> None:
    """With the marks of our configuration every version says stage and pipeline as well."""
    record = observed(manifest(version), gitlab_host="gitlab.example.com")
    assert record.job_known in (JobKnown.ANNOTATION, JobKnown.MARK)
    assert (record.job_id, record.job_stage, record.pipeline_id) == (4711, "test", 1)
    assert (record.project_path, record.gitlab_host) == ("group/project", "gitlab.example.com")


def test_new_runners_name_themselves() -> None:
    """From 17.9 on the labels give the runner's name and the short form of its token."""
    record = observed(manifest("17.9.2", marks=False))
    assert (record.runner_name, record.runner_id_short) == ("eci", "abcdefghi")


NAMES = {
    "runner-d1uxg4p4-project-9-concurrent-0vfwm2": ("d1uxg4p4", 9, 0),
    "runner-feas-tok-project-5-concurrent-12ccw28": ("feas-tok", 5, 12),
    "runner-t2mvtdfz-project-2-concurrent-3-7t40yuqh": ("t2mvtdfz", 2, 3),
}


@pytest.mark.parametrize("name", NAMES)
def test_the_name_alone_gives_project_and_slot(name: str) -> None:
    """Where nothing else is left of a pod, its name in the old or the new form still tells project, runner and slot."""
    record = observed({"metadata": {"name": name, "uid": "u"}})
    assert (record.runner_id_short, record.project_id, record.runner_slot) == NAMES[name]
    assert (record.job_known, record.job_id) == (JobKnown.NAME, None)


def test_a_namespace_that_was_made_for_a_job_names_it() -> None:
    """`namespace_per_job` puts the job's id into the namespace."""
    record = observed({"metadata": {"name": "x", "uid": "u", "namespace": "ci-job-88"}})
    assert (record.job_known, record.job_id) == (JobKnown.NAMESPACE, 88)


def test_a_mark_that_was_not_filled_in_says_nothing() -> None:
    """A variable that the runner left empty or as it was is no job id, no name and no path."""
    notes = {"ci-job-id": "$CI_JOB_ID", "ci-job-name": "", "ci-project-path": "$CI_PROJECT_PATH"}
    record = observed({"metadata": {"name": "x", "uid": "u", "annotations": notes}})
    assert (record.job_known, record.job_id, record.job_name, record.project_path) == (
        JobKnown.UNKNOWN,
        None,
        None,
        None,
    )


def test_a_gitlab_below_a_path_does_not_become_part_of_the_project() -> None:
    """The URL of a job cannot tell the two apart; the mark of the configuration can, and wins."""
    pod = manifest("17.9.2")
    pod["metadata"]["annotations"]["job.runner.gitlab.com/url"] = "https://example.com/git/group/project/-/jobs/4711"
    assert observed(pod).project_path == "group/project"


def test_no_secret_of_the_environment_is_kept() -> None:
    """A container's environment is dropped when the pod is decoded; only the listed variables are looked at."""
    pod = manifest("14.7.1", marks=False, variables={"DEPLOY_PASSWORD": "geheim", "CI_JOB_TOKEN": "glcbt-geheim"})
    decoded = read(pod)
    assert b"geheim" not in msgspec.json.encode(decoded)
    assert set(decoded.variables) <= api_objects.VARIABLES
    assert "geheim" not in repr(observed(pod))


# -- requested and billed ---------------------------------------------------------------------------------------------


def test_requested_is_per_container_and_per_pod() -> None:
    """Requests and limits stand beside each other; what ECI adds up are the limits as soon as one container has some."""
    record = observed(manifest())
    build, helper = (one for one in record.containers if one.kind != "init")
    assert (build.request_vcpu, build.request_memory_gib, build.limit_vcpu) == (1.0, 2.0, None)
    assert (helper.kind, helper.limit_vcpu, helper.limit_memory_gib) == ("helper", 0.5, 0.5)
    assert (record.request_vcpu, record.limit_vcpu) == (1.0, 0.5)
    assert (record.requested_vcpu, record.requested_memory_gib) == (0.5, 0.5)
    assert record.image == "alpine:3"


def test_a_container_that_eci_ignores_is_not_added_up() -> None:
    """`__ECI_RESOURCE_IGNORE__` takes a container out of the sum, as it takes it out of the billed spec."""
    pod = manifest()
    helper = next(one for one in pod["spec"]["containers"] if one["name"] == "helper")
    helper["env"] = [{"name": "__ECI_RESOURCE_IGNORE__", "value": "TRUE"}]
    record = observed(pod)
    assert (record.requested_vcpu, record.requested_memory_gib) == (1.0, 2.0)


def test_billed_is_what_the_node_wrote() -> None:
    """Spec, vCPU, GiB, zone, region, instance and compute category come from ECI's annotations."""
    record = observed(on_eci(manifest(), eci_instance_compute_category="economy"))
    assert (record.instance_id, record.instance_spec, record.ecs_type) == ("eci-bp1abc", "4.0-8.0Gi", None)
    assert (record.billed_vcpu, record.billed_memory_gib, record.compute_category) == (4.0, 8.0, "economy")
    assert (record.zone, record.region) == ("cn-hangzhou-j", "cn-hangzhou")


def test_billed_by_ecs_type() -> None:
    """A spec that is an ECS type is kept as such beside its vCPU and GiB, which older nodes write with more digits."""
    pod = on_eci(manifest(), eci_instance_spec="ecs.c6.large", eci_instance_cpu="2.000", eci_instance_mem="4.00")
    record = observed(pod)
    assert (record.ecs_type, record.billed_vcpu, record.billed_memory_gib) == ("ecs.c6.large", 2.0, 4.0)


ZONES = {"cn-hangzhou-j": "cn-hangzhou", "ap-northeast-1b": "ap-northeast-1", "us-west-1a": "us-west-1"}


@pytest.mark.parametrize("zone", ZONES)
def test_zone_and_region_follow_from_the_nodes_name(zone: str) -> None:
    """A pod without annotations of an instance still lies in the zone of its virtual node."""
    record = observed({"metadata": {"uid": "u"}, "spec": {"nodeName": f"virtual-kubelet-{zone}"}}, region="card")
    assert (record.zone, record.region) == (zone, ZONES[zone])


def test_the_cards_region_serves_where_no_zone_is_known() -> None:
    """A pod that no node took is in the region of the card."""
    assert observed({"metadata": {"uid": "u"}}, region="cn-hangzhou").region == "cn-hangzhou"


def test_spot_that_was_degraded_is_not_spot() -> None:
    """Asked for and got is spot; SpotDegraded, by event or by condition, means that pay-as-you-go was taken."""
    spot = {"eci_spot_strategy": "SpotAsPriceGo"}
    assert observed(on_eci(manifest(), **spot)).spot is True
    assert observed(on_eci(manifest())).spot is False
    assert observed(on_eci(manifest(), **spot), event("SpotDegraded", 5)).spot is False
    pod = on_eci(manifest(), **spot)
    pod["status"]["conditions"][1]["reason"] = "ContainerGroup.SpotDegraded"
    assert observed(pod).spot is False


def test_a_fallback_still_says_that_spot_was_asked_for() -> None:
    """`spot_requested` is what the pod's annotation says, whatever was taken: with `spot` false it is a fallback."""
    spot = {"eci_spot_strategy": "SpotWithPriceLimit"}
    assert observed(on_eci(manifest(), **spot), event("SpotDegraded", 5)).spot_requested is True
    assert observed(on_eci(manifest(), **spot)).spot_requested is True
    assert observed(on_eci(manifest())).spot_requested is False


def test_image_cache_hit_missed_or_unknown() -> None:
    """A hit is known from annotation or event, a miss from its event; without either it is unknown."""
    hit = observed(on_eci(manifest(), eci_matched_image_cache="imc-1"))
    assert (hit.image_cache_hit, hit.image_cache_id) == (True, "imc-1")
    assert observed(on_eci(manifest()), event("SuccessfulHitImageCache", 5)).image_cache_hit is True
    assert observed(on_eci(manifest()), event("ImageCacheMissed", 5)).image_cache_hit is False
    assert observed(on_eci(manifest())).image_cache_hit is None


# -- the moments ------------------------------------------------------------------------------------------------------


def test_the_seven_moments_of_a_usual_life() -> None:
    """Created, scheduled, billed from, pulled, running, billed to, deleted: each stated by the pod or an event."""
    pod = deleting(running(on_eci(manifest())), 90)
    told = (event("Pulling", 9), event("Pulled", 20), event("Pulled", 25), event("StopCharge", 91))
    record = observed(pod, *told, seconds=92, deleted=True)
    assert [record.created_at, record.scheduled_at, record.billing_start_at, record.pulled_at] == [
        at(0),
        at(1),
        at(8),
        at(25),
    ]
    assert [record.running_at, record.finished_at, record.deleted_at] == [at(30), at(91), at(90)]
    known = {
        getattr(record, f"{name}_known")
        for name in ("created", "scheduled", "billing_start", "pulled", "running", "finished", "deleted")
    }
    assert known == {Known.OBSERVED}
    assert (record.billing_start_source, record.finished_source) == (
        "condition ContainerInstanceCreated",
        "event StopCharge",
    )
    assert (record.ended, record.final) == (End.DELETED, True)


def test_a_live_pod_has_not_finished() -> None:
    """What has not happened is never, not unknown, and the record is not final."""
    record = observed(running(on_eci(manifest())))
    assert (record.finished_at, record.finished_known, record.deleted_known) == (None, Known.NEVER, Known.NEVER)
    assert (record.ended, record.final) == (End.LIVE, False)


def test_the_grace_period_is_no_part_of_the_deletion() -> None:
    """Kubernetes writes when the grace period will be over; the record says when deletion was asked for."""
    assert observed(deleting(running(on_eci(manifest())), 60, grace=30), deleted=True).deleted_at == at(60)


def test_without_a_pull_event_the_first_start_bounds_the_pull() -> None:
    """Events may be missing: images were there at the latest when the first container started."""
    record = observed(running(on_eci(manifest())))
    assert (record.pulled_at, record.pulled_known) == (at(30), Known.BOUNDED)


def test_a_pod_that_found_no_stock_was_never_billed() -> None:
    """No instance, no window: both ends of it are never, and the end is no_stock."""
    pod = manifest()
    pod["status"] = {
        "phase": "Pending",
        "conditions": [condition("ContainerInstanceCreated", 3, "False", "ContainerGroup.NoStock")],
    }
    record = observed(deleting(pod, 80), deleted=True)
    assert (record.billing_start_known, record.finished_known, record.ended) == (Known.NEVER, Known.NEVER, End.NO_STOCK)


def test_events_of_a_namesake_are_left_out() -> None:
    """Old runners use a name again: an event counts only for the pod with its UID."""
    pod = running(on_eci(manifest()))
    assert observed(pod, event("StopCharge", 9, uid="another")).finished_known is Known.NEVER


def test_a_restarted_container_counts_from_its_first_start() -> None:
    """The start before the last restart is in `lastState`."""
    pod = running(on_eci(manifest()), 60)
    for status in pod["status"]["containerStatuses"]:
        status["lastState"] = {"terminated": {"exitCode": 1, "startedAt": stamp(30), "finishedAt": stamp(50)}}
    assert observed(pod).running_at == at(30)


# -- several looks at one pod -----------------------------------------------------------------------------------------


def test_an_end_that_was_seen_survives_the_deletion() -> None:
    """A pod reclaimed, then deleted by the runner: the later look keeps why it ended, when, and its exit code."""
    pod = killed(running(on_eci(manifest(), eci_spot_strategy="SpotAsPriceGo")), 70)
    pod["status"]["reason"] = "BidFailed"
    first = observed(pod, event("StopCharge", 71), seconds=72)
    last = observed(deleting(manifest(), 80), seconds=81, deleted=True, earlier=first)
    assert (last.ended, last.exit_code, last.failed_container) == (End.RECLAIMED, 137, "build")
    assert (last.finished_at, last.finished_source, last.deleted_at) == (at(71), "event StopCharge", at(80))
    assert (last.final, last.observed_at, last.instance_id) == (True, at(81), "eci-bp1abc")


def test_a_pod_that_is_missing_at_the_next_look_is_bounded() -> None:
    """Nobody saw it end: final, the end no later than that look, the cause unknown, the rest as it was."""
    live = observed(running(on_eci(manifest())), seconds=100)
    lost = gone(live, observed_at=at(500))
    assert (lost.final, lost.ended, lost.running_at) == (True, End.UNKNOWN, at(30))
    assert (lost.finished_at, lost.finished_known) == (at(500), Known.BOUNDED)
    assert (lost.deleted_at, lost.deleted_known) == (at(500), Known.BOUNDED)
    assert gone(lost, observed_at=at(900)) is lost


def test_a_pod_that_failed_before_it_went_missing_keeps_its_end() -> None:
    """The cause and the end of billing were seen; only the deletion is bounded."""
    failed = observed(killed(running(on_eci(manifest())), 70, code=2), seconds=72)
    lost = gone(failed, observed_at=at(500))
    assert (lost.ended, lost.finished_at, lost.finished_known) == (End.FAILED, at(70), Known.OBSERVED)
    assert lost.deleted_known is Known.BOUNDED


def test_nobody_knows_whether_a_pod_got_an_instance_before_it_went_missing() -> None:
    """What never had an instance when it was last seen may have had one since: unknown, neither billed nor never billed."""
    lost = gone(observed(manifest()), observed_at=at(500))
    assert (lost.billing_start_at, lost.billing_start_known) == (None, Known.UNKNOWN)
    assert (lost.finished_at, lost.finished_known, lost.running_known) == (None, Known.UNKNOWN, Known.UNKNOWN)


# -- the wire ---------------------------------------------------------------------------------------------------------


def test_pages_and_lines_of_the_api_server_are_decoded() -> None:
    """Lists carry their token for the next page, bookmarks their version, and an error its status."""
    pods = api_objects.decode_pods(
        msgspec.json.encode({"metadata": {"resourceVersion": "9", "continue": "abc"}, "items": [manifest()]})
    )
    assert (pods.metadata.continue_token, pods.metadata.resource_version, pods.items[0].metadata.uid) == (
        "abc",
        "9",
        read(manifest()).metadata.uid,
    )
    line = api_objects.decode_watch(b'{"type":"BOOKMARK","object":{"kind":"Pod","metadata":{"resourceVersion":"12"}}}')
    assert (line.type, api_objects.decode_pod(line.object).metadata.resource_version) == ("BOOKMARK", "12")
    line = api_objects.decode_watch(
        b'{"type":"ERROR","object":{"kind":"Status","status":"Failure","code":410,"reason":"Expired"}}'
    )
    assert api_objects.decode_status(line.object).code == 410


# -- other people's pods ----------------------------------------------------------------------------------------------


def of_file(path: Path) -> PodRecord:
    return pod_record(read(yaml.safe_load(path.read_text())), cluster="others", observed_at=at(0))


def test_a_real_pod_of_runner_14_7(traces: Path) -> None:
    """The recorded pod of 14.7.1: its job by the mark and the environment, a spot instance, its moments."""
    record = of_file(traces / "runner-recordings" / "pod-14.7.1-attach.yaml")
    assert (record.job_known, record.job_id, record.pipeline_id) == (JobKnown.MARK, 106, 77)
    assert (record.project_path, record.job_name, record.runner_version) == ("grp/demo", "demo", "14.7.1")
    assert (record.gitlab_host, record.runner_id_short, record.runner_slot) == ("127.0.0.1:8929", "feas-tok", 0)
    assert (record.requested_vcpu, record.billed_vcpu, record.billed_memory_gib) == (1.5, 2.0, 2.0)
    assert (record.spot, record.billing_start_known, record.ended) == (True, Known.OBSERVED, End.LIVE)


def test_a_real_pod_on_eci(traces: Path) -> None:
    """A pod of Shenzhen, 2023: no job, the default size, an image cache; billed from the disk's condition, 14 s after its creation."""
    record = of_file(traces / "eci-pods" / "eci-pod-running-cn-shenzhen-2containers.yaml")
    assert (record.job_known, record.instance_spec, record.region) == (JobKnown.UNKNOWN, "2.0-4.0Gi", "cn-shenzhen")
    assert (record.requested_vcpu, record.requested_memory_gib, record.image_cache_hit) == (2.0, 4.0, True)
    assert record.created_at and record.billing_start_at and record.running_at
    assert (record.billing_start_at - record.created_at).seconds == 14
    assert record.billing_start_source == "condition ContainerHasSufficientDisk"
    assert (record.running_at - record.billing_start_at).seconds == 37


def test_a_real_pod_that_is_billed_by_ecs_type(traces: Path) -> None:
    """A fragment with three decimals in its vCPU and an ECS type as its spec."""
    record = of_file(traces / "eci-pods" / "eci-pod-spec-ecs-type.fragment.yaml")
    assert (record.ecs_type, record.billed_vcpu, record.billed_memory_gib) == ("ecs.t5-c1m2.large", 2.0, 4.0)


def test_annotations_are_read_by_their_full_names() -> None:
    """A namesake without ECI's prefix is no instance id."""
    pod = on_eci(manifest())
    notes = pod["metadata"]["annotations"]
    notes["eci-instance-id"] = notes.pop(ECI + "eci-instance-id")
    assert observed(pod).instance_id is None
