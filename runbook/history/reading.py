"""Base and tail read as one: the newest observation of each pod, once.

Days without a tail are read as they are. Where a day has one, its tail's pods are compared with its base's by precedence,
then by the segment's name (the later append), and the better observation is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING

import duckdb
from fsspec.implementations.arrow import ArrowFSWrapper

from runbook.clients.storage import PAGE, Folder, StoredFile
from runbook.errors import HistoryError
from runbook.history.record import arrow_schema
from runbook.history.segments import BASE, IDENTITY, PRECEDENCE, TAIL, Footer, day_of, folder_of, footer, is_ours

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection, DuckDBPyRelation

PROTOCOL = "podhistory"


class _ForDuckDB(ArrowFSWrapper):  # type: ignore[misc]
    """A bucket as DuckDB can be handed it: its own extension for S3 is a download that not every machine may make."""

    protocol = PROTOCOL

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return path.removeprefix(f"{PROTOCOL}://")


@dataclass(frozen=True)
class Footers:
    """Footers that were read, so that each file's is read once. A file that changes is another one: size and time differ."""

    folder: Folder
    known: dict[StoredFile, Footer] = field(default_factory=dict)

    def of(self, files: Sequence[StoredFile]) -> dict[StoredFile, Footer]:
        """The footer of each file that is still there. Raises HistoryError for the first that cannot be used."""
        unknown = [one for one in files if one not in self.known]
        if self.folder.on_disk:
            read = list(map(self._read, unknown))
        else:  # a bucket answers slowly, but many at once
            with ThreadPoolExecutor(16) as pool:
                read = list(pool.map(self._read, unknown))
        self.known.update((file, one) for file, one in zip(unknown, read, strict=True) if one)
        return {one: self.known[one] for one in files if one in self.known}

    def _read(self, file: StoredFile) -> Footer | None:
        try:
            return footer(self.folder, file)
        except FileNotFoundError:  # merged into its day and removed since it was listed
            return None


@dataclass(frozen=True)
class Snapshot:
    """The store at one moment: the base files by day, and the segments that are in none of them."""

    bases: dict[date | None, StoredFile]
    tail: tuple[StoredFile, ...]
    merged: tuple[StoredFile, ...]
    """Segments that are in their base and wait for removal, so that readers who listed them can still open them."""
    foreign: tuple[str, ...]
    temporary: tuple[StoredFile, ...]
    rows: int
    """Rows of base and tail: a pod in both is counted in both."""

    @property
    def bytes(self) -> int:
        return sum(one.size for one in (*self.bases.values(), *self.tail))

    def within(self, first: date | None, last: date | None) -> Snapshot:
        """The days from `first` to `last`, both included; without either, also pods without a day."""
        if first is None and last is None:
            return self

        def inside(day: date | None) -> bool:
            return day is not None and (first is None or day >= first) and (last is None or day <= last)

        bases = {day: file for day, file in self.bases.items() if inside(day)}
        tail = tuple(one for one in self.tail if inside(day_of(one.path)))
        return Snapshot(bases, tail, self.merged, self.foreign, self.temporary, self.rows)


def look(folder: Folder, footers: Footers) -> Snapshot:
    """What is there now. Raises HistoryError for a Parquet file that is torn, foreign or of a newer format: never a silent gap."""
    segments = folder.files(TAIL)  # first: a segment that is merged meanwhile is then in a base that is listed after it
    files = [*segments, *folder.files(BASE)]
    ours = list(filter(is_ours, files))
    odd = [one for one in set(files).difference(ours) if not one.temporary]
    for one in odd:
        if one.name.endswith(".parquet"):
            raise HistoryError(
                "A file in the pod history is none of its own.",
                where=f"{folder.url}/{one.path}",
                remedy=f"Move it elsewhere: Store.set_aside({one.path!r}).",
                page=PAGE,
            )
    bases = {day_of(one.path): one for one in ours if one.path.startswith(BASE)}
    known = footers.of(list(bases.values()))
    held = {folder_of(day): known[one].contains for day, one in bases.items()}
    nothing: frozenset[str] = frozenset()
    merged: list[StoredFile] = []
    unmerged: list[StoredFile] = []
    for one in ours:
        _, day, name = one.path.split("/")
        if not one.path.startswith(BASE):
            (merged if name in held.get(day, nothing) else unmerged).append(one)
    in_tail = footers.of(unmerged)
    known |= in_tail
    rows = sum(one.rows for one in known.values())
    temporary = tuple(one for one in files if one.temporary)
    foreign = tuple(sorted(one.path for one in odd))
    return Snapshot(bases, tuple(in_tail), tuple(merged), foreign, temporary, rows)


def connection(folder: Folder) -> DuckDBPyConnection:
    """A DuckDB of its own in memory that may read the folder, answers in UTC, and downloads nothing."""
    connection = duckdb.connect(config={"autoinstall_known_extensions": False, "autoload_known_extensions": False})
    connection.execute("SET TimeZone = 'UTC'")
    if not folder.on_disk:
        connection.register_filesystem(_ForDuckDB(folder.filesystem))
    return connection


def source(folder: Folder, files: Sequence[StoredFile], *extra: str) -> str:
    """SQL that reads these files; `extra` are DuckDB's options, such as `filename = true`."""
    names = ", ".join(_quoted(_address(folder, one.path)) for one in files)
    return f"read_parquet([{names}], {', '.join(('hive_partitioning = false', *extra))})"


def newest(
    connection: DuckDBPyConnection, folder: Folder, snapshot: Snapshot, columns: Sequence[str] | None
) -> DuckDBPyRelation:
    """The newest observation of each pod of a snapshot, lazily, with these columns (None: all of them).

    Raises HistoryError for a column that no record has.
    """
    known = arrow_schema().names
    unknown = [one for one in columns or () if one not in known]
    if unknown:
        raise HistoryError(
            f"A pod record has no column {', '.join(unknown)}.", allowed=", ".join(known), page="data/history/RECORD.md"
        )
    chosen = list(columns or known)
    touched_days = {day_of(one.path) for one in snapshot.tail}
    everywhere = (
        None in touched_days or None in snapshot.bases
    )  # a pod without a day may have got one since, or may lose it
    touched = [one for day, one in snapshot.bases.items() if day is not None and (everywhere or day in touched_days)]
    plain = [one for day, one in snapshot.bases.items() if day is not None and one not in touched]
    tail = [*snapshot.tail, *([snapshot.bases[None]] if None in snapshot.bases else [])]
    parts, cte = [], ""
    output = ", ".join(map(_name, chosen))
    if plain:
        parts.append(f"SELECT {output} FROM {source(folder, plain)}")
    if tail:
        cte = f"WITH tail AS MATERIALIZED ({_best_of_tail(folder, tail, chosen)})"
        better = "t.cluster = b.cluster AND t.pod_uid = b.pod_uid"
        rank = {one: f"({', '.join(f'{one}.{name}' for name in PRECEDENCE)})" for one in "tb"}
        if touched:
            base = source(folder, touched)
            keys = ", ".join(f"b.{name}" for name in (*IDENTITY, *PRECEDENCE))
            cte += f", contested AS MATERIALIZED (SELECT {keys} FROM {base} b SEMI JOIN tail t ON {better})"
            parts.append(f"SELECT {output} FROM {base} b ANTI JOIN tail t ON {better} AND {rank['t']} >= {rank['b']}")
            parts.append(f"SELECT {output} FROM tail t ANTI JOIN contested b ON {better} AND {rank['b']} > {rank['t']}")
        else:
            parts.append(f"SELECT {output} FROM tail")
    if not parts:
        return connection.from_arrow(arrow_schema().empty_table().select(chosen))
    return connection.sql(f"{cte} {' UNION ALL '.join(parts)}")


def _best_of_tail(folder: Folder, files: Sequence[StoredFile], columns: Sequence[str]) -> str:
    """SQL for the best observation of each pod in segments: by precedence, then the later segment."""
    needed = ", ".join(dict.fromkeys((*map(_name, columns), *IDENTITY, *PRECEDENCE)))
    order = ", ".join(f"{name} DESC" for name in PRECEDENCE)
    return (
        f"SELECT {needed} FROM {source(folder, files, 'filename = true', 'file_row_number = true')}"
        f" QUALIFY row_number() OVER (PARTITION BY {', '.join(IDENTITY)}"
        f" ORDER BY {order}, {LATER_APPEND}) = 1"
    )


LATER_APPEND = "parse_filename(filename) = 'pods.parquet', parse_filename(filename) DESC, file_row_number DESC"
"""Of equal observations: the base's last, and of segments the one that was appended later first."""


def _address(folder: Folder, path: str) -> str:
    if folder.on_disk:
        return "".join(f"[{one}]" if one in "[*?" else one for one in f"{folder.root}/{path}")
    return f"{PROTOCOL}://{folder.root}/{path}"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _name(column: str) -> str:
    return f'"{column}"' if column not in IDENTITY + PRECEDENCE else column
