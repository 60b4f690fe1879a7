"""The pod history: observations go in and stay, the newest of each pod comes out.

    store = open_store(settings)
    store.append(records)                                    # durable when it returns
    store.scan(["project_path", "billed_vcpu"], first=date(2026, 11, 1)).df()
    store.compact()                                          # segments into day files; at any time, beside anybody

How the files lie is told in `segments`, and for other programs in data/history/README.md.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING

import pyarrow as pa

from runbook.clients import connect, storage
from runbook.clients.secrets import SecretStore
from runbook.clients.storage import Folder
from runbook.history import segments
from runbook.history.record import PodRecord, from_table, to_table
from runbook.moments import Clock
from runbook.settings import Settings

if TYPE_CHECKING:
    import narwhals
    from duckdb import DuckDBPyConnection, DuckDBPyRelation

    from runbook.history.compaction import Compacted
    from runbook.history.reading import Footers


@dataclass(frozen=True)
class Acknowledged:
    """These rows are durable: no crash loses them. `files` are their segments, one a day."""

    rows: int
    bytes: int
    files: tuple[str, ...]


@dataclass(frozen=True)
class State:
    """What a store holds. `rows` counts a pod of the tail that is also in its base twice; `pods` counts every pod once."""

    days: int
    segments: int
    rows: int
    bytes: int
    pods: int
    newest: datetime | None
    """The last `observed_at`."""
    foreign: tuple[str, ...]
    """Files in the store's folders that are none of its own and no Parquet."""


def open_store(settings: Settings, client: SecretStore | None = None) -> Store:
    """The store that the card names. `client` is needed where its keys are in a Kubernetes Secret."""
    return Store(storage.open_folder(settings.history, client), clock=connect.clock())


class Store:
    """A pod history in one folder. Any number of processes may append to it, read and compact it at the same time."""

    def __init__(self, folder: Folder, *, clock: Clock) -> None:
        self.folder = folder
        self.clock = clock
        self._last: datetime | None = None

    def __repr__(self) -> str:
        return f"Store({self.folder.url!r})"

    def append(self, records: Sequence[PodRecord] | pa.Table) -> Acknowledged:
        """Keep observations. When this returns, they are durable; when it raises HistoryError, they may not be: append them again.

        Appending an observation twice changes nothing. A table must have the record's columns.
        """
        table = segments.conforming(records if isinstance(records, pa.Table) else to_table(records))
        if not table.num_rows:
            return Acknowledged(0, 0, ())
        files, size = [], 0
        for day, part in segments.by_day(table):
            data = segments.encoded(part)
            path = f"{segments.TAIL}/{segments.folder_of(day)}/{self._name()}"
            self.folder.put(path, data)
            files.append(path)
            size += data.size
        return Acknowledged(table.num_rows, size, tuple(files))

    def scan(
        self, columns: Sequence[str] | None = None, *, first: date | None = None, last: date | None = None
    ) -> DuckDBPyRelation:
        """The newest observation of each pod, lazily: a DuckDB relation, unordered.

        `columns` are those of the record (None: all), `first` and `last` days of creation (UTC, both included). It sees what was acknowledged
        before it was made, and is to be read within `compaction.GRACE`. Raises HistoryError for files that cannot be used.
        """
        from runbook.history import reading

        snapshot = reading.look(self.folder, self._footers).within(first, last)
        return reading.newest(self._database, self.folder, snapshot, columns)

    def table(
        self, columns: Sequence[str] | None = None, *, first: date | None = None, last: date | None = None
    ) -> pa.Table:
        """The same as an Arrow table; with all columns it has the record's schema."""
        from runbook.history.record import arrow_schema

        schema = arrow_schema()
        found = self.scan(columns, first=first, last=last).to_arrow_table()
        return found.cast(schema if columns is None else pa.schema([schema.field(name) for name in columns]))

    def frame(
        self, columns: Sequence[str] | None = None, *, first: date | None = None, last: date | None = None
    ) -> narwhals.LazyFrame[DuckDBPyRelation]:
        """The same as a narwhals lazy frame on DuckDB."""
        import narwhals

        return narwhals.from_native(self.scan(columns, first=first, last=last))

    def live(self) -> list[PodRecord]:
        """The newest observation of each pod of which more may be seen: where a collector takes up."""
        from runbook.history.record import arrow_schema

        return from_table(self.scan().filter("NOT final").to_arrow_table().cast(arrow_schema()))

    def compact(self, days: Collection[date | None] | None = None, *, grace: timedelta | None = None) -> Compacted:
        """Merge the segments of these days (None: of all) into day files. See `compaction`; `grace` is for tests and repairs."""
        from runbook.history import compaction

        kept = compaction.GRACE if grace is None else grace
        return compaction.compact(self.folder, self._footers, now=self.clock.now(), days=days, grace=kept)

    def state(self) -> State:
        """Counts of what is there. Raises HistoryError for files that cannot be used."""
        from runbook.history import reading

        snapshot = reading.look(self.folder, self._footers)
        found = reading.newest(self._database, self.folder, snapshot, ["observed_at"])
        pods, newest = found.aggregate("count(*), max(observed_at)").fetchall()[0]
        days = {*snapshot.bases, *(segments.day_of(one.path) for one in snapshot.tail)}
        return State(len(days), len(snapshot.tail), snapshot.rows, snapshot.bytes, pods, newest, snapshot.foreign)

    def set_aside(self, path: str) -> str:
        """Move a torn or foreign file out of the readers' way, to `set-aside/`, and return its new path. Nothing is deleted."""
        to = f"{segments.ASIDE}/{path.replace('/', '_')}"
        self.folder.move(path, to)
        return to

    def _name(self) -> str:
        """A segment's name: sorted as appended by this process, even where the clock steps back; the random part keeps writers apart."""
        now = self.clock.now()
        if self._last is not None and now <= self._last:
            now = self._last + timedelta(microseconds=1)
        self._last = now
        return f"{now:%Y%m%dT%H%M%S.%fZ}-{secrets.token_hex(4)}.parquet"

    @cached_property
    def _database(self) -> DuckDBPyConnection:
        from runbook.history import reading

        return reading.connection(self.folder)

    @cached_property
    def _footers(self) -> Footers:
        from runbook.history import reading

        return reading.Footers(self.folder)
