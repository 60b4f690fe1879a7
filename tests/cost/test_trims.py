"""Who is just above a rung: what would have to go, and what that saves."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from runbook.answer import Answer
from runbook.cost import trims
from runbook.eci.prices import PriceRow
from tests.cost.priced_pods import SCOPE, frame, pod

ABOVE = {"requested_vcpu": 3.25, "requested_memory_gib": 8.3, "billed_vcpu": 4.0, "billed_memory_gib": 10.0}
"""0.3 GiB above 4 vCPU / 8 GiB, so that 10 GiB are billed."""

MEASURED = {
    "used_vcpu_mean": 1.0, "used_vcpu_peak": 2.0, "used_memory_mean_gib": 4.0, "used_memory_peak_gib": 6.0, "used_samples": 9,
}  # fmt: skip


def asked(*pods: dict[str, Any], **options: Any) -> Answer:
    return trims.trims(frame(*(pod(number, **values) for number, values in enumerate(pods, 1))), SCOPE, **options)


def only(*pods: dict[str, Any], **options: Any) -> dict[Any, Any]:
    (row,) = asked(*pods, **options).table.to_dict("records")
    return row


def test_trim_and_you_drop_a_rung() -> None:
    """What would have to go, the next rung, and the share of the list price that it saves, at the job's own cost."""
    row = only({**ABOVE, "effective_cost": 5.0}, {**ABOVE, "effective_cost": 5.0})
    assert (row["less_vcpu"], round(row["less_memory_gib"], 6)) == (0, 0.3)
    assert (row["next_vcpu"], row["next_memory_gib"]) == (4, 8)
    price = {size: 4 * Decimal("0.000049") + size * Decimal("0.00000613") for size in (8, 10)}
    assert row["saves"] == pytest.approx(10.0 * float(1 - price[8] / price[10]), abs=1e-12)
    assert row["saves_a_month"] == pytest.approx(row["saves"] * 365.25 / 12 / 30)
    assert row["pods"] == 2


def test_the_sentence() -> None:
    """It counts the jobs and their saving, and names the one that saves most."""
    answer = asked({**ABOVE, "effective_cost": 100.0}, {**ABOVE, "job_name": "lint"}, {})
    assert answer.sentence == (
        "2 jobs would drop a rung and save CNY 4.84 a month by asking for at most 15% less;"
        " first of all grp/demo · unit tests: 0.3 GiB less, CNY 4.83 a month."
    )
    assert answer.n == 3


def test_smallest_first() -> None:
    """Rows are in the order of the share that would have to go."""
    answer = asked({**ABOVE, "requested_memory_gib": 8.9, "job_name": "b"}, {**ABOVE, "job_name": "a"})
    assert answer.table["job_name"].tolist() == ["a", "b"]
    assert answer.table["less_share"].tolist() == pytest.approx([0.3 / 8.3, 0.9 / 8.9], rel=1e-6)


def test_a_trim_of_vcpu() -> None:
    """0.1 vCPU above a rung is seen like memory; of two trims the one that saves more is told."""
    row = only({"requested_vcpu": 2.1, "requested_memory_gib": 4.2, "billed_vcpu": 4.0, "billed_memory_gib": 6.0})
    assert round(row["less_vcpu"], 6) == 0.1 and row["less_memory_gib"] == 0
    assert (row["next_vcpu"], row["next_memory_gib"]) == (2, 6)


def test_a_large_trim_is_none() -> None:
    """More than the share `within` is another question (the recommended size), not a trim."""
    far = {**ABOVE, "requested_memory_gib": 9.9}
    assert asked(far).table.empty
    assert asked(far).sentence == "No job would drop a rung if its request lost at most 15%."
    assert len(asked(far, within=0.25).table) == 1


@pytest.mark.parametrize(
    "used, verdict",
    [({}, "not measured"), (MEASURED, "fits"), (MEASURED | {"used_memory_peak_gib": 8.1}, "too small")],
)
def test_the_peak_decides(used: dict[str, Any], verdict: str) -> None:
    """The highest peak of all runs is held against the trimmed request; one that does not fit is not advised."""
    answer = asked({**ABOVE, **used}, {**ABOVE, **used} | ({"used_memory_peak_gib": 1.0} if used else {}))
    assert answer.table["verdict"].tolist() == [verdict]
    assert answer.sentence.startswith("No job") is (verdict == "too small")


def test_a_job_that_measured_itself() -> None:
    """Its peak is that of the build container: the pod's other containers may use all that they ask for."""
    of_job = MEASURED | {"used_source": "job", "build_vcpu": 3.0, "build_memory_gib": 6.3}
    assert only({**ABOVE, **of_job})["peak_memory_gib"] == pytest.approx(8.0)
    assert only({**ABOVE, **of_job})["verdict"] == "fits"
    assert only({**ABOVE, **of_job, "used_memory_peak_gib": 6.2})["verdict"] == "too small"
    assert only({**ABOVE, **of_job, "build_vcpu": None})["verdict"] == "not measured"


def test_spot_and_ecs_types_have_other_prices() -> None:
    """They are counted in a note with their money: what a smaller type costs is not in ECI's list."""
    answer = asked(
        {**ABOVE, "spot": True, "effective_cost": 2.0}, {**ABOVE, "ecs_type": "ecs.g6.xlarge", "effective_cost": 3.0}
    )
    assert answer.table.empty
    assert any(note.startswith("2 pods (CNY 5.00) were spot or billed by ECS type") for note in answer.notes)
    unknown = asked({**ABOVE, "spot": True, "effective_cost": None})
    assert any(note.startswith("1 pod (a known CNY 0.00) were spot") for note in unknown.notes)


def test_billed_off_the_ladder() -> None:
    """A pod that was billed another size than the ladder gives for its request is left out, and a note says so."""
    answer = asked({**ABOVE, "billed_memory_gib": 16.0}, {**ABOVE, "region": "mars-1"}, {**ABOVE, "region": None})
    assert answer.table.empty
    assert any(note.startswith("3 pods were billed another size than the ladder gives") for note in answer.notes)


def test_economy_has_its_own_prices() -> None:
    """A pod of the economy category is trimmed on the economy ladder, at economy prices."""
    row = only({**ABOVE, "compute_category": "economy", "effective_cost": 1.0})
    price = {size: 4 * Decimal("0.000027") + size * Decimal("0.00000613") for size in (8, 10)}
    assert row["saves"] == pytest.approx(float(1 - price[8] / price[10]), abs=1e-12)


def test_the_currency_says_whose_list() -> None:
    """Dollars are held against the list of the international site; a currency of no site has no list, and no saving."""
    pods = frame(pod(**ABOVE, effective_cost=1.0))
    (row,) = trims.trims(pods, replace(SCOPE, currency="USD", last=date(2026, 11, 30))).table.to_dict("records")
    price = {size: 4 * Decimal("0.0000077") + size * Decimal("0.00000096") for size in (8, 10)}
    assert row["saves"] == pytest.approx(float(1 - price[8] / price[10]), abs=1e-12)
    assert trims.trims(pods, replace(SCOPE, currency="EUR")).table.empty


def test_the_given_price_list_counts() -> None:
    """Another price list gives another saving; one without a price for that day gives none."""

    def row(item: str, price: str, day: date = date(2024, 1, 1)) -> PriceRow:
        return PriceRow("cn", "*", "CNY", "*", item, Decimal(price), day, "test")

    free_cpu = (row("vcpu", "0.000000001"), row("memory", "0.00001"))
    assert only({**ABOVE, "effective_cost": 10.0}, rows=free_cpu)["saves"] == pytest.approx(2.0, rel=1e-3)
    future = (row("vcpu", "1", date(2030, 1, 1)), row("memory", "1", date(2030, 1, 1)))
    assert asked(ABOVE, rows=future).table.empty


def test_unknown_things() -> None:
    """No request, no cost, no project, no job: never an error, and an unknown cost saves nothing that is known."""
    answer = asked(
        {**ABOVE, "requested_vcpu": None},
        {**ABOVE, "effective_cost": None},
        {**ABOVE, "project_path": None, "job_name": None},
    )
    assert answer.table[["project", "job_name"]].values.tolist() == [["not allocated", ""], ["grp/demo", "unit tests"]]
    assert answer.table["saves"].tolist()[1] == 0


def test_empty_and_chinese() -> None:
    """Without pods there is a sentence and no row; in Chinese the same numbers."""
    assert asked().table.empty and asked().n == 0
    zh = trims.trims(frame(pod(**ABOVE, effective_cost=100.0)), replace(SCOPE, language="zh"))
    assert zh.sentence.startswith("1 个作业只需少申请不超过 15%，即可降低一档规格，每月节省 CNY 4.83")
