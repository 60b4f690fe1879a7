"""A file of this host that other programs read and write too: what is there, and a replacement that is whole or not at all.

A new file is written beside the old one, with its mode and owner, and takes its name in one step; a reader sees the old or the new, never
half of one. Right before that the old file is compared with what was read: if somebody wrote meanwhile, nothing is replaced. A symbolic
link stays a link: the file it leads to is replaced, in the folder of that file.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from runbook.errors import ConfigTomlError

PAGE = "#config-toml-place"
PRIVATE = 0o600


@dataclass(frozen=True)
class HostFile:
    """A path and what was found there. `data` is None where there is no file; it is never shown."""

    path: Path
    """As it was named."""
    target: Path
    """The file itself, at the end of all symbolic links."""
    data: bytes | None = field(default=None, repr=False)
    mode: int = PRIVATE
    owner: tuple[int, int] | None = None
    """Numbers of its user and group; None where there is no file."""

    @classmethod
    def read(cls, path: Path) -> HostFile:
        """What is at `path` now. Raises ConfigTomlError where something is there that cannot be read as a file."""
        path = Path(os.path.abspath(path))
        with _explained(path, "read"):
            target = Path(os.path.realpath(path, strict=False))
            try:
                data, status = target.read_bytes(), target.stat()
            except FileNotFoundError:
                return cls(path, target)
            return cls(path, target, data, stat.S_IMODE(status.st_mode), (status.st_uid, status.st_gid))

    @property
    def exists(self) -> bool:
        return self.data is not None

    @property
    def is_link(self) -> bool:
        return self.path != self.target and self.path.is_symlink()

    @property
    def is_read_only(self) -> bool:
        """Whether its mode takes the right to write from everybody, as somebody does on purpose."""
        return self.exists and not self.mode & (stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH)

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data or b"").hexdigest()

    def obstacle(self) -> str | None:
        """Why this account could not replace it, or None."""
        folder = self.target.parent
        if not folder.is_dir():
            return f"there is no folder {folder}"
        if self.is_link and not self.exists:
            return f"{self.path} is a symbolic link to {self.target}, which is not there"
        if self.is_read_only:
            return f"its mode {self.mode:04o} lets nobody write to it"
        if not os.access(folder, os.W_OK | os.X_OK):
            return f"this account may not write in {folder}"
        if os.path.ismount(self.target):
            return f"{self.target} is a mount of its own, which cannot be replaced in one step"
        return None

    def replace(self, data: bytes, *, mode: int | None = None, backup_at: datetime | None = None) -> Path | None:
        """Put `data` in its place; with `backup_at` a copy of the old file, named by that moment, stays beside it.

        Returns the backup's path, or None where there was no file. Raises ConfigTomlError, and has changed nothing, where somebody else
        changed the file since it was read, or where the system refuses.
        """
        with _explained(self.path, "replaced"):
            descriptor, name = tempfile.mkstemp(prefix=f".{self.target.name}.", suffix=".new", dir=self.target.parent)
            made = [Path(name)]
            try:
                self._fill(descriptor, data, self.mode if mode is None else mode)
                if backup_at and self.exists:
                    copy, backup = self._free_name(backup_at)
                    made.append(backup)
                    self._fill(copy, self.data or b"", self.mode)
                self._take_place(made[0])
            except BaseException:
                for file in made:
                    file.unlink(missing_ok=True)
                raise
            _sync(self.target.parent)
            return made[1] if len(made) > 1 else None

    def _fill(self, descriptor: int, data: bytes, mode: int) -> None:
        """A whole file on the disk, with the right mode and owner before its first byte."""
        with os.fdopen(descriptor, "wb") as file:
            if self.owner and self.owner != (os.geteuid(), os.getegid()):
                os.fchown(file.fileno(), *self.owner)
            os.fchmod(file.fileno(), mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())

    def _free_name(self, moment: datetime) -> tuple[int, Path]:
        """A new empty file for the backup: `config.toml.20261124T120000Z.bak`, with a number where that one is there already."""
        number = 1
        while True:
            again = f"-{number}" if number > 1 else ""
            backup = self.target.with_name(f"{self.target.name}.{moment:%Y%m%dT%H%M%SZ}{again}.bak")
            with suppress(FileExistsError):
                return os.open(backup, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE), backup
            number += 1

    def _take_place(self, new: Path) -> None:
        if not self.exists:
            try:
                os.link(new, self.target)  # fails where a file has appeared meanwhile
            except FileExistsError:
                raise _changed(self.path) from None
            new.unlink()
            return
        now = HostFile.read(self.path)
        if (now.data, now.target) != (self.data, self.target):
            raise _changed(self.path)
        os.replace(new, self.target)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _changed(path: Path) -> ConfigTomlError:
    return ConfigTomlError(
        "The file was changed by somebody else between reading and writing; nothing was replaced.",
        where=str(path),
        remedy="Run this notebook again: it reads the file anew. gitlab-runner itself writes it on register and on a token rotation.",
        page="#config-toml-changed",
    )


@contextmanager
def _explained(path: Path, done: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigTomlError(
            f"The file cannot be {done}: {error.strerror or error}.",
            where=str(error.filename or path),
            remedy=f"ls -ld {path.parent} {path}\n"
            "Run the notebook as root on the runner's host, or set config.place: copy in the cluster card.",
            page=PAGE,
        ) from None
