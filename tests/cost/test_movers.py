"""Why the spend moved, exactly, and whose it is."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runbook.answer import Answer
from runbook.cost import movers
from runbook.settings import OtherCost
from tests.cost.priced_pods import SCOPE, frame, pod

EARLIER = datetime(2026, 10, 10, 12, tzinfo=UTC)
ZERO = dict.fromkeys((*movers.FACTORS, movers.REWORK, movers.REST), 0.0)


def costing(number: int, cost: float, **values: Any) -> dict[str, Any]:
    return pod(number, effective_cost=cost, **values)


def earlier(number: int, cost: float, **values: Any) -> dict[str, Any]:
    return costing(number, cost, billing_start_at=EARLIER, **values)


def steps(answer: Answer) -> dict[str, float]:
    amounts: dict[str, float] = answer.table.set_index("step")["amount"].to_dict()
    return amounts


def moved(*pods: dict[str, Any], before: tuple[dict[str, Any], ...], **options: Any) -> dict[str, float]:
    """What each step but the ends adds."""
    found = steps(movers.why(frame(*pods), frame(*before), SCOPE, **options))
    return {step: round(amount, 9) for step, amount in found.items() if step not in (movers.BEFORE, movers.NOW)}


@pytest.mark.parametrize(
    ("step", "now"),
    [
        (movers.DURATION, costing(1, 2.0, seconds=1200.0)),
        (movers.SIZE, costing(1, 2.0, billed_vcpu=4.0, billed_memory_gib=8.0)),
        (movers.PRICE, costing(1, 2.0)),
        (movers.SPOT, costing(1, 2.0, on_demand_cost=1.0)),
    ],
)
def test_one_factor_alone_takes_the_whole_change(step: str, now: dict[str, Any]) -> None:
    """Twice as long, twice as large, twice the price, or a discount that ended: that factor, and no other."""
    assert moved(now, before=(earlier(9, 1.0),)) == ZERO | {step: 1.0}


def test_more_runs_are_volume() -> None:
    """Three runs where one was is volume."""
    assert moved(*(costing(n, 1.0) for n in range(3)), before=(earlier(9, 1.0),)) == ZERO | {movers.VOLUME: 2.0}


def test_new_and_gone_jobs_are_volume() -> None:
    """A job that did not run before, and one that runs no more, have no factor but volume."""
    found = moved(costing(1, 5.0, job_name="new"), before=(earlier(9, 2.0, job_name="old"),))
    assert found == ZERO | {movers.VOLUME: 3.0}


def test_another_mix_of_jobs_is_not_another_length() -> None:
    """More of the short jobs makes the average run shorter; nothing became shorter, and none of it is said to be duration."""
    short = {"job_name": "lint", "seconds": 60.0}
    found = moved(costing(1, 1.0), costing(2, 0.1, **short), costing(3, 0.1, **short),
                  before=(earlier(8, 1.0), earlier(9, 0.1, **short)))  # fmt: skip
    assert found == ZERO | {movers.VOLUME: 0.1}


def test_work_done_twice_is_rework() -> None:
    """The pod whose job was run again is rework; the run that replaced it is the useful one."""
    found = moved(costing(1, 3.0), costing(2, 1.0, retry_of=1), before=(earlier(9, 1.0),))
    assert found == ZERO | {movers.REWORK: 3.0}


@pytest.mark.parametrize("ended", ["reclaimed", "lost", "evicted"])
def test_work_taken_away_is_rework(ended: str) -> None:
    """A pod that was taken away did nothing that lasts, whether its job was run again or not."""
    found = moved(costing(1, 1.0), costing(2, 1.0, ended=ended), before=(earlier(9, 1.0),))
    assert found == ZERO | {movers.REWORK: 1.0}


def test_what_cannot_be_taken_apart_is_shown_as_rest() -> None:
    """A pod whose billed size nobody knows, and the card's other lines, are the rest; nothing is hidden."""
    nat = OtherCost.model_validate({"name": "NAT gateway", "amount": 150, "first": "2026-11-01"})
    found = moved(costing(1, 1.0), costing(2, 4.0, billed_vcpu=None), before=(earlier(9, 1.0),), other=[nat])
    assert found == ZERO | {movers.REST: 154.0}


job = st.builds(
    costing,
    st.integers(1, 99),
    st.floats(0.01, 1e4),
    job_name=st.sampled_from(["a", "b"]),
    project_path=st.sampled_from(["grp/one", "grp/two", None]),
    seconds=st.sampled_from([None, 0.0, 60.0, 7000.0]),
    billed_vcpu=st.sampled_from([None, 2.0, 64.0]),
    on_demand_cost=st.sampled_from([None, 0.5, 70.0]),
    retry_of=st.sampled_from([None, None, 3]),
    ended=st.sampled_from(["deleted", "reclaimed", None]),
)


@settings(max_examples=25, deadline=None)
@given(st.lists(job, max_size=8), st.lists(job, min_size=1, max_size=8))
def test_the_steps_add_up_exactly(now: list[dict[str, Any]], before: list[dict[str, Any]]) -> None:
    """Whatever happened, the days before plus all steps are these days: in all, and for each job."""
    answer = movers.why(frame(*now), frame(*before), SCOPE)
    found = steps(answer)
    assert found.pop(movers.NOW) == pytest.approx(sum(found.values()), rel=1e-9, abs=1e-9)
    for table in answer.parts.values():
        for row in table.to_dict("records"):
            assert sum(row[step] for step in ZERO) == pytest.approx(row["change"], rel=1e-9, abs=1e-6)


def test_the_sentence_names_the_two_largest_steps() -> None:
    """The reader learns the change, the steps that made it, and the project that moved most."""
    answer = movers.why(frame(costing(1, 2.0, seconds=1200.0)), frame(earlier(9, 1.0)), SCOPE)
    assert answer.sentence == (
        "Spend rose by CNY 1.00 (100 %): duration +CNY 1.00; the project that moved most is grp/demo +CNY 1.00."
    )


def test_without_days_before_nothing_is_compared() -> None:
    """A first month has no change, and says so instead of calling everything new."""
    assert "nothing to compare" in movers.why(frame(pod()), frame(), SCOPE).sentence
    assert movers.why(frame(), frame(), SCOPE).table.empty


def test_projects_are_ranked_with_their_change() -> None:
    """The dearest first, each beside what it cost before; the sentence says how many make up 80 %."""
    pods = frame(costing(1, 8.0), costing(2, 2.0, project_path="grp/other"))
    answer = movers.who(pods, frame(earlier(9, 9.0, project_path="grp/other")), SCOPE)
    rows = answer.table[["project", "cost", "change"]].to_numpy().tolist()
    assert rows == [["grp/demo", 8.0, 8.0], ["grp/other", 2.0, -7.0]]
    assert "1 of 2 projects make up 80 %" in answer.sentence


def test_small_projects_are_the_rest_and_pods_without_project_are_named() -> None:
    """With 20 projects 15 are named, five are the rest, and what belongs to nobody has a row of its own; nothing is lost."""
    pods = [costing(n, 20.0 - n, project_path=f"grp/p{n:02}") for n in range(20)]
    answer = movers.who(frame(*pods, costing(99, 1.0, project_path=None)), frame(), replace(SCOPE, language="en"))
    assert answer.table["project"].tolist()[-3:] == ["grp/p14", "rest", "not allocated"]
    assert answer.table["cost"].sum() == pytest.approx(211)
    assert len(answer.parts["projects"]) == 21


def test_nobody_costs_nothing() -> None:
    """Without pods there is no ranking."""
    assert movers.who(frame(), frame(), SCOPE).table.empty
