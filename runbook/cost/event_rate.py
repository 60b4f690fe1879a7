"""How sure a rate is that was counted: k events in so many hours, with the rates that this still allows.

The interval is that of Garwood (1936): exact for counts of independent events, never narrower than it says. Where nothing was
counted its upper end is the one-sided bound -ln(0.05) = 3.0 events ("rule of three"): no events in a hundred hours still allow
three in a hundred.
"""

from __future__ import annotations

import math

import numpy as np

_HALVINGS = 200


def interval(count: int, confidence: float = 0.95) -> tuple[float, float]:
    """The lowest and the highest mean number of events that a count allows. Raises ValueError for a negative count."""
    if count < 0:
        raise ValueError(f"{count} events cannot be counted")
    if count == 0:
        return 0.0, -math.log(1 - confidence)
    doubt = (1 - confidence) / 2
    return _mean_with(1 - doubt, count - 1), _mean_with(doubt, count)


def per_hour(count: int, hours: float, confidence: float = 0.95) -> tuple[float, float]:
    """The lowest and the highest rate an hour that a count in so many hours allows; (0, inf) without hours."""
    if hours <= 0:
        return 0.0, math.inf
    low, high = interval(count, confidence)
    return low / hours, high / hours


def at_most(count: int, mean: float) -> float:
    """The chance of at most `count` events where `mean` are expected: the cumulative Poisson distribution."""
    if mean <= 0:
        return 1.0
    events = np.arange(count + 1)
    log_factorials = np.concatenate(([0.0], np.cumsum(np.log(events[1:]))))
    return float(min(1.0, np.exp(events * math.log(mean) - mean - log_factorials).sum()))


def _mean_with(chance: float, count: int) -> float:
    """The mean with which at most `count` events have this chance, by halving: the chance falls as the mean grows."""
    low, high = 0.0, count + 10.0 * math.sqrt(count + 1) + 10.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if at_most(count, middle) > chance else (low, middle)
    return (low + high) / 2
