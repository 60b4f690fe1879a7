"""What became of an action, as the pods' cost shows."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from runbook.review.actions import Action, Baseline, Cohort, Money, Register, Status
from runbook.review.outcomes import Outcome, Pods, Verdict, became, short, table
from tests.cost.priced_pods import SCOPE, frame, pod

DONE = date(2026, 11, 11)


def days(first: date, count: int, cost: float, *, runs: int = 4, **values: Any) -> list[dict[str, Any]]:
    """So many runs a day, whose cost goes up and down by a tenth."""
    noon = datetime(first.year, first.month, first.day, 12, tzinfo=UTC)
    return [
        pod(10_000 * first.month + 100 * day + run, billing_start_at=noon + timedelta(days=day),
            effective_cost=cost * (0.9 + 0.2 * (run % 2)), **values)
        for day in range(count)
        for run in range(runs)
    ]  # fmt: skip


def action(**values: Any) -> Action:
    plain = {"id": "size-a", "what": "smaller", "proposed": date(2026, 10, 31), "cohort": {"project": "grp/demo"}}
    return Action.model_validate(plain | {"status": "done", "done": DONE} | values)


def outcome(
    one: Action, *pods: dict[str, Any], before: tuple[dict[str, Any], ...] = (), proposals: tuple[Action, ...] = ()
) -> Outcome:
    found = became(Register(cluster="practice", actions=[one]), proposals, Pods(frame(*before), frame(*pods), SCOPE))
    return next(result for result in found if result.action is one)


def test_a_saving_shows() -> None:
    """Runs cost 2 before and 1 since: with four a day that is 4 a day, in an interval above zero."""
    pods = [*days(date(2026, 11, 1), 10, 2.0), *days(DONE, 20, 1.0)]
    found = outcome(action(), *pods)
    assert found.verdict is Verdict.SAVED
    assert found.measured is not None
    assert found.measured.likely == pytest.approx(4 * 365.25 / 12)
    assert 0 < found.measured.low < found.measured.likely < found.measured.high
    assert found.sentence.startswith("done on 2026-11-11: saves CNY 121.75 a month")


def test_a_saving_that_is_none_does_not_show() -> None:
    """The same cost before and since is not seen; twice the cost is dearer."""
    same = [*days(date(2026, 11, 1), 10, 1.0), *days(DONE, 20, 1.0)]
    assert outcome(action(), *same).verdict is Verdict.UNCLEAR
    dearer = [*days(date(2026, 11, 1), 10, 1.0), *days(DONE, 20, 2.0)]
    assert outcome(action(), *dearer).verdict is Verdict.DEARER


def test_only_the_cohort_counts() -> None:
    """Another project's saving is not this action's."""
    other = [*days(date(2026, 11, 1), 10, 2.0, project_path="grp/x"), *days(DONE, 20, 1.0, project_path="grp/x")]
    same = [*days(date(2026, 11, 1), 10, 1.0), *days(DONE, 20, 1.0)]
    assert outcome(action(), *other, *same).verdict is Verdict.UNCLEAR


def test_the_registers_own_baseline_goes_before_the_data() -> None:
    """What the proposal measured is what it is held against, even where the history of those days is gone."""
    cohort = Cohort(project="grp/demo", baseline=Baseline(
        mean=3.0, error=0.01, count=500, first=date(2026, 9, 1), last=date(2026, 9, 30)))  # fmt: skip
    found = outcome(action(cohort=cohort), *days(DONE, 20, 1.0))
    assert found.measured is not None and found.measured.likely == pytest.approx(2 * 4 * 365.25 / 12)


def test_too_few_runs_are_too_early() -> None:
    """Twelve runs since are too few to tell, and the sentence says how many it takes."""
    found = outcome(action(), *days(date(2026, 11, 1), 10, 2.0), *days(DONE, 3, 1.0))
    assert (found.verdict, found.measured) == (Verdict.EARLY, None)
    assert "40 + 12 runs, 20 are needed" in found.sentence


def test_without_days_before_there_is_no_baseline() -> None:
    """A cohort that nobody saw before the action cannot be compared."""
    assert outcome(action(), *days(DONE, 20, 1.0)).verdict is Verdict.NO_BASELINE


def test_days_without_a_failure_cost_nothing() -> None:
    """By day: what failed on ten days before and never since saves its mean a day; days without any count as zero."""
    failing = days(date(2026, 11, 1), 10, 1.0, runs=2, job_status="failed", ended="out_of_memory")
    fine = days(DONE, 20, 1.0)
    found = outcome(action(cohort={"reason": "out_of_memory", "per": "day"}), *failing, *fine)
    assert found.verdict is Verdict.SAVED
    assert found.measured is not None and found.measured.likely == pytest.approx(2 * 365.25 / 12)


def test_days_before_the_history_began_are_not_free() -> None:
    """A history that begins on the first makes a baseline of ten days, not of forty."""
    pods = Pods(frame(), frame(*days(date(2026, 11, 1), 10, 1.0)), SCOPE)
    measured = pods.baseline(Cohort(per="day"), SCOPE.before.first, date(2026, 11, 10))
    assert measured is not None and (measured.count, measured.mean) == (10, pytest.approx(4))


def test_pods_of_the_days_before_count() -> None:
    """The baseline reaches into the period before."""
    found = outcome(
        action(done=date(2026, 11, 1)),
        *days(date(2026, 11, 1), 20, 1.0),
        before=tuple(days(date(2026, 10, 5), 20, 2.0)),
    )
    assert found.verdict is Verdict.SAVED


def test_open_actions_say_what_they_would_save_now() -> None:
    """An open action that the data still propose has today's money; one they do not, says so."""
    waiting = action(status="open", done=None)
    again = waiting.model_copy(update={"money_a_month": Money(low=1, likely=7, high=9)})
    assert outcome(waiting, proposals=(again,)).sentence == "open: would now save CNY 7.00 a month"
    assert "do not propose it again" in outcome(waiting).sentence


def test_what_stands_in_the_register_is_not_proposed_again() -> None:
    """Rejected stays rejected, with its reason; only what is new is a proposal."""
    rejected = action(status="rejected", done=None, because="too risky")
    fresh = action(id="other", status="open", done=None)
    found = became(Register(cluster="practice", actions=[rejected]), (rejected, fresh), Pods(frame(), frame(), SCOPE))
    assert [(one.action.id, one.verdict) for one in found] == [
        ("size-a", Verdict.REJECTED),
        ("other", Verdict.PROPOSED),
    ]
    assert found[0].sentence == "rejected: too risky"


def test_the_table_has_a_row_an_action() -> None:
    """Done ones first; the sentence counts them and adds up what shows in the data."""
    pods = Pods(frame(), frame(*days(date(2026, 11, 1), 10, 2.0), *days(DONE, 20, 1.0)), SCOPE)
    waiting = action(id="later", status="open", done=None)
    answer = table(became(Register(cluster="practice", actions=[waiting, action()]), (), pods), SCOPE)
    assert answer.table["id"].tolist() == ["size-a", "later"]
    assert answer.table["measured"].iloc[0] == pytest.approx(121.75)
    assert answer.sentence == "1 open; 1 done, of which 1 shows in the data, CNY 121.75 a month."
    assert short(answer).table["money a month"].tolist() == ["—", "—"]
    assert len(short(answer).table.columns) == 6
    assert table([], SCOPE).sentence == "Nothing is proposed, and the register is empty."
    assert Status.OPEN.value in answer.table["status"].tolist()
