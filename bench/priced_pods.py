"""Millions of priced pods as one Parquet file: the made-up team's month, priced as `runbook.review.period` does it."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from runbook.answer import Scope
from runbook.cost import priced, pricing
from runbook.eci.prices import PriceBook
from runbook.history import used
from runbook.settings import Cost
from sandbox.traffic import records

SCOPE = Scope("benchmark", date(2026, 11, 1), date(2026, 11, 30), "CNY", date(2024, 11, 27))
BEGIN = datetime(2026, 10, 31, 16, tzinfo=UTC)
"""Midnight in Shanghai, whose days the scope has."""


def write(path: Path, count: int) -> Path:
    """`count` pods of November, the same for the same number."""
    book, terms = PriceBook.shipped("cn"), Cost()
    with pq.ParquetWriter(path, priced.schema(), compression="zstd", compression_level=1) as file:
        for batch, measured in records.measured_batches(count, seed=7, begin=BEGIN, days=30):
            pods = pa.Table.from_batches([batch])
            file.write_table(pricing.priced(pods, book, terms, used=used.columns_for(pods, measured)))
    return path
