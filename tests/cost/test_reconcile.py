"""The model against the bill: the difference a day and an instance, and the cause that is named for each."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from runbook.answer import Answer, Scope
from runbook.cost import reconcile
from runbook.cost.bill import Bill
from runbook.cost.bill_causes import READINGS, Cause
from runbook.cost.bill_row import BillRow
from runbook.cost.priced import Problem
from runbook.eci import tables
from tests.cost.bill_rows import api_row, billed
from tests.cost.charge_lines import NOON, line, lines
from tests.cost.priced_pods import SCOPE, frame, pod

LATER = datetime(2026, 12, 20, tzinfo=UTC)
NOW = datetime(2026, 11, 6, tzinfo=UTC)
CHINA = replace(SCOPE, timezone="Asia/Shanghai")


def against(
    charged: list[dict[str, Any]], rows: list[BillRow], pods: list[dict[str, Any]] | None = None, *,
    scope: Scope = CHINA, now: datetime = LATER,
) -> Answer:  # fmt: skip
    """The answer for these charge lines, bill rows and pods (the one of instance 1, where none are given)."""
    chosen = [pod()] if pods is None else pods
    return reconcile.by_day(frame(*chosen), scope, lines=lines(*charged), bill=Bill.of(rows), now=now)


def cause_of(answer: Answer) -> str:
    """The one cause that the answer names."""
    (one,) = answer.parts["causes"]["cause"]
    return str(one)


def row(amount: float = 0.0588, instance: str = "eci-1", **values: Any) -> BillRow:
    return billed(api_row(instance, PretaxAmount=amount, **values))[0]


def test_the_same_amounts_agree() -> None:
    """Where every instance agrees on every day, the model explains all of the bill, and the sentence says so."""
    answer = against([line(), line(item="mem", cost=0.0147)], [row(), row(0.0147, BillingItemCode="mem")])
    assert cause_of(answer) == Cause.AGREES
    (day,) = answer.table.to_dict("records")
    assert (day["estimate"], day["billed"]) == (pytest.approx(0.0735), pytest.approx(0.0735))
    assert (day["difference"], day["on_bill"], day["final"], day["cause"]) == (
        pytest.approx(0, abs=1e-9),
        True,
        True,
        None,
    )
    assert answer.sentence == "The model explains all of the bill of CNY 0.0735: every instance agrees on every day."
    assert answer.n == 1


CASES: dict[str, tuple[Cause, list[dict[str, Any]], list[BillRow], list[dict[str, Any]]]] = {
    "nobody watched it": (
        Cause.NOT_IN_HISTORY, [line()], [row(), row(0.5, "eci-9")], [pod()],
    ),
    "its day is not billed yet": (
        Cause.NOT_YET, [line(), line(2, start=NOON + timedelta(days=1))], [row()], [pod(), pod(2)],
    ),
    "a day is left out of the bill": (
        Cause.MISSING_DAY, [line(), line(2, start=NOON - timedelta(days=1))], [row()], [pod(), pod(2)],
    ),
    "the bill passed it by": (
        Cause.NOT_ON_BILL, [line(), line(2)], [row()], [pod(), pod(2)],
    ),
    "another account": (
        Cause.OTHER_ACCOUNT, [line()], [row(0.5, "eci-9")], [pod()],
    ),
    "a spot instance whose type nobody knows": (
        Cause.UNKNOWN_TYPE, [line()], [row(), row(0.02, "eci-2")], [pod(), pod(2, spot=True, effective_cost=None, problem=Problem.UNKNOWN_ECS_TYPE)],
    ),
    "no end": (
        Cause.NO_TIMES, [line()], [row(), row(0.02, "eci-2")], [pod(), pod(2, effective_cost=None, problem=Problem.NO_END)],
    ),
    "no price": (
        Cause.NO_PRICE, [line()], [row(), row(0.02, "eci-2")], [pod(), pod(2, effective_cost=None, problem=Problem.NO_PRICE)],
    ),
    "a bound": (
        Cause.BOUNDED, [line(seconds=900, cost=0.0882)], [row()], [pod(problem=Problem.BOUNDED)],
    ),
    "it still ran when it was last seen": (
        Cause.BOUNDED, [line(seconds=300, cost=0.0294)], [row()], [pod(problem=Problem.STILL_RUNNING)],
    ),
    "a spec that was assumed": (
        Cause.ASSUMED, [line(cost=0.1176)], [row()], [pod(problem=Problem.ASSUMED_SPEC)],
    ),
    "seen four seconds late": (
        Cause.SECONDS, [line(seconds=596, cost=0.058408)], [row()], [pod()],
    ),
    "charged on a day on which the model has nothing": (
        Cause.SECONDS, [line()], [row(), row(day="2026-11-04")], [pod()],
    ),
    "rounded": (
        Cause.ROUNDING, [line()], [row(0.06, PretaxGrossAmount=0.0588)], [pod()],
    ),
    "another market": (
        Cause.SPOT_PRICE, [line(item="instance_type", cost=0.02)],
        [row(0.025, BillingItemCode="instance_type", PretaxGrossAmount=0.1)], [pod(spot=True)],
    ),
    "an ECS type": (
        Cause.OTHER_ITEM, [line()], [row(0.10, BillingItemCode="instance_type")], [pod()],
    ),
    "a plan of which the card knows": (
        Cause.SAVINGS_PLAN, [line(billed_cost=0.03, covered=0.5)], [row(0.04, PretaxGrossAmount=0.0588)], [pod()],
    ),
    "a plan of which the card does not know": (
        Cause.SAVINGS_PLAN, [line()], [row(0.0, PretaxGrossAmount=0.0588)], [pod()],
    ),
    "a discount": (
        Cause.DISCOUNT, [line()], [row(0.05292, PretaxGrossAmount=0.0588)], [pod()],
    ),
    "another list price": (
        Cause.LIST_PRICE, [line()], [row(0.063, PretaxGrossAmount=0.063)], [pod()],
    ),
    "anything else": (
        Cause.UNEXPLAINED, [line(seconds=500, cost=0.049)], [row(0.091)], [pod()],
    ),
}  # fmt: skip
"""Every cause: what the model says, what the bill says, and what the history has."""


@pytest.mark.parametrize("case", CASES)
def test_each_difference_has_its_cause(case: str) -> None:
    """Each way in which an instance can differ is named by its own cause."""
    cause, charged, rows, pods = CASES[case]
    answer = against(charged, rows, pods)
    named = set(answer.parts["causes"]["cause"]) - {Cause.AGREES}
    assert named == {cause}


def test_every_cause_has_a_case_and_words() -> None:
    """No cause goes untested, and each but agreement says what to do, in both languages."""
    assert {cause for cause, *_ in CASES.values()} == set(Cause) - {Cause.AGREES}
    assert set(READINGS) == set(Cause)
    assert all(reading.remedy and reading.remedy_zh for cause, reading in READINGS.items() if cause is not Cause.AGREES)


def test_the_causes_are_documented() -> None:
    """data/bill/README.md explains every cause."""
    page = (tables.DATA / "bill" / "README.md").read_text(encoding="utf-8")
    listed = page[page.index("| cause | when |") :]
    assert all(cause in listed for cause in Cause)


def test_errors_that_cancel_out_count() -> None:
    """A cent too much here and a cent too little there is no agreement: the share is of absolute differences."""
    answer = against(
        [line(cost=0.5), line(2, cost=0.3)], [row(0.4), row(0.4, "eci-2")], [pod(), pod(2)],
    )  # fmt: skip
    assert answer.sentence.startswith("The model explains 75 % of the bill of CNY 0.80 and is CNY 0.00 below it")
    (day,) = answer.table.to_dict("records")
    assert day["difference"] == pytest.approx(0)


def test_almost_all_is_not_all() -> None:
    """99.99 % is written as 99.9 %: only all is 100 %."""
    answer = against([line(cost=100.0)], [row(100.01)])
    assert answer.sentence.startswith("The model explains 99.9 % of the bill")


def test_days_that_are_not_billed_yet_have_no_difference() -> None:
    """A day beyond the bill's newest shows its estimate, no difference, and is not part of the share."""
    answer = against([line(), line(2, start=NOON + timedelta(days=1))], [row()], [pod(), pod(2)], now=NOW)
    first, second = answer.table.to_dict("records")
    assert (first["on_bill"], first["final"], second["on_bill"]) == (True, False, False)
    assert second["estimate"] == pytest.approx(0.0588)
    assert second["difference"] != second["difference"]
    assert answer.sentence.startswith("The model explains all of the bill")
    assert any(
        "CNY 0.0588 is of days that the bill does not have (its newest: 2026-11-03)" in note for note in answer.notes
    )
    assert any("final until 2026-10-31" in note for note in answer.notes)


def test_an_instance_over_midnight_is_compared_on_both_days() -> None:
    """Days are the bill's: of an instance that runs over midnight in China each day has its part."""
    midnight = datetime(2026, 11, 3, 16, tzinfo=UTC)
    before = line(start=midnight - timedelta(seconds=600))
    after = line(start=midnight, seconds=60, cost=0.00588)
    answer = against([before, after], [row(), row(0.00588, day="2026-11-04", ServicePeriod="60")])
    assert [str(day)[:10] for day in answer.table["day"]] == ["2026-11-03", "2026-11-04"]
    assert cause_of(answer) == Cause.AGREES


@pytest.mark.parametrize(("fees", "tolerance"), [(1, 0.005), (3, 0.0098), (10_000, 0.5658)])
def test_the_tolerance_is_what_rounding_can_do(fees: int, tolerance: float) -> None:
    """One fee is moved by half a cent at most; of many the errors cancel out, so that the band grows with their square root."""
    charged = [line(number) for number in range(fees)] if fees < 10 else [line() | {"item": "cpu"}]
    rows = [row(instance=f"eci-{number}") for number in range(min(fees, 9))]
    rows += [row(0.0) for _ in range(fees - len(rows))]
    answer = against(charged, rows)
    assert answer.table["tolerance"].tolist() == [pytest.approx(tolerance, rel=0.01)]


def test_a_monthly_bill_is_compared_by_month() -> None:
    """A bill without days is compared month by month, and a note says how to get days."""
    rows = [BillRow(**{name: getattr(row(), name) for name in row().__struct_fields__} | {"day": None})]
    answer = against([line()], rows)
    assert [str(day)[:10] for day in answer.table["day"]] == ["2026-11-01"]
    assert cause_of(answer) == Cause.AGREES
    assert any("granularity DAILY" in note for note in answer.notes)


def test_what_else_the_bill_has_is_named_with_its_share() -> None:
    """Other products, refunds and other currencies are named with their money, and never added to the comparison."""
    rows = [
        row(1.0), row(3.0, "lb-1", ProductCode="slb", ProductName="SLB"), row(-0.5, Item="Refund"), row(7.0, "eci-7", Currency="USD"),
    ]  # fmt: skip
    answer = against([line(cost=1.0)], rows)
    assert answer.table["billed"].tolist() == [1.0]
    text = " ".join(answer.notes)
    assert "CNY 3.00 (66.6 % of its money) for other products: slb" in text
    assert "−CNY 0.50 (11.1 % of its money) for ECI rows that are no usage" in text
    assert "USD 7.00, which is not added to CNY" in text
    assert answer.parts["other"]["amount"].tolist() == [7.0, 3.0, -0.5]


def test_the_discount_that_the_bill_took_is_measured() -> None:
    """Where the card lacks a discount, the note says how many per cent the bill took off."""
    answer = against([line()], [row(0.05292, PretaxGrossAmount=0.0588)])
    assert any("took 10 % off the list price" in note for note in answer.notes)


def test_the_seconds_that_were_seen_otherwise_are_measured() -> None:
    """Where starts were seen late, the note says by how many seconds on average."""
    late = [line(number, 0.058408, seconds=596) for number in (1, 2)]
    answer = against(late, [row(), row(instance="eci-2")], [pod(), pod(2)])
    assert any("the bill has +4.0 s an instance and day" in note for note in answer.notes)


def test_the_largest_differences_are_listed_with_their_job() -> None:
    """Each instance that differs is shown with project, job, both amounts and both numbers of seconds."""
    answer = against([line(seconds=596, cost=0.058408), line(2, cost=2.0)], [row(), row(1.0, "eci-2")], [pod(), pod(2)])
    first, second = answer.parts["instances"].to_dict("records")
    assert (first["instance_id"], first["project_path"], first["difference"]) == (
        "eci-2",
        "grp/demo",
        pytest.approx(1.0),
    )
    assert (second["estimated_seconds"], second["billed_seconds"], second["cause"]) == (596, 600, Cause.SECONDS)


@pytest.mark.parametrize(
    ("charged", "rows", "sentence"),
    [
        ([], [], "There is no bill of ECI for these days yet."),
        ([line()], [], "There is no bill of ECI for these days yet."),
        ([line()], [row(Currency="USD")], "The bill is in USD and the estimate in CNY: there is nothing to compare."),
        ([], [row()], "The model explains 0 % of the bill of CNY 0.0588 and is CNY 0.0588 below it"),
    ],
)
def test_something_missing_is_said(charged: list[dict[str, Any]], rows: list[BillRow], sentence: str) -> None:
    """No bill, another currency, or no charges: the sentence says so, and nothing is a silent zero."""
    answer = against(charged, rows, [] if not charged else None)
    assert answer.sentence.startswith(sentence)


def test_it_speaks_chinese() -> None:
    """Sentence, causes and notes are in the scope's language."""
    zh = replace(CHINA, language="zh")
    answer = against([line()], [row(0.05292, PretaxGrossAmount=0.0588)], scope=zh)
    assert (
        answer.sentence
        == "模型解释了账单 CNY 0.0529 的 88.8 %，估算高 CNY 0.0059；主要原因：折扣未写入配置（CNY 0.0059）。"
    )
    assert cause_of(answer) == "折扣未写入配置"
    assert answer.table["cause"].tolist() == ["折扣未写入配置"]
