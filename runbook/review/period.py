"""The pods of a period, priced: where every notebook of analysis begins.

    pods = period.open_period(settings, "2026-11-01", "2026-11-30")
    exhibit(sizes.ladder(pods.frame, pods.scope), draw.ladder, pods)

The pods of the history are priced once and written as Parquet under `var/cost/`, together with those of the period before it; the
card's engine then answers questions from there, and the file goes with the process. Nothing is left to earlier runs: prices,
discounts and the history of now hold.
"""

from __future__ import annotations

import atexit
import functools
import secrets
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import narwhals as nw
import numpy as np

from runbook import html
from runbook.answer import Answer, Scope
from runbook.charts import fonts
from runbook.charts.colours import LOOKS
from runbook.clients import connect
from runbook.clients.engine import Engine, engine
from runbook.clients.secrets import SecretStore
from runbook.cost import data_quality, pricing, savings_plans
from runbook.cost.collected import collected
from runbook.cost.priced import COSTLESS, Problem
from runbook.eci import charges
from runbook.eci.prices import PriceBook
from runbook.errors import SettingsError
from runbook.history import price_archive, store, used
from runbook.history.store import Store
from runbook.report import Check, Report, text_pairs
from runbook.settings import ROOT, Settings, locate

if TYPE_CHECKING:
    import pyarrow as pa

    from runbook.cost.savings_plans import Coverage

BATCH = 100_000
"""Records that are priced at a time."""

CERTAIN = (Problem.NO_INSTANCE, Problem.ZERO_DURATION)
"""What is worth a word and leaves no doubt about the cost: it is nothing."""

SLACK = timedelta(days=2)
"""How long before its billing a pod may have been created, to be found."""


@dataclass(frozen=True)
class Period:
    """The priced pods of some days, and of as many days before them.

    `frame` and `earlier` are lazy frames (`runbook.cost.priced`); `unused_plans` is what savings plans cost without covering anything,
    by local day of both; `folder` is where the files of its exhibits go.
    """

    settings: Settings
    scope: Scope
    frame: nw.LazyFrame[Any]
    earlier: nw.LazyFrame[Any]
    book: PriceBook
    unused_plans: dict[date, float]
    quality: Answer
    engine: Engine
    path: Path

    @property
    def folder(self) -> Path:
        """Where the files of this period's exhibits go."""
        days = f"{self.scope.first}_{self.scope.last}"
        return locate(self.settings.cost.reports) / self.settings.name / days

    @functools.cached_property
    def report(self) -> Report:
        """What is wrong with the data, as checks: nothing of it stops an analysis, all of it is said."""
        assumed = {f"assumed: {name}": text for name, text in charges.ASSUMPTIONS.items()}
        return Report(f"Pods of {self.scope.window}", (*_checks(self), _language(self)), assumed)

    def summary(self) -> dict[str, str]:
        rows = {
            "days": f"{self.scope.window} ({self.scope.timezone})",
            "pods": f"{self.quality.n:,}",
            "prices": f"{self.scope.currency}, list of {self.scope.price_date}" if self.scope.price_date else "none",
            "engine": self.settings.cost.engine,
            "data": self.quality.sentence,
        }
        return rows | {
            f"– {row.problem}": f"{row.pods:,} pods; {row.meaning}" for row in self.quality.table.itertuples()
        }

    def __str__(self) -> str:
        return text_pairs(f"Pods of cluster {self.scope.cluster}", self.summary())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return html.block(html.pairs(self.summary()), title=f"Pods of cluster <b>{escape(self.scope.cluster)}</b>")


def open_period(settings: Settings, first: str = "", last: str = "", *, client: SecretStore | None = None) -> Period:
    """Price the pods from `first` to `last` (days of the card's time zone, both included) and those of as many days before.

    Without `first`: from the first day of the month of `last`. Without `last`: to the last day that has pods. Raises SettingsError
    for days that are none, HistoryError where history or prices cannot be read.
    """
    history = store.open_store(settings, client)
    book = price_archive.book(settings, client)
    scope = _scope(settings, history, book, first, last)
    path = ROOT / "var" / "cost" / settings.name / f"priced-{scope.first}_{scope.last}-{secrets.token_hex(4)}.parquet"
    atexit.register(path.unlink, missing_ok=True)  # a file of one's own: notebooks of one period run side by side
    covered = coverage(settings, history, book, scope)
    _write(settings, history, book, covered, scope, path, client)
    answering = engine(settings)
    everything = answering.scan([path])
    frame = _within(everything, scope)
    scope = replace(scope, projects=_dearest(frame))
    return Period(
        settings, scope, frame, _within(everything, scope.before), book, _unused(covered, scope),
        data_quality.problems(frame, scope), answering, path,
    )  # fmt: skip


def _within(pods: nw.LazyFrame[Any], scope: Scope) -> nw.LazyFrame[Any]:
    return pods.filter((nw.col("day") >= nw.lit(scope.first)) & (nw.col("day") <= nw.lit(scope.last)))


def _dearest(pods: nw.LazyFrame[Any]) -> tuple[str, ...]:
    """The projects that cost most: those that charts give a colour of their own."""
    sums = collected(
        pods.filter(~nw.col("project_path").is_null())
        .group_by("project_path")
        .agg(nw.col("effective_cost").fill_null(0.0).sum().alias("cost")),
        by=["project_path"],
    )
    return tuple(sums.sort_values("cost", ascending=False, kind="stable")["project_path"].head(len(LOOKS)))


# -- which days -------------------------------------------------------------------------------------------------------


def _scope(settings: Settings, history: Store, book: PriceBook, first: str, last: str) -> Scope:
    end = _day(last, "last") or _newest(history, settings) or connect.clock().now().date()
    begin = _day(first, "first") or end.replace(day=1)
    if begin > end:
        raise SettingsError(
            "The period ends before it begins.", where="parameters first and last", value=f"{begin} to {end}",
            allowed="first not after last",
        )  # fmt: skip
    dated = [row.valid_from for row in book.items if row.valid_from <= end]
    cost = settings.cost
    language, _ = fonts.language(cost.language)
    return Scope(settings.name, begin, end, book.currency, max(dated, default=None), language, cost.timezone)


def _day(text: str, name: str) -> date | None:
    if not text:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise SettingsError(
            f"The parameter {name} is no day.",
            where=f"parameter {name}",
            value=text,
            allowed="a day such as 2026-11-01, or nothing",
        ) from None


def _newest(history: Store, settings: Settings) -> date | None:
    """The last local day of a pod: on which its billing began, or it was created."""
    found = history.scan(["created_at", "billing_start_at", "cluster"]).filter(_of(settings))
    ((newest,),) = found.aggregate("max(coalesce(billing_start_at, created_at))").fetchall()
    return newest.astimezone(ZoneInfo(settings.cost.timezone)).date() if isinstance(newest, datetime) else None


def _of(settings: Settings) -> str:
    return f"cluster = '{settings.name}'"


# -- pricing ----------------------------------------------------------------------------------------------------------


def records(settings: Settings, history: Store, scope: Scope) -> Iterator[pa.Table]:
    """The records of the period and of the one before, in batches; those of a few days more, for the edges."""
    import pyarrow as pa

    from runbook.history.record import arrow_schema

    schema = pa.schema([arrow_schema().field(name) for name in pricing.NEEDED])
    found = history.scan(list(pricing.NEEDED), first=scope.before.first - SLACK, last=scope.last + timedelta(days=1))
    gathered: list[pa.RecordBatch] = []
    for batch in found.filter(_of(settings)).to_arrow_reader(BATCH):  # a batch ends with its day file
        gathered.append(batch)
        if sum(one.num_rows for one in gathered) >= BATCH:
            yield pa.Table.from_batches(gathered).cast(schema)
            gathered = []
    if gathered:
        yield pa.Table.from_batches(gathered).cast(schema)


def coverage(settings: Settings, history: Store, book: PriceBook, scope: Scope) -> Coverage | None:
    """What savings plans cover, which needs all pods of an hour: a pass of its own, where the card has plans."""
    terms = settings.cost
    if not terms.savings_plans:
        return None
    parts = [pricing.eligible_hours(batch, book, terms) for batch in records(settings, history, scope)]
    hours = np.concatenate([hours for hours, _ in parts] or [np.zeros(0, np.int64)])
    every, inverse = np.unique(hours, return_inverse=True)
    amounts = np.concatenate([amount for _, amount in parts] or [np.zeros(0)])
    sums = np.asarray(np.bincount(inverse, weights=amounts, minlength=len(every)), np.float64)
    return savings_plans.coverage(every, sums, terms, scope.before.first, scope.last)


def _unused(covered: Coverage | None, scope: Scope) -> dict[date, float]:
    if covered is None:
        return {}
    zone = ZoneInfo(scope.timezone)
    days: dict[date, float] = {}
    for hour, amount in zip(covered.hours.tolist(), covered.unused.tolist(), strict=True):
        day = datetime.fromtimestamp(hour * 3600, zone).date()
        if scope.before.first <= day <= scope.last:
            days[day] = days.get(day, 0.0) + amount
    return days


def _write(
    settings: Settings,
    history: Store,
    book: PriceBook,
    covered: Coverage | None,
    scope: Scope,
    path: Path,
    client: SecretStore | None,
) -> None:
    """The priced pods as one Parquet file."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    from runbook.cost.priced import schema

    measured = used.read(settings, client, first=scope.before.first - SLACK)
    path.parent.mkdir(parents=True, exist_ok=True)
    with pq.ParquetWriter(path, schema(), compression="zstd", compression_level=1) as writer:
        for batch in records(settings, history, scope):
            columns = used.columns_for(batch, measured)
            table = pricing.priced(batch, book, settings.cost, coverage=covered, used=columns)
            after = pc.greater_equal(table["day"], pa.scalar(scope.before.first))
            writer.write_table(table.filter(pc.and_(after, pc.less_equal(table["day"], pa.scalar(scope.last)))))


# -- checks -----------------------------------------------------------------------------------------------------------


def _checks(period: Period) -> Iterator[Check]:
    quality, scope = period.quality, period.scope
    title = "There are pods in the period"
    if not quality.n:
        yield Check.warned(
            "cost-pods",
            title,
            f"none from {scope.window} in {period.settings.history.url}",
            expected="at least one",
            remedy="Collect the history (notebooks/operations/10-collect-pod-history), or choose other days.",
        )
        return
    yield Check.passed("cost-pods", title, f"{quality.n:,}")
    yield _known(quality)
    yield _prices(period)


def _known(quality: Answer) -> Check:
    title = "The cost of every pod is known"
    rows = quality.table.to_dict("records")
    lines = [_line(row, quality.scope) for row in rows]
    if all(row["problem"] in CERTAIN for row in rows):
        return Check.passed("cost-known", title, "\n".join([f"{quality.n:,} pods", *lines]))
    return Check.warned(
        "cost-known",
        title,
        "\n".join(lines),
        expected="no problem",
        remedy="Complete the history: runbook import gitlab-jobs, runbook import eci. "
        "Archive prices: notebooks/operations/30-archive-prices.",
    )


def _line(row: dict[Hashable, Any], scope: Scope) -> str:
    cost, low, high = (scope.money(row[name]) for name in ("cost", "cost_low", "cost_high"))
    between = f"cost {cost}" if low == cost == high else f"cost {cost}, between {low} and {high}"
    if row["problem"] in [one.value for one in COSTLESS]:
        between = f"cost unknown, between {low} and {high}" if row["cost_high"] else "cost unknown, without a bound"
    return (
        f"{row['problem']}: {row['pods']:,} pods ({row['share_of_pods']:.1%}), {row['hours']:,.1f} h, {between} "
        f"({row['share_of_cost']:.1%} of the money): {row['meaning']}"
    )


def _prices(period: Period) -> Check:
    title = "The price list has no gaps, no overlaps and one currency"
    found = period.book.problems(period.scope.before.first, period.scope.last)
    if not found:
        return Check.passed("cost-prices", title, repr(period.book))
    shown = [str(one) for one in found[:8]] + ([f"… and {len(found) - 8} more"] if len(found) > 8 else [])
    remedy = "Correct the rows in data/prices, or ask again: notebooks/operations/30-archive-prices."
    return Check.warned("cost-prices", title, "\n".join(shown), expected="none", remedy=remedy)


def _language(period: Period) -> Check:
    title = "Answers and charts are in the language of the card"
    wanted, spoken = period.settings.cost.language, period.scope.language
    if spoken == wanted:
        return Check.passed("cost-language", title, spoken)
    return Check.warned("cost-language", title, spoken, expected=wanted, remedy=fonts.NO_CHINESE_FONT)
