"""Requested, billed and what it costs, as one value: the answer of `runbook spec` and of the configuration notebook."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from html import escape
from typing import Any

from runbook import html, quantities
from runbook.eci import charges, prices, specs
from runbook.eci.charges import ListPrice
from runbook.eci.prices import PriceRow
from runbook.eci.specs import Ladder, SpecMatch
from runbook.quantities import Size
from runbook.report import text_pairs


@dataclass(frozen=True)
class Cheaper:
    """A smaller spec: what it costs, and what the request would have to lose to get it."""

    spec: Size
    price: ListPrice
    too_much: Size


@dataclass(frozen=True)
class Quote:
    """What was requested, which spec is billed for it and why, its list price, and the next smaller specs.

    `str()` is for a terminal, `_repr_html_` for JupyterLab, `as_dict()` for a program.
    """

    parts: tuple[tuple[str, Size], ...]
    match: SpecMatch
    price: ListPrice
    site: str
    cheaper: tuple[Cheaper, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain values. `vcpu` and `memory_gib` are null for an ECS type, `price_per_hour` where `reason` says why."""
        found = self.match
        return {
            "region": found.region,
            "site": self.site,
            "requested_vcpu": number(found.requested.cpu),
            "requested_memory_gib": number(found.requested.memory_gib),
            "vcpu": number(found.vcpu),
            "memory_gib": number(found.memory_gib),
            "spec": found.spec,
            "billed_by": found.mode.value,
            "compute_category": found.compute_category,
            "rule": found.rule,
            "table": found.table,
            "price_per_hour": number(self.price.per_hour),
            "currency": self.price.currency,
            "price_date": self.price.price_date.isoformat() if self.price.price_date else None,
            "reason": self.price.reason,
            "sources": list(self.price.sources),
        }

    @property
    def headline(self) -> str:
        """`3.25 vCPU / 7.5 GiB → 4 vCPU / 8 GiB, CNY 0.882144 an hour`."""
        return f"{self.match.requested:long} → {self._billed}, {self._price}"

    @property
    def pairs(self) -> dict[str, str]:
        """Name and text of every line below the headline."""
        total = f"{self.match.requested:long}"
        named = [f"{name} {size}" for name, size in self.parts]
        lines = {
            "requested": f"{total}   ({' + '.join(named)})" if named else total,
            "billed": self._billed,
            "rule": self.match.rule,
            "table": self.match.table,
            "price": self._price_line,
        }
        if self.match.unused is not None:
            lines["unused"] = f"{self.match.unused:long} billed but not requested" if self._is_waste else "nothing"
        for smaller in self.cheaper:
            label = "next smaller" if "next smaller" not in lines else "or"
            lines[label] = _smaller(smaller, self.price)
        return lines

    @property
    def _billed(self) -> str:
        if self.match.vcpu is None or self.match.memory_gib is None:
            return self.match.spec
        category = f", {self.match.compute_category}" if self.match.compute_category else ""
        spot = ", spot" if self.match.mode is specs.Mode.SPOT else ""
        return f"{self.match.vcpu:f} vCPU / {self.match.memory_gib:f} GiB{category}{spot}"

    @property
    def _price(self) -> str:
        per_hour = self.price.per_hour
        return "price unknown" if per_hour is None else f"{_money(per_hour, self.price.currency)} an hour"

    @property
    def _price_line(self) -> str:
        if self.price.per_hour is None:
            return f"unknown. {self.price.reason}"
        return f"{self._price}, list price since {self.price.price_date} ({self.site}, before tax and discounts)"

    @property
    def _is_waste(self) -> bool:
        return self.match.unused not in (None, Size())

    def __str__(self) -> str:
        return text_pairs(self.headline, self.pairs)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return html.block(html.pairs(self.pairs), title=escape(self.headline))


def of(
    parts: Sequence[tuple[str, Size]],
    *,
    region: str,
    site: str = "cn",
    spot: bool = False,
    compute_category: str | None = None,
    use_specs: Sequence[str] = (),
    rows: Sequence[PriceRow] | None = None,
    ladder: Ladder | None = None,
) -> Quote:
    """The quote for named containers (`[("build", Size), …]`); without any, for ECI's default of 2 vCPU and 4 GiB.

    Raises SpecError for what ECI would refuse, SettingsError for an unknown site.
    """
    prices.currency(site)
    total = sum((size for _, size in parts), Size()) if parts else specs.DEFAULT
    found = specs.match(
        total, region=region, spot=spot, compute_category=compute_category, use_specs=use_specs, ladder=ladder
    )
    if not parts and not use_specs:
        found = replace(found, rule=f"nothing requested: the default; {found.rule}")
    price = charges.list_price(found, rows, site=site)
    cheaper = tuple(_cheaper(rung, found, rows, site) for rung in specs.rungs_down(found, ladder))
    return Quote(tuple(parts), found, price, site, cheaper)


def number(value: Decimal | None) -> int | float | None:
    """A JSON number that prints the same digits; None for None."""
    if value is None:
        return None
    return int(value) if value == value.to_integral_value() else float(value)


def _cheaper(rung: Size, found: SpecMatch, rows: Sequence[PriceRow] | None, site: str) -> Cheaper:
    smaller = replace(found, vcpu=rung.cpu, memory_gib=rung.memory_gib)
    too_much = Size(max(found.requested.cpu - rung.cpu, Decimal(0)), max(found.requested.memory - rung.memory, 0))
    return Cheaper(rung, charges.list_price(smaller, rows, site=site), too_much)


def _smaller(smaller: Cheaper, price: ListPrice) -> str:
    losses = [
        text
        for amount, text in (
            (smaller.too_much.cpu, f"{quantities.plain(smaller.too_much.cpu):f} vCPU"),
            (smaller.too_much.memory, f"{smaller.too_much.memory_gib:f} GiB"),
        )
        if amount
    ]
    saving = ""
    if price.per_hour is not None and smaller.price.per_hour is not None:
        saving = f", {_money(price.per_hour - smaller.price.per_hour, price.currency)} an hour less"
    size = f"{smaller.spec.cpu:f} vCPU / {quantities.gib(smaller.spec.memory):f} GiB"
    return f"{size}{saving}, if the request had {' and '.join(losses) or 'nothing'} less"


def _money(amount: Decimal, currency: str) -> str:
    return f"{currency} {quantities.plain(amount):f}"
