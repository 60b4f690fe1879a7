"""Hand-made pods, and the ledger, rates and prices that follow from them by hand."""

from __future__ import annotations

import pytest

from runbook.cost import spot
from tests.cost.priced_pods import SCOPE, frame, pod


def test_the_ledger_of_one_project() -> None:
    """Two pods worth 4.00 that cost 1.00 each, one taken away after 0.30, one fallback at its price: 6.00 − 0.30 − 0 = 5.70."""
    answer = spot.ledger(
        frame(
            pod(1, spot=True, spot_requested=True, on_demand_cost=4.0, effective_cost=1.0),
            pod(2, spot=True, spot_requested=True, on_demand_cost=4.0, effective_cost=1.0),
            pod(3, spot=True, spot_requested=True, on_demand_cost=1.2, effective_cost=0.3, ended="reclaimed"),
            pod(4, spot=False, spot_requested=True, on_demand_cost=2.0, effective_cost=2.0),
            pod(5, on_demand_cost=9.0, effective_cost=9.0),
        ),
        SCOPE,
    )
    (row,) = answer.table.to_dict("records")
    assert (row["gross_low"], row["rework_low"], row["fallback"]) == (6.0, 0.3, 0.0)
    assert row["net_low"] == row["net_high"] == pytest.approx(5.7)
    assert row["missed_low"] == pytest.approx(2.0 * 0.75)
    print(answer)


def test_nothing_at_all() -> None:
    """No pods: an empty table and a sentence that says so."""
    answer = spot.ledger(frame(), SCOPE)
    assert answer.table.empty and answer.n == 0
    print(answer)
