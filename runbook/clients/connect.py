"""Settings in, clients out: the only place that knows how a card becomes a connection."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from runbook.clients import secrets
from runbook.errors import KubernetesError
from runbook.moments import Clock
from runbook.settings import Settings, locate

if TYPE_CHECKING:
    from runbook.clients.alibaba import AlibabaCloud
    from runbook.clients.gitlab import GitLabClient
    from runbook.clients.kubernetes import Cluster

DEFAULT_KUBECONFIG = "~/.kube/config"
HOW_TO_GET_ONE = (
    "Copy it from the cluster's page in the console (Connection Information) into a file of mode 0600, "
    "and name the file in the card: kubernetes.kubeconfig."
)


class SystemClock:
    """The machine's own clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


def clock() -> Clock:
    """The real clock, for whoever waits."""
    return SystemClock()


def gitlab(settings: Settings) -> GitLabClient:
    """GitLab as the account of the card's token. Raises SecretError where the token is not there; sends nothing yet."""
    from runbook.clients.gitlab import GitLabClient

    card = settings.gitlab
    return GitLabClient(secrets.resolve(card.url), secrets.resolve(card.token), ca_file=_file(card.ca_file))


def alibaba(settings: Settings) -> AlibabaCloud:
    """Alibaba Cloud's API as the card's AccessKey, or the SDK's own chain, may read it.

    Raises SecretError where a reference names nothing; sends nothing yet.
    """
    from runbook.clients.alibaba import AccessKey, AlibabaCloud, Endpoints

    card = settings.alibaba
    key = None
    if card.access_key_id and card.access_key_secret:
        token = secrets.resolve(card.security_token) if card.security_token else None
        key = AccessKey(secrets.resolve(card.access_key_id), secrets.resolve(card.access_key_secret), token)
    public = Endpoints.of(settings.region, settings.site)
    endpoints = Endpoints(
        eci=secrets.resolve(card.eci_endpoint or public.eci),
        ecs=secrets.resolve(card.ecs_endpoint or public.ecs),
        bss=secrets.resolve(card.bss_endpoint or public.bss),
    )
    return AlibabaCloud(settings.region, endpoints, clock=clock(), key=key)


def kubernetes(settings: Settings) -> Cluster:
    """The cluster as the account of the card's kubeconfig sees it, or as this pod's ServiceAccount does (in_cluster).

    Raises KubernetesError where there is no usable kubeconfig; sends nothing yet.
    """
    from kubernetes.client import ApiClient, Configuration

    from runbook.clients.kubernetes import Cluster

    card = settings.kubernetes
    configuration = Configuration()
    if card.in_cluster:
        _load_in_cluster(configuration, settings)
        source, context = "in-cluster", None
    else:
        source = _kubeconfig(settings)
        context = _load_kubeconfig(
            configuration, source, secrets.resolve(card.context) if card.context else None, settings
        )
    return Cluster(
        ApiClient(configuration), source=source, context=context, timeout=card.request_timeout, clock=clock()
    )


def _file(path: str | None) -> Path | None:
    return locate(secrets.resolve(path)) if path else None


def _kubeconfig(settings: Settings) -> str:
    """The kubeconfig's path (or paths, as KUBECONFIG joins them): the card's, else KUBECONFIG, else the default."""
    named = settings.kubernetes.kubeconfig
    if named:
        return str(locate(secrets.resolve(named)))
    return os.environ.get("KUBECONFIG") or str(Path(DEFAULT_KUBECONFIG).expanduser())


def _load_in_cluster(configuration: Any, settings: Settings) -> None:
    from kubernetes.config import ConfigException, load_incluster_config

    try:
        load_incluster_config(configuration)  # type: ignore[no-untyped-call]
    except ConfigException:
        raise KubernetesError(
            "This is not a pod of the cluster: there is no ServiceAccount token to use.",
            where=f"{settings.card}: kubernetes.in_cluster",
            value=True,
            allowed="true only where the notebooks run in a pod of the cluster",
            remedy="Set in_cluster: false and name a kubeconfig.",
            page="#kubeconfig",
        ) from None


def _load_kubeconfig(configuration: Any, source: str, context: str | None, settings: Settings) -> str:
    """Fill `configuration` from the file(s) and return the context's name. Raises KubernetesError."""
    from kubernetes.config import ConfigException, load_kube_config

    where = f"{settings.card}: kubernetes.kubeconfig"
    documents = [_read(path, where) for path in source.split(os.pathsep) if path and Path(path).expanduser().exists()]
    if not documents:
        raise KubernetesError(
            "There is no kubeconfig.",
            where=where if settings.kubernetes.kubeconfig else "the environment variable KUBECONFIG, or the default",
            value=source,
            remedy=HOW_TO_GET_ONE,
            page="#kubeconfig",
        )
    contexts = _names(documents, "contexts")
    wanted = context or next((str(one["current-context"]) for one in documents if one.get("current-context")), None)
    if wanted not in contexts:
        raise KubernetesError(
            f"The kubeconfig {source} has no context of this name."
            if wanted
            else f"The kubeconfig {source} has no current-context, and the card names none.",
            where=f"{settings.card}: kubernetes.context" if context else f"{source}: current-context",
            value=wanted,
            allowed=", ".join(contexts) or "none: the file has no contexts",
            remedy="Name one of these as kubernetes.context in the card." if contexts else HOW_TO_GET_ONE,
            page="#kubeconfig",
        )
    try:
        load_kube_config(source, wanted, configuration, persist_config=False)  # type: ignore[no-untyped-call]
    except (ConfigException, ValueError, TypeError, KeyError, OSError) as error:
        raise KubernetesError(
            "The kubeconfig is damaged: what this context needs is not in it.",
            where=f"{source}, context {wanted}",
            value=_without_content(error),
            remedy=HOW_TO_GET_ONE,
            page="#kubeconfig",
        ) from None
    _require_credentials(configuration, source, wanted)
    return wanted


def _read(path: str, where: str) -> dict[str, Any]:
    try:
        document = yaml.safe_load(Path(path).expanduser().read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        problem = f"The kubeconfig cannot be read: {reason}."
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = f"The kubeconfig is not YAML{f' (line {mark.line + 1})' if mark else ''}."
    else:
        if isinstance(document, dict):
            return document
        problem = "The kubeconfig is empty or not a mapping."
    raise KubernetesError(problem, where=where, value=path, remedy=HOW_TO_GET_ONE, page="#kubeconfig")


def _names(documents: Iterable[dict[str, Any]], section: str) -> list[str]:
    entries = (entry for one in documents for entry in one.get(section) or [])
    return [str(entry["name"]) for entry in entries if isinstance(entry, dict) and "name" in entry]


def _without_content(error: Exception) -> str:
    """What may be shown of a loader's error: its own sentences name keys and paths, others could quote the file."""
    from kubernetes.config import ConfigException

    return str(error) if isinstance(error, ConfigException) else type(error).__name__


def _require_credentials(configuration: Any, source: str, context: str) -> None:
    """Stop at a context without an account: the official client would go on as anonymous, and be refused."""
    if configuration.cert_file or configuration.api_key:
        return
    raise KubernetesError(
        "The kubeconfig's context has no usable credentials: no certificate, no token, and no program that gave one.",
        where=f"{source}, context {context}",
        remedy="Where its user names a program (exec), run that program by hand and see what it says. Else: "
        + HOW_TO_GET_ONE,
        page="#kubeconfig",
    )
