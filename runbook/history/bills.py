"""The bill, fetched day by day and kept: Alibaba Cloud shows 18 months of it, and a review wants to look back.

    bills = open_bills(settings)
    report = bills.fetch(connect.alibaba(settings).daily_bill, first, last, now=now)
    kept = bills.load(first, last)                   # kept.bill, and kept.report of what could not be read

A day is a Parquet file, `NAME/2026-11-03.parquet` below the card's `cost.bills`; a day whose month was not final when it was
fetched is fetched again. Exported CSV files of any of the known families that lie in the same folder complete what is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from runbook.clients import storage
from runbook.clients.secrets import SecretStore
from runbook.clients.storage import Folder, StoredFile
from runbook.cost import bill_files
from runbook.cost.bill import Bill, month_is_final, schema
from runbook.cost.bill_row import from_api
from runbook.eci.charges import CHINA
from runbook.eci.prices import SITES
from runbook.errors import BillError, SettingsError
from runbook.report import Check, Report
from runbook.settings import Settings

Ask = Callable[[date], Sequence[Mapping[str, Any]]]
"""The rows of DescribeInstanceBill of one day: `AlibabaCloud.daily_bill`."""

FETCHED_AT = b"runbook.bill.fetched_at"


@dataclass(frozen=True)
class Kept:
    """The bill of some days, and what of it could not be read."""

    bill: Bill
    report: Report


def open_bills(settings: Settings, client: SecretStore | None = None) -> Bills:
    """The folder of the card's bill; a bucket is opened as the history's is. `client` as for the history."""
    place = settings.history.model_copy(update={"url": settings.cost.bills})
    return Bills(storage.open_folder(place, client), settings.name, SITES[settings.site])


def days(first: str | None, last: str | None, *, now: datetime) -> tuple[date, date]:
    """The days that a person asks for: by default this month until yesterday (in China). Raises SettingsError for what is no day."""
    yesterday = now.astimezone(CHINA).date() - timedelta(days=1)
    end = _asked(last, "--last") or yesterday
    begin = _asked(first, "--first") or end.replace(day=1)
    if begin > end:
        raise SettingsError(
            "The first day comes after the last.",
            where="--first",
            value=f"{begin} to {end}",
            allowed="a day not after --last",
        )
    return begin, end


def _asked(text: str | None, where: str) -> date | None:
    if text is None:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise SettingsError("This is no day.", where=where, value=text, allowed="such as 2026-11-03") from None


class Bills:
    """The kept days of one cluster's account, and exported files beside them. Each day is written in one step."""

    def __init__(self, folder: Folder, name: str, currency: str) -> None:
        self.folder = folder
        self.name = name
        self.currency = currency

    def __repr__(self) -> str:
        return f"Bills({self.place!r})"

    @cached_property
    def place(self) -> str:
        """Where people put exported files."""
        return f"{self.folder.url}/{self.name}"

    def fetch(self, ask: Ask, first: date, last: date, *, now: datetime, dry_run: bool = False) -> Report:
        """Fetch the days (of China, both included) that are over and not kept for good yet; `dry_run` asks, and keeps nothing.

        Raises AlibabaError; the days before are kept.
        """
        yesterday = now.astimezone(CHINA).date() - timedelta(days=1)
        days = [first + timedelta(days=number) for number in range((min(last, yesterday) - first).days + 1)]
        kept = {file.name: file for file in self._files()}
        wanted = [day for day in days if not self._is_final(kept.get(f"{day}.parquet"), day)]
        got: dict[date, Bill] = {}
        for day in wanted:
            got[day] = Bill.of(from_api(row, cycle=f"{day:%Y-%m}") for row in ask(day))
            if len(got[day]) and not dry_run:
                self.folder.put(f"{self.name}/{day}.parquet", _encoded(got[day], now))
        facts = {
            "place": self.place,
            "days": f"{first} to {last}",
            "fetched": f"{len(wanted)} of {max((last - first).days + 1, 0)} days, {sum(len(one) for one in got.values()):,} rows",
            "kept before": f"{len(days) - len(wanted)} days",
        }
        return Report("The bill", [_all_there(days, wanted, got, last, yesterday)], facts)

    def add(self, path: Path, *, dry_run: bool = False) -> Report:
        """Keep an exported file beside the fetched days, once it was read; `dry_run` only reads it. Raises BillError for one that is no bill."""
        try:
            data = path.read_bytes()
        except OSError as error:
            raise BillError("The file cannot be read.", where=str(path), value=error.strerror, page="#bill") from None
        bill = bill_files.parse(data, name=path.name, currency=self.currency)
        kept = f"{self.name}/{path.name if _is_export(path.name) else f'{path.name}.csv'}"
        if not dry_run:
            self.folder.put(kept, data)
        days = [row.day or row.month for row in bill.rows]
        facts = {
            "file": f"{self.folder.url}/{kept}",
            "rows": f"{len(bill):,}",
            "days": f"{min(days)} to {max(days)}" if days else "none",
        }
        return Report("The bill", [Check.passed("bill", "The exported file can be read", f"{len(bill):,} rows")], facts)

    def load(self, first: date, last: date) -> Kept:
        """What is kept of the days, with exported files for what is missing. A file that cannot be read is named in the report."""
        files = self._files()
        faults: list[str] = []
        bill = Bill.nothing()
        for file in files:
            day = _day_of(file)
            if day is not None and first <= day <= last:
                kept = _tried(self._decoded, file, faults)
                bill = bill.and_(kept) if kept else bill
        for file in files:
            if _is_export(file.name):
                exported = _tried(self._parsed, file, faults)
                bill = bill.with_(exported.within(first, last)) if exported else bill
        facts = {"place": self.place, "rows": f"{len(bill):,}", "sources": ", ".join(dict.fromkeys(bill.sources))}
        return Kept(bill, Report("The kept bill", [_readable(faults, bill, self.place)], facts))

    def _files(self) -> list[StoredFile]:
        return [file for file in self.folder.files(self.name) if not file.temporary]

    def _is_final(self, file: StoredFile | None, day: date) -> bool:
        """Whether a day was fetched when its month could not change any more."""
        if file is None:
            return False
        metadata = pq.read_schema(self._path(file), filesystem=self.folder.filesystem).metadata or {}
        fetched = metadata.get(FETCHED_AT)
        return fetched is not None and datetime.fromisoformat(fetched.decode()) >= month_is_final(day)

    def _path(self, file: StoredFile) -> str:
        return f"{self.folder.root}/{file.path}"

    def _decoded(self, file: StoredFile) -> Bill:
        try:
            table = (
                pq.read_table(self._path(file), filesystem=self.folder.filesystem).select(schema().names).cast(schema())
            )
        except (pa.ArrowException, OSError, KeyError) as error:
            raise BillError(
                "A kept day of the bill cannot be read.",
                where=f"{self.folder.url}/{file.path}",
                value=str(error).splitlines()[0],
                remedy="Remove the file and fetch the day again: runbook import bill",
                page="#bill",
            ) from None
        return Bill(table, ("DescribeInstanceBill",))

    def _parsed(self, file: StoredFile) -> Bill:
        with self.folder.filesystem.open_input_stream(self._path(file)) as stream:
            return bill_files.parse(stream.read(), name=file.name, currency=self.currency)


def _is_export(name: str) -> bool:
    return name.lower().endswith((".csv", ".tsv"))


def _tried(read: Callable[[StoredFile], Bill], file: StoredFile, faults: list[str]) -> Bill | None:
    """The bill of a file; of one that cannot be read, the page goes to the faults."""
    try:
        return read(file)
    except BillError as error:
        faults.append(str(error))
        return None


def _day_of(file: StoredFile) -> date | None:
    """The day that a kept file is of, by its name."""
    stem, _, ending = file.name.rpartition(".")
    if ending != "parquet":
        return None
    try:
        return date.fromisoformat(stem)
    except ValueError:
        return None


def _encoded(bill: Bill, now: datetime) -> pa.Buffer:
    sink = pa.BufferOutputStream()
    fetched = {FETCHED_AT: now.astimezone(UTC).isoformat().encode()}
    pq.write_table(bill.table.replace_schema_metadata(fetched), sink, compression="zstd")
    return sink.getvalue()


def _all_there(days: list[date], wanted: list[date], got: Mapping[date, Bill], last: date, yesterday: date) -> Check:
    title = "Every day of the bill is there"
    empty = [day for day in wanted if not len(got[day])]
    if not empty and last <= yesterday:
        return Check.passed("bill", title, f"{len(days)} days")
    missing = [f"{day}: no row" for day in empty[:10]] + ([f"… and {len(empty) - 10} more"] if len(empty) > 10 else [])
    if last > yesterday:
        missing.append(f"{yesterday + timedelta(days=1)} and later: not over yet")
    return Check.warned(
        "bill",
        title,
        "\n".join(missing),
        expected="rows of every day on which pods ran",
        remedy="Bills come 24 to 48 hours late: fetch again. Days on which nothing ran have no rows.",
    )


def _readable(faults: list[str], bill: Bill, place: str) -> Check:
    title = "The kept bill can be read"
    if faults:
        return Check.failed(
            "bill",
            title,
            "\n".join(faults),
            expected="rows of a bill",
            remedy="Replace the files that are named, or remove them.",
        )
    if len(bill):
        return Check.passed("bill", title, f"{len(bill):,} rows")
    return Check.skipped("bill", title, f"there is none of these days in {place}: runbook import bill fetches it")
