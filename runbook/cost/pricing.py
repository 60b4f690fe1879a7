"""Pod records in, what they cost out: many at once, by the formula of `runbook.eci.charges`.

    priced(records, book, terms)         one row a pod: the frame that questions read (`runbook.cost.priced`)
    charge_lines(records, book, terms)   one row each settled piece of a pod and item: what a bill is made of

Prices are looked up once for each distinct shape and price period, and multiplied column by column; a test holds the sums to
`charges.lines`. Records come in batches, so that ten million of them need no more memory than one batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from runbook.cost import build_size
from runbook.cost.pieces import DAY, HOUR, SECOND, Pieces, Real, Whole, cut, on_market
from runbook.cost.priced import COSTLESS, PHASES, RECORDED, Problem, schema
from runbook.cost.savings_plans import Coverage
from runbook.eci import charges, specs
from runbook.eci.charges import CHINA, Item, Shape, Unpriced
from runbook.errors import SpecError
from runbook.quantities import GIB, Size

if TYPE_CHECKING:
    import pyarrow as pa

    from runbook.eci.prices import EcsPrice, PriceBook, PriceRow
    from runbook.settings import Cost

Flags = npt.NDArray[np.bool_]

NEEDED = (*RECORDED, "observed_at", "billing_start_known", "finished_known", "containers")
"""Columns of the pod record that pricing reads."""

USED = (
    "used_vcpu_mean", "used_vcpu_peak", "used_memory_mean_gib", "used_memory_peak_gib", "used_samples", "used_source",
)  # fmt: skip

_NEVER = -(2**62)
_ITEMS = tuple(Item)
_EPOCH = date(1970, 1, 1)
_UNPRICED = {
    Unpriced.UNKNOWN_SPEC: Problem.UNKNOWN_SPEC,
    Unpriced.NO_PRICE: Problem.NO_PRICE,
    Unpriced.NO_SPOT_PRICE: Problem.NO_SPOT_PRICE,
    Unpriced.UNKNOWN_ECS_TYPE: Problem.UNKNOWN_ECS_TYPE,
}
_ORDER = tuple(Problem)
_NONE = len(_ORDER)
"""The code of a pod without a problem; smaller codes come first in `Problem`."""


def priced(
    records: pa.Table,
    book: PriceBook,
    terms: Cost,
    *,
    coverage: Coverage | None = None,
    used: pa.Table | None = None,
) -> pa.Table:
    """The priced pods of records that have the columns NEEDED; `used` has the columns USED, row by row of the records."""
    return _Batch(records, book, terms).priced(coverage, used)


def charge_lines(records: pa.Table, book: PriceBook, terms: Cost, *, coverage: Coverage | None = None) -> pa.Table:
    """The charges as Alibaba bills them: one row each settled piece of a pod and item; only those whose price is known.

    Columns: pod_uid, instance_id, item, charge_period_start, charge_period_end (UTC), day (of China), pricing_quantity,
    pricing_unit, list_unit_price, list_cost, contracted_unit_price, contracted_cost, effective_cost, billed_cost, covered (the part that a savings plan covers),
    currency.
    """
    return _Batch(records, book, terms).lines(coverage)


def eligible_hours(records: pa.Table, book: PriceBook, terms: Cost) -> tuple[Whole, Real]:
    """Hours since the epoch, and the list price in each of what a savings plan may cover. Add those of all batches."""
    batch = _Batch(records, book, terms)
    hours = batch.pieces.start // HOUR
    found, inverse = np.unique(hours, return_inverse=True)
    return found, _summed(inverse, batch.eligible(), len(found))


# -- a batch ----------------------------------------------------------------------------------------------------------


@dataclass
class _Prices:
    """What each shape costs in each price period: rows shapes, columns periods, then items. NaN where there is no price."""

    quantity: Real
    listed: Real
    contracted: Real
    on_demand: Real
    """A second by vCPU and memory after discounts, whatever it is billed by."""
    vcpu_part: Real
    """The part of vCPU in the price of vCPU and memory together."""
    problem: Whole


class _Batch:
    """Some records with all that is known of their charges."""

    def __init__(self, records: pa.Table, book: PriceBook, terms: Cost) -> None:
        self.records, self.book, self.terms = records, book, terms
        self.n = records.num_rows
        self.problem = np.full(self.n, _NONE, np.int64)
        self._times()
        self._shapes()
        self.periods = _periods(book, terms)
        self.prices = _look_up(self.shapes, self.periods, book, terms)
        self.pieces = self._pieces()
        self.period = np.searchsorted(self.periods, (self.pieces.start + 8 * HOUR) // DAY, "right") - 1
        self._find_prices()

    # -- reading the records

    def _mark(self, which: Flags, problem: Problem) -> None:
        code = _ORDER.index(problem)
        self.problem[which] = np.minimum(self.problem[which], code)

    def _moments(self, name: str) -> Whole:
        import pyarrow as pa
        import pyarrow.compute as pc

        column = self.records[name].combine_chunks().cast(pa.timestamp("us", tz="UTC")).cast(pa.int64())
        return np.asarray(pc.fill_null(column, int(_NEVER)))

    def _equals(self, name: str, *values: str) -> Flags:
        import pyarrow as pa
        import pyarrow.compute as pc

        found = pc.is_in(self.records[name].combine_chunks(), value_set=pa.array(values, pa.string()))
        return np.asarray(pc.fill_null(found, False).to_numpy(zero_copy_only=False), np.bool_)

    def _true(self, name: str) -> Flags:
        import pyarrow.compute as pc

        return np.asarray(
            pc.fill_null(self.records[name].combine_chunks(), False).to_numpy(zero_copy_only=False), np.bool_
        )

    def _times(self) -> None:
        start, end, seen = (self._moments(name) for name in ("billing_start_at", "finished_at", "observed_at"))
        final = self._true("final")
        not_made = self._equals("billing_start_known", "never")
        running = (end == _NEVER) & ~final & (seen != _NEVER)
        end = np.where(running, seen, end)
        self._mark(not_made, Problem.NO_INSTANCE)
        self._mark(~not_made & (start == _NEVER), Problem.NO_START)
        self._mark(~not_made & (end == _NEVER), Problem.NO_END)
        both = ~not_made & (start != _NEVER) & (end != _NEVER)
        self._mark(both & (end < start), Problem.NEGATIVE_DURATION)
        self._mark(both & (end == start), Problem.ZERO_DURATION)
        self._mark(both & running, Problem.STILL_RUNNING)
        bounded = self._equals("billing_start_known", "bounded") | self._equals("finished_known", "bounded")
        self._mark(both & bounded, Problem.BOUNDED)
        self.timed = both & (end >= start)
        self.start, self.end = np.where(self.timed, start, 0), np.where(self.timed, end, 0)
        self.spot = self._true("spot")

    def _shapes(self) -> None:
        """The distinct shapes, and the shape of each pod."""
        import pyarrow as pa
        import pyarrow.compute as pc

        written = self.records["billed_vcpu"].is_valid().to_numpy() | self.records["ecs_type"].is_valid().to_numpy()
        names = ["region", "zone", "compute_category", "ecs_type", "spot", "billed_vcpu", "billed_memory_gib"]
        names += ["extra_ephemeral_gib", "requested_vcpu", "requested_memory_gib"]
        key = np.zeros(self.n, np.int64)
        for name in names:
            column = self.records[name].combine_chunks()
            hidden = None
            if name.startswith("requested"):
                hidden = written  # where a spec was written down, what was requested plays no part
            elif name == "zone":
                hidden = ~self.spot  # only the spot market has zones
            if hidden is not None:
                column = pc.if_else(pa.array(hidden), pa.scalar(None, column.type), column)
            encoded = column.dictionary_encode(null_encoding="encode")
            codes = np.asarray(encoded.indices.to_numpy(zero_copy_only=False), np.int64)
            _, key = np.unique(key * max(len(encoded.dictionary), 1) + codes, return_inverse=True)
        found, first, self.shape = np.unique(key, return_index=True, return_inverse=True)
        rows = self.records.select(names).take(pa.array(first)).to_pylist() if len(found) else []
        made = [_shape(row, self.book) for row in rows]
        self.shapes = [shape for shape, _ in made]
        assumed = np.array([is_assumed for _, is_assumed in made] or [False], np.bool_)
        if self.n:
            self._mark(assumed[self.shape] & (self.problem != _ORDER.index(Problem.NO_INSTANCE)), Problem.ASSUMED_SPEC)

    # -- pieces and their prices

    def _pieces(self) -> Pieces:
        chosen = np.flatnonzero(self.timed)
        by_market = np.array([shape.spot and shape.ecs_type is not None for shape in self.shapes] or [False], np.bool_)
        on_market = by_market[self.shape[chosen]] if len(chosen) else np.zeros(0, np.bool_)
        plain = chosen[~on_market]
        parts = [cut(plain, self.start[plain], self.end[plain])]
        if not on_market.any():
            return parts[0]
        for number in np.flatnonzero(by_market):
            pods = chosen[self.shape[chosen] == number]
            shape = self.shapes[number]
            parts.append(self._on_market(pods, shape.region, shape.zone, str(shape.ecs_type)))
        return Pieces.joined(parts)

    def _on_market(self, pods: Whole, region: str, zone: str | None, ecs_type: str) -> Pieces:
        changes = self.book.spot_changes(region, zone or "", ecs_type)
        steps = charges.market_steps(changes)
        times = np.array([round(at.timestamp() * SECOND) for at, _ in steps], np.int64)
        hour_price = np.array([np.nan if price is None else float(price) for _, price in steps])
        return on_market(pods, self.start[pods], self.end[pods], times, hour_price)

    def _find_prices(self) -> None:
        """List and contracted amounts of each piece and item, rounded as the card says; problems of their pods."""
        pieces, prices = self.pieces, self.prices
        shape = self.shape[pieces.pod]
        seconds = pieces.seconds
        problem = prices.problem[shape, self.period]
        spot = self.spot[pieces.pod]
        lost = spot & (problem == _NONE) & np.isnan(pieces.market)
        problem = np.where(lost, _ORDER.index(Problem.NO_SPOT_PRICE), problem)
        np.minimum.at(self.problem, pieces.pod, problem)
        self.known = problem == _NONE
        self.listed = prices.listed[shape, self.period] * seconds[:, None]
        self.contracted = prices.contracted[shape, self.period] * seconds[:, None]
        by_type = _ITEMS.index(Item.INSTANCE_TYPE)
        self.contracted[:, by_type] = np.where(spot, pieces.market / 3600 * seconds, self.contracted[:, by_type])
        self.contracted[:, by_type] = np.where(self.known, self.contracted[:, by_type], np.nan)
        self.listed = self._rounded(self.listed)
        self.contracted = self._rounded(self.contracted)

    def _rounded(self, amounts: Real) -> Real:
        rounding = self.terms.bill_rounding
        if rounding == "none" or not len(amounts):
            return amounts
        pieces = self.pieces
        group = pieces.pod.copy()
        if rounding == "hour":
            _, group = np.unique(np.stack([pieces.pod, pieces.start // HOUR]), axis=1, return_inverse=True)
        sums = np.bincount(group, weights=amounts.sum(axis=1))
        with np.errstate(divide="ignore", invalid="ignore"):
            small = np.where(sums + 1e-12 >= 0.005, 0.01, 0.0)
            factor = np.where((sums > 0) & (sums < 0.01), small / sums, 1.0)
        return np.asarray(amounts * factor[group][:, None])

    def eligible(self) -> Real:
        """The list price of each piece that a savings plan may cover: vCPU and memory, never spot."""
        plain = self.listed[:, [_ITEMS.index(Item.CPU), _ITEMS.index(Item.MEM)]].sum(axis=1)
        return np.nan_to_num(np.where(self.spot[self.pieces.pod], 0.0, plain))

    def _after_plans(self, covered: Coverage | None) -> tuple[Real, Real, Real]:
        """Effective and billed amounts of each piece and item, and the part of each that is covered."""
        share = np.zeros_like(self.listed)
        if covered is None:
            return self.contracted, self.contracted, share
        part, factor = covered.at(self.pieces.start // HOUR)
        may = ~self.spot[self.pieces.pod]
        columns = [_ITEMS.index(Item.CPU), _ITEMS.index(Item.MEM)]
        share[:, columns] = np.where(may, part, 0.0)[:, None]
        plan = np.zeros_like(self.listed)
        plan[:, columns] = np.where(may, factor, 0.0)[:, None]
        billed = self.contracted * (1 - share)
        return billed + self.listed * plan, billed, share

    # -- the two tables

    def priced(self, covered: Coverage | None, used: pa.Table | None) -> pa.Table:
        import pyarrow as pa

        pieces, pod = self.pieces, self.pieces.pod
        effective, billed, _ = self._after_plans(covered)

        def by_pod(values: Real) -> Real:
            return _summed(pod, values, self.n)

        totals = {
            "list_cost": by_pod(self.listed.sum(axis=1)),
            "contracted_cost": by_pod(self.contracted.sum(axis=1)),
            "effective_cost": by_pod(effective.sum(axis=1)),
            "billed_cost": by_pod(billed.sum(axis=1)),
            "on_demand_cost": by_pod(self.prices.on_demand[self.shape[pod], self.period] * pieces.seconds),
        }
        cpu, mem, kind = (effective[:, _ITEMS.index(one)] for one in (Item.CPU, Item.MEM, Item.INSTANCE_TYPE))
        part = self.prices.vcpu_part[self.shape[pod], self.period]
        by_type = kind > 0
        totals["vcpu_cost"] = by_pod(cpu + np.where(by_type, kind * part, 0.0))
        totals["memory_cost"] = by_pod(mem + np.where(by_type, kind * (1 - part), 0.0))
        unknown = np.isin(self.problem, [_ORDER.index(one) for one in COSTLESS])
        unlisted = unknown & (self.problem != _ORDER.index(Problem.NO_SPOT_PRICE))  # its type has a list price
        for name, values in totals.items():
            gone = {"on_demand_cost": unknown & ~self.timed, "list_cost": unlisted}.get(name, unknown)
            totals[name] = np.where(gone, np.nan, values)
        low, high = self._interval(totals["effective_cost"])
        totals |= {"cost_low": low, "cost_high": high}
        totals["seconds"] = np.where(self.timed, (self.end - self.start) / SECOND, np.nan)
        totals["seconds"][self.problem == _ORDER.index(Problem.NO_INSTANCE)] = 0.0
        columns: dict[str, Any] = {name: self.records[name] for name in RECORDED}
        columns |= {name: pa.array(values, mask=np.isnan(values)) for name, values in totals.items()}
        columns |= self._days() | self._phases()
        names = [*(one.value for one in _ORDER), None]
        columns["problem"] = pa.array(names, pa.string()).take(pa.array(self.problem))
        columns |= self._sizes()
        columns |= build_size.columns(self.records)
        fields = schema()
        for name in USED:
            columns[name] = used[name] if used is not None else pa.nulls(self.n, fields.field(name).type)
        return pa.Table.from_arrays([_as(columns[one.name], one.type) for one in fields], schema=fields)

    def _sizes(self) -> dict[str, Any]:
        """vCPU and memory of what is billed: as written, else as assumed or as its ECS type has."""
        import pyarrow as pa

        sizes = {}
        for name, of in (("billed_vcpu", "vcpu"), ("billed_memory_gib", "memory_gib")):
            known = [getattr(shape, of) for shape in self.shapes]
            values = pa.array([None if one is None else float(one) for one in known], pa.float64())
            sizes[name] = values.take(pa.array(self.shape)) if self.n else pa.nulls(0, pa.float64())
        return sizes

    def _days(self) -> dict[str, Any]:
        import pyarrow as pa
        import pyarrow.compute as pc

        begun = self.records["billing_start_at"].combine_chunks()
        moment = pc.coalesce(begun, self.records["created_at"].combine_chunks())
        local = pc.local_timestamp(moment.cast(pa.timestamp("us", tz=self.terms.timezone)))
        day = local.cast(pa.date32(), safe=False)
        number = day.cast(pa.int32()).cast(pa.int64())
        weekday = pc.day_of_week(local)
        hour = pc.hour(pc.local_timestamp(begun.cast(pa.timestamp("us", tz=self.terms.timezone))))
        return {"day": day, "week": pc.subtract(number, weekday).cast(pa.int32()).cast(pa.date32()), "hour": hour}

    def _phases(self) -> dict[str, Any]:
        import pyarrow as pa
        import pyarrow.compute as pc

        moments = {name: self.records[name].cast(pa.int64()) for pair in PHASES.values() for name in pair}
        return {
            name: pc.divide(pc.subtract(moments[end], moments[start]).cast(pa.float64()), float(SECOND))
            for name, (start, end) in PHASES.items()
        }

    def _interval(self, cost: Real) -> tuple[Real, Real]:
        """The least and the most that each pod can have cost."""
        low, high = cost.copy(), cost.copy()
        low[self.problem == _ORDER.index(Problem.BOUNDED)] = 0.0
        for number, shape in enumerate(self.shapes):
            if not shape.spot:
                continue
            pods = np.flatnonzero(self.timed & (self.shape == number) & np.isnan(cost))
            if len(pods):
                low[pods], high[pods] = self._spot_interval(pods, shape)
        return low, high

    def _spot_interval(self, pods: Whole, shape: Shape) -> tuple[Real, Real]:
        """By the ECS types that a spot order of this size may have got: at the market where it is archived, else 0 to the list price."""
        seconds = (self.end[pods] - self.start[pods]) / SECOND
        low, high = np.full(len(pods), np.inf), np.full(len(pods), np.nan)
        for one in self._candidates(shape, pods):
            pieces = self._on_market(pods, shape.region, shape.zone, one.instance_type)
            at = np.searchsorted(pods, pieces.pod)
            cost = np.bincount(at, weights=pieces.market / 3600 * pieces.seconds, minlength=len(pods))
            listed = float(one.price) / 3600 * seconds
            low = np.fmin(low, np.where(np.isnan(cost), 0.0, cost))
            high = np.fmax(high, np.where(np.isnan(cost), listed, cost))
        return np.where(np.isinf(low), 0.0, low), high

    def _candidates(self, shape: Shape, pods: Whole) -> Sequence[EcsPrice]:
        on = _day_of(int(self.start[pods[0]]))
        if shape.ecs_type is not None:
            found = self.book.ecs_hour(shape.region, shape.ecs_type, on)
            return [found] if found else []
        if not shape.vcpu or not shape.memory_gib:
            return []
        return self.book.types_holding(shape.region, shape.vcpu, shape.memory_gib)

    def lines(self, covered: Coverage | None) -> pa.Table:
        import pyarrow as pa

        pieces, prices = self.pieces, self.prices
        effective, billed, share = self._after_plans(covered)
        shape, seconds = self.shape[pieces.pod], pieces.seconds
        quantity = prices.quantity[shape, self.period]
        row, item = np.nonzero((quantity > 0) & self.known[:, None])
        pod = pieces.pod[row]
        amount = quantity[row, item] * seconds[row]

        def moments(values: Whole) -> pa.Array:
            return pa.array(values, pa.int64()).cast(pa.timestamp("us", tz="UTC"))

        def real(values: Real) -> pa.Array:
            return pa.array(values[row, item], pa.float64())

        items = pa.array(item)
        with np.errstate(divide="ignore", invalid="ignore"):
            paid = np.where(amount > 0, self.contracted[row, item] / amount, 0.0)
            listed = prices.listed[shape, self.period][row, item] / quantity[row, item]
        return pa.table({
            "pod_uid": self.records["pod_uid"].combine_chunks().take(pa.array(pod)),
            "instance_id": self.records["instance_id"].combine_chunks().take(pa.array(pod)),
            "item": pa.array([one.value for one in _ITEMS]).take(items),
            "charge_period_start": moments(pieces.start[row]),
            "charge_period_end": moments(pieces.end[row]),
            "day": pa.array(((pieces.start[row] + 8 * HOUR) // DAY).astype(np.int32), pa.int32()).cast(pa.date32()),
            "pricing_quantity": pa.array(amount),
            "pricing_unit": pa.array([charges.UNITS[one] for one in _ITEMS]).take(items),
            "list_unit_price": pa.array(listed),
            "list_cost": real(self.listed),
            "contracted_unit_price": pa.array(paid),
            "contracted_cost": real(self.contracted),
            "effective_cost": real(effective),
            "billed_cost": real(billed),
            "covered": real(share),
            "currency": pa.array([self.book.currency] * len(row), pa.string()),
        })  # fmt: skip


def _summed(group: Whole, values: Real, groups: int) -> Real:
    """The sum of the values of each group."""
    return np.asarray(np.bincount(group, weights=values, minlength=groups), np.float64)


def _as(column: Any, type: Any) -> Any:
    return column.cast(type) if column.type != type else column


def _day_of(microseconds: int) -> date:
    """The day of China in which a moment lies: that of prices."""
    return datetime.fromtimestamp(microseconds / SECOND, UTC).astimezone(CHINA).date()


# -- shapes and their prices ------------------------------------------------------------------------------------------


def _shape(row: dict[str, Any], book: PriceBook) -> tuple[Shape, bool]:
    """What a row is billed by, and whether that is assumed from what it requested."""
    region, spot = row["region"] or "", bool(row["spot"])
    vcpu, memory = _exact(row["billed_vcpu"]), _exact(row["billed_memory_gib"])
    assumed = False
    if row["ecs_type"] and (vcpu is None or memory is None):
        known = book.ecs_hour(region, row["ecs_type"], date.max)
        vcpu, memory = (known.vcpu, known.memory_gib) if known else (vcpu, memory)
    if (
        not row["ecs_type"]
        and (vcpu is None or memory is None)
        and row["requested_vcpu"]
        and row["requested_memory_gib"]
    ):
        request = Size(Decimal(str(row["requested_vcpu"])), round(row["requested_memory_gib"] * GIB))
        try:
            found = specs.match(
                request, region=region, spot=spot, compute_category=None if spot else row["compute_category"]
            )
        except SpecError:  # no spec is that large, or the region is not one whose specs are known
            found = None
        if found is not None:
            vcpu, memory, assumed = found.vcpu, found.memory_gib, True
    extra = _exact(row["extra_ephemeral_gib"]) or Decimal(0)
    zone = row["zone"] if spot else None
    return Shape(region, vcpu, memory, row["ecs_type"], spot, row["compute_category"], extra, zone), assumed


def _exact(value: float | None) -> Decimal | None:
    return None if value is None else Decimal(str(value))


def _periods(book: PriceBook, terms: Cost) -> Whole:
    """Days since the epoch on which a price or a discount changes, after one that is before them all."""
    rows: list[PriceRow | EcsPrice] = [*book.items, *book.ecs]
    days = {row.valid_from for row in rows}
    days |= {one.first for one in terms.discounts if one.first}
    days |= {one.last + timedelta(days=1) for one in terms.discounts if one.last}
    days |= {row.valid_to + timedelta(days=1) for row in rows if row.valid_to}
    return np.array([-(10**6), *sorted((day - _EPOCH).days for day in days)], np.int64)


def _look_up(shapes: Sequence[Shape], periods: Whole, book: PriceBook, terms: Cost) -> _Prices:
    size = (max(len(shapes), 1), len(periods), len(_ITEMS))
    found = _Prices(
        np.zeros(size), np.zeros(size), np.zeros(size), np.full(size[:2], np.nan), np.full(size[:2], np.nan),
        np.full(size[:2], _NONE, np.int64),
    )  # fmt: skip
    for row, shape in enumerate(shapes):
        for column, start in enumerate(periods):
            on = _EPOCH + timedelta(days=max(int(start), -700_000))
            _by_size(found, row, column, shape, book, terms, on)
            rates = charges.rates(shape, book, on)
            if isinstance(rates, Unpriced):
                found.problem[row, column] = _ORDER.index(_UNPRICED[rates])
                continue
            for rate in rates:
                item = _ITEMS.index(rate.item)
                found.quantity[row, column, item] = float(rate.quantity)
                found.listed[row, column, item] = float(rate.per_second)
                found.contracted[row, column, item] = float(rate.per_second * charges.discount(terms, rate.item, on))
    return found


def _by_size(found: _Prices, row: int, column: int, shape: Shape, book: PriceBook, terms: Cost, on: date) -> None:
    """What a second of the shape would cost by vCPU and memory, and the part of vCPU in it."""
    plain = Shape(
        shape.region, shape.vcpu, shape.memory_gib, None, False, shape.compute_category, shape.extra_ephemeral_gib
    )
    rates = charges.rates(plain, book, on)
    if isinstance(rates, Unpriced):
        return
    found.on_demand[row, column] = float(
        sum(rate.per_second * charges.discount(terms, rate.item, on) for rate in rates)
    )
    sized = {rate.item: rate.per_second for rate in rates}
    found.vcpu_part[row, column] = float(sized[Item.CPU] / (sized[Item.CPU] + sized[Item.MEM]))
