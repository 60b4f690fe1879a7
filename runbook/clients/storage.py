"""A folder of files that are whole or not there: on a disk, or in a bucket of an object store (OSS, or any S3).

On a disk a file is written under a temporary name, fsynced, renamed, and its folder fsynced: what `put` has returned
from outlives the process and the machine's power. In a bucket one PUT under the final name does the same. Readers never see half.

OSS speaks S3 with the bucket in the host name, and refuses the checksum trailers that S3 clients send by default.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets as random
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from pyarrow import fs

from runbook.clients import secrets
from runbook.clients.secrets import SecretStore
from runbook.errors import HistoryError
from runbook.settings import PodHistory, locate

PAGE = "#history-store"
TEMPORARY = ".tmp"
"""How the name of a file ends that is not whole yet; it also begins with a dot, so that no reader takes it."""


@dataclass(frozen=True)
class StoredFile:
    """One file: its path in the folder, its size in bytes, when it was last written (UTC)."""

    path: str
    size: int
    modified: datetime

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    @property
    def temporary(self) -> bool:
        return self.name.startswith(".") and self.name.endswith(TEMPORARY)


class Folder(Protocol):
    """Where files are kept. Paths are relative to it, with `/`. Every method raises HistoryError where the place does not do it."""

    url: str
    filesystem: fs.FileSystem
    root: str
    """The folder as `filesystem` knows it."""
    on_disk: bool

    def put(self, path: str, data: Any) -> None:
        """Write a file: when this returns, it is there, whole and durable. `data` is anything with a buffer."""

    def publish(self, source: Path, path: str) -> None:
        """Make a file of `scratch` the one at `path`, in one step, in place of an older one."""

    def scratch(self, near: str) -> Path:
        """The path of a new file on this machine that `publish` may then move to `near`."""

    def files(self, under: str) -> list[StoredFile]:
        """All files below a folder, by path; none where the folder is not there."""

    def remove(self, path: str) -> None:
        """Remove a file; nothing happens where it is gone."""

    def move(self, path: str, to: str) -> None:
        """Give a file another path."""

    def exclusive(self, name: str) -> Any:
        """A context: True for the only one on this machine that holds the name, False for others (always True in a bucket)."""


def open_folder(card: PodHistory, client: SecretStore | None = None) -> Folder:
    """The folder that the card's section `history` names. Sends nothing yet. Raises HistoryError for a URL that names none."""
    url = card.url if card.url.startswith("file://") else secrets.resolve(card.url, client)
    scheme, _, rest = url.partition("://")
    if not rest:
        return DiskFolder(locate(url))
    if scheme == "file":
        return DiskFolder(Path(urlsplit(url).path))
    if scheme in ("oss", "s3"):
        keys = {
            name: secrets.resolve(reference, client) if reference else None
            for name, reference in (("access_key", card.access_key_id), ("secret_key", card.access_key_secret))
        }
        endpoint = secrets.resolve(card.endpoint, client) if card.endpoint else None
        return BucketFolder(scheme, rest.strip("/"), endpoint=endpoint, region=card.region, **keys)
    raise HistoryError(
        "The history's place is none that can be opened.",
        where="history.url",
        value=url,
        allowed="a path, file:///path, oss://bucket/path or s3://bucket/path",
        page=PAGE,
    )


class DiskFolder:
    """A folder on a disk of this machine."""

    on_disk = True

    def __init__(self, root: Path) -> None:
        self.path = root.absolute()
        self.root = self.url = str(self.path)
        self.filesystem = fs.LocalFileSystem()

    def put(self, path: str, data: Any) -> None:
        target = self.path / path
        temporary = target.with_name(f".{target.name}.{random.token_hex(4)}{TEMPORARY}")
        with self._paged(target):
            try:
                handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
            except FileNotFoundError:
                _make_folder(target.parent)
                handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
            try:
                try:
                    view = memoryview(data)
                    while view:
                        view = view[os.write(handle, view) :]
                    os.fsync(handle)
                finally:
                    os.close(handle)
                os.rename(temporary, target)
            except OSError:
                with suppress(OSError):
                    temporary.unlink()
                raise
            _sync(target.parent)

    def publish(self, source: Path, path: str) -> None:
        target = self.path / path
        with self._paged(target):
            _sync(source)
            os.rename(source, target)
            _sync(target.parent)

    def scratch(self, near: str) -> Path:
        target = self.path / near
        with self._paged(target):
            _make_folder(target.parent)
        return target.with_name(f".{target.name}.{random.token_hex(4)}{TEMPORARY}")

    def files(self, under: str) -> list[StoredFile]:
        top = self.path / under
        with self._paged(top):
            return sorted(_walk(str(top), under), key=lambda one: one.path)

    def remove(self, path: str) -> None:
        with self._paged(self.path / path):
            (self.path / path).unlink(missing_ok=True)

    def move(self, path: str, to: str) -> None:
        with self._paged(self.path / to):
            _make_folder((self.path / to).parent)
            os.rename(self.path / path, self.path / to)
            _sync((self.path / to).parent)
            _sync((self.path / path).parent)

    @contextmanager
    def exclusive(self, name: str) -> Iterator[bool]:
        with self._paged(self.path):
            _make_folder(self.path)
            handle = os.open(self.path / f".{name}.lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True
        finally:
            os.close(handle)

    @contextmanager
    def _paged(self, where: Path) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            problem, remedy = _DISK.get(error.errno or 0, (f"The disk answered: {error.strerror or error}.", None))
            raise HistoryError(problem, where=str(where), remedy=remedy, page=PAGE) from None


_NO_ROOM = "Make room, or let `history.url` of the card name another place; what was acknowledged before is whole."
_NO_RIGHT = "Give this account the right to write there, or let `history.url` of the card name another place."
_DISK = {
    errno.ENOSPC: ("The disk of the pod history is full; these records were not kept.", _NO_ROOM),
    errno.EDQUOT: ("The disk quota of the pod history is used up; these records were not kept.", _NO_ROOM),
    errno.EACCES: ("The pod history may not be read or written by this account.", _NO_RIGHT),
    errno.EPERM: ("The pod history may not be read or written by this account.", _NO_RIGHT),
    errno.EROFS: ("The pod history is on a disk that is read-only.", _NO_RIGHT),
    errno.ENOTDIR: ("The pod history's place is a file, not a folder.", "Let `history.url` of the card name a folder."),
}
"""What a disk refuses, as a page: the problem and what to do."""


def _make_folder(folder: Path) -> None:
    """A folder and the missing ones above it, each durable in the one above."""
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    _sync(folder.parent)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _walk(folder: str, path: str) -> Iterator[StoredFile]:
    """The files below a folder, `path` before their names. What is removed meanwhile is left out."""
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        for one in entries:
            inner = f"{path}/{one.name}" if path else one.name
            if one.is_dir(follow_symlinks=False):
                yield from _walk(one.path, inner)
                continue
            with suppress(FileNotFoundError):
                about = one.stat()
                yield StoredFile(inner, about.st_size, datetime.fromtimestamp(about.st_mtime, UTC))


class BucketFolder:
    """A folder in a bucket: `bucket/path`. Where no keys are given, those that the S3 client finds by itself are used."""

    on_disk = False

    def __init__(
        self,
        scheme: str,
        root: str,
        *,
        endpoint: str | None,
        region: str | None,
        access_key: str | None,
        secret_key: str | None,
    ) -> None:
        self.url, self.root = f"{scheme}://{root}", root
        protocol, _, host = (endpoint or "").rpartition("://")
        if scheme == "oss":
            if not host:
                raise HistoryError(
                    "A history on OSS needs the address of OSS.",
                    where="history.endpoint",
                    allowed="such as oss-cn-hangzhou-internal.aliyuncs.com",
                    page=PAGE,
                )
            os.environ.setdefault("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")
        self.filesystem = fs.S3FileSystem(
            access_key=access_key,
            secret_key=secret_key,
            region=region or ("oss" if scheme == "oss" else None),
            endpoint_override=host or None,
            scheme=protocol or "https",
            force_virtual_addressing=scheme == "oss",
            allow_delayed_open=True,  # a small file is one PUT
            connect_timeout=10,
            request_timeout=60,
        )

    def put(self, path: str, data: Any) -> None:
        with self._paged(path), self.filesystem.open_output_stream(f"{self.root}/{path}") as out:
            out.write(data)

    def publish(self, source: Path, path: str) -> None:
        """The object appears when its upload is complete; a process that dies before leaves the older one."""
        with self._paged(path):
            fs.copy_files(
                str(source),
                f"{self.root}/{path}",
                source_filesystem=fs.LocalFileSystem(),
                destination_filesystem=self.filesystem,
            )
        source.unlink()

    def scratch(self, near: str) -> Path:
        handle, path = tempfile.mkstemp(prefix="runbook-history-", suffix=TEMPORARY)
        os.close(handle)
        return Path(path)

    def files(self, under: str) -> list[StoredFile]:
        with self._paged(under):
            chosen = fs.FileSelector(f"{self.root}/{under}", allow_not_found=True, recursive=True)
            found = self.filesystem.get_file_info(chosen)
        cut = len(self.root) + 1
        whole = (one for one in found if one.type == fs.FileType.File)
        return sorted((StoredFile(one.path[cut:], one.size, one.mtime) for one in whole), key=lambda one: one.path)

    def remove(self, path: str) -> None:
        with self._paged(path), suppress(FileNotFoundError):
            self.filesystem.delete_file(f"{self.root}/{path}")

    def move(self, path: str, to: str) -> None:
        with self._paged(path):
            self.filesystem.move(f"{self.root}/{path}", f"{self.root}/{to}")

    @contextmanager
    def exclusive(self, name: str) -> Iterator[bool]:
        yield True

    @contextmanager
    def _paged(self, path: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            said = re.search(r"AWS Error (\w+)[^:]*: ([^(\n]*)", str(error))
            word, text = said.groups() if said else ("", "it did not answer")
            problem, remedy = _BUCKET.get(word, (f"The object store refused: {word} {text}".strip() + ".", None))
            raise HistoryError(problem, where=f"{self.url}/{path}", remedy=remedy, page=PAGE) from None


_BUCKET = {
    "NO_SUCH_BUCKET": ("There is no such bucket.", "Make the bucket, or correct `history.url` of the card."),
    "ACCESS_DENIED": (
        "The object store does not let this AccessKey do that.",
        "Give its user the right to list, read, write and delete objects of the bucket.",
    ),
    "INVALID_ACCESS_KEY_ID": ("The object store does not know the AccessKey.", "Look at `history.access_key_id`."),
    "SIGNATURE_DOES_NOT_MATCH": ("The AccessKey's secret is wrong.", "Look at `history.access_key_secret`."),
    "NETWORK_CONNECTION": ("The object store cannot be reached.", "Look at `history.endpoint` and the network."),
}
"""What an object store refuses, as a page: the problem and what to do."""
