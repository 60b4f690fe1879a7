"""Alibaba Cloud through its own SDKs: ECI instances, events, metrics and prices, ECS and spot prices, the bill.

Answers come back as the APIs write them (`{"ContainerGroupId": …}`), all pages together; what to make of them is decided
elsewhere. A request that was throttled, or met a server in trouble, is tried again. Everything here only reads.

ECI keeps quiet about missing rights: without `eci:DescribeContainerGroups` the list of instances is empty, and no error.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any, Literal

from runbook.errors import AlibabaError
from runbook.moments import Clock

Row = dict[str, Any]

GROUPS_A_CALL = 20
"""Instances that DescribeContainerGroups answers at most, and ids that it takes at most."""
EVENTS_A_CALL = 200
TYPES_A_CALL = 10
"""ECS types that DescribeInstanceTypes takes at most."""
METRICS_A_CALL = 50
BILL_ROWS_A_CALL = 300
NO_RIGHTS = (
    "ECI named no instance. Either none ran within the last hour, or the AccessKey lacks "
    "eci:DescribeContainerGroups: ECI answers an empty list then, not an error."
)
"""What to tell of an empty list."""

_PAGE = "#alibaba-cloud"
_PATIENCE = (1.0, 2.0, 4.0, 8.0)
"""Seconds between attempts."""


@dataclass(frozen=True)
class Endpoints:
    """Where the three services answer: a host, or an URL where it is not https."""

    eci: str
    ecs: str
    bss: str

    @classmethod
    def of(cls, region: str, site: Literal["cn", "intl"]) -> Endpoints:
        """The public ones of a region; the bill has one for each site."""
        bss = {"cn": "business.aliyuncs.com", "intl": "business.ap-southeast-1.aliyuncs.com"}
        return cls(f"eci.{region}.aliyuncs.com", f"ecs.{region}.aliyuncs.com", bss[site])


@dataclass(frozen=True)
class AccessKey:
    """An AccessKey pair, with the token that belongs to a temporary one."""

    id: str
    secret: str = field(repr=False)
    security_token: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class _Advice:
    problem: str
    remedy: str


_REFUSALS = {
    "InvalidAccessKeyId": _Advice(
        "Alibaba Cloud does not know the AccessKey id.",
        "Check alibaba.access_key_id of the card: another account's, disabled, or deleted in the RAM console.",
    ),
    "SignatureDoesNotMatch": _Advice(
        "The AccessKey secret does not belong to the AccessKey id.",
        "Check alibaba.access_key_secret of the card: it is shown only once, when the AccessKey is made.",
    ),
    "IncompleteSignature": _Advice("The request could not be signed.", "Check both halves of the AccessKey."),
    "MissingAccessKeyId": _Advice("The request carried no AccessKey.", "Name one in the card's section alibaba."),
    "InvalidSecurityToken": _Advice(
        "The temporary AccessKey has expired, or its token is another's.", "Get a new one and start again."
    ),
    "InvalidTimeStamp": _Advice(
        "This machine's clock is more than 15 minutes off.", "timedatectl status   # then let it synchronise"
    ),
    "Forbidden": _Advice(
        "RAM does not grant this call to the AccessKey.",
        "Grant AliyunECIReadOnlyAccess, AliyunECSReadOnlyAccess and AliyunBSSReadOnlyAccess to its RAM user.",
    ),
    "NotAuthorized": _Advice(
        "RAM does not grant the bill to the AccessKey.", "Grant AliyunBSSReadOnlyAccess to its RAM user."
    ),
    "Throttling": _Advice("Alibaba Cloud refuses more requests for now.", "Wait a minute and start again."),
    "InvalidAction": _Advice(
        "This endpoint does not have the call.", "Check the endpoints in the card's section alibaba."
    ),
}
"""By the first part of the error code: `Forbidden` also stands for `Forbidden.RAM`."""

_WORTH_ANOTHER_TRY = ("Throttling", "ServiceUnavailable", "InternalError", "ServiceTimeout", "SystemBusy")


class AlibabaCloud:
    """One account in one region.

    `key` None takes the SDK's default chain: ALIBABA_CLOUD_ACCESS_KEY_ID and …_SECRET, RRSA, ~/.aliyun/config.json, an
    instance's RAM role. Every method raises AlibabaError.
    """

    def __init__(
        self, region: str, endpoints: Endpoints, *, clock: Clock, key: AccessKey | None = None, timeout: float = 15
    ) -> None:
        self.region = region
        self.endpoints = endpoints
        self._clock = clock
        self._key = key
        self._timeout = timeout
        self._clients: dict[str, Any] = {}

    def __repr__(self) -> str:
        return f"AlibabaCloud({self.region})"

    # -- ECI

    def container_groups(
        self, instance_ids: Sequence[str] = (), *, status: str | None = None, with_events: bool = True
    ) -> list[Row]:
        """Instances that ECI still knows: those that live, and of ended ones an hour's or the newest 100 of the region.

        An empty list may also mean a missing right; see NO_RIGHTS.
        """
        from alibabacloud_eci20180808 import models

        asked = [list(instance_ids[n : n + GROUPS_A_CALL]) for n in range(0, len(instance_ids), GROUPS_A_CALL)] or [[]]
        found: list[Row] = []
        for some in asked:
            request = models.DescribeContainerGroupsRequest(
                region_id=self.region,
                limit=GROUPS_A_CALL,
                with_event=with_events,
                status=status,
                container_group_ids=json.dumps(some) if some else None,
            )
            pages = self._pages("eci", "describe_container_groups", request)
            found += [row for body in pages for row in body.get("ContainerGroups") or []]
        return found

    def container_group_events(
        self, instance_ids: Sequence[str] = (), *, since_seconds: int | None = None
    ) -> list[Row]:
        """Events by instance, each with the pod it is about (`involvedObject`): the way from an instance to a pod's UID."""
        return self._by_group("describe_container_group_events", "Events", instance_ids, since_seconds)

    def container_group_status(
        self, instance_ids: Sequence[str] = (), *, since_seconds: int | None = None
    ) -> list[Row]:
        """Status by instance, as a pod's: phase, conditions, containers."""
        return self._by_group("describe_container_group_status", "Status", instance_ids, since_seconds)

    def _by_group(self, call: str, kind: str, instance_ids: Sequence[str], since_seconds: int | None) -> list[Row]:
        from alibabacloud_eci20180808 import models

        make = getattr(models, f"DescribeContainerGroup{kind}Request")
        asked = [list(instance_ids[n : n + GROUPS_A_CALL]) for n in range(0, len(instance_ids), GROUPS_A_CALL)] or [[]]
        found: list[Row] = []
        for some in asked:
            request = make(
                region_id=self.region,
                limit=EVENTS_A_CALL,
                since_second=since_seconds,
                container_group_ids=json.dumps(some) if some else None,
            )
            found += [row for body in self._pages("eci", call, request) for row in body.get("Data") or []]
        return found

    def container_group_metrics(
        self, instance_id: str, *, start: datetime | None = None, end: datetime | None = None, period: int = 60
    ) -> list[Row]:
        """At most 50 records of one instance, from the last 30 days: CPU, memory, disk, network, by container too.

        `period` is 15, 30, 60 or 600 seconds. ECI refuses a question for more records than METRICS_A_CALL.
        """
        from alibabacloud_eci20180808 import models

        request = models.DescribeContainerGroupMetricRequest(
            region_id=self.region,
            container_group_id=instance_id,
            start_time=_wire(start),
            end_time=_wire(end),
            period=str(period),
        )
        return list(self._call("eci", "describe_container_group_metric", request).get("Records") or [])

    def container_group_price(
        self,
        *,
        vcpu: float | None = None,
        memory_gib: float | None = None,
        instance_type: str | None = None,
        zone: str | None = None,
        spot_strategy: str = "NoSpot",
        economy: bool = False,
        ephemeral_gib: int | None = None,
    ) -> Row:
        """`PriceInfo` of a size or an ECS type: `Price` a second for a size, `SpotPrices` an hour.

        `ephemeral_gib` is the whole ephemeral storage, the free 30 GiB among it.
        """
        from alibabacloud_eci20180808 import models

        request = models.DescribeContainerGroupPriceRequest(
            region_id=self.region,
            zone_id=zone,
            cpu=vcpu,
            memory=memory_gib,
            instance_type=instance_type,
            spot_strategy=spot_strategy,
            compute_category="economy" if economy else None,
            ephemeral_storage=ephemeral_gib,
        )
        return dict(self._call("eci", "describe_container_group_price", request)["PriceInfo"])

    def image_caches(self, image: str | None = None) -> list[Row]:
        """The image caches of the region; with `image`, those that hold it."""
        from alibabacloud_eci20180808 import models

        request = models.DescribeImageCachesRequest(region_id=self.region, match_image=[image] if image else None)
        pages = self._pages("eci", "describe_image_caches", request)
        return [row for body in pages for row in body.get("ImageCaches") or []]

    def usage(self) -> Mapping[str, int]:
        """What is used of the account's quotas in the region: `UsedCpu`, `MaxCpu`, …"""
        from alibabacloud_eci20180808 import models

        body = self._call("eci", "list_usage", models.ListUsageRequest(region_id=self.region))
        return dict(body.get("Attributes") or {})

    # -- ECS

    def instance_price(self, instance_type: str, *, zone: str | None = None) -> Row:
        """`PriceInfo` of an ECS type for an hour of pay-as-you-go; its row `instanceType` is the type without its disk."""
        from alibabacloud_ecs20140526 import models

        request = models.DescribePriceRequest(
            region_id=self.region,
            resource_type="instance",
            instance_type=instance_type,
            price_unit="Hour",
            zone_id=zone,
        )
        return dict(self._call("ecs", "describe_price", request)["PriceInfo"])

    def instance_types(self, names: Sequence[str]) -> list[Row]:
        """What ECS types are: `InstanceTypeId`, `CpuCoreCount`, `MemorySize` (GiB), …; those that ECS does not know are left out."""
        from alibabacloud_ecs20140526 import models

        found: list[Row] = []
        for start in range(0, len(names), TYPES_A_CALL):
            request = models.DescribeInstanceTypesRequest(instance_types=list(names[start : start + TYPES_A_CALL]))
            body = self._call("ecs", "describe_instance_types", request)
            found += (body.get("InstanceTypes") or {}).get("InstanceType") or []
        return found

    def spot_price_history(
        self, instance_type: str, *, start: datetime, end: datetime, zone: str | None = None
    ) -> list[Row]:
        """Changes of a type's market price, an hour's, from `start` to `end` (at most 30 days), `Currency` in each row."""
        from alibabacloud_ecs20140526 import models

        rows: list[Row] = []
        offset: int | None = 0
        while offset is not None:
            request = models.DescribeSpotPriceHistoryRequest(
                region_id=self.region,
                instance_type=instance_type,
                network_type="vpc",
                zone_id=zone,
                start_time=_wire(start),
                end_time=_wire(end),
                offset=offset,
            )
            body = self._call("ecs", "describe_spot_price_history", request)
            listed = (body.get("SpotPrices") or {}).get("SpotPriceType") or []
            rows += [{**row, "Currency": body.get("Currency")} for row in listed]
            following = body.get("NextOffset") or 0
            offset = following if listed and following > offset else None
        return rows

    def spot_advice(self, instance_types: Sequence[str] = (), *, zone: str | None = None) -> list[Row]:
        """Average discount and interruption rate of types (at most 10), a row each type and zone."""
        from alibabacloud_ecs20140526 import models

        request = models.DescribeSpotAdviceRequest(
            region_id=self.region, instance_types=list(instance_types) or None, zone_id=zone
        )
        zones = self._call("ecs", "describe_spot_advice", request).get("AvailableSpotZones") or {}
        return [
            {"ZoneId": one["ZoneId"], **row}
            for one in zones.get("AvailableSpotZone") or []
            for row in (one.get("AvailableSpotResources") or {}).get("AvailableSpotResource") or []
        ]

    # -- BSS

    def daily_bill(self, day: date, *, instance_id: str | None = None) -> list[Row]:
        """ECI's rows of the bill of one day (in China's time): one each instance and billing item, about a day late."""
        from alibabacloud_bssopenapi20171214 import models

        request = models.DescribeInstanceBillRequest(
            billing_cycle=f"{day:%Y-%m}",
            billing_date=day.isoformat(),
            granularity="DAILY",
            is_billing_item=True,
            product_code="eci",
            instance_id=instance_id,
            max_results=BILL_ROWS_A_CALL,
        )
        return [row for body in self._pages("bss", "describe_instance_bill", request) for row in _items(body)]

    def monthly_bill(self, cycle: str) -> list[Row]:
        """ECI's rows of the bill of one month (`2026-11`): one each instance and billing item; final from the 3rd on."""
        from alibabacloud_bssopenapi20171214 import models

        request = models.DescribeInstanceBillRequest(
            billing_cycle=cycle,
            granularity="MONTHLY",
            is_billing_item=True,
            product_code="eci",
            max_results=BILL_ROWS_A_CALL,
        )
        return [row for body in self._pages("bss", "describe_instance_bill", request) for row in _items(body)]

    # -- how a call is made

    def _pages(self, service: str, call: str, request: Any) -> Iterator[Row]:
        """The answers of one question, following `NextToken`."""
        while True:
            body = self._call(service, call, request)
            yield body
            following = body.get("NextToken") or (body.get("Data") or {} if service == "bss" else {}).get("NextToken")
            if not following or following == request.next_token:
                return
            request.next_token = following

    def _call(self, service: str, call: str, request: Any) -> Row:
        """One call with its repetitions; the body of its answer."""
        method: Callable[[Any], Any] = getattr(self._client(service), call)
        pauses = iter(_PATIENCE)
        while True:
            try:
                body: Row = method(request).body.to_map()
                if service == "bss" and body.get("Success") is False:
                    raise _error(_Refusal(str(body.get("Code")), str(body.get("Message"))), self._where(service, call))
                return body
            except AlibabaError:
                raise
            except Exception as problem:  # the SDK raises its own, its HTTP library's, and json's
                refusal = _Refusal.of(problem)
                pause = next(pauses, None) if refusal.passing else None
                if pause is None:
                    raise _error(refusal, self._where(service, call)) from None
                self._clock.sleep(refusal.retry_after or pause)

    def _where(self, service: str, call: str) -> str:
        return f"{call} at {getattr(self.endpoints, service)}"

    def _client(self, service: str) -> Any:
        if service not in self._clients:
            self._clients[service] = _sdk(service)(self._config(service))
        return self._clients[service]

    def _config(self, service: str) -> Any:
        from alibabacloud_tea_openapi.utils_models import Config

        address: str = getattr(self.endpoints, service)
        scheme, _, host = address.rpartition("://")
        milliseconds = int(self._timeout * 1000)
        config = Config(
            region_id=self.region,
            endpoint=host.rstrip("/"),
            protocol=(scheme or "https").upper(),
            connect_timeout=milliseconds,
            read_timeout=milliseconds,
        )
        if self._key is None:
            from alibabacloud_credentials.client import Client as Credentials

            config.credential = Credentials()
        else:
            config.access_key_id = self._key.id
            config.access_key_secret = self._key.secret
            config.security_token = self._key.security_token
        return config


def _sdk(service: str) -> Any:
    """The SDK's client class; each of the three takes long to import."""
    if service == "eci":
        from alibabacloud_eci20180808.client import Client as Eci

        return Eci
    if service == "ecs":
        from alibabacloud_ecs20140526.client import Client as Ecs

        return Ecs
    from alibabacloud_bssopenapi20171214.client import Client as Bss

    return Bss


def _items(body: Row) -> list[Row]:
    return list((body.get("Data") or {}).get("Items") or [])


def _wire(at: datetime | None) -> str | None:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if at else None


@dataclass(frozen=True)
class _Refusal:
    """Why a call failed: the API's code and sentence, or what kept the call from arriving."""

    code: str
    message: str
    status: int | None = None
    request_id: str | None = None
    retry_after: float | None = None
    unreachable: bool = False

    @classmethod
    def of(cls, problem: Exception) -> _Refusal:
        code, status = getattr(problem, "code", None), getattr(problem, "status_code", None)
        if code and status:
            content = getattr(problem, "data", None) or {}
            wait = getattr(problem, "retry_after", None)
            return cls(
                code=str(code),
                message=str(content.get("Message") or problem),
                status=int(status),
                request_id=content.get("RequestId"),
                retry_after=float(wait) / 1000 if wait else None,
            )
        if code:  # no AccessKey anywhere in the default chain
            return cls(str(code), str(problem))
        return cls(type(problem).__name__, "", unreachable=True)

    @property
    def passing(self) -> bool:
        """Whether the same call may succeed in a moment."""
        server = self.status is not None and self.status >= 500
        return self.unreachable or server or self.code.startswith(_WORTH_ANOTHER_TRY)


def _error(refusal: _Refusal, where: str) -> AlibabaError:
    advice = _REFUSALS.get(refusal.code.split(".")[0])
    if refusal.unreachable:
        advice = _Advice(
            "Alibaba Cloud does not answer, or what answers is not its API.",
            "Check the way there (proxy, firewall, endpoint in the card's section alibaba).",
        )
    problem = advice.problem if advice else f"Alibaba Cloud refused the call: {_sentence(refusal.message)}"
    traced = f" (request {refusal.request_id})" if refusal.request_id else ""
    error = AlibabaError(
        problem,
        where=where,
        value=f"{refusal.code}{traced}",
        remedy=advice.remedy if advice else None,
        page=_PAGE,
    )
    error.code, error.status = refusal.code, refusal.status
    return error


def _sentence(message: str) -> str:
    """The API's sentence; what it echoes of the request to be signed is left out."""
    return message.split("server string to sign is")[0].strip().rstrip(".") + "."
