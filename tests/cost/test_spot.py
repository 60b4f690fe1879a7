"""Hand-made pods, and the ledger of spot that follows from them by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from runbook.answer import Answer
from runbook.cost import spot
from tests.cost.priced_pods import SCOPE, frame, pod


def spot_pod(number: int, *, on_demand: float | None = 4.0, cost: float | None = 1.0, **values: Any) -> dict[str, Any]:
    """A spot pod that was asked for as one, with what it would have cost and what it did."""
    return pod(
        number, **{"spot": True, "spot_requested": True, "on_demand_cost": on_demand, "effective_cost": cost, **values}
    )


def plain(number: int, **values: Any) -> dict[str, Any]:
    """A pod that never asked for spot."""
    return pod(number, **{"spot_requested": False, **values})


def only(answer: Answer) -> dict[str, Any]:
    (row,) = answer.table.to_dict("records")
    return {str(name): value for name, value in row.items()}


def test_the_ledger_of_one_project() -> None:
    """Two pods worth 4.00 that cost 1.00 each, one taken away after 0.30, one fallback at its price: 6.00 − 0.30 − 0 = 5.70."""
    answer = spot.ledger(
        frame(
            spot_pod(1),
            spot_pod(2),
            spot_pod(3, on_demand=1.2, cost=0.3, ended="reclaimed"),
            pod(4, spot=False, spot_requested=True, on_demand_cost=2.0, effective_cost=2.0),
            plain(5, on_demand_cost=9.0, effective_cost=9.0),
        ),
        SCOPE,
    )
    row = only(answer)
    assert (row["gross_low"], row["rework_low"], row["fallback"]) == (6.0, 0.3, 0.0)
    assert row["net_low"] == row["net_high"] == pytest.approx(5.7)
    assert (row["spot_pods"], row["reclaimed"], row["fallback_pods"]) == (3, 1, 1)
    assert answer.sentence == (
        "Spot saved CNY 5.70 net (71 % of what the same work costs without spot): gross CNY 6.00, minus CNY 0.30 for 1 pod"
        " taken away, minus nothing for fallbacks."
    )


def test_the_net_is_what_the_same_work_costs_without_spot_minus_what_was_paid() -> None:
    """A pod is lost after 0.40, its repeat costs 1.00 and does work worth 4.00: without spot 4.00, paid 1.40, net 2.60."""
    answer = spot.ledger(
        frame(
            spot_pod(1, on_demand=1.6, cost=0.4, job_id=71, ended="reclaimed"),
            spot_pod(2, job_id=72, retry_of=71),
        ),
        SCOPE,
    )
    row = only(answer)
    assert row["net_low"] == pytest.approx(2.6)
    assert (row["repeats"], row["repeats_low"]) == (1, 1.0)


def test_a_reclaim_is_charged_once_however_often_the_job_is_repeated() -> None:
    """Lost 0.40, its repeat lost too after 0.50, the third run ends: rework is 0.90, and only the third run is a repeat."""
    answer = spot.ledger(
        frame(
            spot_pod(1, cost=0.4, job_id=71, ended="reclaimed"),
            spot_pod(2, cost=0.5, job_id=72, retry_of=71, ended="reclaimed"),
            spot_pod(3, job_id=73, retry_of=72),
        ),
        SCOPE,
    )
    row = only(answer)
    assert row["rework_low"] == pytest.approx(0.9)
    assert (row["gross_low"], row["repeats"]) == (3.0, 1)


def test_a_repeat_of_a_job_that_failed_by_itself_is_none_of_spot() -> None:
    """The retry of a job whose pod ended as usual is not a repeat that spot caused."""
    row = only(spot.ledger(frame(spot_pod(1, job_id=71), spot_pod(2, job_id=72, retry_of=71)), SCOPE))
    assert (row["repeats"], row["rework_low"]) == (0, 0.0)


def test_a_false_green_is_rework() -> None:
    """GitLab says success, the pod was taken away after 0.30: its money is lost, and a note says why."""
    answer = spot.ledger(
        frame(spot_pod(1), spot_pod(2, cost=0.3, ended="reclaimed", job_status="success", false_green=True)), SCOPE
    )
    row = only(answer)
    assert (row["rework_low"], row["false_green"], row["gross_low"]) == (0.3, 1, 3.0)
    assert any("GitLab calls 1 a success" in note for note in answer.notes)


def test_fallback_counts_only_what_it_cost_above_the_plain_price() -> None:
    """A fallback billed by ECS type at 2.50 for 2.00 costs 0.50; one that a savings plan made cheaper costs nothing extra."""
    answer = spot.ledger(
        frame(
            spot_pod(1),
            pod(2, spot=False, spot_requested=True, on_demand_cost=2.0, effective_cost=2.5),
            pod(3, spot=False, spot_requested=True, on_demand_cost=2.0, effective_cost=1.5),
        ),
        SCOPE,
    )
    row = only(answer)
    assert row["fallback"] == 0.5
    assert row["net_low"] == pytest.approx(3.0 - 0.5)


def test_missed_saving_is_shown_apart() -> None:
    """Spot saves 75 %; a fallback worth 2.00 missed 1.50, which is not part of the net of 3.00."""
    row = only(
        spot.ledger(
            frame(spot_pod(1), pod(2, spot=False, spot_requested=True, on_demand_cost=2.0, effective_cost=2.0)), SCOPE
        )
    )
    assert (row["missed_low"], row["missed_high"], row["net_low"]) == (1.5, 1.5, 3.0)


def test_an_unknown_ecs_type_gives_an_interval() -> None:
    """Worth 4.00, cost 0.50 to 3.00: saved 1.00 to 3.50; with a lost one of 0.20 to 0.60 the net is 0.40 to 3.30."""
    unknown = {"cost": None, "problem": "unknown ECS type"}
    answer = spot.ledger(
        frame(
            spot_pod(1, **unknown, cost_low=0.5, cost_high=3.0),
            spot_pod(2, **unknown, cost_low=0.2, cost_high=0.6, ended="reclaimed"),
        ),
        SCOPE,
    )
    row = only(answer)
    assert (row["gross_low"], row["gross_high"]) == (1.0, 3.5)
    assert (row["rework_low"], row["rework_high"]) == (0.2, 0.6)
    assert (row["net_low"], row["net_high"]) == (pytest.approx(0.4), pytest.approx(3.3))
    assert (row["as_interval"], row["interval_low"], row["interval_high"]) == (
        2,
        pytest.approx(0.7),
        pytest.approx(3.6),
    )
    assert answer.sentence.startswith("Spot saved CNY 0.40 to 3.30 net (10 to 82 % of")


def test_an_interval_around_zero_is_no_saving() -> None:
    """Worth 4.00, cost 1.00 to 5.00: it saved 3.00 or lost 1.00, and the sentence does not choose."""
    answer = spot.ledger(frame(spot_pod(1, cost=None, cost_low=1.0, cost_high=5.0)), SCOPE)
    assert answer.sentence.startswith("Whether spot paid is not known: net −CNY 1.00 to CNY 3.00 (−25 to 75 % of")


def test_spot_that_was_dearer_says_so() -> None:
    """Worth 1.00, cost 1.50: spot cost 0.50 more than it would have without."""
    answer = spot.ledger(frame(spot_pod(1, on_demand=1.0, cost=1.5)), SCOPE)
    assert answer.sentence.startswith("Spot cost CNY 0.50 more than ECI's vCPU and memory price would have:")
    assert only(answer)["net_high"] == -0.5


def test_a_pod_without_a_cost_is_counted_and_not_zero() -> None:
    """One of two spot pods has no price: 3.00 are saved by the other, and a note counts the one."""
    answer = spot.ledger(frame(spot_pod(1), spot_pod(2, cost=None, problem="no price")), SCOPE)
    row = only(answer)
    assert (row["gross_low"], row["unpriced"], row["spot_pods"]) == (3.0, 1, 2)
    assert any(note.startswith("Of 1 spot pod nobody knows the cost") for note in answer.notes)


def test_a_project_of_which_nothing_is_known_has_no_zero() -> None:
    """All spot pods of a project are without a price: gross and net are unknown, and the sentence says so."""
    answer = spot.ledger(frame(spot_pod(1, cost=None, problem="no price")), SCOPE)
    row = only(answer)
    assert row["net_low"] != row["net_low"] and row["gross_high"] != row["gross_high"]
    assert answer.sentence == "Nobody knows what 1 spot pod cost: whether spot paid is not known."


def test_an_instance_that_was_never_made_is_no_spot_pod() -> None:
    """Spot was asked for and there was no stock: nothing ran, nothing is compared."""
    answer = spot.ledger(frame(spot_pod(1, cost=0.0, on_demand=0.0, problem="no instance", ended="no_stock")), SCOPE)
    assert answer.table.empty and answer.n == 0


def test_projects_stand_by_their_net() -> None:
    """Net 6.00, 3.00 and −1.00 in this order; pods without a project are a row of their own."""
    answer = spot.ledger(
        frame(
            spot_pod(1, project_path="grp/b"),
            spot_pod(2, project_path=None),
            spot_pod(3, project_path=None),
            spot_pod(4, project_path="grp/a", on_demand=1.0, cost=2.0),
        ),
        SCOPE,
    )
    assert answer.table["project"].to_list() == ["not allocated", "grp/b", "grp/a"]
    assert answer.table["net_low"].to_list() == [6.0, 3.0, -1.0]


def test_what_nobody_knows_is_said() -> None:
    """A pod that does not say whether it is spot, and one that does not say whether it asked, are counted in the notes."""
    answer = spot.ledger(frame(spot_pod(1), pod(2, spot=None), pod(3, spot=False, spot_requested=None)), SCOPE)
    assert "Of 1 pod nobody knows whether they were spot: not counted as such." in answer.notes
    assert any(note.startswith("Of 1 pod without spot nobody knows whether it was asked for") for note in answer.notes)


def test_all_asked_and_none_got_it() -> None:
    """Two fallbacks and no spot pod: nothing was saved, and the sentence says it."""
    fallbacks = [pod(number, spot=False, spot_requested=True) for number in (1, 2)]
    assert spot.ledger(frame(*fallbacks), SCOPE).sentence == "2 pods asked for spot and none got it: nothing was saved."


def test_nothing_at_all() -> None:
    """No pods: an empty table with its columns, and a sentence that says so."""
    answer = spot.ledger(frame(), SCOPE)
    assert answer.table.empty and answer.n == 0 and "net_low" in answer.table
    assert answer.sentence == "No pod asked for spot: there is nothing to save or to lose."


def test_the_ledger_speaks_chinese() -> None:
    """The same numbers, in the card's language."""
    answer = spot.ledger(frame(spot_pod(1)), replace(SCOPE, language="zh"))
    assert answer.sentence.startswith("抢占式实例净节省 CNY 3.00")
