"""The client of Alibaba Cloud against the practice one: whole answers, repetitions, and errors that help."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from runbook.clients import connect
from runbook.clients.alibaba import AccessKey, AlibabaCloud, Endpoints
from runbook.errors import AlibabaError
from runbook.settings import Settings
from sandbox.alibaba.process import Alibaba
from tests.sandbox.alibaba_journal import JournalWriter

RUNNING = 25


class PlayedClock:
    """A clock whose sleep only notes for how long it was asked."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    def now(self) -> datetime:
        return datetime.now(UTC)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


@pytest.fixture(scope="module")
def alibaba(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Alibaba]:
    folder = tmp_path_factory.mktemp("alibaba")
    journal = JournalWriter(folder / "journal.jsonl", datetime.now(UTC) - timedelta(minutes=10))
    for number in range(RUNNING):
        journal.made(number, f"job{number:02}")
        journal.ran(number + 5, f"job{number:02}")
    with Alibaba(folder / "server", journal=journal.path, bill_delay_hours=-24) as started:
        yield started


@pytest.fixture
def clock(alibaba: Alibaba) -> Iterator[PlayedClock]:
    yield PlayedClock()
    alibaba.heal()


def client_of(alibaba: Alibaba, clock: PlayedClock, key: AccessKey | None = None) -> AlibabaCloud:
    endpoints = Endpoints(alibaba.url, alibaba.url, alibaba.url)
    return AlibabaCloud("cn-hangzhou", endpoints, clock=clock, key=key or AccessKey(*alibaba.access_key()))


def test_all_pages_are_one_answer(alibaba: Alibaba, clock: PlayedClock) -> None:
    """Lists that the API gives in pages come as one, also when more ids are named than one call takes."""
    client = client_of(alibaba, clock)
    groups = client.container_groups()
    ids = [one["ContainerGroupId"] for one in groups]
    assert len(set(ids)) == RUNNING
    assert {one["ContainerGroupId"] for one in client.container_groups(ids)} == set(ids)
    assert len(client.container_group_events(ids)) == len(client.container_group_status()) == RUNNING


def test_prices_usage_and_bill_are_read(alibaba: Alibaba, clock: PlayedClock) -> None:
    """Prices, spot history, advice, quotas, metrics and the bill come as the API writes them."""
    client, now = client_of(alibaba, clock), clock.now()
    assert client.container_group_price(vcpu=2, memory_gib=4)["Price"]["Currency"] == "CNY"
    details = client.instance_price("ecs.c6.large")["Price"]["DetailInfos"]["DetailInfo"]
    assert "instanceType" in {row["Resource"] for row in details}
    history = client.spot_price_history("ecs.c6.large", start=now - timedelta(days=29), end=now)
    assert len(history) > 1000 and {row["Currency"] for row in history} == {"CNY"}
    assert {row["ZoneId"] for row in client.spot_advice(["ecs.c6.large"])} == {"cn-hangzhou-i", "cn-hangzhou-j"}
    assert client.usage()["UsedCpu"] == 2 * RUNNING
    assert client.container_group_metrics("eci-bp1job00")
    assert client.image_caches() == []
    china = now + timedelta(hours=8) - timedelta(minutes=10)
    assert len(client.daily_bill(china.date())) == len(client.monthly_bill(f"{china:%Y-%m}")) == 2 * RUNNING


@pytest.mark.parametrize("code", ["Throttling.User", "ServiceUnavailable"])
def test_what_passes_is_tried_again(alibaba: Alibaba, clock: PlayedClock, code: str) -> None:
    """Throttling and a server in trouble are waited for, longer each time, and the answer comes."""
    alibaba.fault("ListUsage", code=code, status=400 if "Throttling" in code else 503, times=2)
    assert client_of(alibaba, clock).usage()["MaxCpu"] > 0
    assert clock.slept == [1.0, 2.0]


def test_patience_ends(alibaba: Alibaba, clock: PlayedClock) -> None:
    """Throttling that does not pass is an error that says so, after five attempts."""
    alibaba.fault("ListUsage", code="Throttling.User", status=400)
    with pytest.raises(AlibabaError, match="refuses more requests") as caught:
        client_of(alibaba, clock).usage()
    assert caught.value.code == "Throttling.User"
    assert len(clock.slept) == 4


def test_a_proxy_that_answers_html_is_told(alibaba: Alibaba, clock: PlayedClock) -> None:
    """An answer that is no JSON is not taken for Alibaba Cloud's."""
    alibaba.fault("ListUsage", html=True)
    with pytest.raises(AlibabaError, match="what answers is not its API"):
        client_of(alibaba, clock).usage()


def test_a_wrong_secret_is_told_and_never_shown(alibaba: Alibaba, clock: PlayedClock) -> None:
    """The error of a wrong secret says which half is wrong, and shows neither the secret nor what was signed."""
    key = AccessKey(alibaba.access_key()[0], "VERYSECRET")
    client = client_of(alibaba, clock, key)
    with pytest.raises(AlibabaError, match="secret does not belong") as caught:
        client.container_groups()
    assert "VERYSECRET" not in f"{caught.value} {client!r} {key!r}"
    assert "string to sign" not in str(caught.value)
    assert clock.slept == []


def test_an_unknown_key_and_missing_rights_are_told(alibaba: Alibaba, clock: PlayedClock) -> None:
    """An unknown AccessKey and missing rights are errors with a remedy; ECI's list alone is empty instead."""
    with pytest.raises(AlibabaError, match="does not know the AccessKey"):
        client_of(alibaba, clock, AccessKey("LTAInobody", "x")).usage()
    powerless = client_of(alibaba, clock, AccessKey(*alibaba.access_key("without-rights")))
    assert powerless.container_groups() == []
    with pytest.raises(AlibabaError, match="RAM does not grant") as caught:
        powerless.daily_bill(clock.now().date())
    assert "AliyunBSSReadOnlyAccess" in str(caught.value.remedy)


def test_nobody_there_is_told(clock: PlayedClock, tmp_path: Path) -> None:
    """A connection that is refused is tried again, and then told with the address."""
    nowhere = "http://127.0.0.1:9"
    client = AlibabaCloud(
        "cn-hangzhou", Endpoints(nowhere, nowhere, nowhere), clock=clock, key=AccessKey("LTAIsome", "x"), timeout=1
    )
    with pytest.raises(AlibabaError, match="does not answer") as caught:
        client.usage()
    assert nowhere in str(caught.value)


def test_the_card_leads_to_the_client(alibaba: Alibaba, clock: PlayedClock, tmp_path: Path) -> None:
    """Endpoints and AccessKey of the card, references and all, become a client that works."""
    values = {"url": alibaba.url, "id": alibaba.access_key()[0], "secret": alibaba.access_key()[1]}
    for name, value in values.items():
        (tmp_path / name).write_text(value)
    card = {
        "name": "test",
        "region": "cn-hangzhou",
        "cache": {"bucket": "ci-cache"},
        "gitlab": {"url": "https://gitlab.example.com"},
        "smoke": {"project": "ops/smoke"},
        "alibaba": {
            "access_key_id": f"file:{tmp_path / 'id'}",
            "access_key_secret": f"file:{tmp_path / 'secret'}",
            **{f"{service}_endpoint": f"file:{tmp_path / 'url'}" for service in ("eci", "ecs", "bss")},
        },
    }
    client = connect.alibaba(Settings.parse(card, where="card"))
    assert client.usage()["MaxCpu"] > 0


def test_without_endpoints_the_public_ones_are_used() -> None:
    """The region and the site say where the three services answer."""
    assert Endpoints.of("ap-southeast-1", "intl") == Endpoints(
        "eci.ap-southeast-1.aliyuncs.com", "ecs.ap-southeast-1.aliyuncs.com", "business.ap-southeast-1.aliyuncs.com"
    )
