"""Charge lines for tests, with the columns of `runbook.cost.pricing.charge_lines`: a few words each, the rest plain."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa

from runbook.cost.bill import Bill
from runbook.eci.charges import CHINA
from tests.cost.bill_rows import api_row, billed

SCHEMA = pa.schema(
    [
        ("pod_uid", pa.string()), ("instance_id", pa.string()), ("item", pa.string()),
        ("charge_period_start", pa.timestamp("us", tz="UTC")), ("charge_period_end", pa.timestamp("us", tz="UTC")),
        ("day", pa.date32()), ("pricing_quantity", pa.float64()), ("pricing_unit", pa.string()),
        ("list_unit_price", pa.float64()), ("list_cost", pa.float64()), ("contracted_unit_price", pa.float64()),
        ("contracted_cost", pa.float64()), ("effective_cost", pa.float64()), ("billed_cost", pa.float64()),
        ("covered", pa.float64()), ("currency", pa.string()),
    ]
)  # fmt: skip
NOON = datetime(2026, 11, 3, 4, tzinfo=UTC)
"""Noon of 3 November in China."""


def line(
    number: int = 1, cost: float = 0.0588, *, seconds: float = 600, start: datetime = NOON, **values: Any
) -> dict[str, Any]:
    """One line of the instance `eci-NUMBER`: ten minutes of vCPU that cost 0.0588. Values that follow from others follow."""
    quantity = values.get("pricing_quantity", 2 * seconds)
    row = {
        "pod_uid": f"uid-{number}", "instance_id": f"eci-{number}", "item": "cpu", "charge_period_start": start,
        "charge_period_end": start + timedelta(seconds=seconds), "day": start.astimezone(CHINA).date(),
        "pricing_quantity": quantity, "pricing_unit": "vCPU-Seconds", "list_unit_price": cost / quantity,
        "list_cost": cost, "contracted_unit_price": cost / quantity, "contracted_cost": cost, "effective_cost": cost,
        "billed_cost": cost, "covered": 0.0, "currency": "CNY",
    }  # fmt: skip
    return row | values


def lines(*rows: dict[str, Any]) -> pa.Table:
    """The rows as an Arrow table."""
    return pa.Table.from_pylist(list(rows), schema=SCHEMA)


def of_pods(pods: pa.Table) -> tuple[pa.Table, Bill]:
    """Charge lines of priced pods, and a bill that differs now and then: by seconds, by a cent, by an instance too many."""
    charged, rows = [], []
    for number, one in enumerate(
        pods.select(["pod_uid", "instance_id", "billing_start_at", "seconds", "billed_cost"]).to_pylist()
    ):
        if one["billed_cost"] is None or not one["seconds"]:
            continue
        start, seconds, cost = one["billing_start_at"], one["seconds"], one["billed_cost"]
        charged.append(
            line(number, cost, seconds=seconds, start=start) | {name: one[name] for name in ("pod_uid", "instance_id")}
        )
        amount, period = {0: (cost * 1.01, seconds * 1.01), 1: (round(cost, 2), seconds)}.get(
            number % 7, (cost, seconds)
        )
        day = start.astimezone(CHINA).date().isoformat()
        more = {"PretaxGrossAmount": cost} if number % 7 == 1 else {}
        rows.append(
            api_row(one["instance_id"] or f"eci-x{number}", day, PretaxAmount=amount, ServicePeriod=str(period), **more)
        )
    return lines(*charged), Bill.of(billed(*rows))
