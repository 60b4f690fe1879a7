"""ECS 2014-05-26: prices of types, the spot market's history, and its advice.

https://help.aliyun.com/zh/ecs/developer-reference/api-ecs-2014-05-26-overview
"""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

from sandbox.alibaba.cloud import Answer, Cloud, Query, need, number, numbered, parsed, wire
from sandbox.alibaba.errors import ApiError, invalid
from sandbox.alibaba.prices import EcsType, spot_history, spot_hour

VERSION = "2014-05-26"
ZONES = ("i", "j")
LONGEST = timedelta(days=30)
DEFAULT_SPAN = timedelta(hours=3)
ROWS = 1000
_SYSTEM_DISK_HOUR = Decimal("0.02")
_ADVISED = ("ecs.c6.large", "ecs.c6.xlarge", "ecs.c6.2xlarge", "ecs.g6.large", "ecs.g6.xlarge", "ecs.r6.large")
_RISKS = (("0-3%", 2), ("3-5%", 4), ("5-10%", 8))


def _type(name: str) -> EcsType:
    kind = EcsType.parse(name)
    if kind is None:
        raise ApiError("InvalidInstanceType.ValueNotSupported", "The specified InstanceType is not supported.")
    return kind


def _zones(query: Query) -> list[str]:
    return [query["ZoneId"]] if query.get("ZoneId") else [f"{query['RegionId']}-{letter}" for letter in ZONES]


def describe_instance_types(cloud: Cloud, query: Query) -> Answer:
    """What types are, at most ten by name; a name that does not exist is left out."""
    named = numbered(query, "InstanceTypes")
    if len(named) > 10:
        raise invalid("InstanceTypes", "At most 10 InstanceTypes can be specified.")
    rows = [
        {
            "InstanceTypeId": kind.name, "InstanceTypeFamily": f"ecs.{kind.family}", "CpuCoreCount": kind.vcpu,
            "MemorySize": float(kind.memory_gib), "CpuArchitecture": "X86",
        }
        for kind in map(EcsType.parse, named or _ADVISED)
        if kind is not None
    ]  # fmt: skip
    return {"InstanceTypes": {"InstanceType": rows}}


def describe_price(cloud: Cloud, query: Query) -> Answer:
    """The price of an hour of an instance: the type, and its system disk."""
    need(query, "RegionId")
    if query.get("ResourceType", "instance") != "instance":
        raise invalid("ResourceType", "This practice cloud sells instances only.")
    (name,) = need(query, "InstanceType")
    kind = _type(name)
    listed = kind.hour(cloud.prices)
    spot = query.get("SpotStrategy", "NoSpot") != "NoSpot"
    paid = spot_hour(kind, _zones(query)[0], cloud.now(), cloud.prices) if spot else listed
    rows = [("instanceType", listed, paid), ("systemDisk", _SYSTEM_DISK_HOUR, _SYSTEM_DISK_HOUR)]
    details = [
        {
            "Resource": resource, "OriginalPrice": float(original), "DiscountPrice": float(original - trade),
            "TradePrice": float(trade), "SubRules": {"Rule": []},
        }
        for resource, original, trade in rows
    ]  # fmt: skip
    original, trade = sum(row[1] for row in rows), sum(row[2] for row in rows)
    price = {
        "Currency": cloud.prices.currency, "OriginalPrice": float(original), "DiscountPrice": float(original - trade),
        "TradePrice": float(trade), "DetailInfos": {"DetailInfo": details},
    }  # fmt: skip
    return {"PriceInfo": {"Price": price, "Rules": {"Rule": []}}}


def describe_spot_price_history(cloud: Cloud, query: Query) -> Answer:
    """Changes of the market price, the oldest first; at most 30 days; go on with `Offset=NextOffset`."""
    _, name, _ = need(query, "RegionId", "InstanceType", "NetworkType")
    kind = _type(name)
    end = parsed(query, "EndTime") or cloud.now()
    start = parsed(query, "StartTime") or end - DEFAULT_SPAN
    if not start <= end or end - start > LONGEST:
        raise ApiError("InvalidStartTime.ValueNotSupported", "The time span must be positive and at most 30 days.")
    end = min(end, cloud.latest())
    rows = [
        {
            "InstanceType": kind.name, "IoOptimized": "optimized", "NetworkType": query["NetworkType"], "ZoneId": zone,
            "OriginPrice": float(kind.hour(cloud.prices)), "SpotPrice": float(price), "Timestamp": wire(at),
        }
        for zone in _zones(query)
        for at, price in spot_history(kind, zone, start, end, cloud.prices)
    ]  # fmt: skip
    offset = int(number(query, "Offset", 0) or 0)
    following = offset + ROWS if offset + ROWS < len(rows) else 0
    return {
        "Currency": cloud.prices.currency, "NextOffset": following,
        "SpotPrices": {"SpotPriceType": rows[offset : offset + ROWS]},
    }  # fmt: skip


def describe_spot_advice(cloud: Cloud, query: Query) -> Answer:
    """Average discount and interruption rate of types, a row each zone."""
    need(query, "RegionId")
    named = numbered(query, "InstanceTypes")
    if len(named) > 10:
        raise invalid("InstanceTypes", "At most 10 InstanceTypes can be specified.")
    family, cores, memory = query.get("InstanceTypeFamily"), number(query, "Cores"), number(query, "Memory")
    kinds = [
        kind
        for kind in map(_type, named or _ADVISED)
        if family in (None, f"ecs.{kind.family}") and cores in (None, kind.vcpu) and memory in (None, kind.memory_gib)
    ]
    now = cloud.now()
    zones = []
    for zone in _zones(query):
        advised = []
        for kind in kinds:
            rows = [price for _, price in spot_history(kind, zone, now - LONGEST, now, cloud.prices)]
            text, rate = _RISKS[len(kind.name + zone) % len(_RISKS)]
            share = sum(rows, Decimal(0)) / len(rows) / kind.hour(cloud.prices) if rows else Decimal(1)
            advised.append(
                {
                    "InstanceType": kind.name, "AverageSpotDiscount": round(100 * share), "InterruptionRate": float(rate),
                    "InterruptRateDesc": text,
                }
            )  # fmt: skip
        zones.append({"ZoneId": zone, "AvailableSpotResources": {"AvailableSpotResource": advised}})
    return {"RegionId": query["RegionId"], "AvailableSpotZones": {"AvailableSpotZone": zones}}


CALLS = {
    "DescribeInstanceTypes": describe_instance_types,
    "DescribePrice": describe_price,
    "DescribeSpotPriceHistory": describe_spot_price_history,
    "DescribeSpotAdvice": describe_spot_advice,
}
