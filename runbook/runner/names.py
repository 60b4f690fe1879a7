"""The names a runner gives: short token, pod, service containers, host names of services; and which text may be a label.

Source: GitLab Runner, ``helpers/shorten_token.go``, ``executors/kubernetes/{util,host_aliases}.go``, ``helpers/container/services``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from runbook.runner.behaviours import Behaviour
from runbook.runner.version import Version

LABEL_LENGTH = 63
POD_NAME_PREFIX_LENGTH = 54
POD_NAME_SUFFIX_LENGTH = 8
POD_NAME_ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789"

_TOKEN_PREFIX = re.compile(r"glrt-t\d_|glrt-|glrtr-|glcbt-|GR1348941")
_DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_DNS_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")


def short_token(token: str, version: Version) -> str:
    """The part of a token that may be shown: ``glrt-abcdefghijk`` -> ``abcdefghi`` (before 15.10: the first 8 characters)."""
    if not Behaviour.SHORT_TOKEN_WITHOUT_PREFIX.of(version):
        return token[:8]
    return _TOKEN_PREFIX.sub("", token, count=1)[:9] if _TOKEN_PREFIX.match(token) else token[:9]


def project_unique_name(token: str, project_id: int, concurrent: int, version: Version) -> str:
    """``runner-<short token>-project-<id>-concurrent-<n>``, made fit for DNS. Repeats whenever the slot is used again."""
    return rfc1123(f"runner-{short_token(token, version)}-project-{project_id}-concurrent-{concurrent}")


def pod_name(unique_name: str, suffix: str) -> str:
    """The pod's name since 16.2: at most 54 characters, a dash, 8 random ones."""
    return f"{unique_name[:POD_NAME_PREFIX_LENGTH]}-{suffix}"


def rfc1123(name: str) -> str:
    """*name* in lower case without what a DNS name may not hold, at most 63 characters."""
    kept = re.sub(r"[^-a-z0-9.]", "", name.lower())
    return re.sub(r"^[^a-z0-9]+", "", kept)[:LABEL_LENGTH].rstrip("-.")


def label_value(text: str) -> str:
    """*text* as a label's value: other characters become ``_``, the ends are trimmed, at most 63 characters."""
    replaced = re.sub(r"[^A-Za-z0-9\-_.]", "_", text).strip("-_.")
    return replaced[:LABEL_LENGTH].strip("-_.")


def image_host_names(image: str) -> list[str]:
    """Host names that follow from a service's image: ``registry.example.com/a/redis:7`` -> ``registry.example.com-a-redis``.

    The older form with ``__`` is no DNS name and is left out, as a runner does.
    """
    name = re.sub(r"@sha256:[0-9a-f]+$", "", image)
    name = re.sub(r":[^/:]+$", "", name)
    name = re.sub(r":\d+(?=/)", "", name)
    forms = dict.fromkeys((name.replace("/", "__"), name.replace("/", "-")))
    return [form for form in forms if _DNS_SUBDOMAIN.fullmatch(form)]


def alias_tokens(alias: str, version: Version) -> list[str]:
    """The names in a service's `alias`: several, by space or comma, since 15.8."""
    if not alias:
        return []
    return [part for part in re.split(r"[ ,]+", alias) if part] if Behaviour.MULTIPLE_ALIASES.of(version) else [alias]


def is_host_name(name: str) -> bool:
    """True if *name* may stand in `hostAliases`."""
    return len(name) <= 253 and _DNS_SUBDOMAIN.fullmatch(name) is not None


def service_container_names(aliases: Sequence[Iterable[str]], version: Version) -> list[str]:
    """A container name for each service, given its aliases: the first unused one that is a DNS label (>= 17.9), else ``svc-<i>``."""
    names: list[str] = []
    for index, candidates in enumerate(aliases):
        usable = (name for name in candidates if _DNS_LABEL.fullmatch(name) and name not in {*names, "build", "helper"})
        by_alias = next(usable, None) if Behaviour.ALIAS_CONTAINER_NAMES.of(version) else None
        names.append(by_alias or f"svc-{index}")
    return names
