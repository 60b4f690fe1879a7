"""What the official APIs said of prices, kept for good: Alibaba Cloud forgets spot prices after 30 days, and list prices at once.

    archive = price_archive.open_archive(settings)
    archive.append(rows, now)                    # one new file; what is there is never touched
    archive.rows()                               # all of it
    price_archive.book(settings)                 # the shipped price list and the archive, as one price book

A run appends one Parquet file to the folder that the card names (`cost.prices`); data/prices/ARCHIVE.md says what its rows are.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from decimal import Decimal
from itertools import groupby
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from runbook import html
from runbook.clients import storage
from runbook.clients.secrets import SecretStore
from runbook.clients.storage import Folder, StoredFile
from runbook.eci.prices import EcsPrice, PriceBook, PriceRow, SpotChange
from runbook.errors import HistoryError
from runbook.report import text_pairs
from runbook.settings import Settings

PAGE = "#prices-archived"
SUFFIX = ".parquet"

_NUMBER = pa.decimal128(38, 18)
_MOMENT = pa.timestamp("us", tz="UTC")
SCHEMA = pa.schema(
    [
        pa.field("kind", pa.string(), nullable=False),
        pa.field("site", pa.string(), nullable=False),
        pa.field("region", pa.string(), nullable=False),
        pa.field("zone", pa.string()),
        pa.field("currency", pa.string()),
        pa.field("compute_category", pa.string()),
        pa.field("item", pa.string()),
        pa.field("instance_type", pa.string()),
        pa.field("vcpu", _NUMBER),
        pa.field("memory_gib", _NUMBER),
        pa.field("price", _NUMBER),
        pa.field("valid_from", pa.date32()),
        pa.field("at", _MOMENT),
        pa.field("first", _MOMENT),
        pa.field("last", _MOMENT),
        pa.field("source", pa.string(), nullable=False),
        pa.field("archived_at", _MOMENT, nullable=False),
    ]
)
"""The columns of an archive file."""


@dataclass(frozen=True)
class Asked:
    """A stretch of a type's spot market, in all zones of a region, that was asked about: no change in it is missing."""

    site: str
    region: str
    instance_type: str
    first: datetime
    last: datetime
    source: str


@dataclass(frozen=True)
class Rows:
    """Prices as a price book takes them, and which stretches of spot markets were asked about."""

    items: tuple[PriceRow, ...] = ()
    ecs: tuple[EcsPrice, ...] = ()
    spot: tuple[SpotChange, ...] = ()
    asked: tuple[Asked, ...] = ()

    @property
    def prices(self) -> int:
        """How many prices these are."""
        return len(self.items) + len(self.ecs) + len(self.spot)

    def added_to(self, book: PriceBook) -> PriceBook:
        """The book with these prices; a spot price ends where nobody asked any more."""
        return book.with_(items=self.items, ecs=self.ecs, spot=_ended(self.spot, self.asked))

    def asked_until(self, region: str, instance_type: str) -> datetime | None:
        """The last moment up to which a type's market is known; None where it was never asked about."""
        ends = (one.last for one in self.asked if (one.region, one.instance_type) == (region, instance_type))
        return max(ends, default=None)


@dataclass(frozen=True, repr=False)
class State:
    """What an archive holds: files, prices of each kind, and when the newest file was written (UTC)."""

    place: str
    files: int
    item_prices: int
    ecs_prices: int
    spot_prices: int
    newest: datetime | None

    def summary(self) -> dict[str, str]:
        """The lines that a notebook shows."""
        return {
            "place": self.place,
            "files": f"{self.files:,}, the newest of {self.newest:%Y-%m-%d %H:%M} UTC" if self.newest else "none yet",
            "prices of ECI's items": f"{self.item_prices:,}",
            "prices of ECS types": f"{self.ecs_prices:,}",
            "changes of spot prices": f"{self.spot_prices:,}",
        }

    def __str__(self) -> str:
        return text_pairs("Price archive", self.summary())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return html.block(html.pairs(self.summary()), title="Price archive")


def open_archive(settings: Settings, client: SecretStore | None = None) -> Archive:
    """The archive that the card names; a bucket is opened as the history's is. `client` as for the history."""
    place = settings.history.model_copy(update={"url": settings.cost.prices})
    return Archive(storage.open_folder(place, client))


def book(settings: Settings, client: SecretStore | None = None) -> PriceBook:
    """The shipped price list of the card's site with all that was archived. Raises HistoryError for files that cannot be read."""
    return open_archive(settings, client).rows().added_to(PriceBook.shipped(settings.site))


class Archive:
    """A folder of price files. Any number of processes may append to it and read it at the same time."""

    def __init__(self, folder: Folder) -> None:
        self.folder = folder

    def __repr__(self) -> str:
        return f"Archive({self.folder.url!r})"

    def append(self, rows: Rows, now: datetime) -> str:
        """Keep rows in a file of their own, and return its name; when this returns, they are durable. Raises HistoryError."""
        sink = pa.BufferOutputStream()
        pq.write_table(_table(rows, now), sink, compression="zstd")
        name = f"prices-{now.astimezone(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}{SUFFIX}"
        self.folder.put(name, sink.getvalue())
        return name

    def rows(self) -> Rows:
        """All that was archived, by time of writing. Raises HistoryError for a file that cannot be read."""
        table = pa.concat_tables([SCHEMA.empty_table(), *map(self._read, self._files())])
        return Rows(
            _of(table, "item", PriceRow),
            _of(table, "ecs", EcsPrice),
            _of(table, "spot", SpotChange),
            _of(table, "asked", Asked),
        )

    def state(self) -> State:
        """Counts of what is there. Raises HistoryError for a file that cannot be read."""
        files, rows = self._files(), self.rows()
        newest = max((file.modified for file in files), default=None)
        return State(self.folder.url, len(files), len(rows.items), len(rows.ecs), len(rows.spot), newest)

    def _files(self) -> list[StoredFile]:
        return [one for one in self.folder.files("") if one.path.endswith(SUFFIX) and not one.temporary]

    def _read(self, file: StoredFile) -> pa.Table:
        try:
            with self.folder.filesystem.open_input_file(f"{self.folder.root}/{file.path}") as opened:
                return pq.ParquetFile(opened).read().select(SCHEMA.names).cast(SCHEMA)
        except (pa.ArrowException, KeyError, OSError) as error:
            raise HistoryError(
                "A file of the price archive cannot be read.",
                where=f"{self.folder.url}/{file.path}",
                value=str(error).splitlines()[0],
                remedy="Move it out of the folder. The archive is whole without it, but for what only this file holds.",
                page=PAGE,
            ) from None


def _table(rows: Rows, now: datetime) -> pa.Table:
    kinds: dict[str, tuple[PriceRow | EcsPrice | SpotChange | Asked, ...]] = {
        "item": rows.items,
        "ecs": rows.ecs,
        "spot": rows.spot,
        "asked": rows.asked,
    }
    flat = [{**_columns(row), "kind": kind, "archived_at": now} for kind, held in kinds.items() for row in held]
    return pa.Table.from_pylist(flat, SCHEMA)


def _columns(row: PriceRow | EcsPrice | SpotChange | Asked) -> dict[str, Any]:
    return {one.name: getattr(row, one.name) for one in fields(row) if one.name in SCHEMA.names}


Kind = TypeVar("Kind", PriceRow, EcsPrice, SpotChange, Asked)


def _of(table: pa.Table, word: str, kind: type[Kind]) -> tuple[Kind, ...]:
    """The rows of one kind. The columns that its fields have are the first of its fields, in their order."""
    part = table.filter(pc.field("kind") == word)
    columns = [_values(part[one.name]) for one in fields(kind) if one.name in SCHEMA.names]
    return tuple(kind(*values) for values in zip(*columns, strict=True))


def _values(column: pa.ChunkedArray) -> list[Any]:
    """The cells of a column; numbers without the zeros that it adds."""
    values: list[Any] = column.to_pylist()
    if not pa.types.is_decimal(column.type):
        return values
    short = {number: _short(number) for number in set(values)}
    return [short[number] for number in values]


def _short(number: Decimal) -> Decimal:
    return number.normalize() if number % 1 else number.quantize(Decimal(1))


def _ended(changes: Iterable[SpotChange], asked: Iterable[Asked]) -> list[SpotChange]:
    """Each change with the end of the stretch that it was asked in: it is known to hold no longer, unless another follows."""

    def kind(one: SpotChange | Asked) -> tuple[str, str]:
        return one.region, one.instance_type

    stretches = {
        key: _joined((one.first, one.last) for one in group) for key, group in groupby(sorted(asked, key=kind), kind)
    }
    return [
        SpotChange(
            change.site, change.region, change.zone, change.currency, change.instance_type, change.price, change.at,
            change.source, _end_of(change.at, stretches.get(kind(change), [])),
        )
        for change in changes
    ]  # fmt: skip


def _joined(spans: Iterable[tuple[datetime, datetime]]) -> list[tuple[datetime, datetime]]:
    """Spans in order, those that touch made one."""
    whole: list[tuple[datetime, datetime]] = []
    for first, last in sorted(spans):
        if whole and first <= whole[-1][1]:
            whole[-1] = (whole[-1][0], max(last, whole[-1][1]))
        else:
            whole.append((first, last))
    return whole


def _end_of(at: datetime, spans: list[tuple[datetime, datetime]]) -> datetime:
    """The end of the span that holds a moment; the moment itself where none does."""
    return next((last for first, last in spans if first <= at <= last), at)
