"""Durations as people write them in `.gitlab-ci.yml`: ``1 day``, ``2h 30m``, ``90``."""

from __future__ import annotations

import re

_UNITS = {
    "s": 1, "sec": 1, "second": 1,
    "m": 60, "min": 60, "minute": 60,
    "h": 3600, "hr": 3600, "hour": 3600,
    "d": 86400, "day": 86400,
    "w": 604800, "wk": 604800, "week": 604800,
    "mo": 2592000, "mos": 2592000, "month": 2592000,
    "y": 31557600, "yr": 31557600, "year": 31557600,
}  # fmt: skip
_PART = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*(?:,|and)?")


def parse_duration(text: str | int) -> int:
    """Seconds in `text`; a bare number is seconds. Raises ValueError where it is no duration."""
    written = str(text).strip().lower()
    position, total = 0, 0.0
    while position < len(written):
        part = _PART.match(written, position)
        if part is None:
            raise ValueError(f"not a duration: {text!r}")
        number, unit = part.groups()
        unit = unit or "s"
        seconds = _UNITS.get(unit) or _UNITS.get(unit.removesuffix("s"))
        if seconds is None:
            raise ValueError(f"not a duration: {text!r}")
        total += float(number) * seconds
        position = part.end()
    if total <= 0:
        raise ValueError(f"not a duration: {text!r}")
    return int(total)
