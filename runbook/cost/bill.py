"""Alibaba Cloud's bill as a table: what its rows add up to, and from when on they are final.

    bill = Bill.of(rows)                             # of `bill_row.from_api`, or `bill_files.parse`
    bill.by_instance("CNY")                          # a row an instance and day

Days and months are China's. Amounts are exact decimals, and nothing here adds two currencies.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

from runbook.cost.bill_row import DIGITS, ECI, BillRow, Kind
from runbook.eci.charges import CHINA, Item

if TYPE_CHECKING:
    import pyarrow as pa


@cache
def schema() -> pa.Schema:
    """The columns of a bill: those of `bill_row.BillRow`, tags as JSON, and pod and namespace from its tags."""
    import pyarrow as pa

    text, amount, moment = pa.string(), pa.decimal128(38, DIGITS), pa.timestamp("us", tz="UTC")
    always = {"product": text, "kind": text, "currency": text, "month": pa.date32(), "pretax_amount": amount,
              "with_tax": pa.bool_(), "tags": text}  # fmt: skip
    sometimes = {"day": pa.date32(), "list_amount": amount, "after_discount": amount, "account": text, "instance_id": text,
                 "item": text, "usage": amount, "unit": text, "service_seconds": amount, "usage_start": moment,
                 "usage_end": moment, "line_id": text, "namespace": text, "pod_name": text}  # fmt: skip
    fields = [pa.field(name, type, nullable=False) for name, type in always.items()]
    return pa.schema(fields + [pa.field(name, type) for name, type in sometimes.items()])


_OF_TAGS = {"namespace": "NameSpace", "pod_name": "PodName"}
"""Columns that are from the tags of an instance, and their keys."""


@dataclass(frozen=True)
class Sum:
    """The money of one kind of rows: which product, whose account, in which currency."""

    product: str
    kind: Kind
    account: str | None
    currency: str
    rows: int
    amount: Decimal


@dataclass(frozen=True, eq=False)
class Bill:
    """Rows of one bill by `schema()`, from one source or several. `repeated` counts rows that were left out because another had them."""

    table: pa.Table
    sources: tuple[str, ...] = ()
    repeated: int = 0

    @classmethod
    def of(cls, rows: Iterable[BillRow], source: str = "DescribeInstanceBill") -> Bill:
        """A bill of these rows; of several with the same `line_id` the first is kept."""
        seen: set[str] = set()
        kept, repeated = [], 0
        for row in rows:
            if row.line_id is not None and row.line_id in seen:
                repeated += 1
                continue
            if row.line_id is not None:
                seen.add(row.line_id)
            kept.append(row)
        return cls(_table(kept), (source,), repeated)

    @classmethod
    def nothing(cls) -> Bill:
        """A bill without rows."""
        return cls(schema().empty_table())

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @cached_property
    def rows(self) -> tuple[BillRow, ...]:
        """The rows as values: for the few that somebody looks at."""
        return tuple(_row(row) for row in self.table.to_pylist())

    def with_(self, other: Bill) -> Bill:
        """This bill, completed by what `other` has of products and days (months, where a row has no day) that it lacks."""
        import pyarrow.compute as pc

        added = other.table.filter(pc.invert(pc.is_in(_places(other.table), value_set=_places(self.table))))
        repeated = self.repeated + other.repeated + len(other) - added.num_rows
        return Bill(_concatenated(self.table, added), (*self.sources, *other.sources), repeated)

    def and_(self, other: Bill) -> Bill:
        """Both bills, which have nothing in common."""
        return Bill(
            _concatenated(self.table, other.table), (*self.sources, *other.sources), self.repeated + other.repeated
        )

    def within(self, first: date, last: date) -> Bill:
        """Its rows of these days, both included; rows without a day where their month touches them."""
        import pyarrow as pa
        import pyarrow.compute as pc

        def between(column: Any, begin: date) -> Any:
            return pc.and_(pc.greater_equal(column, pa.scalar(begin)), pc.less_equal(column, pa.scalar(last)))

        day, month = self.table["day"], self.table["month"]
        inside = pc.if_else(pc.is_valid(day), between(day, first), between(month, first.replace(day=1)))
        return Bill(self.table.filter(inside), self.sources, self.repeated)

    @property
    def daily(self) -> bool:
        """Whether every row that bills an ECI instance has a day."""
        return not self._usage()["day"].null_count

    @property
    def last_day(self) -> date | None:
        """The newest day that has rows."""
        return _latest(self.table["day"])

    @property
    def last_month(self) -> date | None:
        """The first day of the newest month that has rows."""
        return _latest(self.table["month"])

    @property
    def with_tax(self) -> bool:
        """Whether amounts include tax: the Chinese console's export has no others."""
        import pyarrow.compute as pc

        return bool(pc.any(self.table["with_tax"]).as_py())

    def sums(self) -> tuple[Sum, ...]:
        """Its money by product, kind, account and currency, the largest first."""
        keys = ["product", "kind", "account", "currency"]
        groups = self.table.group_by(keys).aggregate([("pretax_amount", "sum"), ("pretax_amount", "count")]).to_pylist()
        found = (
            Sum(row["product"], Kind(row["kind"]), row["account"], row["currency"], row["pretax_amount_count"],
                row["pretax_amount_sum"].normalize())
            for row in groups
        )  # fmt: skip
        return tuple(
            sorted(found, key=lambda one: (-abs(one.amount), one.product, one.kind, one.account or "", one.currency))
        )

    def by_instance(self, currency: str) -> pa.Table:
        """What ECI's usage in this currency adds up to: a row an instance and day, as Arrow.

        Columns: `instance_id`, `day` (the month's first where the bill is monthly), `billed`, `listed` (null where not known), `seconds` of
        service (null where not known; items run side by side, so those of the longest item), `fees` (rows), `by_ecs_type` (those that are
        billed by an ECS type; null where no row names its item), `namespace` and `pod_name` of its tags.
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        usage = self._usage().filter(pc.equal(self._usage()["currency"], currency))
        real = pa.float64()
        rows = pa.table({
            "instance_id": usage["instance_id"],
            "day": usage["day"] if self.daily else usage["month"],
            "item": usage["item"],
            "billed": pc.cast(usage["pretax_amount"], real),
            "listed": pc.cast(usage["list_amount"], real),
            "seconds": pc.cast(usage["service_seconds"], real),
            "fees": pc.cast(pc.is_valid(usage["product"]), pa.int64()),
            "by_ecs_type": pc.cast(pc.equal(usage["item"], Item.INSTANCE_TYPE.value), pa.int64()),
            "namespace": usage["namespace"],
            "pod_name": usage["pod_name"],
        })  # fmt: skip
        all_known = pc.ScalarAggregateOptions(skip_nulls=False)
        sums = [
            ("billed", "sum"),
            ("listed", "sum", all_known),
            ("seconds", "sum"),
            ("fees", "sum"),
            ("by_ecs_type", "sum"),
        ]
        tags = [("namespace", "max"), ("pod_name", "max")]
        items = _grouped(rows, ["instance_id", "day", "item"], [*sums, *tags])
        longest = [one if one[0] != "seconds" else ("seconds", "max") for one in sums]
        return _grouped(items, ["instance_id", "day"], [*longest, *tags])

    def _usage(self) -> pa.Table:
        """The rows that bill ECI instances."""
        import pyarrow.compute as pc

        kind, product = pc.equal(self.table["kind"], Kind.USAGE.value), pc.equal(self.table["product"], ECI)
        return self.table.filter(pc.and_(kind, product))


def month_is_final(month: date) -> datetime:
    """When the bill of a month (given by any of its days) is final: the 3rd of the next month at noon, China's time."""
    following = (month.replace(day=1) + timedelta(days=31)).replace(day=3)
    return datetime(following.year, following.month, 3, 12, tzinfo=CHINA)


def final_until(now: datetime) -> date:
    """The last day of the last month whose bill is final."""
    first = now.astimezone(CHINA).date().replace(day=1)
    while month_is_final(first - timedelta(days=1)) > now:
        first = (first - timedelta(days=1)).replace(day=1)
    return first - timedelta(days=1)


def _table(rows: Iterable[BillRow]) -> pa.Table:
    import pyarrow as pa

    columns: dict[str, list[Any]] = {name: [] for name in schema().names}
    for row in rows:
        for name, column in columns.items():
            if name == "tags":
                column.append(json.dumps(row.tags, ensure_ascii=False))
            elif name in _OF_TAGS:
                column.append(row.tags.get(_OF_TAGS[name]))
            else:
                column.append(getattr(row, name))
    return pa.table(columns, schema=schema())


def _row(row: Mapping[str, Any]) -> BillRow:
    """A row of the table as a value; decimals without the zeros that a column of fixed digits adds."""
    plain = {name: value.normalize() if isinstance(value, Decimal) else value for name, value in row.items()}
    told: dict[str, Any] = {name: value for name, value in plain.items() if name not in _OF_TAGS}
    return BillRow(**told | {"kind": Kind(row["kind"]), "tags": json.loads(row["tags"])})


def _concatenated(one: pa.Table, other: pa.Table) -> pa.Table:
    import pyarrow as pa

    return pa.concat_tables([one, other])


def _places(table: pa.Table) -> Any:
    """Product and day (month, where there is no day) of each row, as one text."""
    import pyarrow as pa
    import pyarrow.compute as pc

    day = pc.cast(table["day"], pa.string())
    place = pc.coalesce(day, pc.cast(table["month"], pa.string()))
    return pc.binary_join_element_wise(
        table["product"], place, pc.if_else(pc.is_valid(day), "day", "month"), " "
    ).combine_chunks()


def _latest(days: Any) -> date | None:
    import pyarrow.compute as pc

    latest: date | None = pc.max(days).as_py()
    return latest


def _grouped(table: pa.Table, keys: list[str], sums: list[Any]) -> pa.Table:
    """The table grouped, with the names that its columns had before."""
    found = table.group_by(keys).aggregate(sums)
    names = {f"{name}_{function}": name for name, function, *_ in sums}
    return found.rename_columns([names.get(name, name) for name in found.column_names])
