"""Which ECI spec a pod becomes: the sum of its containers, rounded up the vendor's ladder, and why.

    requested(pod)                     what the containers ask for, as ECI adds it up
    match(request, region=…, …)        the spec that is billed for a request, with the rule and the table row
    for_pod(pod, region=…)             both, with the annotations on the pod

Rules: https://help.aliyun.com/zh/eci/user-guide/specify-the-number-of-vcpus-and-memory-size-to-create-a-pod. The tables
are `data/specs/*.csv`. What no page says is listed as an assumption in `data/specs/SOURCES.md`.
"""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Any

from runbook import quantities
from runbook.eci import tables, vocabulary
from runbook.errors import SpecError
from runbook.quantities import GIB, Size

Manifest = Mapping[str, Any]
"""A pod as the API shows it: `metadata` and `spec` as plain mappings."""

DEFAULT = Size(Decimal(2), 4 * GIB)
"""What a pod gets whose containers name neither limits nor requests."""

FREE_EPHEMERAL_GIB = 30
"""Ephemeral storage that every spec includes."""

MOST_USE_SPECS = 5
"""Entries that `eci-use-specs` may have."""

SPOT_TABLE = "spot"
"""The table of spot instances by vCPU and memory, the same in every region."""

_VCPU_MEMORY = re.compile(r"(?P<vcpu>[0-9]+(?:\.[0-9]+)?)-(?P<memory>[0-9]+(?:\.[0-9]+)?)Gi")
_ECS_TYPE = re.compile(r"ecs\.[a-z0-9-]+\.[a-z0-9-]+")
_USE_SPECS_ALLOWED = "at most five entries such as `2-4Gi` (vCPU and GiB) or `ecs.c6.xlarge` (an ECS type)"
_PAGE = "data/specs/SOURCES.md"


class Mode(StrEnum):
    """What an instance is billed by."""

    VCPU_MEMORY = "vcpu-memory"
    SPOT = "spot"
    ECS_TYPE = "ecs-type"


@dataclass(frozen=True)
class Row:
    """One row of a vendor's table: a vCPU count and every memory size (GiB) that goes with it."""

    table: str
    vcpu: Decimal
    memory_gib: tuple[Decimal, ...]

    def __str__(self) -> str:
        sizes = " ".join(f"{size:f}" for size in self.memory_gib)
        return f"{self.table}: {self.vcpu:f} vCPU with {sizes} GiB"


@dataclass(frozen=True)
class Ladder:
    """The tables together: rows, which tables hold in a region, which vCPU counts a compute category covers."""

    rows: tuple[Row, ...]
    regions: Mapping[str, tuple[str, ...]]
    categories: Mapping[str, tuple[Decimal, Decimal]]

    @classmethod
    def load(cls, folder: Path = tables.DATA / "specs") -> Ladder:
        """Read the three tables. Raises SettingsError where one is missing."""
        ladder = tables.rows(folder / "ladder.csv", frozenset({"table", "vcpu", "memory_gib"}))
        regions = tables.rows(folder / "regions.csv", frozenset({"region", "tables"}))
        categories = tables.rows(folder / "compute-categories.csv", frozenset({"category", "vcpu_min", "vcpu_max"}))
        return cls(
            tuple(
                Row(row["table"], Decimal(row["vcpu"]), tuple(Decimal(size) for size in row["memory_gib"].split()))
                for row in ladder
            ),
            {row["region"]: tuple(row["tables"].split()) for row in regions},
            {row["category"]: (Decimal(row["vcpu_min"]), Decimal(row["vcpu_max"])) for row in categories},
        )

    def offered(self, region: str, *, spot: bool = False, category: str | None = None) -> tuple[Row, ...]:
        """The rows from which a pod there may be served. Raises SpecError for an unknown region or category."""
        names = self.tables_of(region)
        if spot:
            names = (SPOT_TABLE,)
        least, most = self._range(category)
        return tuple(row for row in self.rows if row.table in names and least <= row.vcpu <= most)

    def tables_of(self, region: str) -> tuple[str, ...]:
        """Names of the tables that hold in a region. Raises SpecError."""
        if region in self.regions:
            return self.regions[region]
        near = difflib.get_close_matches(region, self.regions, n=1, cutoff=0.75)
        raise SpecError(
            "The region is not one whose specs are known.",
            where="region",
            value=region,
            allowed=", ".join(sorted(self.regions)),
            remedy=f"Did you mean {near[0]}?" if near else "Add its row to data/specs/regions.csv.",
            page=_PAGE,
        )

    def _range(self, category: str | None) -> tuple[Decimal, Decimal]:
        if category is None:
            return Decimal(0), Decimal("Infinity")
        if category in self.categories:
            return self.categories[category]
        raise SpecError(
            "The compute category is not one that ECI has.",
            where=vocabulary.COMPUTE_CATEGORY,
            value=category,
            allowed=", ".join(sorted(self.categories)),
            page=_PAGE,
        )


@functools.cache
def shipped() -> Ladder:
    """The ladder of `data/specs`, read once."""
    return Ladder.load()


@dataclass(frozen=True)
class SpecMatch:
    """The spec that is billed for a request, and why.

    `rule` says in plain words how it was found; `table` names the row of the vendor's table. For an ECS type `vcpu` and
    `memory_gib` are None: the ladder does not know what a type has.
    """

    requested: Size
    region: str
    vcpu: Decimal | None
    memory_gib: Decimal | None
    rule: str
    table: str
    mode: Mode
    compute_category: str | None = None
    instance_type: str | None = None
    extra_ephemeral_gib: Decimal = Decimal(0)

    @property
    def spec(self) -> str:
        """As `eci-use-specs` writes it: `4-8Gi`, or the ECS type."""
        if self.vcpu is None or self.memory_gib is None:
            return self.instance_type or "an ECS type that ECI picks"
        return f"{self.vcpu:f}-{self.memory_gib:f}Gi"

    @property
    def unused(self) -> Size | None:
        """What is billed but was not requested; None where the size is not known."""
        if self.vcpu is None or self.memory_gib is None:
            return None
        cores = max(self.vcpu - self.requested.cpu, Decimal(0))
        return Size(cores, max(int(self.memory_gib * GIB) - self.requested.memory, 0))


@dataclass(frozen=True)
class Requested:
    """What a pod asks for as ECI adds it up: the size, and what was counted (`sum of limits of 3 containers`)."""

    size: Size
    basis: str


# -- the ladder -------------------------------------------------------------------------------------------------------


def match(
    request: Size,
    *,
    region: str,
    spot: bool = False,
    compute_category: str | None = None,
    use_specs: Sequence[str] = (),
    ladder: Ladder | None = None,
) -> SpecMatch:
    """The spec that ECI takes first for `request` in `region`.

    `compute_category` is one category or several in order of preference, as the annotation has it; `use_specs` the
    entries of `eci-use-specs`, which replace the request. Stock is not considered: where the first choice has none,
    ECI goes on to the next entry. Raises SpecError for anything that ECI would refuse.
    """
    ladder = ladder or shipped()
    categories = _split(compute_category)
    if spot and categories:
        raise SpecError(
            "A spot instance has no compute category: ECI refuses the two together (FeatureBasedConstraintConflict).",
            where=vocabulary.COMPUTE_CATEGORY,
            value=compute_category,
            allowed="a compute category, or spot",
            remedy="Leave one of the two out.",
        )
    if not use_specs:
        return _on_ladder(request, request, ladder, region, spot, categories)
    first = _use_specs(use_specs)[0]
    reason = f"eci-use-specs replaces requests and limits; first of {len(use_specs)}: {use_specs[0]}"
    if isinstance(first, str):
        ladder.tables_of(region)
        mode = Mode.SPOT if spot else Mode.ECS_TYPE
        return SpecMatch(request, region, None, None, reason, "none: an ECS type", mode, instance_type=first)
    found = _on_ladder(first, request, ladder, region, spot, categories)
    return replace(found, rule=f"{reason}; {found.rule}")


def _on_ladder(
    size: Size, request: Size, ladder: Ladder, region: str, spot: bool, categories: Sequence[str]
) -> SpecMatch:
    """Round `size` up in the first category that holds it."""
    for category in categories or (None,):
        row = _nearest(size, ladder.offered(region, spot=spot, category=category))
        if row is None:
            continue
        memory = next(gib for gib in row.memory_gib if gib * GIB >= size.memory)
        spec = Size(row.vcpu, int(memory * GIB))
        rule = f"{size:long} is a spec of its own" if spec == size else _rounded_up(size, spot)
        mode = Mode.SPOT if spot else Mode.VCPU_MEMORY
        return SpecMatch(request, region, row.vcpu, memory, rule, str(row), mode, category)
    raise _too_large(size, ladder, region, spot, categories)


def _nearest(size: Size, rows: Iterable[Row]) -> Row | None:
    """The row with the fewest vCPU, then the smallest memory, that holds the size."""
    fitting = [
        (row.vcpu, memory, row)
        for row in rows
        for memory in row.memory_gib
        if row.vcpu >= size.cpu and memory * GIB >= size.memory
    ]
    return min(fitting, key=lambda candidate: candidate[:2])[2] if fitting else None


def _rounded_up(size: Size, spot: bool) -> str:
    kind = "spot spec" if spot else "spec"
    return f"{size:long} is rounded up to the nearest {kind} with at least as much of both"


def _too_large(size: Size, ladder: Ladder, region: str, spot: bool, categories: Sequence[str]) -> SpecError:
    rows = [row for category in categories or (None,) for row in ladder.offered(region, spot=spot, category=category)]
    largest = max(rows, key=lambda row: row.vcpu)
    most_memory = max(rows, key=lambda row: row.memory_gib[-1])
    return SpecError(
        "No ECI spec is that large.",
        where="request",
        value=f"{size:long}",
        allowed=f"at most {largest.vcpu:f} vCPU, and at most {most_memory.memory_gib[-1]:f} GiB "
        f"(with {most_memory.vcpu:f} vCPU)" + (f" in the category {', '.join(categories)}" if categories else ""),
        remedy="Ask for less, or name an ECS type in eci-use-specs.",
        page=_PAGE,
    )


def rungs_down(found: SpecMatch, ladder: Ladder | None = None) -> tuple[Size, ...]:
    """The nearest smaller specs: one with less memory, one with less vCPU; fewer at the ladder's end or for a type.

    Each keeps the other dimension as requested, so that the difference to the request is what would have to go.
    """
    if found.vcpu is None or found.memory_gib is None:
        return ()
    rows = (ladder or shipped()).offered(found.region, spot=found.mode is Mode.SPOT, category=found.compute_category)
    billed = Size(found.vcpu, int(found.memory_gib * GIB))
    all_specs = [Size(row.vcpu, int(memory * GIB)) for row in rows for memory in row.memory_gib]
    less_memory = [spec for spec in all_specs if spec.cpu == billed.cpu and spec.memory < billed.memory]
    less_vcpu = [
        spec
        for spec in all_specs
        if spec.cpu < billed.cpu and min(found.requested.memory, billed.memory) <= spec.memory <= billed.memory
    ]
    down = [max(less_memory, key=lambda spec: spec.memory)] if less_memory else []
    down += [max(less_vcpu, key=lambda spec: (spec.cpu, -spec.memory))] if less_vcpu else []
    return tuple(down)


def _use_specs(entries: Sequence[str]) -> list[Size | str]:
    """Entries of `eci-use-specs`: a size, or the name of an ECS type. Raises SpecError."""
    if len(entries) > MOST_USE_SPECS:
        raise SpecError(
            "eci-use-specs has too many entries.",
            where=vocabulary.USE_SPECS,
            value=",".join(entries),
            allowed=_USE_SPECS_ALLOWED,
        )
    return [_use_spec(entry) for entry in entries]


def _use_spec(entry: str) -> Size | str:
    if _ECS_TYPE.fullmatch(entry):
        return entry
    shape = _VCPU_MEMORY.fullmatch(entry)
    if shape is None:
        raise SpecError(
            "An entry of eci-use-specs is neither vCPU and memory nor an ECS type.",
            where=vocabulary.USE_SPECS,
            value=entry,
            allowed=_USE_SPECS_ALLOWED,
        )
    return Size(quantities.cpu(shape["vcpu"]), quantities.memory(shape["memory"] + "Gi"))


def _split(listed: str | None) -> tuple[str, ...]:
    return tuple(word.strip() for word in (listed or "").split(",") if word.strip())


# -- the pod ----------------------------------------------------------------------------------------------------------


def requested(pod: Manifest) -> Requested:
    """What the containers of a pod ask for together.

    The limits of all containers where any has limits, else their requests, else 2 vCPU and 4 GiB. A container with
    `__ECI_RESOURCE_IGNORE__=TRUE` is left out. Assumed, for no page says so: an init container counts as in Kubernetes,
    by the larger of its own needs and the containers' sum. Raises QuantityError for a size that is none.
    """
    containers = [container for container in _containers(pod, "containers") if not _ignored(container)]
    left_out = len(_containers(pod, "containers")) - len(containers)
    kind = next((kind for kind in ("limits", "requests") if any(_sizes(c, kind) for c in containers)), None)
    ignored = f", {left_out} left out by {vocabulary.ENV_RESOURCE_IGNORE}" if left_out else ""
    if kind is None:
        total, basis = DEFAULT, f"neither limits nor requests: the default{ignored}"
    else:
        total = sum((_size(container, kind) for container in containers), Size())
        basis = f"sum of the {kind} of {len(containers)} container{'s' * (len(containers) != 1)}{ignored}"
    for init in _containers(pod, "initContainers"):
        needs = Size() if _ignored(init) else _size(init, kind or "limits")
        if not needs.fits(total):
            total, basis = total.at_least(needs), f"{basis}, raised by init container {init.get('name', '?')}"
    return Requested(total, basis)


def for_pod(pod: Manifest, *, region: str, ladder: Ladder | None = None) -> SpecMatch:
    """The spec that ECI takes first for a pod: its containers and its annotations. Raises SpecError, QuantityError."""
    annotations: Mapping[str, str] = pod.get("metadata", {}).get("annotations") or {}
    wanted = requested(pod)
    found = match(
        wanted.size,
        region=region,
        spot=_is_spot(annotations.get(vocabulary.SPOT_STRATEGY)),
        compute_category=annotations.get(vocabulary.COMPUTE_CATEGORY),
        use_specs=_split(annotations.get(vocabulary.USE_SPECS)),
        ladder=ladder,
    )
    if not annotations.get(vocabulary.USE_SPECS):
        found = replace(found, rule=f"{wanted.basis}; {found.rule}")
    picked = [key for key in (vocabulary.INSTANCE_FAMILY, vocabulary.INSTANCE_GENERATION) if annotations.get(key)]
    if picked and found.mode is Mode.VCPU_MEMORY:
        found = replace(
            found, mode=Mode.ECS_TYPE, rule=f"{found.rule}; billed by the ECS type used, because of {picked[0]}"
        )
    return replace(found, extra_ephemeral_gib=_extra_ephemeral_gib(pod, annotations))


def _is_spot(strategy: str | None) -> bool:
    allowed = {vocabulary.SPOT_AS_PRICE_GO: True, vocabulary.SPOT_WITH_PRICE_LIMIT: True, vocabulary.NO_SPOT: False}
    if strategy is None or strategy in allowed:
        return allowed.get(strategy or vocabulary.NO_SPOT, False)
    raise SpecError(
        "The spot strategy is not one that ECI has.",
        where=vocabulary.SPOT_STRATEGY,
        value=strategy,
        allowed=", ".join(allowed),
    )


def _extra_ephemeral_gib(pod: Manifest, annotations: Mapping[str, str]) -> Decimal:
    """GiB above the free 30: the larger of the annotation and of what the containers request."""
    declared = quantities.memory(
        annotations.get(vocabulary.EXTRA_EPHEMERAL_STORAGE, "0"), where=vocabulary.EXTRA_EPHEMERAL_STORAGE
    )
    asked = sum(
        quantities.memory(_sizes(container, "requests").get("ephemeral-storage", 0), where="ephemeral-storage")
        for container in _containers(pod, "containers")
    )
    return quantities.gib(max(declared, asked - FREE_EPHEMERAL_GIB * GIB, 0))


def _containers(pod: Manifest, field: str) -> list[Mapping[str, Any]]:
    return list(pod.get("spec", {}).get(field) or ())


def _sizes(container: Mapping[str, Any], kind: str) -> Mapping[str, quantities.Quantity]:
    """`resources.limits` or `.requests`, empty where there are none."""
    return (container.get("resources") or {}).get(kind) or {}


def _size(container: Mapping[str, Any], kind: str) -> Size:
    sizes, where = _sizes(container, kind), f"container {container.get('name', '?')}, {kind}"
    return Size(
        quantities.cpu(sizes.get("cpu", 0), where=f"{where}.cpu"),
        quantities.memory(sizes.get("memory", 0), where=f"{where}.memory"),
    )


def _ignored(container: Mapping[str, Any]) -> bool:
    return any(
        variable.get("name") == vocabulary.ENV_RESOURCE_IGNORE and str(variable.get("value", "")).upper() == "TRUE"
        for variable in container.get("env") or ()
    )
