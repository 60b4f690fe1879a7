"""The way to the cluster that config.toml names: `host` with its credentials, else in-cluster, else the default kubeconfig.

Source: GitLab Runner, ``executors/kubernetes/util.go``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import urllib3
from kubernetes import client, config

REQUEST_TIMEOUT_SECONDS = 30
FAULTS = (client.ApiException, urllib3.exceptions.HTTPError)
"""What a call may raise: the API server refused it, or did not answer."""


def configuration(kubernetes: Mapping[str, Any], bearer_token: str = "") -> client.Configuration:
    """`[runners.kubernetes]` -> how to connect. *bearer_token* is that of the section, or the one a job may have put in its place.

    Raises:
        ValueError: a certificate without key or CA, or no way to a cluster at all.
    """
    made = client.Configuration()
    if kubernetes.get("cert_file") and not (kubernetes.get("key_file") and kubernetes.get("ca_file")):
        raise ValueError("ca file, cert file and key file must be specified when using file based auth")
    if kubernetes.get("host"):
        made.host = str(kubernetes["host"])
        made.ssl_ca_cert = kubernetes.get("ca_file") or None
        made.cert_file = kubernetes.get("cert_file") or None
        made.key_file = kubernetes.get("key_file") or None
    else:
        _load_default(made, kubernetes.get("context") or None)
    if bearer_token:
        made.api_key["authorization"] = f"Bearer {bearer_token}"
    # a proxy of the environment is for the way to GitLab; the API server is in the same network
    made.no_proxy = made.no_proxy or "127.0.0.1,localhost"
    return made


def message(error: Exception) -> str:
    """The API server's own sentence, as Go's client shows it; else what kept us from it."""
    if not isinstance(error, client.ApiException):
        return f"{type(error).__name__}: {error}"
    try:
        body = json.loads(error.body or "")
    except (TypeError, ValueError):
        return str(error.reason or error.status)
    return str(body.get("message") or error.reason)


def is_not_found(error: Exception) -> bool:
    """True if the API server says that the object is not there (any more)."""
    return isinstance(error, client.ApiException) and error.status == 404


def _load_default(made: client.Configuration, context: str | None) -> None:
    loader: Any = config
    try:
        loader.load_incluster_config(client_configuration=made)
    except config.ConfigException:
        try:
            loader.load_kube_config(client_configuration=made, context=context)
        except config.ConfigException as error:
            raise ValueError(f"invalid configuration: {error}") from None
