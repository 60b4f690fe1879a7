"""The files of the pod history: their folders and names, their format, and how observations become a durable file.

    segments/day=2026-11-24/20261124T093504.120042Z-1f0c9a3e.parquet    the tail: observations as they came
    days/day=2026-11-24/pods.parquet                                    the base: each pod of the day once

A pod's day is that of its creation, UTC, which never changes; a job whose pod nobody saw has its own creation's day; neither: no day.
The folders are Hive's partitions, `__HIVE_DEFAULT_PARTITION__` being Hive's word for no day, so that any engine reads them.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from runbook.clients.storage import PAGE, Folder, StoredFile
from runbook.errors import HistoryError
from runbook.history.record import FORMAT_KEY, FORMAT_VERSION, arrow_schema

TAIL, BASE, ASIDE = "segments", "days", "set-aside"
"""Folders of the store."""
BASE_NAME = "pods.parquet"
IDENTITY = ("cluster", "pod_uid")
PRECEDENCE = ("final", "observed_at", "resource_version")
"""Columns of `record.identity` and `record.precedence`, in their order."""
DAY_COLUMNS = ("created_at", "job_created_at")
"""A record's day is that of the first of these that is known."""
NO_DAY = "__HIVE_DEFAULT_PARTITION__"
CONTAINS_KEY = b"runbook.history.contains"
"""Metadata of a base file: names of the segments that are in it and may still be there, as JSON."""


@dataclass(frozen=True)
class Footer:
    """What the end of a file says: its rows, and for a base the segments that are in it."""

    rows: int
    contains: frozenset[str]


def day_of(path: str) -> date | None:
    """The day of a file's folder; None where its pods have none."""
    value = path.split("/")[1].removeprefix("day=")
    return None if value == NO_DAY else date.fromisoformat(value)


def folder_of(day: date | None) -> str:
    return f"day={NO_DAY if day is None else day.isoformat()}"


def base_path(day: date | None) -> str:
    return f"{BASE}/{folder_of(day)}/{BASE_NAME}"


def is_ours(file: StoredFile) -> bool:
    """Whether a file lies and is named as the store's files are; what is inside is another question."""
    parts = file.path.split("/")
    if len(parts) != 3 or file.temporary or not parts[2].endswith(".parquet") or not _is_day(parts[1]):
        return False
    return parts[0] == TAIL or parts[2] == BASE_NAME


@functools.cache
def _is_day(folder: str) -> bool:
    """Whether a folder's name is that of a day. Asked for every file, so each answer is kept."""
    try:
        return folder.startswith("day=") and folder_of(day_of(f"/{folder}/")) == folder
    except ValueError:
        return False


def by_day(table: pa.Table) -> Iterator[tuple[date | None, pa.Table]]:
    """A table of records in parts, one a day."""
    moments = pc.coalesce(*(table[name] for name in DAY_COLUMNS))
    first, last = (pc.cast(one, pa.date32()).as_py() for one in pc.min_max(moments).values())
    if first == last and not moments.null_count:
        yield first, table
        return
    days = pc.cast(moments, pa.date32())
    for day in pc.unique(days).to_pylist():
        chosen = pc.is_null(days) if day is None else pc.equal(days, pa.scalar(day, pa.date32()))
        yield day, table.filter(chosen)


def encoded(table: pa.Table) -> pa.Buffer:
    """A segment's bytes. Few rows in many columns: dictionaries and statistics cost more than they save, compaction adds them."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="snappy", use_dictionary=False, write_statistics=False)
    return sink.getvalue()


def conforming(table: pa.Table) -> pa.Table:
    """A table with exactly the record's columns. Raises HistoryError where one is missing, unknown, or of another type."""
    schema = arrow_schema()
    if table.schema.equals(schema, check_metadata=True):
        return table
    try:
        return (
            table.select(schema.names).cast(schema) if set(table.column_names) <= set(schema.names) else _refuse(table)
        )
    except (KeyError, pa.ArrowInvalid, pa.ArrowNotImplementedError, ValueError):
        return _refuse(table)


def _refuse(table: pa.Table) -> pa.Table:
    schema = arrow_schema()
    odd = set(table.column_names) ^ set(schema.names)
    retyped = (one.name for one in schema if one.name not in odd and table.schema.field(one.name).type != one.type)
    raise HistoryError(
        "These rows are no pod records; nothing was kept.",
        value=sorted(odd) or sorted(retyped),
        allowed="the columns of runbook.history.record.arrow_schema()",
        page="data/history/RECORD.md",
    )


def footer(folder: Folder, file: StoredFile) -> Footer:
    """The footer of a file of the store. Raises HistoryError where it is torn, foreign, or of a newer format."""
    where = f"{folder.url}/{file.path}"
    try:
        with folder.filesystem.open_input_file(f"{folder.root}/{file.path}") as source:
            meta = pq.read_metadata(source)
    except FileNotFoundError:
        raise
    except pa.ArrowInvalid:
        raise HistoryError(
            "A file of the pod history is torn, or is no Parquet file.",
            where=where,
            value=f"{file.size} bytes",
            remedy=f"Fetch it again, or part with it: Store.set_aside({file.path!r}).",
            page=PAGE,
        ) from None
    except OSError as error:
        raise HistoryError(
            "A file of the pod history cannot be read.", where=where, value=error.strerror, page=PAGE
        ) from None
    pairs = meta.metadata or {}
    version = pairs.get(FORMAT_KEY, b"").decode()
    if not version.isdigit() or not set(arrow_schema().names) <= set(meta.schema.to_arrow_schema().names):
        raise HistoryError(
            "A file in the pod history is none of its own.",
            where=where,
            remedy=f"Move it elsewhere: Store.set_aside({file.path!r}).",
            page=PAGE,
        )
    if int(version) > FORMAT_VERSION:
        raise HistoryError(
            "A file of the pod history was written by a newer version of the runbooks.",
            where=where,
            value=f"format {version}",
            allowed=f"format {FORMAT_VERSION} or older",
            remedy="Install the newer version here too; nothing of the file was read or changed.",
            page=PAGE,
        )
    return Footer(meta.num_rows, frozenset(json.loads(pairs.get(CONTAINS_KEY, b"[]"))))


def base_schema(contains: Iterable[str]) -> pa.Schema:
    """The schema of a base file that holds these segments."""
    schema = arrow_schema()
    return schema.with_metadata({**(schema.metadata or {}), CONTAINS_KEY: json.dumps(sorted(contains)).encode()})
