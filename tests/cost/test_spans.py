"""Time between two moments, as every engine works it out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runbook.cost.collected import collected
from runbook.cost.spans import seconds_between
from tests.cost.priced_pods import frame, pod

moments = st.datetimes(datetime(2023, 1, 1), datetime(2029, 1, 1), timezones=st.just(UTC))


def between(start: datetime, end: datetime | None) -> float | None:
    pods = frame(pod(billing_start_at=start, running_at=end))
    value = collected(pods.select(seconds=seconds_between("billing_start_at", "running_at")))["seconds"].iloc[0]
    return None if value != value else float(value)


@settings(max_examples=30, deadline=None)
@given(moments, st.timedeltas(timedelta(days=-300), timedelta(days=300)))
def test_any_two_moments(start: datetime, length: timedelta) -> None:
    """It is the difference that Python's own calendar gives, over new years, leap days and backwards."""
    assert between(start, start + length) == pytest.approx(length.total_seconds(), abs=1e-5)


def test_over_new_year() -> None:
    """A pod that starts on the last second of a leap year runs a second later, not 366 days earlier."""
    start = datetime(2024, 12, 31, 23, 59, 59, tzinfo=UTC)
    assert between(start, datetime(2025, 1, 1, tzinfo=UTC)) == 1


def test_unknown() -> None:
    """Where one of the two is not known, neither is the time between them."""
    assert between(datetime(2026, 11, 3, tzinfo=UTC), None) is None
