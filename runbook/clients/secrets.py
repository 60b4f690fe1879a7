"""References to secrets: read what they name, and put a new secret where they name.

    env:NAME                    an environment variable, read only
    file:PATH                   a file; written with mode 0600, in one step
    secret:NAMESPACE/NAME/KEY   one key of a Kubernetes Secret; its other keys stay as they are

A message of this room names the reference and never the value behind it.
"""

from __future__ import annotations

import base64
import binascii
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from runbook.errors import SecretError
from runbook.settings import is_reference, locate

PAGE = "#secret-reference"
REHEARSAL = "rehearsal"
"""What a rehearsed write of a Secret holds: the server checks it and keeps nothing."""


class SecretStore(Protocol):
    """What `secret:` references need of a cluster; `runbook.clients.kubernetes.Cluster` has it."""

    def get(self, kind: str, name: str, namespace: str | None = None) -> dict[str, Any] | None: ...

    def create(self, manifest: dict[str, Any], *, dry_run: bool) -> Any: ...

    def patch(
        self, kind: str, name: str, body: dict[str, Any], namespace: str | None = None, *, dry_run: bool
    ) -> Any: ...


@dataclass(frozen=True)
class _Key:
    """One key of a Secret."""

    namespace: str
    name: str
    key: str

    @classmethod
    def parse(cls, path: str) -> _Key:
        return cls(*path.split("/"))

    @property
    def secret(self) -> str:
        return f"Secret {self.namespace}/{self.name}"


def resolve(text: str, client: SecretStore | None = None, *, environment: Mapping[str, str] | None = None) -> str:
    """The value that a string of the card stands for; a string that is no reference stands for itself.

    `client` is needed for `secret:` only, `environment` is the process's own where none is handed in.
    A final line break of a file is not part of the secret. Raises SecretError where the reference names nothing.
    """
    if not is_reference(text):
        return text
    value = _read(text, client, os.environ if environment is None else environment)
    if value is None:
        raise SecretError(
            "A reference names a secret that is not there.", where=text, remedy=_how_to_give(text), page=PAGE
        )
    if not value.strip():
        raise SecretError("A reference names a secret that is empty.", where=text, remedy=_how_to_give(text), page=PAGE)
    return value


def exists(text: str, client: SecretStore | None = None, *, environment: Mapping[str, str] | None = None) -> bool:
    """Whether a reference names a secret that is there and not empty. Raises SecretError where it cannot be read."""
    value = _read(text, client, os.environ if environment is None else environment)
    return value is not None and bool(value.strip())


def store(text: str, value: str, client: SecretStore | None = None, *, dry_run: bool) -> None:
    """Put a secret where a `file:` or `secret:` reference says: wholly or not at all.

    With `dry_run` nothing is written, but what would stop the write is raised: a folder that cannot be written to, a
    namespace that is missing, a right that this account lacks. Raises SecretError, or KubernetesError from the cluster.
    """
    kind, _, path = text.partition(":")
    if not is_reference(text) or kind == "env":
        raise SecretError(
            "A secret cannot be stored there.",
            where=text if is_reference(text) else None,
            allowed="file:PATH or secret:NAMESPACE/NAME/KEY",
            page=PAGE,
        )
    if kind == "secret":
        _write_key(_Key.parse(path), REHEARSAL if dry_run else value, _cluster(text, client), dry_run=dry_run)
    elif dry_run:
        _check_place(text, path)
    else:
        _write_file(text, path, value)


def _read(text: str, client: SecretStore | None, environment: Mapping[str, str]) -> str | None:
    kind, _, path = text.partition(":")
    if kind == "env":
        return environment.get(path)
    if kind == "file":
        return _read_file(text, path)
    return _read_key(text, _Key.parse(path), _cluster(text, client))


def _read_file(text: str, path: str) -> str | None:
    try:
        return locate(path).read_text(encoding="utf-8").rstrip("\r\n")
    except FileNotFoundError:
        return None
    except UnicodeDecodeError:
        raise SecretError("The file of a secret is not UTF-8 text.", where=text, page=PAGE) from None
    except OSError as error:
        raise SecretError(
            f"The file of a secret cannot be read: {error.strerror or error}.",
            where=text,
            remedy=f"ls -ld {locate(path)}",
            page=PAGE,
        ) from None


def _read_key(text: str, place: _Key, client: SecretStore) -> str | None:
    secret = client.get("Secret", place.name, place.namespace)
    encoded = (secret or {}).get("data", {}).get(place.key)
    if encoded is None:
        return None
    try:
        return base64.b64decode(encoded, validate=True).decode("utf-8").rstrip("\r\n")
    except (binascii.Error, UnicodeDecodeError):
        raise SecretError("The key of a Secret does not hold text.", where=text, page=PAGE) from None


def _check_place(text: str, path: str) -> None:
    """Raise where a file could not be written; create nothing."""
    target = locate(path)
    if target.is_dir():
        raise SecretError("A secret is to be stored in a file, but a folder is there.", where=text, page=PAGE)
    folder = next(parent for parent in target.parents if parent.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise SecretError(
            "A secret could not be stored: its folder cannot be written to.",
            where=text,
            value=str(folder),
            remedy=f"ls -ld {folder}",
            page=PAGE,
        )


def _write_file(text: str, path: str, value: str) -> None:
    """A new file with mode 0600 takes the old one's place at once, so a reader never meets half a secret."""
    target = locate(path).resolve()
    try:
        _make_private_folder(target.parent)
        descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(value + "\n")
                file.flush()
                os.fsync(file.fileno())
            os.replace(name, target)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise SecretError(
            f"A secret could not be stored: {error.strerror or error}.",
            where=text,
            remedy=f"ls -ld {target.parent}; df {target.parent}",
            page=PAGE,
        ) from None


def _make_private_folder(folder: Path) -> None:
    missing = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    for parent in reversed(missing):
        parent.mkdir(mode=0o700)


def _write_key(place: _Key, value: str, client: SecretStore, *, dry_run: bool) -> None:
    data = {place.key: base64.b64encode(value.encode()).decode()}
    if client.get("Secret", place.name, place.namespace) is None:
        manifest = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": place.name, "namespace": place.namespace},
            "type": "Opaque",
            "data": data,
        }
        client.create(manifest, dry_run=dry_run)
    else:
        # A merge patch of the one key: server-side apply would take away other keys that we applied before.
        client.patch("Secret", place.name, {"data": data}, place.namespace, dry_run=dry_run)


def _cluster(text: str, client: SecretStore | None) -> SecretStore:
    if client is None:
        raise SecretError(
            "A reference names a Secret in the cluster, but it is needed before the cluster can be reached.",
            where=text,
            allowed="env:NAME or file:PATH here",
            page=PAGE,
        )
    return client


def _how_to_give(text: str) -> str:
    kind, _, path = text.partition(":")
    if kind == "env":
        return f"read -rs {path} && export {path}   # before jupyter or papermill starts"
    if kind == "file":
        return f"install -m 600 /dev/stdin {path}   # then paste the value and press Ctrl-D"
    place = _Key.parse(path)
    return (
        f"kubectl -n {place.namespace} create secret generic {place.name} --from-file={place.key}=/dev/stdin"
        "   # then paste the value and press Ctrl-D"
    )
