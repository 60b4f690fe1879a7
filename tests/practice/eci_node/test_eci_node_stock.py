"""What keeps a pod Pending: stock, quota, images and their caches."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from tests.practice.eci_node.stage import ECI, Stage, annotation, condition

pytestmark = pytest.mark.timeout(120)


def test_without_stock_a_pod_waits_and_is_not_charged(stage: Stage) -> None:
    """Fail-back: Pending with the condition and the event, no instance; it starts when there is stock again."""
    stage.node.faults.no_stock()
    name = stage.run()
    pod = stage.wait(name, lambda pod: "NoStock" in condition(pod, "ContainerInstanceCreated").get("reason", ""))
    assert pod["status"]["phase"] == "Pending"
    created = condition(pod, "ContainerInstanceCreated")
    assert (created["status"], created["reason"]) == ("False", "ContainerGroup.NoStock")
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
    name = stage.run(
        container={"image": "registry.invalid/team/app:1"}, annotations={ECI + "eci-max-pending-minute": "10"}
    )

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
    assert (
        annotation(stage.wait(name, lambda pod: annotation(pod, "eci-instance-id")), "eci-instance-spec") == "2.0-4.0Gi"
    )
    assert stage.pod(name)["status"]["phase"] == "Pending"
    stage.phase(name, "Running")


def test_an_image_cache_becomes_ready_and_is_hit(stage: Stage) -> None:
    """The custom resource is installed; a pod of cached images says so and pulls nothing."""
    image = "registry.example.com/team/build:7"
    stage.apply(
        {
            "apiVersion": "eci.alibabacloud.com/v1",
            "kind": "ImageCache",
            "metadata": {"name": "ci"},
            "spec": {"images": [image]},
        }
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
