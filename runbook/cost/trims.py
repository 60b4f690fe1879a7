"""Trim 0.3 GiB and you drop a rung: jobs that ask for a little more than a spec of the ladder, and what that costs them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import narwhals as nw

from runbook.answer import Answer, Scope
from runbook.cost import unpriced
from runbook.cost.collected import collected, count
from runbook.eci import charges, prices, specs
from runbook.eci.prices import PriceRow
from runbook.eci.specs import Ladder
from runbook.errors import SpecError
from runbook.quantities import GIB, Size

if TYPE_CHECKING:
    import pandas as pd

FITS, TOO_SMALL, NOT_MEASURED = "fits", "too small", "not measured"
"""Whether the highest use that was measured fits into the trimmed request."""

TRIM_COLUMNS = (
    "project", "job_name", "pods", "pod_hours", "cost", "requested_vcpu", "requested_memory_gib", "billed_vcpu",
    "billed_memory_gib", "less_vcpu", "less_memory_gib", "less_share", "next_vcpu", "next_memory_gib", "saves",
    "saves_a_month", "peak_vcpu", "peak_memory_gib", "measured_pods", "verdict",
)  # fmt: skip

DAYS_A_MONTH = 365.25 / 12

_REQUESTED = ("requested_vcpu", "requested_memory_gib")
_BILLED = ("billed_vcpu", "billed_memory_gib")
_COHORT = ("project_path", "job_name", "region", "compute_category", *_REQUESTED, *_BILLED)


@dataclass(frozen=True)
class Trim:
    """What a request would have to lose, and the spec that is then billed; `saved` is its share of the list price."""

    less: Size
    spec: Size
    saved: Decimal

    def share_of(self, request: Size) -> float:
        """The larger of the two losses, as a share of what was requested."""
        cpu = float(self.less.cpu / request.cpu) if request.cpu else 0.0
        return max(cpu, self.less.memory / request.memory if request.memory else 0.0)


def trims(
    pods: nw.LazyFrame[Any],
    scope: Scope,
    *,
    within: float = 0.15,
    rows: Sequence[PriceRow] | None = None,
    offered: Ladder | None = None,
) -> Answer:
    """Jobs whose request is just above a rung: a row a job and size, the smallest trim first.

    `less_…` is what the request would have to lose, at most the share `within` of it; `next_…` the spec that is then billed,
    and `saves` what that would have saved of `cost`: the difference of the list prices, at the job's own discount, for as many
    seconds. `verdict` holds the peak that was measured against the trimmed request. Of several trims of a job the one that
    saves most. Only pods billed by vCPU and memory at the ladder's own rung: spot and ECS types follow other prices.
    `rows` and `offered` are price list and ladder (None: those of `data/`).
    """
    import pandas as pd

    cohorts = _cohorts(pods)
    on_ladder = cohorts[~cohorts["by_type"] & cohorts[[*_REQUESTED, *_BILLED]].notna().all(axis=1)]
    found, off_ladder = [], 0
    shapes: dict[tuple[Any, ...], tuple[Trim, ...] | None] = {}
    for record in on_ladder.to_dict("records"):
        cohort = {str(name): value for name, value in record.items()}
        shape = tuple(cohort[name] for name in _COHORT[2:])
        if shape not in shapes:
            shapes[shape] = _trims_of(cohort, rows, scope, offered or specs.shipped())
        choices = shapes[shape]
        if choices is None:
            off_ladder += int(cohort["pods"])
            continue
        request = _size(cohort["requested_vcpu"], cohort["requested_memory_gib"])
        near = [trim for trim in choices if trim.share_of(request) <= within]
        if near:
            found.append(_trim_row(cohort, max(near, key=lambda trim: trim.saved), request, scope))
    table = pd.DataFrame(found, columns=list(TRIM_COLUMNS))
    order = ["less_share", "saves", "project", "job_name", *_REQUESTED, *_BILLED]
    table = table.sort_values(order, ascending=[True, False, *[True] * 6]).reset_index(drop=True)
    return Answer(
        "size-trims",
        scope.text(en="Who is just above a rung?", zh="哪些作业略高于某一档规格？"),
        _trims_sentence(table, within, scope),
        table,
        scope,
        int(on_ladder["pods"].sum()),
        notes=(*_trims_notes(cohorts, off_ladder, scope), *unpriced.note(on_ladder, scope)),
    )


def _cohorts(pods: nw.LazyFrame[Any]) -> pd.DataFrame:
    """One row each job, size and way of billing."""
    by = [*_COHORT, "by_type"]
    by_type = nw.col("spot").fill_null(False) | ~nw.col("ecs_type").is_null()
    return collected(
        unpriced.with_instance(pods)
        .with_columns(
            by_type.alias("by_type"),
            _peak("used_vcpu_peak", "requested_vcpu", "build_vcpu").alias("peak_vcpu"),
            _peak("used_memory_peak_gib", "requested_memory_gib", "build_memory_gib").alias("peak_memory_gib"),
        )
        .group_by(*by)
        .agg(
            nw.len().alias("pods"),
            (nw.col("seconds").fill_null(0.0).sum() / 3600).alias("pod_hours"),
            nw.col("effective_cost").fill_null(0.0).sum().alias("cost"),
            nw.col("peak_vcpu").max(),
            nw.col("peak_memory_gib").max(),
            count(~nw.col("peak_vcpu").is_null() & ~nw.col("peak_memory_gib").is_null()).alias("measured_pods"),
            *unpriced.sums(),
        ),
        by=by,
    )  # fmt: skip


def _peak(used: str, requested: str, build: str) -> nw.Expr:
    """The highest use of a pod. A job that measured itself knows its build container: the others may use all they ask for."""
    by_job = nw.col("used_source").fill_null("") == "job"
    return nw.when(by_job).then(nw.col(used) + nw.col(requested) - nw.col(build)).otherwise(nw.col(used))


def _trims_of(
    cohort: dict[str, Any], rows: Sequence[PriceRow] | None, scope: Scope, offered: Ladder
) -> tuple[Trim, ...] | None:
    """The trims that get a request to a cheaper spec; None where the ladder does not explain what was billed."""
    request = _size(cohort["requested_vcpu"], cohort["requested_memory_gib"])

    def match(size: Size) -> specs.SpecMatch:
        region, category = _text(cohort["region"]) or "", _text(cohort["compute_category"])
        return specs.match(size, region=region, compute_category=category, ladder=offered)

    try:
        now = match(request)
    except SpecError:
        return None
    if now.vcpu is None or now.memory_gib is None or _spec(now) != _size(*(cohort[name] for name in _BILLED)):
        return None
    price = _list_price(now, rows, scope)
    trims = []
    for rung in specs.rungs_down(now, offered):
        smaller = Size(min(request.cpu, rung.cpu), min(request.memory, rung.memory))
        then = match(smaller)
        cheaper = _list_price(then, rows, scope)
        if price and cheaper and cheaper < price:
            less = Size(request.cpu - smaller.cpu, request.memory - smaller.memory)
            trims.append(Trim(less, _spec(then), 1 - cheaper / price))
    return tuple(trims)


def _list_price(found: specs.SpecMatch, rows: Sequence[PriceRow] | None, scope: Scope) -> Decimal | None:
    site = next((site for site, currency in prices.SITES.items() if currency == scope.currency), None)
    return charges.list_price(found, rows, site=site, on=scope.last).per_second if site else None


def _trim_row(cohort: dict[str, Any], trim: Trim, request: Size, scope: Scope) -> dict[str, Any]:
    saves = cohort["cost"] * float(trim.saved)
    left = Size(request.cpu - trim.less.cpu, request.memory - trim.less.memory)
    return {
        **{name: cohort[name] for name in TRIM_COLUMNS if name in cohort},
        "project": _text(cohort["project_path"]) or scope.not_allocated,
        "job_name": _text(cohort["job_name"]) or "",
        "less_vcpu": float(trim.less.cpu),
        "less_memory_gib": float(trim.less.memory_gib),
        "less_share": trim.share_of(request),
        "next_vcpu": float(trim.spec.cpu),
        "next_memory_gib": float(trim.spec.memory_gib),
        "saves": saves,
        "saves_a_month": saves * DAYS_A_MONTH / scope.days,
        "verdict": _verdict(cohort, left),
    }


def _verdict(cohort: dict[str, Any], left: Size) -> str:
    if not cohort["measured_pods"]:
        return NOT_MEASURED
    fits = cohort["peak_vcpu"] <= float(left.cpu) and cohort["peak_memory_gib"] <= float(left.memory_gib)
    return FITS if fits else TOO_SMALL


def _size(vcpu: float, memory_gib: float) -> Size:
    """A size from the frame's numbers, whose last digits may be those of a double."""
    return Size(Decimal(str(round(vcpu, 9))), round(memory_gib * GIB))


def _spec(found: specs.SpecMatch) -> Size:
    return Size(found.vcpu or Decimal(0), int((found.memory_gib or 0) * GIB))


def _text(value: Any) -> str | None:
    """A text of a pandas row; None for its missing values."""
    return value if isinstance(value, str) else None


def less_text(less_vcpu: float, less_memory_gib: float) -> str:
    """`0.3 GiB`, `0.25 vCPU`, or both."""
    losses = ((less_vcpu, "vCPU"), (less_memory_gib, "GiB"))
    return " + ".join(f"{amount:.3g} {unit}" for amount, unit in losses if amount)


def _trims_sentence(table: pd.DataFrame, within: float, scope: Scope) -> str:
    usable = table[table["verdict"] != TOO_SMALL]
    if not len(usable):
        return scope.text(
            en=f"No job would drop a rung if its request lost at most {within:.0%}.",
            zh=f"没有作业能通过减少不超过 {within:.0%} 的申请量降低一档规格。",
        )
    best = usable.sort_values(["saves", "project", "job_name"], ascending=[False, True, True]).iloc[0]
    jobs, total = len(usable), scope.money(usable["saves_a_month"].sum())
    less = less_text(best["less_vcpu"], best["less_memory_gib"])
    job, money = f"{best['project']} · {best['job_name']}", scope.money(best["saves_a_month"])
    return scope.text(
        en=f"{jobs:,} job{'s' * (jobs != 1)} would drop a rung and save {total} a month by asking for at most {within:.0%} less;"
        f" first of all {job}: {less} less, {money} a month.",
        zh=f"{jobs:,} 个作业只需少申请不超过 {within:.0%}，即可降低一档规格，每月节省 {total}；首先是 {job}：减少 {less}，每月 {money}。",
    )


def _trims_notes(cohorts: pd.DataFrame, off_ladder: int, scope: Scope) -> list[str]:
    notes = [scope.text(
        en="A month is 30.44 days of this window's work; a smaller size may make a job slower, which is not counted.",
        zh="每月按本时段工作量折算为 30.44 天；规格变小可能使作业变慢，未计入。",
    )]  # fmt: skip
    by_type = cohorts[cohorts["by_type"].astype(bool)] if len(cohorts) else cohorts
    if len(by_type):
        number, money = (
            scope.counted(int(by_type["pods"].sum())),
            unpriced.known_money(by_type["cost"].sum(), by_type, scope),
        )
        notes.append(scope.text(
            en=f"{number} ({money}) were spot or billed by ECS type: what a smaller type would have cost is not in the list.",
            zh=f"{number}（{money.strip()}）为抢占式或按 ECS 规格计费：更小规格的价格不在价目表中。",
        ))  # fmt: skip
    if off_ladder:
        number = scope.counted(off_ladder)
        notes.append(scope.text(
            en=f"{number} were billed another size than the ladder gives for their request (eci-use-specs, say): left out.",
            zh=f"{number} 的计费规格与规格表对其申请量的结果不同（例如 eci-use-specs）：未计入。",
        ))  # fmt: skip
    return notes
