"""What build containers ask for, read from whole records."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from runbook.cost import build_size
from runbook.history.record import arrow_schema

SCHEMA = pa.schema([arrow_schema().field("containers").with_nullable(True)])


def container(kind: str, **sizes: float) -> dict[str, Any]:
    """One container; sizes as `request_vcpu`, `limit_memory_gib`, …"""
    return {"name": kind, "kind": kind} | sizes


def read(*containers: list[dict[str, Any]] | None) -> list[dict[str, Any]]:
    """The columns of records with these containers, as rows."""
    table = pa.Table.from_pylist([{"containers": one} for one in containers], schema=SCHEMA)
    rows: list[dict[str, Any]] = pa.table(build_size.columns(table)).to_pylist()
    return rows


REQUESTS = [
    container("init", request_vcpu=9.0), container("build", request_vcpu=2.0, request_memory_gib=4.0),
    container("helper", request_vcpu=0.1),
]  # fmt: skip


@pytest.mark.parametrize(
    ("containers", "expected"),
    [
        (REQUESTS, (2.0, 4.0, "request")),
        ([*REQUESTS, container("service", limit_vcpu=1.0)], (None, None, "limit")),
        ([container("build", request_vcpu=1.0, limit_vcpu=2.0, limit_memory_gib=3.0)], (2.0, 3.0, "limit")),
        ([container("build"), container("helper")], (None, None, None)),
        ([container("helper", request_vcpu=1.0)], (None, None, "request")),
        (None, (None, None, None)),
    ],
    ids=["requests", "a service has limits", "both", "neither", "no build container", "unknown"],
)
def test_build_containers_are_read_as_eci_adds_up(containers: Any, expected: tuple[Any, ...]) -> None:
    """Limits count for all containers where any has limits, else requests; where nobody asked, nothing is known."""
    assert [tuple(row.values()) for row in read(containers)] == [expected]


def test_each_record_keeps_its_own() -> None:
    """Rows without a build container do not shift the others."""
    rows = read(None, REQUESTS, [container("helper", request_vcpu=1.0)], REQUESTS, [])
    assert [row["build_vcpu"] for row in rows] == [None, 2.0, None, 2.0, None]
    assert read() == []
