"""Hand-made spot pods, and the hours and rates that follow from them by hand."""

from __future__ import annotations

from datetime import UTC, datetime

from runbook.cost import interruptions
from tests.cost.priced_pods import SCOPE, frame, pod


def test_hours_are_shared_among_the_hours_of_the_day() -> None:
    """From 12:45 for 1.5 h: a quarter in 12, one in 13, a quarter in 14; taken away at 14:15, so in 14."""
    start = datetime(2026, 11, 3, 12, 45, tzinfo=UTC)
    answer = interruptions.by_hour(
        frame(pod(1, spot=True, billing_start_at=start, seconds=5400.0, ended="reclaimed")), SCOPE, enough_hours=0.2
    )
    rows = answer.table.set_index("hour")
    assert rows["spot_hours"].to_dict() == {12: 0.25, 13: 1.0, 14: 0.25}
    assert rows["reclaimed"].to_dict() == {12: 0, 13: 0, 14: 1}
    print(answer, answer.parts)
