"""Times as GitLab writes them: UTC, ISO 8601, milliseconds, ``Z``."""

from __future__ import annotations

import datetime as dt


def utc_now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def stamp(moment: dt.datetime, *, fraction: bool = True) -> str:
    text = moment.astimezone(dt.UTC).isoformat(timespec="milliseconds" if fraction else "seconds")
    return text.replace("+00:00", "Z")


def optional_stamp(moment: dt.datetime | None) -> str | None:
    return None if moment is None else stamp(moment)
