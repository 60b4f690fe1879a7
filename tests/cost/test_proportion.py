"""Exact intervals of a counted share."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runbook.cost import proportion


@pytest.mark.parametrize(
    ("count", "of", "low", "high"),
    [
        (0, 10, 0.0, 0.308497),
        (1, 10, 0.002529, 0.445016),
        (5, 10, 0.187086, 0.812914),
        (10, 10, 0.691503, 1.0),
        (3, 1000, 0.000619, 0.008743),
    ],
)
def test_the_interval_is_that_of_the_tables(count: int, of: int, low: float, high: float) -> None:
    """Clopper and Pearson's interval, as statistical tables print it."""
    assert proportion.interval(count, of) == pytest.approx((low, high), abs=1e-6)


def test_nothing_tried_allows_everything() -> None:
    """Without a try, any share is possible."""
    assert proportion.interval(0, 0) == (0.0, 1.0)


@given(st.integers(1, 60).flatmap(lambda of: st.tuples(st.integers(0, of), st.just(of))))
def test_ends_leave_half_of_the_doubt_outside(case: tuple[int, int]) -> None:
    """At each open end, the chance of a count so extreme is 2.5 %, by the binomial distribution itself."""
    count, of = case

    def chance(share: float, counts: range) -> float:
        return sum(math.comb(of, k) * share**k * (1 - share) ** (of - k) for k in counts)

    low, high = proportion.interval(count, of)
    assert count == 0 or chance(low, range(count, of + 1)) == pytest.approx(0.025, abs=1e-9)
    assert count == of or chance(high, range(count + 1)) == pytest.approx(0.025, abs=1e-9)


def test_large_counts_are_exact_too() -> None:
    """With a million tries the interval is the normal one to four digits, and zero counts leave 3.69 in a million."""
    low, high = proportion.interval(500_000, 1_000_000)
    assert (low, high) == pytest.approx((0.5 - 0.00098, 0.5 + 0.00098), abs=2e-6)
    assert proportion.interval(0, 1_000_000)[1] == pytest.approx(-math.log(0.025) / 1e6, rel=1e-4)


def test_a_count_above_the_tries_is_a_mistake() -> None:
    """Eleven of ten is refused, not clipped."""
    with pytest.raises(ValueError, match="11 of 10"):
        proportion.interval(11, 10)
