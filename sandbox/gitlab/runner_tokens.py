"""Runner tokens as GitLab makes them: the prefix says how the runner came to be."""

from __future__ import annotations

import secrets

from sandbox.gitlab.instance import Options

_TYPE_MARKS = {"instance_type": "t1_", "group_type": "t2_", "project_type": "t3_"}
# From here on a created runner's token tells the runner's type.
_MARKED_FROM = (17, 8)


def created(options: Options, runner_type: str) -> str:
    """The token of a runner made by `POST /user/runners`."""
    mark = _TYPE_MARKS[runner_type] if options.release >= _MARKED_FROM else ""
    return f"glrt-{mark}{secrets.token_urlsafe(20)}"


def registered(options: Options) -> str:
    """The token of a runner made with a registration token."""
    prefix = "glrtr-" if options.release >= _MARKED_FROM else ""
    return f"{prefix}{secrets.token_urlsafe(15)}"


def renewed(options: Options, runner_type: str, old: str) -> str:
    """A new token of the same kind as `old`."""
    return created(options, runner_type) if old.startswith("glrt-") else registered(options)
