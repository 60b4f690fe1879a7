"""What a pod requested, container by container and as ECI adds it up, and what it is billed for: columns of its record."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from typing import Any

from runbook import quantities
from runbook.eci import specs, vocabulary
from runbook.eci.signs import Container, Signs
from runbook.history.api_objects import ContainerSpec, PodSpec, Resources
from runbook.history.record import ContainerRecord
from runbook.quantities import GIB, Size

_SPEC = re.compile(r"^(?P<vcpu>[\d.]+)-(?P<memory>[\d.]+)Gi$")


def requested(spec: PodSpec, states: Iterable[Container]) -> dict[str, Any]:
    """The containers with their sizes and states, the sums of the sizes, and what ECI adds up. Raises QuantityError."""
    state_of = {one.name: one for one in states}
    asked = [(one, True) for one in spec.init_containers or ()] + [(one, False) for one in spec.containers]
    rows = tuple(_container_record(one, init, state_of.get(one.name)) for one, init in asked)
    main = [row for row in rows if row.kind != "init"]
    total = _added_up(tuple(_shape(one, init) for one, init in asked))
    return {
        "image": next((row.image for row in rows if row.kind == "build"), None),
        "containers": rows,
        "request_vcpu": _sum(row.request_vcpu for row in main),
        "limit_vcpu": _sum(row.limit_vcpu for row in main),
        "request_memory_gib": _sum(row.request_memory_gib for row in main),
        "limit_memory_gib": _sum(row.limit_memory_gib for row in main),
        "requested_vcpu": float(total.cpu),
        "requested_memory_gib": float(total.memory_gib),
    }


def _sum(amounts: Iterable[float | None]) -> float | None:
    named = [amount for amount in amounts if amount is not None]
    return sum(named) if named else None


def _container_record(asked: ContainerSpec, init: bool, state: Container | None) -> ContainerRecord:
    resources = asked.resources or Resources()
    requests, limits = resources.requests or {}, resources.limits or {}
    return ContainerRecord(
        name=asked.name,
        kind="init" if init else asked.name if asked.name in ("build", "helper") else "service",
        image=asked.image or None,
        request_vcpu=_vcpu(requests.get("cpu")),
        limit_vcpu=_vcpu(limits.get("cpu")),
        request_memory_gib=_memory_gib(requests.get("memory")),
        limit_memory_gib=_memory_gib(limits.get("memory")),
        exit_code=state.exit_code if state else None,
        reason=state.reason or state.waiting if state else None,
        started_at=state.started_at if state else None,
        finished_at=state.finished_at if state else None,
    )


@functools.lru_cache(maxsize=4096)
def _vcpu(quantity: quantities.Quantity | None) -> float | None:
    return None if quantity is None else float(quantities.cpu(quantity, where="resources.cpu"))


@functools.lru_cache(maxsize=4096)
def _memory_gib(quantity: quantities.Quantity | None) -> float | None:
    return None if quantity is None else quantities.memory(quantity, where="resources.memory") / GIB


Shape = tuple[str, bool, bool, tuple[tuple[str, Any], ...], tuple[tuple[str, Any], ...]]


def _shape(one: ContainerSpec, init: bool) -> Shape:
    resources = one.resources or Resources()
    return one.name, init, one.ignored, _pairs(resources.requests), _pairs(resources.limits)


def _pairs(sizes: Mapping[str, Any] | None) -> tuple[tuple[str, Any], ...]:
    return tuple((name, sizes[name]) for name in ("cpu", "memory") if name in sizes) if sizes else ()


@functools.lru_cache(maxsize=4096)
def _added_up(shapes: tuple[Shape, ...]) -> Size:
    """What ECI adds up for containers of these shapes; a team's jobs have few different ones."""
    pod: dict[str, list[dict[str, Any]]] = {"containers": [], "initContainers": []}
    for name, init, ignored, requests, limits in shapes:
        pod["initContainers" if init else "containers"].append(
            {
                "name": name,
                "env": [{"name": vocabulary.ENV_RESOURCE_IGNORE, "value": "TRUE"}] if ignored else [],
                "resources": {"requests": dict(requests), "limits": dict(limits)},
            }
        )
    return specs.requested({"spec": pod}).size


def billed(signs: Signs, notes: Mapping[str, str]) -> dict[str, Any]:
    """What ECI made of the pod, from what its virtual node wrote."""
    spec = notes.get(vocabulary.INSTANCE_SPEC)
    size = _SPEC.match(spec or "")
    cpu = notes.get(vocabulary.INSTANCE_CPU) or (size["vcpu"] if size else None)
    memory = notes.get(vocabulary.INSTANCE_MEMORY) or (size["memory"] if size else None)
    extra = notes.get(vocabulary.EXTRA_EPHEMERAL_STORAGE)
    cache = notes.get(vocabulary.MATCHED_IMAGE_CACHE)
    return {
        "instance_id": signs.instance_id,
        "instance_spec": spec,
        "billed_vcpu": _vcpu(cpu),
        "billed_memory_gib": float(memory) if memory else None,
        "ecs_type": spec if spec and spec.startswith("ecs.") else None,
        "compute_category": notes.get(vocabulary.INSTANCE_COMPUTE_CATEGORY),
        "spot": _spot(signs, notes),
        "spot_requested": _spot_requested(notes),
        "extra_ephemeral_gib": _memory_gib(extra),
        "image_cache_hit": _cache_hit(signs, cache),
        "image_cache_id": cache,
    }


def _spot(signs: Signs, notes: Mapping[str, str]) -> bool:
    """Whether it is a spot instance: asked for, and not degraded to pay-as-you-go."""
    created = signs.condition(vocabulary.CONDITION_CREATED, True)
    degraded = created is not None and vocabulary.is_reason(created.reason, vocabulary.REASON_SPOT_DEGRADED)
    return _spot_requested(notes) and not degraded and not any(signs.told(vocabulary.EVENT_SPOT_DEGRADED))


def _spot_requested(notes: Mapping[str, str]) -> bool:
    return notes.get(vocabulary.SPOT_STRATEGY) in (vocabulary.SPOT_AS_PRICE_GO, vocabulary.SPOT_WITH_PRICE_LIMIT)


def _cache_hit(signs: Signs, cache: str | None) -> bool | None:
    if cache or any(signs.told(vocabulary.EVENT_IMAGE_CACHE_HIT)):
        return True
    return False if any(signs.told(vocabulary.EVENT_IMAGE_CACHE_MISSED)) else None
