"""What the APIs said of prices beside what the price book says, and what is new of it for the archive.

news = compare(said, book, archive.rows())     # what the book does not know, or knows otherwise
report = keep(news, archive, dry_run=True)     # append it
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from html import escape

from runbook import html
from runbook.eci import prices
from runbook.eci.charges import CHINA
from runbook.eci.prices import EcsPrice, PriceBook, PriceRow, SpotChange
from runbook.history.price_archive import Archive, Asked, Rows
from runbook.history.vendor_prices import REMEMBERED, Said
from runbook.report import Check, Report, text_pairs

SAME = Decimal("0.0005")
"""Relative difference up to which two list prices are the same: what rounding in an answer may do to a price worked out from it."""

SHORT = timedelta(minutes=10)
"""A run that learned nothing but that prices held this much longer writes no file: the next one asks again from there."""


@dataclass(frozen=True)
class Line:
    """One price: what the API says, and what the price book says of the same day (None: it does not know)."""

    what: str
    said: Decimal
    booked: Decimal | None
    currency: str
    since: date
    booked_since: date | None = None

    @property
    def same(self) -> bool:
        """Whether both mean the same price."""
        return self.booked is not None and abs(self.said - self.booked) <= SAME * self.booked

    def __str__(self) -> str:
        before = (
            f"{self.booked:f} the price book (since {self.booked_since})" if self.booked else "the price book has none"
        )
        return f"{self.what}: {self.said:f} {self.currency} says the API, {before}"


@dataclass(frozen=True, repr=False)
class News:
    """What is to be archived (`fresh`), and each list price beside the one of the price book."""

    said: Said
    fresh: Rows
    book: PriceBook
    """The price book as it was before."""
    items: tuple[Line, ...] = ()
    ecs: tuple[Line, ...] = ()

    @property
    def extends(self) -> bool:
        """Whether the archive learns something: a price, or that prices held for longer than SHORT."""
        return bool(self.fresh.prices or self.fresh.asked)

    def spot_lines(self) -> dict[str, str]:
        """By type: how many changes of its market price are new, in which zones, between which prices."""
        by_type: dict[str, list[SpotChange]] = {}
        for change in self.fresh.spot:
            by_type.setdefault(change.instance_type, []).append(change)
        return {
            kind: f"{len(changes):,} change{'s' if len(changes) > 1 else ''} in {', '.join(sorted({one.zone for one in changes}))}: "
            f"{min(one.price for one in changes):f} to {max(one.price for one in changes):f} {changes[0].currency} an hour"
            for kind, changes in by_type.items()
        }

    def __str__(self) -> str:
        lines = {line.what: str(line).partition(": ")[2] for line in (*self.items, *self.ecs)}
        return text_pairs("What is new", {**lines, **self.spot_lines()})

    __repr__ = __str__

    def _repr_html_(self) -> str:
        rows = "".join(
            html.marked_row(
                "= same" if line.same else "+ new" if line.booked is None else "! differs",
                html.GREY if line.same else html.GREEN if line.booked is None else html.AMBER,
                escape(str(line)),
            )
            for line in (*self.items, *self.ecs)
        )
        return html.block(html.table(rows) + html.pairs(self.spot_lines()), title="What is new")


def compare(said: Said, book: PriceBook, archived: Rows) -> News:
    """What the APIs said, beside the price book of the same days.

    Fresh is what the book does not hold, or holds otherwise. Prices in another currency than the site's are not kept.
    """
    items = [(row, _item_line(row, book)) for row in said.rows.items]
    ecs = _ecs_lines(said.rows.ecs, book)
    fresh_spot = tuple(
        one
        for one in said.rows.spot
        if one.currency == book.currency
        and (not (held := book.spot_price(one.region, one.zone, one.instance_type, one.at)) or held.price != one.price)
    )
    foreign = {one.instance_type for one in said.rows.spot if one.currency != book.currency}
    asked = tuple(one for one in said.rows.asked if one.instance_type not in foreign)
    longer = tuple(one for one in asked if _extends(one, archived.asked_until(one.region, one.instance_type)))
    fresh = Rows(
        tuple(row for row, line in items if not line.same and row.currency == book.currency),
        tuple(row for row, line in ecs if not line.same and row.currency == book.currency),
        fresh_spot,
        asked if fresh_spot else longer,
    )
    return News(said, fresh, book, tuple(line for _, line in items), tuple(line for _, line in ecs))


def _extends(asked: Asked, known: datetime | None) -> bool:
    return known is None or asked.last - known >= SHORT


def _item_line(row: PriceRow, book: PriceBook) -> Line:
    category = None if row.compute_category == prices.ANY else row.compute_category
    booked = book.item(row.item, row.region, category, row.valid_from)
    kind = f" ({row.compute_category})" if category else ""
    what = f"{row.item}{kind} a second"
    return Line(
        what,
        row.price,
        booked.price if booked else None,
        row.currency,
        row.valid_from,
        booked.valid_from if booked else None,
    )


def _ecs_lines(rows: Iterable[EcsPrice], book: PriceBook) -> list[tuple[EcsPrice, Line]]:
    """Each price beside what held before it: a row of the book, or a fresher row of the same answer."""
    lines: list[tuple[EcsPrice, Line]] = []
    newest: dict[str, EcsPrice] = {}
    for row in rows:
        known = [
            one
            for one in (book.ecs_hour(row.region, row.instance_type, row.valid_from), newest.get(row.instance_type))
            if one
        ]
        booked = max(known, key=lambda one: one.valid_from, default=None)
        line = Line(
            f"{row.instance_type} an hour",
            row.price,
            booked.price if booked else None,
            row.currency,
            row.valid_from,
            booked.valid_from if booked else None,
        )
        if not line.same:
            newest[row.instance_type] = row
        lines.append((row, line))
    return lines


def keep(news: News, archive: Archive, *, dry_run: bool) -> Report:
    """Append what is fresh as one file, unless `dry_run`, and say what was found. Raises HistoryError where it cannot be written."""
    outcome, kept = _kept(news, archive, dry_run)
    checks = [
        _asked_check(news.said),
        _differing("list-prices", "ECI's list prices are those of the price book", news.items),
        _differing("ecs-prices", "The list prices of ECS types are those of the price book", news.ecs),
        _spot_check(news),
        _currency_check(news),
        _book_check(news),
        kept,
    ]
    return Report("Archive prices", checks, {"archive": archive.folder.url}, outcome)


def _kept(news: News, archive: Archive, dry_run: bool) -> tuple[str, Check]:
    title = "What is new is archived"
    number = news.fresh.prices
    fresh = f"{number:,} price{'s' if number > 1 else ''}" if number else "no price, but spot prices that still hold"
    if not news.extends:
        return "nothing new", Check.passed("prices-archived", title, "nothing new: no file was written")
    if dry_run:
        return f"{fresh} to archive", Check.skipped("prices-archived", title, f"dry run: {fresh} would be archived")
    name = archive.append(news.fresh, news.said.now)
    return f"{fresh} archived", Check.passed("prices-archived", title, f"{fresh} in {name}")


def _asked_check(said: Said) -> Check:
    title = "Alibaba Cloud answered every question about prices"
    if not said.refused:
        return Check.passed(
            "prices-asked", title, f"{len(said.rows.items)} items, {len(said.rows.ecs)} prices of ECS types"
        )
    observed = "\n".join(map(str, said.refused))
    remedy = "\n".join(dict.fromkeys(one.remedy for one in said.refused if one.remedy))
    make = Check.failed if any(one.always for one in said.refused) else Check.warned
    return make(
        "prices-asked", title, observed, expected="an answer to each", remedy=remedy or "Correct the type in the card."
    )


def _differing(id: str, title: str, lines: Sequence[Line]) -> Check:
    if not lines:
        return Check.skipped(id, title, "no price was asked, or none was answered")
    differ = [line for line in lines if line.booked is not None and not line.same]
    new = sum(line.booked is None for line in lines)
    if not differ:
        return Check.passed(id, title, f"{len(lines)} compared, {new} of them new")
    return Check.warned(
        id,
        title,
        "\n".join(map(str, differ)),
        expected="the same price from both",
        remedy="The archive's price holds from its day on. Where the price changed earlier, add a row with that day to data/prices.",
    )


def _spot_check(news: News) -> Check:
    title = "No spot price was lost since the last run"
    if not news.said.rows.asked:
        return Check.skipped("spot-prices", title, "no spot market was asked about, or none answered")
    if news.said.forgotten:
        return Check.warned(
            "spot-prices",
            title,
            f"Asked too late, so that changes are lost: {', '.join(news.said.forgotten)}",
            expected=f"a run at least every {REMEMBERED.days} days",
            remedy="Let a scheduler run this notebook every day.",
        )
    changes, markets = len(news.fresh.spot), len({one.instance_type for one in news.said.rows.asked})
    return Check.passed("spot-prices", title, f"{changes:,} new changes of {markets} types")


def _currency_check(news: News) -> Check:
    title = "Prices come in the currency of the card's site"
    rows = news.said.rows
    seen = (
        {row.currency for row in rows.items} | {row.currency for row in rows.ecs} | {row.currency for row in rows.spot}
    )
    foreign = sorted(seen - {news.book.currency})
    if not seen:
        return Check.skipped("price-currency", title, "no price was answered")
    if not foreign:
        return Check.passed("price-currency", title, news.book.currency)
    return Check.failed(
        "price-currency",
        title,
        f"the account's prices are in {', '.join(foreign)}; the card's site is {news.book.site} ({news.book.currency})",
        expected=news.book.currency,
        remedy="Set `site` of the card to the one that the account belongs to: cn (CNY) or intl (USD).",
    )


def _book_check(news: News) -> Check:
    title = "The price book has one price for each item and day of the last 30"
    today = news.said.now.astimezone(CHINA).date()
    problems = news.fresh.added_to(news.book).problems(today - REMEMBERED, today)
    if not problems:
        return Check.passed("cost-prices", title, f"{today - REMEMBERED} to {today}")
    shown = [str(problem) for problem in problems[:10]]
    more = [f"and {len(problems) - 10} more"] if len(problems) > 10 else []
    return Check.warned(
        "cost-prices",
        title,
        "\n".join((*shown, *more)),
        expected="no gap, no overlap, one currency, prices above zero",
        remedy="Mend the rows in data/prices; data/prices/SOURCES.md explains them.",
    )
