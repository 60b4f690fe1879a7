"""The version of a GitLab Runner: three numbers that can be compared.

What a configuration key does, and which pod a job becomes, depends on the version of the manager process. It is read from GitLab's list of
managers (``"17.9.2"``), from ``gitlab-runner --version``, or from the card.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_FORM = re.compile(r"v?(\d+)\.(\d+)(?:\.(\d+))?(?:[-~+].*)?")


class Version(NamedTuple):
    """A runner version; compares by number, so ``Version(17, 10, 0) > Version(17, 9, 2)``."""

    major: int
    minor: int
    patch: int = 0

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"


def parse(text: str) -> Version:
    """``"17.9.2"``, ``"v17.9"`` or ``"17.9.0~pre.12.gabc"`` -> Version. Suffixes of pre-releases are dropped.

    Raises:
        ValueError: *text* does not start with two or three numbers joined by dots.
    """
    match = _FORM.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a runner version; expected three numbers joined by dots, such as '17.9.2'")
    major, minor, patch = match.groups(default="0")
    return Version(int(major), int(minor), int(patch))
