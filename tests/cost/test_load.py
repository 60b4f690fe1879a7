"""How much runs at once, and what a lower limit would delay."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runbook.answer import Scope
from runbook.cost import load
from tests.cost.priced_pods import SCOPE, frame, pod

DAY = replace(SCOPE, first=date(2026, 11, 3), last=date(2026, 11, 3))
MIDNIGHT = datetime(2026, 11, 3, tzinfo=UTC)


def ran(start: float, seconds: float | None, vcpu: float | None = 2.0, number: int = 1) -> dict[str, Any]:
    """A pod that began so many seconds after midnight."""
    return pod(number, billing_start_at=MIDNIGHT + timedelta(seconds=start), seconds=seconds, billed_vcpu=vcpu)


def test_an_hour_has_its_mean_p95_and_most() -> None:
    """2 vCPU for 30 minutes, and 4 more for 10 of them: mean 1.67, most 6, and p95 is 6 too, for a sixth of the hour had 6."""
    answer = load.concurrency(frame(ran(0, 1800), ran(600, 600, 4.0)), DAY)
    assert len(answer.table) == 24
    first = answer.table.iloc[0]
    assert first["hour"] == datetime(2026, 11, 3)
    assert first["mean"] == pytest.approx((2 * 1800 + 4 * 600) / 3600)
    assert (first["p95"], first["most"]) == (6, 6)
    assert answer.table["most"].iloc[1:].max() == 0
    assert answer.sentence.startswith("At most 6 vCPU ran at once")


def test_a_pod_counts_from_its_first_second_to_its_last() -> None:
    """One that begins in the second in which another ends runs after it, not beside it."""
    answer = load.concurrency(frame(ran(0, 100), ran(100, 100)), DAY)
    assert answer.table["most"].max() == 2


def test_the_quota_is_named() -> None:
    """With a quota the sentence says how much of it was needed, and a part how long more was asked for."""
    answer = load.concurrency(frame(ran(0, 100, 6.0), ran(0, 50, 6.0)), DAY, quota=10)
    assert "120% of the quota of 10" in answer.sentence
    assert answer.parts["quota"]["seconds_above"].tolist() == [50]


def test_local_hours() -> None:
    """Hours and days are those of the scope's time zone: Shanghai's third of November begins at 16:00 UTC of the second."""
    shanghai = replace(DAY, timezone="Asia/Shanghai")
    answer = load.concurrency(frame(ran(-8 * 3600, 3600)), shanghai)
    assert answer.table["mean"].tolist()[:2] == [2, 0]


def test_what_lies_outside_is_cut() -> None:
    """A pod that goes on after the window counts to its end; one with a wrong clock costs neither memory nor an error."""
    pods = frame(ran(86_000, 90_000), ran(3.2e9, 600, number=2))
    answer = load.concurrency(pods, DAY)
    assert answer.table["mean"].sum() * 3600 == pytest.approx(2 * 400)


def test_unknown_pods_are_counted_in_a_note() -> None:
    """Pods that began without a known end or size are left out, and said; those that never began are not."""
    never = pod(4) | {"billing_start_at": None, "seconds": 0.0}
    answer = load.concurrency(frame(ran(0, 60), ran(0, None), ran(0, 60, None), never), DAY)
    assert answer.n == 1
    assert answer.notes[-1].startswith("2 pods began and are not counted")


def test_a_limit_delays_what_runs_above_it() -> None:
    """4 vCPU for 100 s under a limit of 2: half of the work is queued at the end, and is done 100 s later."""
    answer = load.replay(frame(ran(0, 100, 4.0)), DAY, limits=[2, 4])
    two, four = answer.table.to_dict("records")
    assert two["most_seconds"] == 100
    assert two["late_share"] == pytest.approx(1.0, abs=0.02)
    assert (four["late_share"], four["most_seconds"], four["p95_seconds"]) == (0, 0, 0)
    assert two["busy_share"] == pytest.approx(400 / (2 * 86_400))


def test_usual_limits_are_below_the_peak() -> None:
    """Without limits of its own the replay tries parts of the most that ran at once."""
    answer = load.replay(frame(ran(0, 100, 16.0)), DAY)
    assert answer.table["limit_vcpu"].tolist() == [4, 8, 12, 14.5]
    assert "instead of 16" in answer.sentence


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 500), st.integers(0, 300), st.sampled_from([0.5, 1.0, 4.0])), min_size=1, max_size=12),
    st.sampled_from([0.5, 2.0, 5.0]),
)  # fmt: skip
def test_same_as_second_by_second(pods: list[tuple[int, int, float]], limit: float) -> None:
    """The sweep says what a plain loop over seconds says: the load of each hour, and the queue under a limit."""
    running = np.zeros(86_400)
    for start, seconds, vcpu in pods:
        running[start : start + seconds] += vcpu
    rows = frame(*(ran(start, seconds, vcpu, number) for number, (start, seconds, vcpu) in enumerate(pods)))
    answer = load.concurrency(rows, DAY)
    hours = running.reshape(-1, 3600)
    assert answer.table["mean"].to_numpy() == pytest.approx(hours.mean(axis=1))
    assert answer.table["p95"].to_numpy() == pytest.approx(np.quantile(hours, 0.95, axis=1))
    queue = most = 0.0
    for now in running:
        queue = max(0.0, queue + now - limit)
        most = max(most, queue)
    table = load.replay(rows, DAY, limits=[limit]).table
    assert table["most_seconds"].tolist() == ([round(most / limit)] if running.any() else [])


@pytest.mark.parametrize("language", ["en", "zh"])
def test_little_data(language: Any) -> None:
    """Without pods, and with one that took no time, the answers say so in both languages."""
    scope: Scope = replace(DAY, language=language)
    for pods in (frame(), frame(ran(0, 0))):
        for answer in (load.concurrency(pods, scope), load.replay(pods, scope)):
            assert answer.sentence and "nan" not in answer.sentence
