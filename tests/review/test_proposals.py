"""What a review proposes, from the answers of the notebooks."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from runbook.answer import Answer
from runbook.cost import allocation, failures, movers, rightsizing, spot, startup, trims
from runbook.review import proposals
from runbook.review.actions import Action
from runbook.review.outcomes import Pods
from tests.cost.priced_pods import SCOPE, frame, pod

BEGIN = datetime(2026, 11, 1, 8, tzinfo=UTC)
MONTH = 365.25 / 12 / 30


def runs(count: int, **values: Any) -> list[dict[str, Any]]:
    """So many pods, spread over the month; `number` keeps them apart from others."""
    first = int(values.pop("number", 0))
    return [pod(first + n, billing_start_at=BEGIN + timedelta(hours=7 * n % 700), **values) for n in range(count)]


def proposed(*pods: dict[str, Any]) -> dict[str, Action]:
    one = frame(*pods)
    answers: list[Answer] = [
        rightsizing.advice(one, SCOPE), trims.trims(one, SCOPE), spot.ledger(one, SCOPE), startup.image_caches(one, SCOPE, ()),
        failures.pareto(one, SCOPE), allocation.health(one, SCOPE), movers.who(one, frame(), SCOPE),
    ]  # fmt: skip
    found = proposals.proposed({answer.name: answer for answer in answers}, SCOPE, Pods(frame(), one, SCOPE))
    return {action.id: action for action in found}


LARGE = {
    "requested_vcpu": 8.0,
    "requested_memory_gib": 16.0,
    "billed_vcpu": 8.0,
    "billed_memory_gib": 16.0,
    "effective_cost": 0.3,
}


def test_a_job_that_uses_little_is_made_smaller() -> None:
    """A measured job on a large spec: the advice with its interval, low risk where no run would have hit the limit."""
    small = {
        "used_vcpu_peak": 1.0,
        "used_vcpu_mean": 0.5,
        "used_memory_peak_gib": 1.0,
        "used_memory_mean_gib": 0.8,
        "used_samples": 40,
    }
    found = proposed(*runs(300, **LARGE, **small))
    action = found["size-grp-demo-unit-tests"]
    assert action.money_a_month is not None and action.money_a_month.low < action.money_a_month.likely
    assert (action.risk, action.effort, action.cohort.project, action.cohort.job) == (
        "low",
        "small",
        "grp/demo",
        "unit tests",
    )
    assert "8 vCPU / 16 GiB →" in action.what and "0 of 300 measured runs" in action.what


def test_every_proposal_brings_its_baseline() -> None:
    """What the cohort costs today is written down now: the next review may have forgotten these days."""
    action = proposed(*runs(50, job_status="failed", ended="out_of_memory", effective_cost=2.0))[
        "failed-out-of-memory-grp-demo"
    ]
    assert action.cohort.baseline is not None
    assert (action.cohort.per, action.cohort.baseline.count) == ("day", 30)
    assert action.cohort.baseline.mean == pytest.approx(100 / 30)
    assert (action.cohort.baseline.first, action.cohort.baseline.last) == (date(2026, 11, 1), date(2026, 11, 30))


def test_failed_money_saves_between_nothing_and_all() -> None:
    """Half of it is planned with, a month of it."""
    action = proposed(*runs(50, job_status="failed", ended="out_of_memory", effective_cost=2.0))[
        "failed-out-of-memory-grp-demo"
    ]
    assert action.money_a_month is not None
    assert (action.money_a_month.low, action.money_a_month.high) == (0, pytest.approx(100 * MONTH, abs=0.01))
    assert action.money_a_month.likely == pytest.approx(50 * MONTH, abs=0.01)


def test_a_failing_script_is_the_teams_business() -> None:
    """No action against tests that find something."""
    found = proposed(*runs(50, job_status="failed", job_failure_reason="script_failure"))
    assert not any(id.startswith("failed") for id in found)


def test_spot_is_tried_where_it_pays_for_others() -> None:
    """One project saves with spot; the dear one without it is asked to try, and nobody promises it the whole."""
    with_spot = runs(100, project_path="grp/spot", spot=True, effective_cost=0.2, on_demand_cost=1.0)
    found = proposed(*with_spot, *runs(100, number=1000, effective_cost=1.0))
    action = found["try-spot-grp-demo"]
    assert action.money_a_month is not None
    assert action.money_a_month.low == 0
    assert action.money_a_month.likely == pytest.approx(80 * MONTH, rel=0.01)


def test_spot_that_loses_money_is_stopped() -> None:
    """Where interruptions cost more than spot saves, the project is told to do without."""
    lost = runs(50, project_path="grp/lost", spot=True, ended="reclaimed", effective_cost=0.9, on_demand_cost=1.0)
    assert "no-spot-grp-lost" in proposed(*lost)


def test_pods_without_a_project_get_marks() -> None:
    """More than one per cent of the money without a project: an action without money, measured by the day."""
    found = proposed(*runs(20), *runs(5, number=100, project_path=None, job_name=None))
    assert found["allocate-pods"].money_a_month is None
    assert found["allocate-pods"].cohort.allocated is False


def test_what_saves_next_to_nothing_is_not_proposed() -> None:
    """A failure that cost a thousandth of the money is not for a meeting."""
    found = proposed(
        *runs(100, effective_cost=1.0), pod(9999, job_status="failed", ended="image_pull", effective_cost=0.1)
    )
    assert not any(id.startswith("failed") for id in found)


def test_at_most_ten_that_save_most_first() -> None:
    """Twenty projects that run out of memory: ten proposals, the dearest first."""
    pods = [one for n in range(20) for one in runs(5, number=100 * n, project_path=f"grp/p{n:02}", job_status="failed",
            ended="out_of_memory", effective_cost=20.0 - n)]  # fmt: skip
    found = proposed(*pods)
    assert list(found)[:2] == ["failed-out-of-memory-grp-p00", "failed-out-of-memory-grp-p01"]
    assert len(found) == proposals.MOST


def test_nothing_is_proposed_of_nothing() -> None:
    """No pods, no advice."""
    assert proposed() == {}


@pytest.mark.parametrize(
    ("parts", "id"),
    [
        (("size", "grp/demo", "unit tests"), "size-grp-demo-unit-tests"),
        (("cache", "registry.example.com/Team/builder:1.2"), "cache-registry-example-com-team-builder-1-2"),
        (("size", "grp/demo", "构建"), "size-grp-demo-1779b5"),
        (("size", "a" * 200), "size-" + "a" * 95),
    ],
)
def test_an_id_is_made_of_kind_and_names(parts: tuple[str, ...], id: str) -> None:
    """The same action has the same id in every review, in letters that a register accepts."""
    assert proposals.slug(*parts) == id
