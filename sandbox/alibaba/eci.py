"""ECI 2018-08-08: container groups with status, events and metrics, prices, image caches, usage.

https://help.aliyun.com/zh/eci/developer-reference/api-eci-2018-08-08-overview
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from sandbox.alibaba.cloud import Answer, Cloud, Query, ids, need, number, numbered, page, parsed, tags, whole, wire
from sandbox.alibaba.errors import ApiError, invalid
from sandbox.alibaba.journal import TERMINAL, ContainerGroup, Event, moment
from sandbox.alibaba.prices import FREE_EPHEMERAL_GIB, EcsType, eci_second, spot_hour

VERSION = "2018-08-08"
STATES = (
    "Pending", "Running", "Succeeded", "Failed", "Scheduling", "ScheduleFailed", "Restarting", "Updating",
    "Terminating", "Expired",
)  # fmt: skip
SPOT_STRATEGIES = ("NoSpot", "SpotAsPriceGo", "SpotWithPriceLimit")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)Gi")
_CACHE = re.compile(r"imc-[a-z0-9]+")
_METRIC_RECORDS = 50
_METRIC_PERIODS = (15, 30, 60, 600)
_METRICS_KEPT = timedelta(days=30)
_PEAK_LASTS = 0.25
"""The part of its script for which a hollow pod is at its peak: the last one."""


def describe_container_groups(cloud: Cloud, query: Query) -> Answer:
    """20 at a time. What RAM does not grant is an empty list, not an error (page of 2025-10-17)."""
    groups = _selected(cloud, query)
    shown, token = page(groups, query.get("NextToken"), whole(query, "Limit", 20, 20), lambda one: one.id)
    with_event = query.get("WithEvent", "").lower() == "true"
    answer: Answer = {
        "TotalCount": len(groups),
        "ContainerGroups": [_group(cloud, one, with_event=with_event) for one in shown],
    }
    return answer | ({"NextToken": token} if token else {})


def nothing_granted(cloud: Cloud, query: Query) -> Answer:
    """What `describe_container_groups` answers where RAM grants nothing."""
    need(query, "RegionId")
    return {"TotalCount": 0, "ContainerGroups": []}


def _selected(cloud: Cloud, query: Query) -> list[ContainerGroup]:
    (region,) = need(query, "RegionId")
    wanted, state = set(ids(query, "ContainerGroupIds")), query.get("Status")
    if state and state not in STATES:
        raise invalid("Status", f"Status must be one of {', '.join(STATES)}.")
    tagged = tags(query).items()
    return [
        one
        for one in cloud.remembered(region)
        if (not wanted or one.id in wanted)
        and (not state or one.state == state)
        and (not query.get("ContainerGroupName") or _name(one) == query["ContainerGroupName"])
        and (not query.get("ZoneId") or one.made["zone"] == query["ZoneId"])
        and (not query.get("VSwitchId") or _vswitch(one) == query["VSwitchId"])
        and (not query.get("ComputeCategory") or one.made["category"] == query["ComputeCategory"])
        and tagged <= _tags(one).items()
    ]


def _name(group: ContainerGroup) -> str:
    return f"{group.made['namespace']}-{group.made['pod']}"


def _vswitch(group: ContainerGroup) -> str:
    return "vsw-" + str(group.made["zone"]).replace("-", "")


def _tags(group: ContainerGroup) -> dict[str, str]:
    """The tags that the virtual node puts on, and the pod's own (`eci-custom-tags`)."""
    custom = group.made["annotations"].get("k8s.aliyun.com/eci-custom-tags", "")
    own = dict(pair.split(":", 1) for pair in custom.split(",") if ":" in pair)
    kind, _, name = group.made.get("owner", "").partition("/")
    owner = {"OwnerReferenceKind": kind, "OwnerReferenceName": name} if kind else {}
    return {
        "ManagedBy": "ack-virtual-node", "ClusterId": "practice", "NameSpace": group.made["namespace"],
        "PodName": group.made["pod"], **owner, **own,
    }  # fmt: skip


def _group(cloud: Cloud, group: ContainerGroup, *, with_event: bool) -> Answer:
    made, state = group.made, group.state
    ended = wire(group.ended_at)
    statuses = {one["name"]: one for one in _container_statuses(group)}
    containers = [(one, _container(one, statuses.get(one["name"], {}))) for one in made["containers"]]
    answer = {
        "ContainerGroupId": group.id, "ContainerGroupName": _name(group), "Status": state,
        "CreationTime": wire(group.accepted_at), "Cpu": made["vcpu"], "Memory": made["memory_gib"],
        "InstanceType": made["ecs_type"] or (spot_type(group).name if made["spot"] else None),
        "ComputeCategory": made["category"] or None, "SpotStrategy": group.spot_strategy,
        "SpotPriceLimit": number(made["annotations"], "k8s.aliyun.com/eci-spot-price-limit"),
        "Discount": _discount(cloud, group), "EphemeralStorage": FREE_EPHEMERAL_GIB + extra_ephemeral_gib(group),
        "RegionId": group.region, "ZoneId": made["zone"], "VpcId": "vpc-practice", "VSwitchId": _vswitch(group),
        "SecurityGroupId": "sg-practice", "EniInstanceId": made["eni"], "IntranetIp": made["address"],
        "ResourceGroupId": "rg-practice", "RestartPolicy": made["restart_policy"],
        "Tags": [{"Key": key, "Value": value} for key, value in _tags(group).items()],
        "Containers": [row for one, row in containers if not one.get("init")],
        "InitContainers": [row for one, row in containers if one.get("init")],
        "Events": [_event_of_group(group, number, one) for number, one in enumerate(group.events)] if with_event else [],
    }  # fmt: skip
    if state in TERMINAL:
        answer[f"{state}Time"] = ended
    return {key: value for key, value in answer.items() if value is not None}


def extra_ephemeral_gib(group: ContainerGroup) -> int:
    match = _SIZE.fullmatch(group.made["annotations"].get("k8s.aliyun.com/eci-extra-ephemeral-storage", ""))
    return int(float(match[1])) if match else 0


def spot_type(group: ContainerGroup) -> EcsType:
    """The ECS type by whose market a spot instance is charged."""
    named = EcsType.parse(group.made["ecs_type"]) if group.made["ecs_type"] else None
    return named or EcsType.holding(group.made["vcpu"], group.made["memory_gib"])


def _discount(cloud: Cloud, group: ContainerGroup) -> int | None:
    """What a spot instance paid at its start, in percent of the ECS type's list price."""
    if not group.made["spot"]:
        return None
    kind = spot_type(group)
    return round(100 * spot_hour(kind, group.made["zone"], group.charged_from, cloud.prices) / kind.hour(cloud.prices))


def _container_statuses(group: ContainerGroup) -> list[dict[str, Any]]:
    return [*group.status.get("initContainerStatuses", []), *group.status.get("containerStatuses", [])]


def _container(asked: Mapping[str, Any], status: Mapping[str, Any]) -> Answer:
    return {
        "Name": asked["name"], "Image": asked["image"], "Cpu": asked["vcpu"], "Memory": asked["memory_gib"],
        "Ready": status.get("ready", False), "RestartCount": status.get("restartCount", 0),
        "CurrentState": _state(status.get("state", {})), "PreviousState": _state(status.get("lastState", {})),
        "EnvironmentVars": [], "VolumeMounts": [],
    }  # fmt: skip


def _state(state: Mapping[str, Any]) -> Answer:
    for word in ("running", "terminated", "waiting"):
        if word in state:
            seen = state[word]
            shown = {
                "State": word.capitalize(), "Reason": seen.get("reason"), "Message": seen.get("message"),
                "DetailStatus": seen.get("reason"), "StartTime": seen.get("startedAt"),
                "FinishTime": seen.get("finishedAt"), "ExitCode": seen.get("exitCode"), "Signal": seen.get("signal"),
            }  # fmt: skip
            return {key: value for key, value in shown.items() if value is not None}
    return {}


def _event_of_group(group: ContainerGroup, number: int, event: Event) -> Answer:
    at = wire(event.at)
    return {
        "Count": 1, "FirstTimestamp": at, "LastTimestamp": at, "Message": event.message,
        "Name": f"{group.made['pod']}.{number:x}", "Reason": event.reason, "Type": event.type,
    }  # fmt: skip


def describe_container_group_status(cloud: Cloud, query: Query) -> Answer:
    """Status as a pod's, up to 200 at a time."""
    groups = _since(cloud, query, _selected(cloud, query))
    shown, token = page(groups, query.get("NextToken"), whole(query, "Limit", 200, 200), lambda one: one.id)
    answer: Answer = {"TotalCount": len(groups), "Data": [_pod_status(one) for one in shown]}
    return answer | ({"NextToken": token} if token else {})


def _since(cloud: Cloud, query: Query, groups: Iterable[ContainerGroup]) -> list[ContainerGroup]:
    """Those that changed in the last `SinceSecond` seconds of played time."""
    seconds = number(query, "SinceSecond")
    if seconds is None:
        return list(groups)
    horizon = cloud.now() - timedelta(seconds=seconds)
    return [one for one in groups if max(one.charged_from, *(e.at for e in one.events), one.ended_at or one.charged_from) >= horizon]  # fmt: skip


def _identity(group: ContainerGroup) -> Answer:
    return {
        "ContainerGroupId": group.id, "Name": group.made["pod"], "Namespace": group.made["namespace"],
        "uuid": group.uid, "Annotations": json.dumps(group.made["annotations"]),
    }  # fmt: skip


def _pod_status(group: ContainerGroup) -> Answer:
    status = group.status
    return {
        **_identity(group), "Status": group.state,
        "PodStatus": {
            "Phase": status.get("phase"), "HostIp": status.get("hostIP"), "PodIp": status.get("podIP"),
            "PodIps": [{"Ip": one["ip"]} for one in status.get("podIPs", [])],
            "StartTime": status.get("startTime"), "QosClass": status.get("qosClass"),
            "Conditions": [_condition(one) for one in status.get("conditions", [])],
            "ContainerStatuses": [_container_status(one) for one in status.get("containerStatuses", [])],
        },
    }  # fmt: skip


def _condition(one: Mapping[str, Any]) -> Answer:
    return {
        "type": one["type"], "status": one["status"], "Reason": one.get("reason"), "Message": one.get("message"),
        "lastTransitionTime": one.get("lastTransitionTime"),
    }  # fmt: skip


def _container_status(one: Mapping[str, Any]) -> Answer:
    return {
        "Name": one["name"], "Image": one.get("image"), "ContainerID": one.get("containerID"),
        "Ready": one.get("ready"), "RestartCount": one.get("restartCount", 0), "State": _pod_state(one.get("state", {})),
        "LastState": _pod_state(one.get("lastState", {})),
    }  # fmt: skip


def _pod_state(state: Mapping[str, Any]) -> Answer:
    # The SDK's own name of this field; it is read from there and nowhere else.
    running = {"Running": {"StartedAtstartedAt": state["running"].get("startedAt")}} if "running" in state else {}
    ended = state.get("terminated", {})
    terminated = {
        "Terminated": {
            "Reason": ended.get("reason"), "Message": ended.get("message"), "ExitCode": ended.get("exitCode"),
            "startedAt": ended.get("startedAt"), "finishedAt": ended.get("finishedAt"),
        }
    } if ended else {}  # fmt: skip
    waiting = {"Waiting": {"Reason": state["waiting"].get("reason")}} if "waiting" in state else {}
    return {**running, **terminated, **waiting}


def describe_container_group_events(cloud: Cloud, query: Query) -> Answer:
    """Events with their pod; `EventSource` EciService or K8sAgent leaves the other out."""
    source = query.get("EventSource")
    if source and source not in ("EciService", "K8sAgent"):
        raise invalid("EventSource", "EventSource must be EciService or K8sAgent.")
    groups = _since(cloud, query, _selected(cloud, query))
    shown, token = page(groups, query.get("NextToken"), whole(query, "Limit", 200, 200), lambda one: one.id)
    data = [
        {**_identity(one), "Events": [_event(one, told) for told in one.events if source in (None, _source(told))]}
        for one in shown
    ]
    return {"TotalCount": len(groups), "Data": data} | ({"NextToken": token} if token else {})


def _source(event: Event) -> str:
    return "EciService" if event.component == "EciService" else "K8sAgent"


def _event(group: ContainerGroup, event: Event) -> Answer:
    at = wire(event.at)
    return {
        "Reason": event.reason, "Message": event.message, "Type": event.type, "Count": 1, "FirstTimestamp": at,
        "LastTimestamp": at, "Source": {"Component": event.component, "Host": "eci"},
        "ReportingComponent": event.component, "ReportingInstance": "eci",
        "involvedObject": {
            "Kind": "Pod", "ApiVersion": "v1", "Name": group.made["pod"], "Namespace": group.made["namespace"],
            "Uid": group.uid,
        },
    }  # fmt: skip


def describe_container_group_metric(cloud: Cloud, query: Query) -> Answer:
    """At most 50 records of one group, from 30 days back, also of groups that the list has forgotten (page of 2025-10-17)."""
    region, wanted = need(query, "RegionId", "ContainerGroupId")
    group = cloud.journal.groups.get(wanted)
    if group is None or group.region != region:
        raise ApiError("InvalidParameter.ContainerGroupId", f"The container group {wanted} does not exist.", 404)
    seconds = whole(query, "Period", 60, 600)
    if seconds not in _METRIC_PERIODS:
        raise invalid("Period", f"Period must be one of {', '.join(map(str, _METRIC_PERIODS))}.")
    now, period = cloud.now(), timedelta(seconds=seconds)
    end = parsed(query, "EndTime") or now
    start = parsed(query, "StartTime") or end - timedelta(minutes=5)
    if start < now - _METRICS_KEPT:
        raise invalid("StartTime", "StartTime must lie within the last 30 days.")
    records = _records(group, max(start, group.charged_from), min(end, group.charged_until or now), period)
    if len(records) > _METRIC_RECORDS:
        raise invalid("StartTime", f"The query has more than {_METRIC_RECORDS} records.")
    return {"ContainerGroupId": group.id, "Records": records}


def describe_multi_container_group_metric(cloud: Cloud, query: Query) -> Answer:
    """The newest record of up to 20 groups."""
    region, _ = need(query, "RegionId", "ContainerGroupIds")
    wanted = set(ids(query, "ContainerGroupIds"))
    found = [one for one in cloud.remembered(region) if one.id in wanted]
    minute = timedelta(minutes=1)
    return {
        "MonitorDatas": [
            {"ContainerGroupId": one.id, "Records": _records(one, end - minute, end, minute)[-1:]}
            for one in found
            if (end := one.charged_until or cloud.now())
        ]
    }


def _records(group: ContainerGroup, start: datetime, end: datetime, period: timedelta) -> list[Answer]:
    moments: list[datetime] = []
    at = start
    while at <= end and len(moments) <= _METRIC_RECORDS:
        moments.append(at)
        at += period
    return [_record(group, at) for at in moments]


def _record(group: ContainerGroup, at: datetime) -> Answer:
    containers = [one for one in group.made["containers"] if not one.get("init")]
    share = 1 / max(1, len(containers))
    rows = [
        {
            "Name": one["name"],
            **_usage(group, at, (one["vcpu"] or group.made["vcpu"] * share), one["memory_gib"] or group.made["memory_gib"] * share, one["name"]),
        }
        for one in containers
    ]  # fmt: skip
    return {
        "Timestamp": wire(at), "Containers": rows,
        **_usage(group, at, group.made["vcpu"], group.made["memory_gib"], ""),
        "Network": {"Interfaces": [{"Name": "eth0", "RxBytes": 0, "TxBytes": 0, "RxErrors": 0, "TxErrors": 0, "RxDrops": 0, "TxDrops": 0, "RxPackets": 0, "TxPackets": 0}]},
        "Disk": [], "Filesystem": [],
    }  # fmt: skip


def _usage(group: ContainerGroup, at: datetime, vcpu: float, memory_gib: float, whose: str) -> Answer:
    """What a container, or with `whose` empty the group, uses at a moment, in the API's words."""
    script = group.made.get("script")
    used = _scripted(script, at, whose) if script else _invented(group, at, vcpu, memory_gib, whose)
    used_bytes = int(used.memory_gib * 2**30)
    return {
        "CPU": {
            "Limit": int(vcpu * 1000), "Load": 0, "UsageNanoCores": int(used.vcpu * 1e9),
            "UsageCoreNanoSeconds": int(used.core_seconds * 1e9),
        },
        "Memory": {
            "AvailableBytes": max(0, int(memory_gib * 2**30) - used_bytes), "Cache": 0, "Rss": used_bytes,
            "UsageBytes": used_bytes, "WorkingSet": used_bytes,
        },
    }  # fmt: skip


@dataclass(frozen=True)
class _Used:
    """At a moment: vCPU, GiB, and the core seconds until then."""

    vcpu: float = 0.0
    memory_gib: float = 0.0
    core_seconds: float = 0.0


def _scripted(script: Mapping[str, Any], at: datetime, whose: str) -> _Used:
    """A hollow pod uses what its script tells: its build container does, on a level first, at its peak towards the end."""
    used, begin = script.get("used"), moment(script["begin"])
    passed = (at - begin).total_seconds() - script["running"]
    length = script["end"] - script["running"]
    if not used or whose not in ("", "build") or passed < 0:
        return _Used()

    def before_the_peak(name: str, unit: str = "") -> float:
        """So much that the mean of the whole is the script's."""
        mean, peak = used[f"{name}_mean{unit}"], used[f"{name}_peak{unit}"]
        return float((mean - _PEAK_LASTS * peak) / (1 - _PEAK_LASTS))

    turn, level = (1 - _PEAK_LASTS) * length, before_the_peak("vcpu")
    done = level * min(passed, turn) + used["vcpu_peak"] * max(0.0, min(passed, length) - turn)
    if passed > length:
        return _Used(core_seconds=done)
    if passed >= turn:
        return _Used(used["vcpu_peak"], used["memory_peak_gib"], done)
    return _Used(level, before_the_peak("memory", "_gib"), done)


def _invented(group: ContainerGroup, at: datetime, vcpu: float, memory_gib: float, whose: str) -> _Used:
    """A pod that really runs, of which nobody measures anything, uses steady parts of its size, drawn from the group's id."""
    drawn = hashlib.sha256(f"{group.id} {whose}".encode()).digest()
    used = vcpu * (0.1 + 0.8 * drawn[0] / 255)
    passed = max(0.0, (at - group.charged_from).total_seconds())
    return _Used(used, memory_gib * (0.1 + 0.8 * drawn[1] / 255), used * passed)


def describe_container_group_price(cloud: Cloud, query: Query) -> Answer:
    """The price of a second by vCPU and memory; of an hour where an ECS type is named (the unit is not documented)."""
    need(query, "RegionId")
    strategy = query.get("SpotStrategy", "NoSpot")
    if strategy not in SPOT_STRATEGIES:
        raise invalid("SpotStrategy", f"SpotStrategy must be one of {', '.join(SPOT_STRATEGIES)}.")
    kind = EcsType.parse(query["InstanceType"]) if query.get("InstanceType") else None
    if query.get("InstanceType") and kind is None:
        raise ApiError("InvalidInstanceType.ValueNotSupported", "The specified InstanceType is not supported.")
    vcpu, memory = number(query, "Cpu"), number(query, "Memory")
    if kind is None and not (vcpu and memory):
        raise ApiError("InvalidParameter.CPU.Memory", "Cpu and Memory, or InstanceType, must be specified.")
    zone = query.get("ZoneId") or f"{query['RegionId']}-i"
    if kind is not None:
        items = {"instanceType": kind.hour(cloud.prices)}
    else:
        items = eci_second(cloud.prices, vcpu or 0, memory or 0, economy=query.get("ComputeCategory") == "economy")
    extra = max(0.0, (number(query, "EphemeralStorage") or 0) - FREE_EPHEMERAL_GIB)
    if extra:
        items = {**items, "systemDisk": cloud.prices.ephemeral_gib_second * Decimal(str(extra))}
    price = _price(cloud.prices.currency, items)
    spot: list[Answer] = []
    if strategy != "NoSpot":
        matched = kind or EcsType.holding(vcpu or 0, memory or 0)
        spot = [
            {
                "ZoneId": zone, "InstanceType": matched.name, "OriginPrice": float(matched.hour(cloud.prices)),
                "SpotPrice": float(spot_hour(matched, zone, cloud.now(), cloud.prices)),
            }
        ]  # fmt: skip
    return {"PriceInfo": {"Price": price, "Rules": {"Rule": []}, "SpotPrices": {"SpotPrice": spot}}}


def _price(currency: str, items: Mapping[str, Decimal]) -> Answer:
    total = float(sum(items.values()))
    rows = [
        {"Resource": name, "OriginalPrice": float(value), "DiscountPrice": 0.0, "TradePrice": float(value), "Rules": {"Rule": []}}
        for name, value in items.items()
    ]  # fmt: skip
    return {
        "Currency": currency, "OriginalPrice": total, "DiscountPrice": 0.0, "TradePrice": total,
        "DetailInfos": {"DetailInfo": rows},
    }  # fmt: skip


def describe_image_caches(cloud: Cloud, query: Query) -> Answer:
    """The caches that instances hit or made, as their events tell."""
    (region,) = need(query, "RegionId")
    caches: dict[str, Answer] = {}
    for group in cloud.journal.groups.values():
        for event in group.events:
            match = _CACHE.search(event.message) if event.reason.startswith(("ImageCache", "SuccessfulHit")) else None
            if match is not None:
                caches.setdefault(match[0], _image_cache(group, match[0], event, region))
                caches[match[0]]["LastMatchedTime"] = wire(event.at)
    wanted, images = query.get("ImageCacheId"), numbered(query, "MatchImage") or [query.get("Image", "")]
    rows = [
        one
        for one in caches.values()
        if wanted in (None, one["ImageCacheId"])
        and query.get("ImageCacheName") in (None, one["ImageCacheName"])
        and all(not image or image in one["Images"] for image in images)
    ]
    shown, token = page(
        rows, query.get("NextToken"), whole(query, "Limit", 100, 100), lambda one: str(one["ImageCacheId"])
    )
    return {"TotalCount": len(rows), "ImageCaches": shown} | ({"NextToken": token} if token else {})


def _image_cache(group: ContainerGroup, identity: str, event: Event, region: str) -> Answer:
    return {
        "ImageCacheId": identity, "ImageCacheName": f"auto-create-for-{group.id}", "Status": "Ready", "Progress": "100%",
        "Images": sorted({one["image"] for one in group.made["containers"]}), "ImageCacheSize": FREE_EPHEMERAL_GIB,
        "SnapshotId": identity.replace("imc-", "s-"), "ContainerGroupId": group.id, "CreationTime": wire(event.at),
        "ExpireDateTime": wire(event.at + timedelta(days=7)), "EliminationStrategy": "LRU", "RegionId": region,
        "ResourceGroupId": "rg-practice", "Tags": [], "Events": [],
    }  # fmt: skip


def list_usage(cloud: Cloud, query: Query) -> Answer:
    """vCPU in use against a quota of 5000."""
    (region,) = need(query, "RegionId")
    used = sum(one.made["vcpu"] for one in cloud.remembered(region) if one.charged_until is None)
    return {
        "Attributes": {
            "UsedCpu": int(used), "MaxCpu": 5000, "UsedImageCacheCount": 0, "MaxImageCacheCount": 100,
            "UsedAutoImageCacheCount": 0, "MaxAutoImageCacheCount": 150, "UsedDataCacheCount": 0,
            "MaxDataCacheCount": 100,
        }
    }  # fmt: skip


CALLS = {
    "DescribeContainerGroups": describe_container_groups,
    "DescribeContainerGroupStatus": describe_container_group_status,
    "DescribeContainerGroupEvents": describe_container_group_events,
    "DescribeContainerGroupMetric": describe_container_group_metric,
    "DescribeMultiContainerGroupMetric": describe_multi_container_group_metric,
    "DescribeContainerGroupPrice": describe_container_group_price,
    "DescribeImageCaches": describe_image_caches,
    "ListUsage": list_usage,
}
LIMITS = {
    "DescribeContainerGroups": 2000, "DescribeContainerGroupMetric": 2000, "DescribeMultiContainerGroupMetric": 2000,
    "DescribeContainerGroupPrice": 1000,
}  # fmt: skip
"""Documented requests a minute (product-overview/limits); the others are not documented."""
