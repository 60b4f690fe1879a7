"""The practice Alibaba Cloud through Alibaba's own SDKs: signatures, paging, throttling, forgetting, the bill."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from alibabacloud_bssopenapi20171214.client import Client as Bss
from alibabacloud_bssopenapi20171214.models import DescribeInstanceBillRequest, QueryInstanceBillRequest
from alibabacloud_eci20180808 import models as eci
from alibabacloud_eci20180808.client import Client as Eci
from alibabacloud_ecs20140526 import models as ecs
from alibabacloud_ecs20140526.client import Client as Ecs
from alibabacloud_tea_openapi.utils_models import Config

from sandbox.alibaba.process import Alibaba
from tests.sandbox.alibaba_journal import JournalWriter

REGION = "cn-hangzhou"


def config(alibaba: Alibaba, *, key: tuple[str, str] | None = None, **more: Any) -> Config:
    """What a client of Alibaba's needs to reach the stand-in."""
    identity, secret = key or alibaba.access_key()
    host = alibaba.url.removeprefix("http://")
    return Config(
        access_key_id=identity, access_key_secret=secret, endpoint=host, protocol="HTTP", region_id=REGION, **more
    )


@pytest.fixture(scope="module")
def now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


@pytest.fixture(scope="module")
def alibaba(tmp_path_factory: pytest.TempPathFactory, now: datetime) -> Iterator[Alibaba]:
    """130 instances that ended three hours ago, 30 that ended just now, five that run; one of those is spot."""
    folder = tmp_path_factory.mktemp("alibaba")
    journal = JournalWriter(folder / "journal.jsonl", now - timedelta(hours=4))
    for number in range(130):
        journal.made(number, f"old{number:03}")
        journal.ran(number + 10, f"old{number:03}")
        journal.ended(number + 3600, f"old{number:03}", started=number + 10)
    for number in range(30):
        journal.made(14000 + number, f"new{number:02}")
        journal.ended(14300, f"new{number:02}", exit_code=1)
    for number in range(4):
        journal.made(14310, f"live{number}", vcpu=4, memory_gib=8)
        journal.ran(14320, f"live{number}")
    journal.made(14310, "spot", spot=True)
    journal.told(14315, "spot", "Pulled", "Image pulled", "kubelet")
    journal.ran(14320, "spot")
    used = {"vcpu_mean": 1.5, "vcpu_peak": 3.0, "memory_mean_gib": 2.5, "memory_peak_gib": 4.0}
    begin = (now - timedelta(hours=4)).isoformat()
    journal.made(0, "hollow", vcpu=4, memory_gib=8, script={"begin": begin, "running": 30, "end": 150, "used": used})
    journal.ended(150, "hollow")
    with Alibaba(folder / "server", journal=journal.path, bill_delay_hours=-24) as started:
        yield started


def groups_of(client: Eci, **question: Any) -> list[Any]:
    """All pages of DescribeContainerGroups."""
    found: list[Any] = []
    token = None
    while True:
        request = eci.DescribeContainerGroupsRequest(region_id=REGION, next_token=token, **question)
        body = client.describe_container_groups(request).body
        assert len(body.container_groups) <= 20
        found += body.container_groups
        token = body.next_token
        if not token:
            assert len(found) == body.total_count
            return found


def code_of(call: Any, *arguments: Any) -> str:
    """The error code that a call is refused with."""
    with pytest.raises(Exception) as caught:
        call(*arguments)
    return str(getattr(caught.value, "code", caught.value))


def test_pages_hold_twenty_and_together_every_instance_once(alibaba: Alibaba) -> None:
    """A page has at most 20 instances, and NextToken leads through all of them, each once."""
    found = [one.container_group_id for one in groups_of(Eci(config(alibaba)))]
    assert len(found) == len(set(found))


def test_an_hour_and_a_hundred_are_remembered(alibaba: Alibaba) -> None:
    """Instances that ended within the hour are all there; of the older ones only so many that the newest 100 are kept."""
    names = [one.container_group_name for one in groups_of(Eci(config(alibaba)))]
    assert sum("new" in name for name in names) == 30
    assert sum("old" in name for name in names) == 70
    assert sum("live" in name or "spot" in name for name in names) == 5


def test_status_and_ids_select(alibaba: Alibaba) -> None:
    """Status, ids and tags each narrow the list to what they name."""
    client = Eci(config(alibaba))
    running = groups_of(client, status="Running")
    assert {one.status for one in running} == {"Running"} and len(running) == 5
    one = groups_of(client, container_group_ids=json.dumps(["eci-bp1spot"]))
    assert [each.spot_strategy for each in one] == ["SpotAsPriceGo"]
    tag = eci.DescribeContainerGroupsRequestTag(key="PodName", value="live2")
    assert [each.container_group_id for each in groups_of(client, tag=[tag])] == ["eci-bp1live2"]


def test_terminal_instances_say_when_they_ended(alibaba: Alibaba, now: datetime) -> None:
    """An instance that failed has FailedTime, exit codes and its times, and events where they are asked for."""
    (one,) = groups_of(Eci(config(alibaba)), container_group_ids='["eci-bp1new00"]', with_event=True)
    assert one.status == "Failed"
    assert one.failed_time == (now - timedelta(hours=4) + timedelta(seconds=14300)).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert one.containers[0].current_state.exit_code == 1
    assert [event.reason for event in one.events] == ["StopCharge"]


def test_status_and_events_lead_to_the_pod(alibaba: Alibaba) -> None:
    """DescribeContainerGroupStatus and …Events name the pod's UID, namespace and name."""
    client = Eci(config(alibaba))
    ids = '["eci-bp1spot"]'
    events = client.describe_container_group_events(
        eci.DescribeContainerGroupEventsRequest(region_id=REGION, container_group_ids=ids)
    )
    (data,) = events.body.data
    assert data.events[0].involved_object.uid == "uid-spot"
    status = client.describe_container_group_status(
        eci.DescribeContainerGroupStatusRequest(region_id=REGION, container_group_ids=ids)
    )
    assert (status.body.data[0].pod_status.phase, status.body.data[0].namespace) == ("Running", "gitlab-ci")


def test_metrics_come_for_one_and_for_many(alibaba: Alibaba, now: datetime) -> None:
    """A metric has a record each period, of groups too that the list has forgotten, and never more CPU than the instance has."""
    client = Eci(config(alibaba))
    one = client.describe_container_group_metric(metric_request("eci-bp1old000", now - timedelta(hours=4), 600, 15))
    assert len(one.body.records) == 41
    assert all(record.cpu.usage_nano_cores <= record.cpu.limit * 1_000_000 for record in one.body.records)
    many = client.describe_multi_container_group_metric(
        eci.DescribeMultiContainerGroupMetricRequest(
            region_id=REGION, container_group_ids='["eci-bp1spot", "eci-bp1live0"]'
        )
    )
    assert len(many.body.monitor_datas) == 2


def metric_request(instance: str, start: datetime, seconds: float, period: int) -> Any:
    """The question for some seconds of an instance, a record each period."""
    words = [at.strftime("%Y-%m-%dT%H:%M:%SZ") for at in (start, start + timedelta(seconds=seconds))]
    return eci.DescribeContainerGroupMetricRequest(
        region_id=REGION, container_group_id=instance, start_time=words[0], end_time=words[1], period=str(period)
    )


@pytest.mark.parametrize(
    ("start_hours", "seconds", "period"),
    [(4, 3000, 15), (4, 60, 20), (31 * 24, 60, 60)],
    ids=["more than 50 records", "an unknown period", "more than 30 days ago"],
)
def test_metrics_have_the_documented_limits(
    alibaba: Alibaba, now: datetime, start_hours: float, seconds: float, period: int
) -> None:
    """More than 50 records, an odd period and what is older than 30 days are refused, as the vendor's page says."""
    request = metric_request("eci-bp1old000", now - timedelta(hours=start_hours), seconds, period)
    assert code_of(Eci(config(alibaba)).describe_container_group_metric, request).startswith("Invalid")


def test_a_hollow_pod_uses_what_its_script_tells(alibaba: Alibaba, now: datetime) -> None:
    """Over its script a hollow pod's records have the script's mean and peak, of CPU and of memory; nothing before and after."""
    client = Eci(config(alibaba))
    records = client.describe_container_group_metric(
        metric_request("eci-bp1hollow", now - timedelta(hours=4), 140, 15)
    ).body.records
    vcpu = [record.cpu.usage_nano_cores / 1e9 for record in records]
    memory = [record.memory.working_set / 2**30 for record in records]
    assert vcpu == pytest.approx([0, 0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 3.0, 3.0])
    assert (memory[0], memory[2], max(memory)) == pytest.approx((0, 2.0, 4.0))
    assert records[-1].cpu.usage_core_nano_seconds / 1e9 == pytest.approx(90 + 15 * 3)


def test_the_documented_example_price_is_answered(alibaba: Alibaba) -> None:
    """2 vCPU and 4 GiB cost 0.00012252 CNY a second, the vendor's own example; spot prices are an hour's."""
    request = eci.DescribeContainerGroupPriceRequest(
        region_id=REGION, cpu=2, memory=4, spot_strategy="SpotAsPriceGo", zone_id="cn-hangzhou-i"
    )
    info = Eci(config(alibaba)).describe_container_group_price(request).body.price_info
    assert info.price.trade_price == pytest.approx(0.00012252)
    (spot,) = info.spot_prices.spot_price
    assert 0 < spot.spot_price < spot.origin_price


def test_image_caches_and_usage_are_answered(alibaba: Alibaba) -> None:
    """The vCPU of what is charged now count as used; no image cache was ever told of."""
    client = Eci(config(alibaba))
    assert client.list_usage(eci.ListUsageRequest(region_id=REGION)).body.attributes["UsedCpu"] == 4 * 4 + 2
    assert not client.describe_image_caches(eci.DescribeImageCachesRequest(region_id=REGION)).body.image_caches


def test_ecs_prices_and_spot_history(alibaba: Alibaba, now: datetime) -> None:
    """A type has a price without its disk, a market price that stays below it, and advice; NextOffset pages the history."""
    client = Ecs(config(alibaba))
    price = client.describe_price(ecs.DescribePriceRequest(region_id=REGION, instance_type="ecs.c6.large")).body
    rows = {row.resource: row.trade_price for row in price.price_info.price.detail_infos.detail_info}
    assert price.price_info.price.trade_price == pytest.approx(sum(rows.values()))
    offset, prices = 0, []
    while True:
        request = ecs.DescribeSpotPriceHistoryRequest(
            region_id=REGION, instance_type="ecs.c6.large", network_type="vpc", offset=offset,
            start_time=(now - timedelta(days=29)).strftime("%Y-%m-%dT%H:%M:%SZ"),
            end_time=now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        )  # fmt: skip
        body = client.describe_spot_price_history(request).body
        prices += body.spot_prices.spot_price_type
        offset = body.next_offset
        if not offset:
            break
    assert len({(row.zone_id, row.timestamp) for row in prices}) == len(prices) > 1000
    assert all(0 < row.spot_price < row.origin_price == rows["instanceType"] for row in prices)
    advice = client.describe_spot_advice(ecs.DescribeSpotAdviceRequest(region_id=REGION)).body
    assert len(advice.available_spot_zones.available_spot_zone) == 2


def bill_of(alibaba: Alibaba, day: datetime, **question: Any) -> list[Any]:
    """All pages of a day's bill."""
    found: list[Any] = []
    token = None
    while True:
        request = DescribeInstanceBillRequest(
            billing_cycle=f"{day:%Y-%m}", billing_date=f"{day:%Y-%m-%d}", granularity="DAILY", is_billing_item=True,
            product_code="eci", max_results=100, next_token=token, **question,
        )  # fmt: skip
        data = Bss(config(alibaba)).describe_instance_bill(request).body.data
        found += data.items
        token = data.next_token
        if not token:
            return found


def test_the_bill_charges_the_seconds_that_an_instance_was_charged(alibaba: Alibaba, now: datetime) -> None:
    """The days' rows of one instance add up to its charged seconds, times its vCPU and GiB, at list price."""
    china = now + timedelta(hours=8)
    rows = [
        row for day in (china - timedelta(days=1), china) for row in bill_of(alibaba, day, instance_id="eci-bp1old000")
    ]
    paid = {item: sum(row.pretax_amount for row in rows if row.billing_item_code == item) for item in ("cpu", "mem")}
    assert paid["cpu"] == pytest.approx(3600 * 2 * 0.000049, abs=1e-5)
    assert paid["mem"] == pytest.approx(3600 * 4 * 0.00000613, abs=1e-5)
    assert sum(float(row.service_period) for row in rows if row.billing_item_code == "cpu") == 3600


def test_the_bill_pages_and_names_each_item_once(alibaba: Alibaba, now: datetime) -> None:
    """Paged through, a day's bill has each instance and item once; a spot instance has one item, below its list price."""
    rows = bill_of(alibaba, now + timedelta(hours=8))
    keys = [(row.instance_id, row.billing_item_code) for row in rows]
    assert len(keys) == len(set(keys))
    (spot,) = [row for row in rows if row.instance_id == "eci-bp1spot"]
    assert spot.billing_item_code == "instance_type"
    assert 0 < spot.pretax_amount < spot.pretax_gross_amount


def test_the_older_bill_call_tells_the_same(alibaba: Alibaba, now: datetime) -> None:
    """QueryInstanceBill, paged by number, adds up to what DescribeInstanceBill says."""
    china = now + timedelta(hours=8)
    request = QueryInstanceBillRequest(
        billing_cycle=f"{china:%Y-%m}", billing_date=f"{china:%Y-%m-%d}", granularity="DAILY", product_code="eci",
        page_size=300,
    )  # fmt: skip
    data = Bss(config(alibaba)).query_instance_bill(request).body.data
    assert data.total_count == len(data.items.item) > 0
    total = sum(row.pretax_amount for row in data.items.item)
    assert total == pytest.approx(sum(row.pretax_amount for row in bill_of(alibaba, china)), rel=0.05)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda key: (key[0], "wrong"), "SignatureDoesNotMatch"),
        (lambda key: ("LTAInobody", key[1]), "InvalidAccessKeyId.NotFound"),
    ],
)
@pytest.mark.parametrize("algorithm", [None, "v2"])
def test_a_wrong_key_is_refused(alibaba: Alibaba, change: Any, code: str, algorithm: str | None) -> None:
    """A wrong secret and an unknown AccessKey have their own error codes, in today's signature and in the older one."""
    client = Eci(config(alibaba, key=change(alibaba.access_key()), signature_algorithm=algorithm))
    assert code_of(client.list_usage, eci.ListUsageRequest(region_id=REGION)) == code


def test_the_older_signature_is_understood(alibaba: Alibaba) -> None:
    """A request signed with HMAC-SHA1, as older SDKs do, is answered."""
    client = Eci(config(alibaba, signature_algorithm="v2"))
    assert client.list_usage(eci.ListUsageRequest(region_id=REGION)).body.attributes["MaxCpu"] > 0


def test_missing_rights_give_an_empty_list_of_instances_and_errors_elsewhere(alibaba: Alibaba, now: datetime) -> None:
    """Without rights DescribeContainerGroups is empty, as documented; other calls are refused."""
    settings = config(alibaba, key=alibaba.access_key("without-rights"))
    assert groups_of(Eci(settings)) == []
    assert code_of(Eci(settings).list_usage, eci.ListUsageRequest(region_id=REGION)) == "Forbidden.RAM"
    bill = DescribeInstanceBillRequest(billing_cycle=f"{now:%Y-%m}")
    assert code_of(Bss(settings).describe_instance_bill, bill) == "NotAuthorized"


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (eci.DescribeContainerGroupsRequest(), "MissingRegionId"),
        (eci.DescribeContainerGroupsRequest(region_id=REGION, limit=21), "InvalidParameter.Limit"),
        (eci.DescribeContainerGroupsRequest(region_id=REGION, status="Dead"), "InvalidParameter.Status"),
        (eci.DescribeContainerGroupsRequest(region_id=REGION, next_token="bm8="), "InvalidParameter.NextToken"),
        (
            eci.DescribeContainerGroupsRequest(region_id=REGION, container_group_ids="eci-1"),
            "InvalidParameter.ContainerGroupIds",
        ),
    ],
)
def test_what_cannot_be_is_refused(alibaba: Alibaba, request_: Any, code: str) -> None:
    """A parameter that is missing or wrong is named in the error code."""
    assert code_of(Eci(config(alibaba)).describe_container_groups, request_) == code


def test_too_many_requests_are_throttled(tmp_path: Path) -> None:
    """Above its limit a call is refused with Throttling.User, and another call is not."""
    with Alibaba(tmp_path / "server", rate_limit=3) as alibaba:
        client = Eci(config(alibaba))
        request = eci.ListUsageRequest(region_id=REGION)
        codes = []
        for _ in range(10):
            try:
                client.list_usage(request)
            except Exception as error:
                codes.append(str(getattr(error, "code", error)))
        assert codes and set(codes) == {"Throttling.User"}
        assert client.describe_image_caches(eci.DescribeImageCachesRequest(region_id=REGION)).status_code == 200


def test_the_journal_grows_while_it_is_read(tmp_path: Path, now: datetime) -> None:
    """What the nodes add is there at the next question; a line that is half written waits for its end."""
    journal = JournalWriter(tmp_path / "journal.jsonl", now - timedelta(minutes=1))
    with Alibaba(tmp_path / "server", journal=journal.path) as alibaba:
        client = Eci(config(alibaba))
        assert groups_of(client) == []
        journal.made(1, "first")
        with journal.path.open("a") as file:
            file.write('{"at": "2026-')
        assert [one.status for one in groups_of(client)] == ["Pending"]
        with journal.path.open("a") as file:
            file.write("\n")
        journal.made(2, "second")
        assert len(groups_of(client)) == 2


def test_instances_of_a_node_program_that_died_have_ended(tmp_path: Path, now: datetime) -> None:
    """When a node program begins anew, what ran before is Failed, and is charged no further."""
    journal = JournalWriter(tmp_path / "journal.jsonl", now - timedelta(minutes=2))
    journal.made(1, "lost")
    journal.ran(20, "lost")
    journal.clock(60)
    with Alibaba(tmp_path / "server", journal=journal.path) as alibaba:
        (lost,) = groups_of(Eci(config(alibaba)))
        assert lost.status == "Failed"
        assert lost.failed_time == (journal.start + timedelta(seconds=20)).strftime("%Y-%m-%dT%H:%M:%SZ")


def test_forgetting_and_the_bill_follow_played_time(tmp_path: Path, now: datetime) -> None:
    """With a clock that runs 3600 times as fast, the past second is a past hour; and a bill comes a day after its day."""
    journal = JournalWriter(tmp_path / "journal.jsonl", now - timedelta(seconds=60), factor=3600)
    journal.made(1, "early")
    journal.ended(601, "early")
    with Alibaba(tmp_path / "server", journal=journal.path) as alibaba:
        day = journal.start + timedelta(hours=8)
        assert sum(float(row.service_period) for row in bill_of(alibaba, day)) == 1200


def test_deleted_pods_may_vanish(tmp_path: Path, now: datetime) -> None:
    """The vendor does not say whether the instance of a deleted pod stays; either can be chosen, and the bill has it."""
    journal = JournalWriter(tmp_path / "journal.jsonl", now - timedelta(minutes=1))
    journal.made(1, "gone")
    journal.ended(31, "gone")
    journal.removed(32, "gone")
    for choice, expected in (("kept", 1), ("gone", 0)):
        with Alibaba(tmp_path / choice, journal=journal.path, deleted=choice, bill_delay_hours=-24) as alibaba:
            assert len(groups_of(Eci(config(alibaba)))) == expected
            assert len(bill_of(alibaba, journal.start + timedelta(hours=8))) == 2
