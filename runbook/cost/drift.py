"""Whether a job is still the one it was at the beginning of the window: its image, its request, its durations, its peaks.

Two halves of a window are compared by the two-sample test of Kolmogorov and Smirnov. A job counts as changed where the largest
distance of the two distributions is both beyond chance (once in a thousand jobs that did not change) and large enough to matter.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

CHANCE = 0.001
"""How often a job that did not change may be taken for one that did."""
MATTERS = 0.25
"""The least distance that matters: a quarter of the runs lie elsewhere."""
FEW = 8
"""Runs in each half below which the halves are not compared: the test says nothing about so few."""
MIXED = 0.05
"""The share of runs that may be otherwise without the job counting as changed: a branch that tries something."""


def distance(
    first: npt.ArrayLike, first_runs: npt.ArrayLike, second: npt.ArrayLike, second_runs: npt.ArrayLike
) -> float:
    """The largest difference of the cumulative distributions of values that were counted, from 0 to 1."""
    one, other = np.asarray(first, float), np.asarray(second, float)
    values = np.unique(np.concatenate([one, other]))
    return float(np.max(np.abs(_cumulated(one, first_runs, values) - _cumulated(other, second_runs, values))))


def _cumulated(values: npt.NDArray[Any], runs: npt.ArrayLike, at: npt.NDArray[Any]) -> npt.NDArray[Any]:
    counts = np.asarray(runs, float)
    order = np.argsort(values, kind="stable")
    upto = np.concatenate([[0.0], np.cumsum(counts[order])]) / counts.sum()
    return np.asarray(upto[np.searchsorted(values[order], at, side="right")])


def beyond_chance(size: int, other: int, chance: float = CHANCE) -> float:
    """The distance that samples of these sizes from one distribution exceed so seldom (asymptotic, good from a dozen runs on)."""
    return math.sqrt(-math.log(chance / 2) / 2) * math.sqrt((size + other) / (size * other))


def changed(first: npt.ArrayLike, first_runs: npt.ArrayLike, second: npt.ArrayLike, second_runs: npt.ArrayLike) -> bool:
    """Whether counted values of the second half lie elsewhere than those of the first."""
    size, other = int(np.sum(first_runs)), int(np.sum(second_runs))
    if min(size, other) < FEW:
        return False
    return distance(first, first_runs, second, second_runs) > max(MATTERS, beyond_chance(size, other))
