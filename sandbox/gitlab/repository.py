"""One bare git repository on disk, by git's own plumbing. Paths are inside the repository, shas are full."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

ZERO_SHA = "0" * 40
_FULL_SHA = re.compile("[0-9a-f]{40}")

# A push must not touch a protected branch unless the user may: the HTTP door sets the variable.
_PRE_RECEIVE = """#!/bin/sh
while read -r old new ref; do
  case " $PRACTICE_REFUSED_REFS " in
    *" $ref "*) echo "GitLab: You are not allowed to push code to protected branches on this project." >&2; exit 1 ;;
  esac
done
"""


class RepositoryError(Exception):
    """git refused; the message is git's or GitLab's own."""


@dataclass(frozen=True)
class Commit:
    id: str
    parent_ids: tuple[str, ...]
    author_name: str
    author_email: str
    committed_at: str
    message: str

    @property
    def title(self) -> str:
        return self.message.split("\n", 1)[0]


@dataclass(frozen=True)
class Entry:
    """One line of a tree: mode, type (`blob`, `tree`), sha and path."""

    mode: str
    type: str
    id: str
    path: str


@dataclass(frozen=True)
class Change:
    """One action of a commit: ``create``, ``update``, ``delete``, ``move`` or ``chmod``."""

    action: str
    path: str
    content: bytes | None = None
    previous_path: str | None = None
    executable: bool | None = None


@dataclass(frozen=True)
class Author:
    name: str
    email: str


class Repository:
    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, path: Path, default_branch: str) -> Repository:
        path.mkdir(parents=True)
        repository = cls(path)
        repository._git("init", "--quiet", "--bare", f"--initial-branch={default_branch}", ".")
        for key, value in (("http.receivepack", "true"), ("uploadpack.allowAnySHA1InWant", "true"), ("gc.auto", "0")):
            repository._git("config", key, value)
        hook = path / "hooks" / "pre-receive"
        hook.parent.mkdir(exist_ok=True)
        hook.write_text(_PRE_RECEIVE)
        hook.chmod(0o755)
        return repository

    # ------------------------------------------------------------------------------------------ reading

    def resolve(self, name: str) -> str | None:
        """The commit that a branch, a tag or a sha names; None where there is none."""
        for candidate in (f"refs/heads/{name}", f"refs/tags/{name}", name):
            if candidate.startswith("-"):
                continue
            result = self._try("rev-parse", "--verify", "--quiet", f"{candidate}^{{commit}}")
            if result is not None:
                return result.decode().strip()
        return None

    def branches(self) -> dict[str, str]:
        """Branch name to sha, by name."""
        return self._refs("refs/heads/")

    def tags(self) -> dict[str, str]:
        return self._refs("refs/tags/")

    def _refs(self, prefix: str) -> dict[str, str]:
        lines = self._git("for-each-ref", "--format=%(objectname) %(refname)", prefix).decode().splitlines()
        return {name.removeprefix(prefix): sha for sha, name in (line.split(" ", 1) for line in lines)}

    def commit(self, name: str) -> Commit | None:
        sha = name if _FULL_SHA.fullmatch(name) else self.resolve(name)
        return None if sha is None else _commit_of(self.path, sha)

    def log(self, name: str, path: str | None = None, limit: int = 1000) -> list[Commit]:
        """Newest first."""
        tail = ["--", path] if path else ["--"]
        out = self._git(
            "log", f"--max-count={limit}", "--format=%H%x00%P%x00%an%x00%ae%x00%cI%x00%B%x01", name, *tail
        ).decode(errors="replace")
        commits = []
        for record in out.split("\x01"):
            parts = record.strip("\n").split("\x00")
            if len(parts) == 6:
                sha, parents, author, email, when, message = parts
                commits.append(Commit(sha, tuple(parents.split()), author, email, when, message.rstrip("\n") + "\n"))
        return commits

    def tree(self, name: str, path: str = "", *, recursive: bool = False) -> list[Entry]:
        arguments = ["-r", "-t"] if recursive else []
        target = [f"{path.rstrip('/')}/"] if path else []
        out = self._git("ls-tree", "-z", *arguments, name, *target)
        entries = []
        for line in out.decode(errors="replace").split("\x00"):
            if line:
                meta, _, entry_path = line.partition("\t")
                mode, kind, sha = meta.split()
                entries.append(Entry(mode, kind, sha, entry_path))
        return entries

    def entry(self, name: str, path: str) -> Entry | None:
        out = self._git("ls-tree", "-z", name, path.strip("/")).decode(errors="replace").strip("\x00")
        if not out:
            return None
        meta, _, entry_path = out.partition("\t")
        mode, kind, sha = meta.split()
        return Entry(mode, kind, sha, entry_path)

    def read(self, name: str, path: str) -> bytes | None:
        """The file's bytes at a commit, or None where no such file is."""
        found = self.entry(name, path)
        return self._git("cat-file", "blob", found.id) if found is not None and found.type == "blob" else None

    def last_commit_of(self, name: str, paths: Iterable[str]) -> str | None:
        """The newest commit that changed one of `paths`: what `cache: key: files` hashes."""
        out = self._git("log", "--max-count=1", "--format=%H", name, "--", *paths).decode().strip()
        return out or None

    # ------------------------------------------------------------------------------------------ writing

    def write_ref(self, ref: str, sha: str) -> None:
        self._git("update-ref", ref, sha)

    def delete_ref(self, ref: str) -> None:
        self._git("update-ref", "-d", ref)

    def create_commit(
        self, branch: str, changes: Iterable[Change], message: str, author: Author, *, parent: str | None, when: int
    ) -> str:
        """Write one commit on `branch` and return its sha. `when` is a Unix time. Raises RepositoryError."""
        changes = tuple(changes)
        for change in changes:
            self._check(change, parent)
        stamp = f"{author.name} <{author.email}> {when} +0000".encode()
        body = message.encode()
        stream = [b"commit refs/heads/", branch.encode(), b"\nauthor ", stamp, b"\ncommitter ", stamp]
        stream += [b"\ndata %d\n" % len(body), body, b"\n"]
        if parent is not None:
            stream += [b"from ", parent.encode(), b"\n"]
        for change in changes:
            stream += self._instructions(change, parent)
        self._git("fast-import", "--quiet", "--force", stdin=b"".join(stream) + b"\n")
        sha = self.resolve(branch)
        if sha is None:
            raise RepositoryError(f"branch {branch} was not written")
        return sha

    def _check(self, change: Change, parent: str | None) -> None:
        if ".." in Path(change.path).parts or change.path.startswith("/") or not change.path:
            raise RepositoryError("Path cannot include directory traversal")
        here = self.entry(parent, change.path) if parent else None
        if change.action in ("create", "move") and here is not None:
            raise RepositoryError("A file with this name already exists")
        if change.action in ("update", "delete", "chmod") and here is None:
            raise RepositoryError("A file with this name doesn't exist")
        if change.action == "move" and (parent is None or self.entry(parent, change.previous_path or "") is None):
            raise RepositoryError("A file with this name doesn't exist")

    def _instructions(self, change: Change, parent: str | None) -> list[bytes]:
        path = _quoted(change.path)
        if change.action == "delete":
            return [b"D ", path, b"\n"]
        source = change.previous_path if change.action == "move" else change.path
        before = self.entry(parent, source) if parent and source else None
        mode = before.mode if before is not None and change.executable is None else _mode(change.executable)
        content = change.content
        if content is None:
            content = self.read(parent, source) if parent and source else b""
        lines = [b"D ", _quoted(source or ""), b"\n"] if change.action == "move" else []
        return [
            *lines,
            b"M ",
            mode.encode(),
            b" inline ",
            path,
            b"\ndata %d\n" % len(content or b""),
            content or b"",
            b"\n",
        ]

    # ---------------------------------------------------------------------------------------------- git

    def _try(self, *arguments: str) -> bytes | None:
        result = self._run(arguments, b"")
        return result.stdout if result.returncode == 0 else None

    def _git(self, *arguments: str, stdin: bytes = b"") -> bytes:
        result = self._run(arguments, stdin)
        if result.returncode != 0:
            raise RepositoryError(result.stderr.decode(errors="replace").strip() or f"git {arguments[0]} failed")
        return result.stdout

    def _run(self, arguments: tuple[str, ...], stdin: bytes) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            ["git", *arguments], cwd=self.path, input=stdin, capture_output=True, env=git_environment(), check=False
        )


@lru_cache(maxsize=4096)
def _commit_of(path: Path, sha: str) -> Commit | None:
    """A commit never changes, and lists of jobs ask for the same few again and again."""
    try:
        return next(iter(Repository(path).log(sha, limit=1)), None)
    except RepositoryError:
        return None


def git_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """An environment in which git reads no configuration of the machine or of its user."""
    own = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    return {**own, "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull, "LC_ALL": "C", **(extra or {})}


def _mode(executable: bool | None) -> str:
    return "100755" if executable else "100644"


def _quoted(path: str) -> bytes:
    escaped = path.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'.encode()
