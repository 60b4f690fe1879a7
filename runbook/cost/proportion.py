"""How sure a share is that was counted: k of n, with the interval that the count still allows.

The interval is that of Clopper and Pearson (1934): exact for any n, never narrower than it says, and with an upper end above
zero where nothing was counted. No approximation by the normal distribution, which fails for the small counts of a CI month.
"""

from __future__ import annotations

import math

_STEPS = 200
_TINY = 1e-300
_EXACT = 1e-15


def interval(count: int, of: int, confidence: float = 0.95) -> tuple[float, float]:
    """The lowest and the highest share that `count` of `of` allows; (0, 1) where nothing was tried.

    Where the count is zero (or all), the one open end gets half of the doubt too, so that intervals can be compared.
    """
    if not 0 <= count <= of:
        raise ValueError(f"{count} of {of} is no share")
    doubt = (1 - confidence) / 2
    low = 0.0 if count == 0 else _quantile(doubt, count, of - count + 1)
    high = 1.0 if count == of else _quantile(1 - doubt, count + 1, of - count)
    return low, high


def _quantile(probability: float, a: float, b: float) -> float:
    """Where the cumulative beta distribution of (a, b) reaches `probability`, by halving."""
    low, high = 0.0, 1.0
    while high - low > _EXACT * max(high, _TINY) and low < (middle := (low + high) / 2) < high:
        if beta_cdf(middle, a, b) < probability:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def beta_cdf(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function, by its continued fraction (Lentz's method)."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):
        return 1 - beta_cdf(1 - x, b, a)
    front = a * math.log(x) + b * math.log1p(-x) + math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    return math.exp(front) * _fraction(x, a, b) / a


def _fraction(x: float, a: float, b: float) -> float:
    def kept(value: float) -> float:
        return value if abs(value) > _TINY else _TINY

    c, d = 1.0, 1 / kept(1 - (a + b) * x / (a + 1))
    result = d
    for m in range(1, _STEPS + int(math.sqrt(max(a, b))) * 10):
        for step in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1 / kept(1 + step * d)
            c = kept(1 + step / c)
            result *= c * d
        if abs(c * d - 1) < _EXACT * 10:
            break
    return result
