"""Quantiles of values that are counted: exact, and as small as the number of different values.

Ten million durations in whole seconds are a few thousand pairs of value and count, which an engine adds up in one pass and
which need no memory to speak of; sorting them for each quantile would.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def of_counts(values: npt.ArrayLike, counts: npt.ArrayLike, q: float) -> float:
    """The quantile q (0 to 1) of values that occur so often, interpolated linearly between neighbours as numpy does.

    NaN where there is nothing.
    """
    every: npt.NDArray[Any] = np.asarray(values, dtype=float)
    order = np.argsort(every, kind="stable")
    upto = np.cumsum(np.asarray(counts)[order])
    total = int(upto[-1]) if len(upto) else 0
    if not total:
        return float("nan")
    place = q * (total - 1)
    low, high = (every[order][np.searchsorted(upto, at, side="right")] for at in (np.floor(place), np.ceil(place)))
    return float(low + (high - low) * (place - np.floor(place)))
