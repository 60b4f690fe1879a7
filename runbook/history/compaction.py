"""Segments become day files: each pod of a day once, in one file that replaces the older one in one step.

Whenever the process dies, the store is whole: the day's file is the old one or the new one, and it names the segments that are in it.
Such segments are removed at a later compaction, `GRACE` after the day's file was written: readers who listed them before can still open them, and
a slow second compaction, which gives up after half that time, cannot bring back a day file without them.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from runbook.clients.storage import PAGE, Folder, StoredFile
from runbook.errors import HistoryError
from runbook.history.reading import LATER_APPEND, Footers, connection, look, source
from runbook.history.record import arrow_schema
from runbook.history.segments import IDENTITY, PRECEDENCE, base_path, base_schema, day_of

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

GRACE = timedelta(minutes=15)
ROWS_AT_ONCE = 400_000
"""Rows that are compared at once; a larger day is taken in parts, so that memory stays bounded."""
ROW_GROUP = 100_000
MEMORY = "384MB"
"""DuckDB's own limit; beyond it, it uses a scratch folder."""


@dataclass(frozen=True)
class DayCompacted:
    """One day whose tail was merged: its pods now, and how many segments were merged."""

    day: date | None
    rows: int
    segments: int


@dataclass(frozen=True)
class Compacted:
    """What one compaction did. `busy`: another one is at work on this machine; nothing was done."""

    days: tuple[DayCompacted, ...] = ()
    removed: int = 0
    """Segments and left-overs that were removed."""
    busy: bool = False


def compact(
    folder: Folder,
    footers: Footers,
    *,
    now: datetime,
    days: Collection[date | None] | None = None,
    grace: timedelta = GRACE,
    rows_at_once: int = ROWS_AT_ONCE,
) -> Compacted:
    """Merge the tail of these days (None: of all) into their day files, and remove what was merged longer than `grace` ago.

    Safe beside readers, collectors and other compactions, and after a crash of any of them. Raises HistoryError for a file that cannot be used.
    """
    with folder.exclusive("compaction") as mine:
        if not mine:
            return Compacted(busy=True)
        started = time.monotonic()
        snapshot = look(folder, footers)
        tails: dict[date | None, list[StoredFile]] = {}
        for one in snapshot.tail:
            if days is None or day_of(one.path) in days:
                tails.setdefault(day_of(one.path), []).append(one)
        done = []
        for day in sorted(tails, key=lambda one: one or date.min):
            base = snapshot.bases.get(day)
            merged = [one.name for one in snapshot.merged if day_of(one.path) == day]
            deadline = started + grace.total_seconds() / 2
            rows = _merge(folder, footers, day, base, tails[day], merged, deadline=deadline, rows_at_once=rows_at_once)
            done.append(DayCompacted(day, rows, len(tails[day])))
        old = [one for one in snapshot.merged if now - snapshot.bases[day_of(one.path)].modified >= grace]
        old += [one for one in snapshot.temporary if now - one.modified >= grace]
        for one in old:
            folder.remove(one.path)
        return Compacted(tuple(done), len(old))


def _merge(
    folder: Folder,
    footers: Footers,
    day: date | None,
    base: StoredFile | None,
    tail: list[StoredFile],
    merged: Iterable[str],
    *,
    deadline: float,
    rows_at_once: int,
) -> int:
    """Write the day's file anew from its base and its tail, and put it in place. Returns its rows."""
    path = base_path(day)
    files = [*([base] if base else []), *tail]
    schema = base_schema({*merged, *(one.name for one in tail)})
    scratch = folder.scratch(path)
    spill = Path(tempfile.mkdtemp(prefix="runbook-compaction-"))
    try:
        with connection(folder) as database:
            for setting in (f"memory_limit = '{MEMORY}'", "preserve_insertion_order = false", "threads = 2"):
                database.execute(f"SET {setting}")
            database.execute("SET temp_directory = $1", [str(spill)])
            expected = sum(one.rows for one in footers.of(files).values())
            rows = _write(database, folder, files, -(-expected // rows_at_once), schema, scratch)
        now_there = {one.path: one for one in folder.files(path.rpartition("/")[0])}.get(path)
        if not folder.on_disk and (now_there != base or time.monotonic() > deadline):
            raise HistoryError(
                "Another compaction was at work on the same day; this one gave way.",
                where=f"{folder.url}/{path}",
                remedy="Nothing is lost: the segments are merged next time. Let one machine compact the history.",
                page=PAGE,
            )
        folder.publish(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)
        shutil.rmtree(spill, ignore_errors=True)
    return rows


def _write(
    database: DuckDBPyConnection, folder: Folder, files: list[StoredFile], parts: int, schema: pa.Schema, to: Path
) -> int:
    """Write the best observation of each pod of these files, part by part of the pods. Returns the rows."""
    names = ", ".join(f'"{name}"' for name in schema.names)
    read = source(folder, files, "filename = true", "file_row_number = true")
    keys, order = ", ".join(IDENTITY), ", ".join(f"{name} DESC" for name in PRECEDENCE)
    with pq.ParquetWriter(to, schema, compression="zstd", compression_level=1) as writer:
        rows = 0
        for part in range(parts):
            database.execute(
                f"""CREATE OR REPLACE TEMP TABLE best AS
                SELECT filename AS of_file, file_row_number AS of_row FROM {read}
                WHERE hash({keys}) % {parts} = {part}
                QUALIFY row_number() OVER (PARTITION BY {keys} ORDER BY {order}, {LATER_APPEND}) = 1"""
            )
            found = database.sql(
                f"SELECT {names} FROM {read} SEMI JOIN best ON filename = of_file AND file_row_number = of_row"
            )
            written = 0
            for batch in _gathered(found.to_arrow_reader(20_000)):
                writer.write_table(batch.cast(arrow_schema()).replace_schema_metadata(schema.metadata))
                written += batch.num_rows
            ((wanted,),) = database.sql("SELECT count(*) FROM best").fetchall()
            if written != wanted:
                raise HistoryError(
                    "A file of the pod history changed while it was merged; nothing was replaced.",
                    value=f"{written} of {wanted} pods",
                    remedy="Run the compaction again; if this repeats, look at the disk.",
                    page=PAGE,
                )
            rows += written
    return rows


def _gathered(batches: Iterable[pa.RecordBatch]) -> Iterable[pa.Table]:
    """Batches in tables of at least ROW_GROUP rows, but for the last."""
    held: list[pa.RecordBatch] = []
    for batch in batches:
        held.append(batch)
        if sum(one.num_rows for one in held) >= ROW_GROUP:
            yield pa.Table.from_batches(held)
            held = []
    if held:
        yield pa.Table.from_batches(held)
