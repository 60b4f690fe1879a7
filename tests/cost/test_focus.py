"""The FOCUS dataset: the foundation's own validator accepts it, and its money is the charges'."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runbook.cost import focus, focus_csv, pricing, savings_plans
from runbook.cost.focus import Dataset
from runbook.cost.savings_plans import Coverage
from runbook.eci import tables
from runbook.settings import Cost
from sandbox import focus_validator
from tests.cost.test_pricing import BOOK, NOON, record, table

NOVEMBER = Dataset("1000000000000001", "practice", date(2026, 11, 3), "practice", "CNY")
TERMS = Cost.model_validate(
    {
        "discounts": [{"percent": 10}],
        "savings_plans": [{"per_hour": "0.3", "percent": 25, "first": "2026-11-02", "last": "2026-12-31"}],
        "other": [
            {"name": "NAT gateway", "service": "nat", "amount": 150, "first": "2026-01-01"},
            {"name": "Cache bucket", "service": "oss", "amount": "12.5", "first": "2026-01-01"},
            {"name": "Migration", "service": "other", "amount": 80, "per": "once", "first": "2026-11-05"},
        ],
    }
)
PODS = (
    record(project_path="grp/demo", project_namespace="grp", job_name="unit tests", job_id=7, pipeline_id=3),
    record(pod_uid="uid-2", instance_id="eci-2", project_path="组/项目", compute_category="economy", extra_ephemeral_gib=20.0),
    record(pod_uid="uid-3", instance_id="eci-3", spot=True, ecs_type="ecs.c6.large", finished_at=NOON + timedelta(hours=2)),
    record(pod_uid="uid-4", instance_id="eci-4", ecs_type="ecs.c6.large", finished_known="bounded"),
    record(pod_uid="uid-5", instance_id="eci-5", billing_start_at=NOON, finished_at=NOON + timedelta(hours=3, seconds=5)),
    record(pod_uid="uid-6", instance_id="eci-6", billing_start_at=datetime(2026, 10, 31, 15, 50, tzinfo=UTC), finished_at=datetime(2026, 10, 31, 16, 10, tzinfo=UTC)),
    record(pod_uid="uid-7", instance_id=None),
)  # fmt: skip
"""By size, economy with storage, spot, by ECS type, for hours, over the end of October in China, and without an instance's id."""


def coverage(records: pa.Table, terms: Cost) -> Coverage:
    hours, amounts = pricing.eligible_hours(records, BOOK, terms)
    return savings_plans.coverage(hours, amounts, terms, NOVEMBER.first, NOVEMBER.last)


def dataset(*records: dict[str, Any], terms: Cost = TERMS) -> pa.Table:
    """The month's whole dataset of these records."""
    rows = table(*records)
    covered = coverage(rows, terms) if terms.savings_plans else None
    lines = pricing.charge_lines(rows, BOOK, terms, coverage=covered)
    pods = pricing.priced(rows, BOOK, terms, coverage=covered)
    parts = [
        focus.usage(lines, pods, NOVEMBER),
        focus.plans(covered, terms, NOVEMBER),
        focus.other(terms.other, NOVEMBER),
    ]
    return pa.concat_tables(parts)


@pytest.fixture(scope="module")
def whole() -> pa.Table:
    return dataset(*PODS)


def accepted(data: pa.Table, tmp_path: Path, *, format: str = "parquet", besides: tuple[str, ...] = ()) -> None:
    """Hold the validator's objections to those that data/focus/objections.csv explains for such data."""
    if focus_validator.python() is None:
        pytest.skip(focus_validator.NO_PYTHON)
    file = tmp_path / f"focus.{format}"
    if format == "csv":
        file.write_text(focus_csv.text(data))
    else:
        pq.write_table(data, file)
    rows = tables.rows(tables.DATA / "focus" / "objections.csv", frozenset({"rule", "where", "why"}))
    assert all(row["why"] for row in rows)
    verdict = focus_validator.validate(file, tmp_path / "validator")
    assert set(verdict.objections) == {row["rule"] for row in rows if row["where"] in ("everywhere", *besides)}, verdict
    assert verdict.held > 300


def test_the_foundations_validator_accepts_it(whole: pa.Table, tmp_path: Path) -> None:
    """FOCUS' validator objects to what data/focus/objections.csv explains, and to nothing else."""
    accepted(whole, tmp_path)


def test_the_foundations_validator_accepts_its_csv(whole: pa.Table, tmp_path: Path) -> None:
    """As CSV one thing more is objected to, for CSV has no types: the account's id."""
    accepted(whole, tmp_path, format="csv", besides=("csv",))


def test_without_plans_and_other_costs_it_is_accepted_too(tmp_path: Path) -> None:
    """A card without savings plans and other costs makes a dataset that the validator accepts alike."""
    accepted(dataset(*PODS, terms=Cost()), tmp_path)


def test_names_may_be_chinese(tmp_path: Path) -> None:
    """A cost that the card names in Chinese keeps its name, although the validator would have ASCII."""
    terms = TERMS.model_copy(update={"other": [TERMS.other[0].model_copy(update={"name": "缓存存储桶"})]})
    data = dataset(*PODS, terms=terms)
    assert "缓存存储桶" in data["ChargeDescription"].to_pylist()
    accepted(data, tmp_path, besides=("chinese names",))


def test_columns_are_those_of_focus_and_ours_come_last(whole: pa.Table) -> None:
    """FOCUS' columns come first and by name; ours begin with x_ and follow."""
    own = [name for name in whole.column_names if name.startswith("x_")]
    assert whole.column_names == [*sorted(set(whole.column_names) - set(own)), *own]
    assert own == sorted(own)


def test_the_money_is_that_of_the_charges() -> None:
    """List, contracted, effective and billed cost add up to what the charge lines of the month add up to."""
    rows = table(*PODS)
    covered = coverage(rows, TERMS)
    lines = pricing.charge_lines(rows, BOOK, TERMS, coverage=covered)
    usage = focus.usage(lines, pricing.priced(rows, BOOK, TERMS, coverage=covered), NOVEMBER).to_pylist()
    month = [line for line in lines.to_pylist() if line["day"] >= NOVEMBER.first]
    for name in ("list", "effective", "billed"):
        column = {"list": "ListCost", "effective": "EffectiveCost", "billed": "BilledCost"}[name]
        assert float(sum(row[column] for row in usage)) == pytest.approx(
            sum(line[f"{name}_cost"] for line in month), abs=1e-9
        )


def test_a_unit_price_times_its_quantity_is_the_cost(whole: pa.Table) -> None:
    """Decimals multiply to the last digit, whatever the row."""
    for row in whole.to_pylist():
        assert row["ListUnitPrice"] * row["PricingQuantity"] == row["ListCost"]
        assert row["ContractedUnitPrice"] * row["PricingQuantity"] == row["ContractedCost"]


def test_what_a_plan_covers_is_a_row_of_its_own(whole: pa.Table) -> None:
    """The covered part is Committed and billed at 0; the plan's purchase is what its used and unused parts add up to."""
    rows = [row for row in whole.to_pylist() if row["CommitmentDiscountId"]]
    used = [row for row in rows if row["CommitmentDiscountStatus"] == "Used"]
    assert used and {(row["PricingCategory"], row["BilledCost"]) for row in used} == {("Committed", Decimal(0))}
    bought = sum(row["BilledCost"] for row in rows if row["ChargeCategory"] == "Purchase")
    assert bought == Decimal("0.3") * 24 * 29
    spent = sum(row["EffectiveCost"] for row in rows if row["ChargeCategory"] == "Usage")
    assert float(spent) == pytest.approx(float(bought), abs=1e-6)


def test_how_a_row_was_priced(whole: pa.Table) -> None:
    """Spot is Dynamic, pay-as-you-go Standard; the spot row keeps what it would have cost on demand."""
    by_pod = {row["x_PodUid"]: row for row in whole.to_pylist() if row["x_PodUid"] and not row["CommitmentDiscountId"]}
    assert (by_pod["uid-3"]["PricingCategory"], by_pod["uid-4"]["PricingCategory"]) == ("Dynamic", "Standard")
    spot = [row for row in whole.to_pylist() if row["x_PodUid"] == "uid-3"]
    assert float(sum(row["x_OnDemandCost"] for row in spot)) == pytest.approx(
        7200 * (2 * 0.000049 + 4 * 0.00000613) * 0.9
    )
    assert by_pod["uid-3"]["SkuPriceId"] == "eci:ecs.c6.large:cn-hangzhou:spot"
    assert by_pod["uid-4"]["x_Problem"] == "bounded"


def test_months_are_chinas(whole: pa.Table) -> None:
    """The billing period is China's month in UTC, and of a pod over its beginning only the part inside is there."""
    rows = whole.to_pylist()
    assert {(f"{row['BillingPeriodStart']:%dT%H}", f"{row['BillingPeriodEnd']:%dT%H}") for row in rows} == {
        ("31T16", "30T16")
    }
    begun = [row["ChargePeriodStart"] for row in rows if row["x_PodUid"] == "uid-6"]
    assert set(begun) == {datetime(2026, 10, 31, 16, tzinfo=UTC)}


def test_tags_are_gitlabs(whole: pa.Table) -> None:
    """Tags are one flat JSON object of what is known of the job, in any language; unknown ones are left out."""
    tags = {row["x_PodUid"]: json.loads(row["Tags"]) for row in whole.to_pylist() if row["x_PodUid"]}
    assert tags["uid-2"] == {"gitlab.project": "组/项目", "kubernetes.cluster": "practice"}
    assert (tags["uid-1"]["gitlab.job"], tags["uid-1"]["gitlab.job_name"]) == ("7", "unit tests")


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_any_name_is_a_tag(name: str) -> None:
    """Whatever characters a name has, Tags stay one JSON object; control characters become blanks."""
    (row,) = dataset(record(job_name=name, billed_memory_gib=4.0), terms=Cost()).slice(0, 1).to_pylist()
    told = json.loads(row["Tags"])["gitlab.job_name"]
    assert told == "".join(" " if one < " " or one == "\x7f" else one for one in name)


def test_an_instance_without_an_id_has_no_resource(whole: pa.Table) -> None:
    """Where nobody knows the instance, ResourceId and ResourceType are null, and the pod's UID is there."""
    rows = [row for row in whole.to_pylist() if row["x_PodUid"] == "uid-7"]
    assert rows and {(row["ResourceId"], row["ResourceType"]) for row in rows} == {(None, None)}


def test_csv_is_plain(whole: pa.Table) -> None:
    """Decimals keep a point and lose idle zeros, moments end with Z, nulls are empty, and parts can be written one after another."""
    text = focus_csv.text(whole.slice(0, 1)) + focus_csv.text(whole.slice(1), header=False)
    rows = list(csv.DictReader(io.StringIO(text)))
    assert len(rows) == whole.num_rows
    assert all("." in row["PricingQuantity"] and not row["BilledCost"].endswith("00") for row in rows)
    assert (rows[0]["InvoiceId"], rows[0]["ChargePeriodStart"]) == ("", "2026-11-03T12:00:00Z")
    assert {row["BilledCost"] for row in rows if row["CommitmentDiscountStatus"] == "Used"} == {"0.0"}


@pytest.mark.parametrize("amount", ["0", "0.0000000001", "-0.5", "12345678.9", "0.00000059", "1E-22", "100"])
def test_decimals_are_written_in_full(amount: str) -> None:
    """However small or large, a decimal is written without an exponent and read back as the same number."""
    row = {name: None for name in focus.COLUMNS} | {"BilledCost": Decimal(amount)}
    (read,) = csv.DictReader(io.StringIO(focus_csv.text(pa.Table.from_pylist([row], schema=focus.schema()))))
    assert "E" not in read["BilledCost"] and "." in read["BilledCost"]
    assert Decimal(read["BilledCost"]) == Decimal(amount)


def test_nothing_is_a_dataset_too() -> None:
    """A month without charges is an empty table of the same columns."""
    assert dataset(terms=Cost()).num_rows == 0
    assert dataset(terms=Cost()).schema.names == list(focus.COLUMNS)
