"""The five numbers of the review."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest

from runbook.answer import Answer
from runbook.cost import headline, proportion
from runbook.settings import OtherCost
from tests.cost.priced_pods import SCOPE, frame, pod

EARLIER = datetime(2026, 10, 10, 12, tzinfo=UTC)
NAT = OtherCost.model_validate({"name": "NAT gateway", "service": "nat", "amount": 150, "first": "2026-01-01"})


def asked(*pods: dict[str, Any], before: tuple[dict[str, Any], ...] = (), **options: Any) -> Answer:
    return headline.numbers(frame(*pods), frame(*before), options.pop("scope", SCOPE), **options)


def row(answer: Answer, number: str) -> dict[str, Any]:
    return dict(answer.table.set_index("number").loc[number])


def test_spend_is_the_pods_and_the_rest_of_what_ci_costs() -> None:
    """The spend is the effective cost of all pods and the card's lines, and the lines add up to it."""
    answer = asked(pod(1, effective_cost=2.0), pod(2, effective_cost=3.0), other=[NAT])
    assert row(answer, "spend")["value"] == pytest.approx(155)
    costs = answer.parts["costs"]
    assert costs["effective_cost"].tolist() == pytest.approx([5, 150, 155])
    assert costs["name"].tolist() == ["Elastic Container Instances (pods)", "NAT gateway", "Total, before tax"]


def test_a_savings_plan_that_covers_nothing_is_spent_all_the_same() -> None:
    """The unused part of a plan is in the spend, and a line of its own."""
    answer = asked(pod(effective_cost=2.0), unused={date(2026, 11, 3): 1.5, date(2026, 10, 20): 9.0})
    assert row(answer, "spend")["value"] == pytest.approx(3.5)
    assert answer.parts["costs"]["service"].tolist() == ["eci", "savings-plan", ""]


def test_the_invoice_shows_the_whole_commitment_of_a_savings_plan() -> None:
    """A pod cost 2, of which 1.2 through the plan, whose unused 1.5 comes on top: both columns add up to 3.5."""
    answer = asked(pod(effective_cost=2.0, billed_cost=0.8), unused={date(2026, 11, 3): 1.5})
    costs = answer.parts["costs"]
    assert costs["effective_cost"].tolist() == pytest.approx([2.0, 1.5, 3.5])
    assert costs["billed_cost"].tolist() == pytest.approx([0.8, 2.7, 3.5])


def test_the_lines_end_with_tax_where_the_card_names_some() -> None:
    """6 % on 155 are 9.30; the spend itself stays before tax, as prices and the bill are."""
    answer = asked(pod(1, effective_cost=5.0), other=[NAT], tax_percent=Decimal(6))
    costs = answer.parts["costs"].set_index("name")["effective_cost"]
    assert costs["Tax, 6 %"] == pytest.approx(9.30)
    assert costs["Total with tax"] == pytest.approx(164.30)
    assert row(answer, "spend")["value"] == pytest.approx(155)


def test_the_change_is_against_as_many_days_before() -> None:
    """Twice as much as in the thirty days before is plus 100 %, and the money stands beside it."""
    answer = asked(pod(effective_cost=4.0), before=(pod(billing_start_at=EARLIER, effective_cost=2.0),))
    assert row(answer, "change")["value"] == pytest.approx(100)
    assert row(answer, "change")["delta"] == pytest.approx(2)
    assert "CNY 2.00 (100 %) more than in the 30 days before" in answer.sentence


def test_days_that_nobody_watched_are_no_days_without_cost() -> None:
    """Where the history has no pods of the days before, the change is unknown, not plus everything."""
    answer = asked(pod(), other=[NAT])
    assert row(answer, "change")["shown"] == "unknown"
    assert "before" not in answer.sentence


def test_a_history_that_began_in_the_days_before_is_said() -> None:
    """Half a month of history makes any month look dear: the reader is told."""
    answer = asked(pod(), before=(pod(billing_start_at=EARLIER),))
    assert any("first pods on 2026-10-10" in note for note in answer.notes)


def test_the_budget_is_counted_by_days() -> None:
    """Thirty November days may cost the whole month's budget."""
    answer = asked(pod(effective_cost=120.0), budget=Decimal(100))
    assert row(answer, "spend")["budget"] == pytest.approx(100)
    assert "120 % of the budget" in answer.sentence


def test_a_successful_pipeline_bears_the_failed_ones() -> None:
    """Two pipelines cost 2 each and one succeeded: a success costs 4."""
    answer = asked(pod(1, effective_cost=2.0), pod(2, effective_cost=2.0, job_status="failed"))
    assert row(answer, "pipeline")["value"] == pytest.approx(4)


def test_the_savings_rate_is_against_the_price_a_team_would_pay() -> None:
    """One minus effective cost over the on-demand cost; pods whose either is unknown are left out of both."""
    answer = asked(pod(1, effective_cost=1.0, on_demand_cost=4.0), pod(2, effective_cost=9.0, on_demand_cost=None))
    assert row(answer, "savings")["value"] == pytest.approx(75)


def test_interruptions_are_counted_of_spot_starts_with_their_interval() -> None:
    """One reclaimed of two spot pods that started is 50 %, with the exact interval; pay-as-you-go pods are no spot starts."""
    never = pod(4, spot=True, billing_start_at=datetime(2026, 11, 3, tzinfo=UTC)) | {"billing_start_at": None}
    answer = asked(pod(1, spot=True), pod(2, spot=True, ended="reclaimed"), pod(3), never)
    found = row(answer, "interruptions")
    assert found["value"] == pytest.approx(50)
    assert (found["low"] / 100, found["high"] / 100) == pytest.approx(proportion.interval(1, 2))


def test_without_spot_there_is_no_rate() -> None:
    """No spot start is no rate of zero."""
    assert row(asked(pod()), "interruptions")["shown"] == "no spot"


def test_unknown_costs_are_counted_and_not_zero() -> None:
    """A pod without a price is named; one that was never made is free and is not."""
    answer = asked(
        pod(1), pod(2, effective_cost=None, problem="no price"), pod(3, effective_cost=None, problem="no instance")
    )
    assert any("cost is not known" in note and note.endswith(": 1.") for note in answer.notes)


def test_unknown_costs_leave_the_spend_open() -> None:
    """Where a spot pod's market is not known, the spend is what is known, and the row says how much more it may be."""
    open_pod = pod(2, effective_cost=None, problem="no spot price", cost_low=1.0, cost_high=50.0)
    answer = asked(pod(1, effective_cost=10.0), open_pod, budget=Decimal(100))
    spend = row(answer, "spend")
    assert (spend["value"], spend["low"], spend["high"]) == pytest.approx((10, 11, 60))
    assert spend["delta_shown"] == "with unknown costs up to CNY 60.00; 10 to 60 % of the budget of CNY 100.00"
    assert "up to CNY 60.00 with pods whose cost is not known" in answer.sentence


def test_the_series_add_up_to_the_numbers() -> None:
    """A row for each day of the period; spend adds up, and the change is the sum so far against the sum so far."""
    answer = asked(pod(effective_cost=4.0), before=(pod(billing_start_at=EARLIER, effective_cost=1.0),), other=[NAT])
    days = answer.parts["days"]
    assert len(days) == 30
    assert days["spend"].sum() == pytest.approx(row(answer, "spend")["value"])
    assert days["change"].iloc[-1] == pytest.approx(row(answer, "change")["delta"])
    assert days.loc[days["day"].dt.date == date(2026, 11, 3), "pipeline"].item() == pytest.approx(9)


def test_nothing_is_said_of_nothing() -> None:
    """Without pods and without costs the sentence says that, and no number is invented."""
    answer = asked()
    assert answer.sentence.startswith("No pod and no cost is known")
    assert answer.table["number"].tolist() == ["spend", "change", "pipeline", "savings", "interruptions"]


def test_it_is_said_in_chinese() -> None:
    """With a card in Chinese, the sentence and the labels are Chinese."""
    from dataclasses import replace

    answer = asked(pod(), scope=replace(SCOPE, language="zh"))
    assert "支出" in answer.sentence and answer.table["label"][0] == "支出"
