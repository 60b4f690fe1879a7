"""A FOCUS dataset as CSV, for tools that read no Parquet."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from runbook.cost.focus import DECIMALS, MOMENTS

if TYPE_CHECKING:
    import pyarrow as pa


def text(table: pa.Table, *, header: bool = True) -> str:
    """The rows as CSV: moments to the second and in UTC, decimals always with a point, so that no reader takes them for whole
    numbers, nulls empty. `header` False leaves out the names: for a file that is written in parts.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.csv

    written = []
    for name in table.column_names:
        column = table[name]
        if name in MOMENTS:
            seconds = pc.cast(pc.cast(column, pa.timestamp("s", tz="UTC"), safe=False), pa.string())
            column = pc.binary_replace_slice(seconds, start=10, stop=11, replacement="T")
        elif name in DECIMALS:
            column = _plain(column)
        written.append(column)
    file = io.BytesIO()
    options = pyarrow.csv.WriteOptions(include_header=header, quoting_style="needed")
    pyarrow.csv.write_csv(pa.table(written, names=table.column_names), file, options)
    return file.getvalue().decode()


def _plain(decimals: Any) -> Any:
    """Decimals in full, without an exponent and without idle zeros: `0.0000059`, `600.0`."""
    import pyarrow as pa
    import pyarrow.compute as pc

    column = decimals.combine_chunks() if isinstance(decimals, pa.ChunkedArray) else decimals
    scale = column.type.scale
    whole = pa.Array.from_buffers(pa.decimal128(38, 0), len(column), column.buffers(), offset=column.offset)
    digits = pc.ascii_lpad(pc.cast(pc.abs(whole), pa.string()), width=scale + 1, padding="0")
    left, right = pc.utf8_slice_codeunits(digits, 0, -scale), pc.utf8_slice_codeunits(digits, -scale)
    shorter = pc.ascii_rtrim(right, characters="0")
    sign = pc.if_else(pc.less(whole, 0), "-", "")
    return pc.binary_join_element_wise(sign, left, ".", pc.if_else(pc.equal(shorter, ""), "0", shorter), "")
