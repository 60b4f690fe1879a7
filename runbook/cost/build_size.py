"""What a pod's build container asks for, beside what its helper and services do: only the first is a job's own to change."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa


class AskedBy(StrEnum):
    """What ECI adds up for a pod: limits where any container has limits, else requests."""

    LIMIT = "limit"
    REQUEST = "request"


def columns(records: pa.Table) -> dict[str, pa.Array]:
    """`build_vcpu`, `build_memory_gib` and `asked_by` of records with `containers`; null where nobody asked for anything."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    listed = records["containers"].combine_chunks()
    flat, pod = listed.flatten(), np.asarray(pc.list_parent_indices(listed))

    def has_any(kind: AskedBy) -> pa.Array:
        named = pc.or_(flat.field(f"{kind}_vcpu").is_valid(), flat.field(f"{kind}_memory_gib").is_valid())
        return pa.array(np.bincount(pod[np.asarray(named)], minlength=records.num_rows) > 0)

    limited = has_any(AskedBy.LIMIT)
    asked_by = pc.if_else(has_any(AskedBy.REQUEST), AskedBy.REQUEST.value, pa.scalar(None, pa.string()))
    build = pc.indices_nonzero(pc.fill_null(pc.equal(flat.field("kind"), "build"), False))
    place = pc.index_in(pa.array(np.arange(records.num_rows)), value_set=pa.array(pod).take(build).cast(pa.int64()))
    sizes: dict[str, Any] = {}
    for name in ("vcpu", "memory_gib"):
        limit, request = (flat.field(f"{kind}_{name}").take(build).take(place) for kind in AskedBy)
        sizes[f"build_{name}"] = pc.if_else(limited, limit, request)
    return sizes | {"asked_by": pc.if_else(limited, AskedBy.LIMIT.value, asked_by)}
