"""The exact interval of a counted rate, against printed tables."""

from __future__ import annotations

import math

import pytest

from runbook.cost import event_rate

TABLE = {
    1: (0.0253, 5.5716),
    2: (0.2422, 7.2247),
    5: (1.6235, 11.6683),
    10: (4.7954, 18.3904),
    100: (81.3640, 121.6268),
}
"""95 % limits of a Poisson mean by the number of events, as tables of Garwood's interval print them."""


@pytest.mark.parametrize(("count", "limits"), TABLE.items(), ids=str)
def test_the_interval_is_that_of_the_printed_table(count: int, limits: tuple[float, float]) -> None:
    """Five events are expected at least 1.6235 and at most 11.6683 times, as the table says; likewise the others."""
    assert event_rate.interval(count) == pytest.approx(limits, abs=5e-5)


def test_no_event_still_allows_three() -> None:
    """No event in 100 hours allows at most -ln(0.05)/100 = 0.02996 an hour: the rule of three."""
    assert event_rate.per_hour(0, 100) == (0.0, pytest.approx(0.0299573, abs=1e-7))


def test_without_hours_any_rate_is_allowed() -> None:
    """Nothing was watched: from zero to anything."""
    assert event_rate.per_hour(0, 0) == (0.0, math.inf)


def test_the_chance_of_at_most_so_many_events() -> None:
    """With 3 expected, at most 2 come with e^-3 (1 + 3 + 4.5) = 0.42319."""
    assert event_rate.at_most(2, 3.0) == pytest.approx(8.5 * math.exp(-3))


def test_the_limits_put_half_of_the_doubt_at_either_end() -> None:
    """At the upper limit of 7 events, 7 or fewer have a chance of 2.5 %; at the lower one, 7 or more have."""
    low, high = event_rate.interval(7)
    assert event_rate.at_most(7, high) == pytest.approx(0.025)
    assert 1 - event_rate.at_most(6, low) == pytest.approx(0.025)


def test_large_counts_do_not_overflow() -> None:
    """40,000 events: near 40,000 ± 1.96 × 200."""
    low, high = event_rate.interval(40_000)
    assert low == pytest.approx(40_000 - 392, abs=3) and high == pytest.approx(40_000 + 392, abs=5)


def test_a_negative_count_is_refused() -> None:
    """Nobody counts minus one event."""
    with pytest.raises(ValueError, match="-1 events"):
        event_rate.interval(-1)
