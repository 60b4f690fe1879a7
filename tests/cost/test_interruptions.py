"""Hand-made spot pods, and the hours and rates that follow from them by hand."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from runbook.cost import interruptions
from tests.cost.priced_pods import SCOPE, frame, pod


def spot_pod(number: int, hour: int, minute: int, seconds: float | None, **values: Any) -> dict[str, Any]:
    """A spot pod that began at so many hours and minutes (UTC) and ran so long."""
    start = datetime(2026, 11, 3, hour, minute, tzinfo=UTC)
    return pod(number, **{"spot": True, "billing_start_at": start, "seconds": seconds, **values})


def test_hours_are_shared_among_the_hours_of_the_day() -> None:
    """From 12:45 for 1.5 h: a quarter in 12, one in 13, a quarter in 14; taken away at 14:15, so in 14."""
    answer = interruptions.by_hour(frame(spot_pod(1, 12, 45, 5400.0, ended="reclaimed")), SCOPE, enough_hours=0.2)
    rows = answer.table.set_index("hour")
    assert rows["spot_hours"].to_dict() == {12: 0.25, 13: 1.0, 14: 0.25}
    assert rows["reclaimed"].to_dict() == {12: 0, 13: 0, 14: 1}


def test_a_day_and_more() -> None:
    """From 23:30 for 25.5 h: every hour gets one, and hour 0 a second one and 23 the other half; the reclaim falls in 0."""
    answer = interruptions.by_hour(frame(spot_pod(1, 23, 30, 25.5 * 3600, ended="reclaimed")), SCOPE)
    rows = answer.table.set_index("hour")
    assert rows["spot_hours"].sum() == pytest.approx(25.5)
    assert (rows["spot_hours"][0], rows["spot_hours"][12], rows["spot_hours"][23]) == (2.0, 1.0, 1.5)
    assert rows["reclaimed"][0] == 1 and rows["reclaimed"].sum() == 1


def test_the_end_of_an_hour_belongs_to_it() -> None:
    """Taken away at 13:00 sharp, the instance ran in 12 only: the reclaim is one of hour 12."""
    answer = interruptions.by_hour(frame(spot_pod(1, 12, 0, 3600.0, ended="reclaimed")), SCOPE)
    assert answer.table[["hour", "reclaimed", "spot_hours"]].to_dict("records") == [
        {"hour": 12, "reclaimed": 1, "spot_hours": 1.0}
    ]


def test_hours_are_local_ones() -> None:
    """At 12:20 UTC it is 17:50 in India, and hour 17 of the frame: ten minutes in 17, ten in 18."""
    local = replace(SCOPE, timezone="Asia/Kolkata")
    answer = interruptions.by_hour(frame(spot_pod(1, 12, 20, 1200.0) | {"hour": 17}), local)
    assert answer.table.set_index("hour")["spot_hours"].to_dict() == pytest.approx({17: 1 / 6, 18: 1 / 6})


def test_the_rate_with_its_exact_interval() -> None:
    """Two reclaims in 20 hours of one cell: 0.1 an hour, between 0.2422/20 and 7.2247/20."""
    pods = [spot_pod(n, 12, 0, 3600.0, ended="reclaimed" if n < 2 else "deleted") for n in range(20)]
    (row,) = interruptions.by_hour(frame(*pods), SCOPE).table.to_dict("records")
    assert (row["reclaimed"], row["spot_hours"], row["per_hour"]) == (2, 20.0, 0.1)
    assert (row["per_hour_low"], row["per_hour_high"]) == pytest.approx((0.2422 / 20, 7.2247 / 20), abs=1e-5)
    assert row["enough"]


def test_none_seen_still_allows_some() -> None:
    """No reclaim in 12 hours allows 2.9957/12 = 0.25 an hour, which the sentence says for 100 hours."""
    pods = [spot_pod(n, 12, 0, 3600.0) for n in range(12)]
    answer = interruptions.by_hour(frame(*pods), SCOPE)
    assert answer.table["per_hour_high"].to_list() == pytest.approx([0.24964], abs=1e-5)
    assert answer.sentence == "No spot pod was taken away in 12 spot-hours: that still allows 25 in 100 spot-hours."


def test_few_hours_are_not_enough() -> None:
    """Nine hours of the ten that a rate needs: the cell is not shown as a rate."""
    answer = interruptions.by_hour(frame(*[spot_pod(n, 12, 0, 3600.0) for n in range(9)]), SCOPE)
    assert answer.table["enough"].to_list() == [False]


def test_a_reclaim_within_the_protected_hour_is_worth_a_note() -> None:
    """ECI documents none in the first hour; one after 50 minutes is named, and the part `age` has it in the first row."""
    answer = interruptions.by_hour(frame(spot_pod(1, 12, 0, 3000.0, ended="reclaimed")), SCOPE)
    assert answer.parts["age"]["reclaimed"].to_list() == [1, 0, 0, 0, 0]
    assert any("within their first hour" in note for note in answer.notes)


def test_rates_by_age() -> None:
    """3.5 h: one hour of age 0 to 1, one of 1 to 2, 1.5 of 2 to 4, and the reclaim is in the third."""
    ages = interruptions.by_hour(frame(spot_pod(1, 12, 0, 3.5 * 3600, ended="reclaimed")), SCOPE).parts["age"]
    assert ages["spot_hours"].to_list() == [1.0, 1.0, 1.5, 0.0, 0.0]
    assert ages["reclaimed"].to_list() == [0, 0, 1, 0, 0]
    assert ages["per_hour"].isna().to_list() == [False, False, False, True, True]


def test_the_surest_cell_is_named() -> None:
    """Zone k loses 4 of 12 pods at noon, zone j 1 of 12: the sentence names k."""
    pods = [spot_pod(n, 12, 0, 3600.0, zone="k", ended="reclaimed" if n < 4 else "deleted") for n in range(12)]
    pods += [spot_pod(n + 12, 12, 0, 3600.0, zone="j", ended="reclaimed" if n < 1 else "deleted") for n in range(12)]
    sentence = interruptions.by_hour(frame(*pods), SCOPE).sentence
    assert sentence == (
        "5 spot pods were taken away in 24 spot-hours: 21 in 100 (6.8 to 49), most surely from 12:00 in k (33 in 100)."
    )


def test_pods_without_an_end_are_counted_apart() -> None:
    """A spot pod whose end nobody knows has no hours: it is left out, and the notes count it."""
    answer = interruptions.by_hour(
        frame(spot_pod(1, 12, 0, 3600.0), spot_pod(2, 12, 0, None, ended="reclaimed")), SCOPE
    )
    assert (answer.n, answer.table["spot_hours"].sum(), answer.table["reclaimed"].sum()) == (2, 1.0, 0)
    assert any(
        note.startswith("Of 1 spot pod start or end are not known: left out, 1 of them") for note in answer.notes
    )


def test_a_pod_without_a_zone() -> None:
    """Hours of pods whose zone nobody knows are a row of their own."""
    answer = interruptions.by_hour(frame(spot_pod(1, 12, 0, 3600.0, zone=None)), SCOPE)
    assert answer.table["zone"].to_list() == ["unknown zone"]


def test_other_pods_do_not_count() -> None:
    """A pod without spot runs in nobody's spot-hours."""
    assert interruptions.by_hour(frame(pod(1)), SCOPE).table.empty


def test_nothing_at_all() -> None:
    """No pods: an empty table, ages without hours, and a sentence that says so."""
    answer = interruptions.by_hour(frame(), SCOPE)
    assert answer.table.empty and answer.parts["age"]["spot_hours"].sum() == 0
    assert answer.sentence == "No spot pod ran: there was nothing to take away."
