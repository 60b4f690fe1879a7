"""Charges cut into the pieces in which they are settled, for many pods at once.

A charge is settled at every full hour. A spot instance's is also cut where its first hour ends and, from then on, where the
market changes. Times are microseconds from the epoch (UTC), so that an array holds them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Whole = npt.NDArray[np.int64]
Real = npt.NDArray[np.float64]

SECOND, HOUR, DAY = 1_000_000, 3_600_000_000, 86_400_000_000
_NEVER = np.int64(-(2**62))


@dataclass(frozen=True)
class Pieces:
    """Settled pieces of pods: the pod's row, start and end (microseconds), for spot the hour's market price (else NaN)."""

    pod: Whole
    start: Whole
    end: Whole
    market: Real

    def __len__(self) -> int:
        return len(self.pod)

    @property
    def seconds(self) -> Real:
        return (self.end - self.start) / SECOND

    @classmethod
    def joined(cls, parts: Sequence[Pieces]) -> Pieces:
        """All of them, pod by pod in the order of time."""
        columns = [
            np.concatenate([getattr(part, name) for part in parts]) for name in ("pod", "start", "end", "market")
        ]
        order = np.lexsort((columns[1], columns[0]))
        return cls(*(column[order] for column in columns))


def cut(pod: Whole, start: Whole, end: Whole, grid: Whole | None = None) -> Pieces:
    """Cut each span at every full hour and, with a `grid`, at its moments too (sorted)."""
    if grid is None:
        first = start // HOUR + 1
        inner = np.maximum((end - 1) // HOUR - start // HOUR, 0)
    else:
        first = np.searchsorted(grid, start, "right")
        inner = np.maximum(np.searchsorted(grid, end, "left") - first, 0)
    count = np.where(end > start, inner + 1, 0)
    row = np.repeat(np.arange(len(pod)), count)
    number = np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)
    step = first[row] + number
    if grid is None:
        before, after = (step - 1) * HOUR, step * HOUR
    else:
        known = np.append(grid, _NEVER)
        before, after = known[np.minimum(step - 1, len(grid))], known[np.minimum(step, len(grid))]
    begin = np.where(number == 0, start[row], before)
    until = np.where(number == count[row] - 1, end[row], after)
    return Pieces(pod[row], begin, until, np.full(len(row), np.nan))


def on_market(pod: Whole, start: Whole, end: Whole, times: Whole, hour_price: Real) -> Pieces:
    """The pieces of spot instances of one type and zone: the first hour at the price of the start, then as the market goes.

    A piece before the first known price has NaN.
    """
    if not len(pod):
        return cut(pod, start, end)

    def price_at(moments: Whole) -> Real:
        at = np.searchsorted(times, moments, "right") - 1
        known = np.append(hour_price, np.nan)
        return known[np.where(at < 0, len(hour_price), at)]

    protected = np.minimum(start + HOUR, end)
    first = cut(pod, start, protected)
    row = np.searchsorted(pod, first.pod)  # pods are ascending
    first = Pieces(first.pod, first.start, first.end, price_at(start[row]))
    span = np.arange(protected.min() // HOUR, end.max() // HOUR + 2, dtype=np.int64) * HOUR
    later = cut(pod, protected, end, np.union1d(span, times))
    return Pieces.joined([first, Pieces(later.pod, later.start, later.end, price_at(later.start))])
