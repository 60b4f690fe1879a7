"""A period beside the vendor's bill, and as a file that finance tools read.

    compared = billing.against_bill(pods)            # compared.answer for the review, compared.report of the kept bill
    report = billing.export_focus(settings, "2026-11", Path("focus.parquet"))

Both rest on charge lines: each settled piece of each item, as Alibaba Cloud bills it, with days and months of China's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from runbook.answer import Answer, Scope
from runbook.clients import connect
from runbook.clients.secrets import SecretStore
from runbook.cost import focus, focus_csv, pricing, reconcile
from runbook.cost.bill_row import ECI
from runbook.cost.focus import Dataset
from runbook.cost.priced import COSTLESS, MEANING, Problem
from runbook.errors import SettingsError
from runbook.history import bills, price_archive, store
from runbook.report import Check, Report
from runbook.review import period
from runbook.review.period import Period
from runbook.settings import Settings

if TYPE_CHECKING:
    import pyarrow as pa

    from runbook.eci.prices import PriceBook


@dataclass(frozen=True)
class Compared:
    """The model against the bill, None where no bill of these days is kept; and what of the bill could not be read."""

    answer: Answer | None
    report: Report


def against_bill(pods: Period, *, client: SecretStore | None = None, now: datetime | None = None) -> Compared:
    """Hold the period's charges against what is kept of the bill (`runbook import bill` fetches it)."""
    import pyarrow as pa

    kept = bills.open_bills(pods.settings, client).load(pods.scope.first, pods.scope.last)
    if not len(kept.bill):
        return Compared(None, kept.report)
    charges = _Charges(pods.settings, pods.scope, pods.book, client)
    of_days = [reconcile.on_days(lines, pods.scope) for lines in charges.lines()]
    moment = now or connect.clock().now()
    return Compared(
        reconcile.by_day(pods.frame, pods.scope, lines=pa.concat_tables(of_days), bill=kept.bill, now=moment),
        kept.report,
    )


def export_focus(
    settings: Settings,
    month: str,
    out: Path,
    *,
    account: str | None = None,
    client: SecretStore | None = None,
) -> Report:
    """Write a month (`2026-11`) as a FOCUS dataset, Parquet or CSV by the file's ending; whole, or not at all.

    `account` is the billed one; without it, the one that the kept bill of the month names. Raises SettingsError, HistoryError.
    """
    book = price_archive.book(settings, client)
    first = first_day(month)
    dataset = Dataset(account or "", settings.name, first, settings.name, book.currency)
    dataset = replace(dataset, account=account or _account(settings, dataset, client))
    scope = Scope(settings.name, dataset.first, dataset.last, book.currency, timezone="Asia/Shanghai")
    charges = _Charges(settings, scope, book, client)
    money, left_out = _Money(), _LeftOut(scope)
    with _writing(out) as write:
        for priced, lines in charges:
            left_out.add(priced)
            money.add(write(focus.usage(lines, priced, dataset)))
        money.add(write(focus.plans(charges.covered, settings.cost, dataset)))
        money.add(write(focus.other(settings.cost.other, dataset)))
    facts = {
        "file": str(out),
        "account": dataset.account,
        "billing period": f"{dataset.first} to {dataset.last}, China",
    }
    facts |= {"rows": f"{money.rows:,}"} | {name: scope.money(amount) for name, amount in money.sums.items()}
    return Report(f"FOCUS {focus.VERSION} dataset", [money.check(month), left_out.check()], facts)


class _Charges:
    """The priced pods and charge lines of all pods that may have been charged in the scope's days, batch by batch."""

    def __init__(self, settings: Settings, scope: Scope, book: PriceBook, client: SecretStore | None) -> None:
        self._settings, self._scope, self._book = settings, scope, book
        self._history = store.open_store(settings, client)
        self.covered = period.coverage(settings, self._history, book, scope)

    def __iter__(self) -> Iterator[tuple[pa.Table, pa.Table]]:
        for batch in self._records():
            priced = pricing.priced(batch, self._book, self._settings.cost, coverage=self.covered)
            yield priced, self._lines(batch)

    def lines(self) -> Iterator[pa.Table]:
        """Charge lines batch by batch, at least one batch, which may be empty."""
        yield self._lines(self._no_records())
        yield from map(self._lines, self._records())

    def _records(self) -> Iterator[pa.Table]:
        return period.records(self._settings, self._history, self._scope)

    @staticmethod
    def _no_records() -> pa.Table:
        import pyarrow as pa

        from runbook.history.record import arrow_schema

        schema = pa.schema([arrow_schema().field(name) for name in pricing.NEEDED])
        return schema.empty_table()

    def _lines(self, records: pa.Table) -> pa.Table:
        return pricing.charge_lines(records, self._book, self._settings.cost, coverage=self.covered)


# -- the FOCUS file ---------------------------------------------------------------------------------------------------


def first_day(text: str) -> date:
    """The first day of a month such as `2026-11`. Raises SettingsError."""
    try:
        return date.fromisoformat(f"{text}-01")
    except ValueError:
        raise SettingsError("The month is none.", where="--month", value=text, allowed="such as 2026-11") from None


def _account(settings: Settings, dataset: Dataset, client: SecretStore | None) -> str:
    """The one account that the kept bill of the month is for."""
    bill = bills.open_bills(settings, client).load(dataset.first, dataset.last).bill
    accounts = sorted({one.account for one in bill.sums() if one.account and one.product == ECI})
    if len(accounts) == 1:
        return accounts[0]
    raise SettingsError(
        "FOCUS wants the id of the account that is billed, and the kept bill of the month does not name one.",
        where="--account",
        value=", ".join(accounts) or None,
        allowed="the account's id, 16 digits; the console shows it under the picture of the account",
        remedy="Name it, or fetch the bill first: runbook import bill",
        page="#bill",
    )


@contextmanager
def _writing(out: Path) -> Iterator[Callable[[pa.Table], pa.Table]]:
    """What appends a table to the file, and returns the table; the file appears under its name when all of it is written."""
    import pyarrow.parquet as pq

    if out.suffix not in (".csv", ".parquet"):
        raise SettingsError(
            "The file's ending says neither CSV nor Parquet.", where="--out", value=str(out), allowed=".csv or .parquet"
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.name}.tmp")

    def append_parquet(table: pa.Table) -> pa.Table:
        parquet.write_table(table)
        return table

    def append_csv(table: pa.Table) -> pa.Table:
        file.write(focus_csv.text(table, header=False))
        return table

    try:
        if out.suffix == ".parquet":
            with pq.ParquetWriter(partial, focus.schema(), compression="zstd") as parquet:
                yield append_parquet
        else:
            with partial.open("w", encoding="utf-8", newline="") as file:
                file.write(focus_csv.text(focus.schema().empty_table()))
                yield append_csv
        partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)


class _Money:
    """Adds up what was written."""

    COLUMNS = ("ListCost", "ContractedCost", "EffectiveCost", "BilledCost")

    def __init__(self) -> None:
        self.rows = 0
        self.sums = dict.fromkeys(self.COLUMNS, Decimal(0))

    def add(self, table: pa.Table) -> None:
        import pyarrow.compute as pc

        self.rows += table.num_rows
        for name in self.COLUMNS:
            self.sums[name] += pc.sum(table[name]).as_py() or Decimal(0)

    def check(self, month: str) -> Check:
        title = "The month has charges"
        if self.rows:
            return Check.passed("cost-pods", title, f"{self.rows:,} rows")
        return Check.warned(
            "cost-pods", title, f"none in {month}", expected="at least one pod", remedy="Choose another month."
        )


class _LeftOut:
    """Counts the pods whose cost nobody knows: FOCUS has no row for them."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._found: dict[str, tuple[int, float]] = {}

    def add(self, priced: pa.Table) -> None:
        import pyarrow as pa
        import pyarrow.compute as pc

        days = pc.and_(
            pc.greater_equal(priced["day"], pa.scalar(self._scope.first)),
            pc.less_equal(priced["day"], pa.scalar(self._scope.last)),
        )
        unknown = pc.is_in(priced["problem"], value_set=pa.array([one.value for one in COSTLESS]))
        rows = (
            priced.filter(pc.and_(days, unknown))
            .group_by("problem")
            .aggregate([("pod_uid", "count"), ("cost_high", "sum")])
        )
        for row in rows.to_pylist():
            pods, most = self._found.get(row["problem"], (0, 0.0))
            self._found[row["problem"]] = (pods + row["pod_uid_count"], most + (row["cost_high_sum"] or 0.0))

    def check(self) -> Check:
        title = "The cost of every pod is known"
        if not self._found:
            return Check.passed("cost-known", title)
        lines = [
            f"{problem}: {pods:,} pods without a row, at most {self._scope.money(most)} where a bound is known: {MEANING[Problem(problem)]}"
            for problem, (pods, most) in sorted(self._found.items())
        ]
        return Check.warned(
            "cost-known",
            title,
            "\n".join(lines),
            expected="none",
            remedy="Complete the history (runbook import eci), and archive prices (notebooks/operations/30-archive-prices).",
        )
