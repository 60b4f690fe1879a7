"""How long jobs wait in each phase, and whether image caches pay."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from runbook.answer import Answer
from runbook.cost import startup
from runbook.settings import OtherCost
from tests.cost.priced_pods import NOON, SCOPE, frame, pod

CACHES = [OtherCost(name="caches", service="image-cache", amount=Decimal("1.5"), per="day", first=date(2026, 11, 3), last=date(2026, 11, 4))]  # fmt: skip
NAT = [OtherCost(name="NAT", service="nat", amount=Decimal(99), per="day", first=date(2026, 1, 1))]


def start(number: int, pull: float, *, cached: bool = False, at: datetime = NOON, **values: Any) -> dict[str, Any]:
    """A pod whose images took so long: two seconds to prepare, and ten minutes billed for CNY 0.60, a tenth of a fen a second."""
    pulled = at + timedelta(seconds=pull)
    moments = {"billing_start_at": at, "pulled_at": pulled, "running_at": pulled + timedelta(seconds=2)}
    return pod(number, effective_cost=0.6, **{"image_cache_hit": cached} | moments | values)


def row(answer: Answer, **where: Any) -> dict[str, Any]:
    """The one row of an answer's table where these columns have these values."""
    table = answer.table
    for name, value in where.items():
        table = table[table[name] == value]
    (found,) = table.to_dict("records")
    return {str(name): value for name, value in found.items()}


def test_phases_of_a_week() -> None:
    """Each phase has its median and p95 over the pods of the week; the start-up is schedule, pull and prepare of one pod."""
    seconds = [10, 20, 30, 40, 90]
    answer = startup.phases(frame(*(start(at, pull) for at, pull in enumerate(seconds))), SCOPE)
    pull = row(answer, phase="pull")
    assert (pull["pods"], pull["p50_seconds"]) == (5, 30)
    assert pull["p95_seconds"] == pytest.approx(np.quantile(seconds, 0.95))
    assert row(answer, phase="schedule")["p50_seconds"] == 4
    assert row(answer, phase="queue")["p50_seconds"] == 3
    assert row(answer, phase="start-up")["p50_seconds"] == 4 + 30 + 2
    assert row(answer, phase="run")["p50_seconds"] == 600 - 30 - 2
    assert "36 s" in answer.sentence and "pull is 86% of that time" in answer.sentence


def test_weeks_stand_in_order_and_apart() -> None:
    """Every week has its rows, in order, each phase in the order of a job's life."""
    later = datetime(2026, 11, 17, 12, tzinfo=UTC)
    answer = startup.phases(frame(start(1, 50, at=later), start(2, 10)), SCOPE)
    pulls = answer.table[answer.table["phase"] == "pull"]
    assert pulls["p50_seconds"].tolist() == [10, 50]
    assert [day.date() for day in pulls["week"]] == [date(2026, 11, 2), date(2026, 11, 16)]
    assert answer.table["phase"].tolist()[:6] == [*startup.PHASES, startup.START]


def test_what_nobody_knows_is_left_out_and_said() -> None:
    """Pods without one of the moments, and phases that go backwards, are no part of a quantile; notes count them."""
    never = start(2, 10, pulled_at=None, pull_seconds=None, prepare_seconds=None)
    answer = startup.phases(frame(start(1, 10), never, start(3, 10, run_seconds=-5.0)), SCOPE)
    assert answer.n == 3
    assert row(answer, phase="pull")["pods"] == 2
    assert row(answer, phase="run")["pods"] == 2
    assert answer.notes[0].startswith("1 pods are not in the start-up")
    assert answer.notes[1].startswith("1 phases end before they begin")


def test_pulls_are_binned_with_and_without_a_cache() -> None:
    """Each week and kind has its pods by doubling seconds; shares of a kind add up to one, empty bins in between are there."""
    pods = frame(start(1, 1, cached=True), start(2, 2, cached=True), start(3, 45), start(4, 50, image_cache_hit=None))
    answer = startup.pulls(pods, SCOPE)
    assert answer.n == 3
    assert row(answer, images=startup.CACHED, from_seconds=2.0)["share"] == 0.5
    slow = row(answer, images=startup.UNCACHED, from_seconds=32.0)
    assert (slow["to_seconds"], slow["pods"], slow["share"]) == (48, 1, 1)
    assert row(answer, images=startup.UNCACHED, from_seconds=8.0)["pods"] == 0
    assert answer.table.groupby("images")["share"].sum().tolist() == pytest.approx([1, 1])


def test_bins_are_whole_and_without_gaps() -> None:
    """Every number of seconds has exactly one bin, and the last one has no end."""
    assert list(startup.EDGES) == sorted(set(startup.EDGES))
    assert startup.EDGES[0] == 0 and startup.EDGES[-1] == math.inf
    assert all(edge == int(edge) for edge in startup.EDGES[:-1])


def test_a_cache_saves_what_others_needed_more() -> None:
    """Ten pods with a cache at 5 s, ten without at 45 s: 400 s saved, at a tenth of a fen each CNY 0.40; CNY 3 of caches make a loss."""
    pods = frame(*(start(at, 5, cached=True) for at in range(10)), *(start(at, 45) for at in range(10, 20)))
    answer = startup.image_caches(pods, SCOPE, [*CACHES, *NAT])
    (image,) = answer.table.to_dict("records")
    assert (image["cached"], image["uncached"], image["seconds_saved"]) == (10, 10, 400)
    assert image["saved"] == pytest.approx(0.4)
    assert (image["saved_low"], image["saved_high"]) == pytest.approx((0.4, 0.4))
    assert answer.parts["balance"].set_index("line")["cost"].to_dict() == pytest.approx(
        {"saved": 0.4, "image caches": -3.0, "net": -2.6}
    )
    assert "they cost CNY 3.00: −CNY 2.60 net. They pay from 75 starts on" in answer.sentence


def test_scattered_pulls_leave_an_interval() -> None:
    """The interval is that of the mean pull without a cache: 1.96 standard errors on either side, for every start with one."""
    slow = [30, 40, 50, 60, 70]
    pods = frame(start(0, 10, cached=True), *(start(at + 1, pull) for at, pull in enumerate(slow)))
    (image,) = startup.image_caches(pods, SCOPE, []).table.to_dict("records")
    error = np.std(slow, ddof=1) / math.sqrt(5)
    assert image["saved"] == pytest.approx(0.001 * 40)
    assert image["saved_high"] - image["saved"] == pytest.approx(0.001 * 1.96 * error)


def test_an_image_without_pulls_of_its_own_is_held_against_all() -> None:
    """Where an image was hardly ever pulled without a cache, the mean of all images stands for it, and a note says so."""
    others = [start(at, 45) for at in range(5)]
    pods = frame(*others, start(9, 5, cached=True, image="rare:1"), start(10, 1000, image="rare:1"))
    answer = startup.image_caches(pods, SCOPE, [])
    assert row(answer, image="rare:1")["uncached_seconds"] == pytest.approx((5 * 45 + 1000) / 6)
    assert any("1 of 2 images" in note for note in answer.notes)
    assert answer.sentence.endswith("the card does not say what they cost.")
    assert answer.parts["balance"].set_index("line")["cost"].isna().to_dict() == {
        "saved": False, "image caches": True, "net": True
    }  # fmt: skip


def test_an_unknown_cost_saves_no_money_but_time() -> None:
    """A pod whose cost nobody knows counts with its seconds; a note says how many such pods there are."""
    unpriced = start(9, 5, cached=True) | {"effective_cost": None}
    answer = startup.image_caches(frame(*(start(at, 45) for at in range(5)), unpriced), SCOPE, [])
    assert row(answer, image="alpine:3")["seconds_saved"] == 40
    assert math.isnan(row(answer, image="alpine:3")["saved"])
    assert "in money unknown" in answer.sentence
    assert any(note.startswith("1 pods with a cache have no known cost") for note in answer.notes)


def test_chinese() -> None:
    """Sentences come in Chinese where the scope says so."""
    chinese = replace(SCOPE, language="zh")
    pods = frame(start(1, 5, cached=True), *(start(at, 45) for at in range(2, 8)))
    for answer in (
        startup.phases(pods, chinese),
        startup.pulls(pods, chinese),
        startup.image_caches(pods, chinese, CACHES),
    ):
        assert not set("acehinrst") & set(answer.sentence.replace("Pod", "").replace("Runner", "").replace("CNY", "").replace(" s", "").replace("min", "").replace("p95", ""))  # fmt: skip
