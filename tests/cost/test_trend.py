"""The cost from day to day, and the forecast."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from runbook.answer import Answer
from runbook.cost import trend
from tests.cost.priced_pods import SCOPE, frame, pod


def on(day: int, cost: float, number: int = 0, **values: Any) -> dict[str, Any]:
    start = datetime(2026, 11, 1, 12, tzinfo=UTC) + timedelta(days=day - 1)
    return pod(1000 * day + number, billing_start_at=start, effective_cost=cost, **values)


def daily(*pods: dict[str, Any], before: tuple[dict[str, Any], ...] = (), **options: Any) -> Answer:
    return trend.daily(frame(*pods), frame(*before), SCOPE, **options)


def weeks(days: range) -> list[dict[str, Any]]:
    """CNY 10 on workdays and 2 at weekends; 2026-11-01 is a Sunday."""
    return [on(day, 2.0 if (day - 1) % 7 in (0, 6) else 10.0) for day in days]


def test_every_day_has_a_row_for_every_layer() -> None:
    """Each day of the period and each project meet once, with zero where nothing ran; they add up to the cost."""
    answer = daily(on(1, 3.0), on(2, 1.0), on(2, 5.0, 1, project_path="grp/other"), on(3, 0.5, project_path=None))
    assert len(answer.table) == 30 * 3
    assert answer.table.groupby("project", sort=False)["cost"].sum().to_dict() == {
        "grp/other": 5.0, "grp/demo": 4.0, "not allocated": 0.5
    }  # fmt: skip


def test_six_projects_have_layers_and_the_others_are_the_rest() -> None:
    """With ten projects the dearest six are named, and what is left is one layer."""
    answer = daily(*(on(1, 10.0 - n, n, project_path=f"grp/p{n}") for n in range(10)))
    layers = answer.table.groupby("project", sort=False)["cost"].sum()
    assert list(layers.index) == [*(f"grp/p{n}" for n in range(6)), "rest"]
    assert layers["rest"] == pytest.approx(4 + 3 + 2 + 1)


def test_the_price_without_spot_stands_beside_each_day() -> None:
    """On-demand cost by day; a pod of which it is not known counts with what it cost."""
    answer = daily(on(1, 1.0, on_demand_cost=4.0), on(1, 2.0, 1, on_demand_cost=None))
    assert answer.parts["days"]["on_demand"].iloc[0] == pytest.approx(6)
    assert "CNY 3.00 less in all than on demand" in answer.sentence


def test_less_than_three_weeks_give_no_forecast() -> None:
    """Twenty days are too few, and the note says how many it takes."""
    answer = daily(*weeks(range(1, 21)))
    assert answer.parts["forecast"].empty
    assert any("needs 21 days" in note for note in answer.notes)


def test_three_weeks_give_weekdays() -> None:
    """From regular weeks the next days are expected to be the same weekdays, without doubt."""
    forecast = daily(*weeks(range(1, 31))).parts["forecast"]
    assert forecast["day"].iloc[0].date() == date(2026, 12, 1)
    workday = [day.day_of_week < 5 for day in forecast["day"]]
    assert forecast["expected"].tolist() == [10.0 if work else 2.0 for work in workday]
    assert forecast["low"].tolist() == forecast["high"].tolist() == forecast["expected"].tolist()


def test_days_before_are_days_too() -> None:
    """Ten days of this period and fifteen of the one before are enough."""
    forecast = daily(*weeks(range(1, 11)), before=tuple(weeks(range(-14, 1)))).parts["forecast"]
    assert len(forecast) == trend.HORIZON


def test_irregular_days_widen_the_interval() -> None:
    """Where days of one weekday differ, the interval holds what is expected, and the same seed gives the same interval."""
    pods = [on(day, 10.0 + day % 5) for day in range(1, 31)]
    forecast = daily(*pods, seed=1).parts["forecast"]
    assert (forecast["low"] < forecast["expected"]).all() and (forecast["expected"] < forecast["high"]).all()
    assert forecast.equals(daily(*pods, seed=1).parts["forecast"])


def test_eight_of_ten_held_out_days_fall_inside() -> None:
    """On random workdays the interval means what it says: about eight of ten later days are in it."""
    import numpy as np

    amounts = np.random.default_rng(5).lognormal(3, 0.4, 60)
    pods = tuple(on(day - 29, float(amounts[day])) for day in range(60))
    forecast = daily(*pods[30:], before=pods[:30]).parts["forecast"]
    later = np.random.default_rng(6).lognormal(3, 0.4, (500, len(forecast)))
    inside = ((later >= forecast["low"].to_numpy()) & (later <= forecast["high"].to_numpy())).mean()
    assert 0.65 < inside < 0.92


def test_days_whose_bill_is_open_are_marked() -> None:
    """Up to the last final day the bill stands; later days are marked, and a note says whose numbers they are."""
    answer = daily(on(1, 1.0), final_until=date(2026, 11, 10))
    assert answer.parts["days"]["final"].sum() == 10
    assert any("final until 2026-11-10" in note for note in answer.notes)
    assert not any("bill" in note for note in daily(on(1, 1.0), final_until=date(2026, 11, 30)).notes)


def test_a_period_without_pods_has_no_layers() -> None:
    """Nothing to stack, and a sentence that says so."""
    answer = daily()
    assert answer.table.empty
    assert answer.sentence == "No cost is known of any day."
