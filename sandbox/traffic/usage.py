"""What played pods use of CPU and memory: drawn from the same seed as their lives, without changing these.

A pod's use is told by four numbers. Over its script it has one shape: three quarters on a level, the last quarter at the peak,
so that the mean of the whole is the drawn one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from runbook import quantities
from sandbox.traffic.team import JobKind

FIELDS = ("used_mcpu_mean", "used_mcpu_peak", "used_mib_mean", "used_mib_peak")
"""Columns: thousandths of a vCPU, and MiB; -1 for a pod that never ran."""
MIB = 2**20
PEAK_LASTS = 0.25
"""The part of the script that a pod is at its peak: the last one."""
SPREAD = 0.12
"""Sigma of the lognormal shares that runs of one job use at their peak."""
USUAL_MEAN, LEAST_MEAN = 0.65, 0.35
"""What part of its peak a run's mean usually is, and at least: more than the quarter of the script that the peak lasts."""


def draw_usage(
    jobs: Sequence[JobKind],
    kind: npt.NDArray[np.int64],
    *,
    ran: npt.NDArray[np.bool_],
    out_of_memory: npt.NDArray[np.bool_],
    seed: int | np.random.SeedSequence,
) -> dict[str, npt.NDArray[Any]]:
    """FIELDS for each pod; `kind` counts in `jobs`. None uses more than it asked for; what ran out of memory used it all."""
    base = np.random.SeedSequence(seed) if isinstance(seed, int) else seed
    own = np.random.SeedSequence(base.entropy, spawn_key=(*base.spawn_key, len(FIELDS)))
    # A row of random numbers for each pod: the first pods are the same, however many follow.
    drawn = np.random.default_rng(own).standard_normal((len(kind), 4))
    asked = np.array([(float(quantities.cpu(one.cpu)) * 1000, quantities.memory(one.memory) / MIB) for one in jobs])
    share = np.array([(one.uses_cpu, one.uses_memory) for one in jobs])
    peak = asked[kind] * np.minimum(1.0, share[kind] * np.exp(SPREAD * drawn[:, :2]))
    peak[out_of_memory, 1] = asked[kind[out_of_memory], 1]
    mean = peak * np.clip(USUAL_MEAN + SPREAD * drawn[:, 2:], LEAST_MEAN, 1.0)
    whole = [
        np.maximum(1, np.rint(values)).astype(np.int64) for values in (mean[:, 0], peak[:, 0], mean[:, 1], peak[:, 1])
    ]
    return {name: np.where(ran, values, -1) for name, values in zip(FIELDS, whole, strict=True)}


def level(mean: Any, peak: Any) -> Any:
    """What a pod uses while it is not at its peak, so that its mean is this one."""
    return (mean - PEAK_LASTS * peak) / (1 - PEAK_LASTS)


def used(row: Mapping[str, int]) -> dict[str, float] | None:
    """A pod's four numbers in vCPU and GiB, from its row of `lives`; None where it never ran."""
    if row["used_mcpu_peak"] < 0:
        return None
    return {
        "vcpu_mean": row["used_mcpu_mean"] / 1000,
        "vcpu_peak": row["used_mcpu_peak"] / 1000,
        "memory_mean_gib": row["used_mib_mean"] / 1024,
        "memory_peak_gib": row["used_mib_peak"] / 1024,
    }
