"""The small result of a lazy frame as a pandas table that is the same whichever engine made it.

Engines differ where nobody looks: Spark hands out dates as Python objects and moments without a zone, DuckDB sums of whole
numbers as decimals, and Spark adds up no truth values. Questions end with `collected` and count with `count`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import narwhals as nw

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

BATCH = 500_000
"""Rows of one batch."""


def collected(frame: nw.LazyFrame[Any], *, by: Sequence[str] = ()) -> pd.DataFrame:
    """The rows, sorted by the columns `by` (nulls last). Dates are `datetime64[us]`, moments `datetime64[us, UTC]`,
    whole numbers `int64` (`float64` where one is null), texts `str`.
    """
    import pyarrow as pa

    table: pa.Table = (frame.sort(*by, nulls_last=True) if by else frame).collect("pyarrow").to_native()
    schema = pa.schema([(field.name, _plain(field.type)) for field in table.schema])
    result: pd.DataFrame = table.cast(schema).to_pandas(date_as_object=False)
    return result


def batches(frame: nw.LazyFrame[Any]) -> Iterator[pa.RecordBatch]:
    """Every row of a few columns, in batches, for the rare question that has to look at each pod: nothing is sorted.

    DuckDB hands batches out while it reads, so that all of them together are never in memory; Spark sends them at once.
    """
    if frame.implementation.is_duckdb():
        yield from frame.to_native().to_arrow_reader(BATCH)
    else:
        yield from frame.collect("pyarrow").to_native().to_batches()


def count(condition: nw.Expr) -> nw.Expr:
    """How many rows of a group meet the condition (an unknown one is not met)."""
    return condition.cast(nw.Int64).sum()


def _plain(type: Any) -> Any:
    import pyarrow as pa

    if pa.types.is_decimal(type):
        return pa.int64() if type.scale == 0 else pa.float64()
    if pa.types.is_date(type):
        return pa.timestamp("us")
    if pa.types.is_timestamp(type):
        return pa.timestamp("us", type.tz and "UTC")
    if pa.types.is_integer(type):
        return pa.int64()
    return pa.string() if pa.types.is_large_string(type) else type
