"""What a figure is, and how two things are compared: in turns, and by the median of each turn's ratio."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """One value of a run. `limit` is the most it may be; without one it only tells what the naive way costs."""

    name: str
    value: float
    unit: str
    limit: float | None = None

    @property
    def holds(self) -> bool:
        return self.limit is None or self.value <= self.limit


def seconds(action: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def ratio(action: Callable[[], object], to: Callable[[], object], *, rounds: int) -> float:
    """How many times as long `action` takes as `to`: the median over rounds that run both, in changing order."""
    ratios = []
    for turn in range(rounds):
        first, second = (action, to) if turn % 2 else (to, action)
        times = {first: seconds(first)}
        times[second] = seconds(second)
        ratios.append(times[action] / times[to])
    return statistics.median(ratios)


def peak_mib(action: Callable[[], object]) -> float:
    """The most memory (MiB) of a child process that runs `action`. Raises RuntimeError where it fails."""
    child = os.fork()
    if not child:
        code = 1
        try:
            action()
            code = 0
        finally:
            os._exit(code)
    _, status, usage = os.wait4(child, 0)
    if status:
        raise RuntimeError("the measured process failed")
    return usage.ru_maxrss / 1024
