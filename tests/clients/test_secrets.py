"""References: what they read, what they write, and that no message repeats a secret."""

from __future__ import annotations

import base64
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from runbook.clients import secrets
from runbook.errors import SecretError

PLANTED = "planted-secret-value"


class Secrets:
    """Secrets in memory, with the few verbs that references use; a dry run keeps nothing, as a server would not."""

    def __init__(self, **data: str) -> None:
        self.data = {key: base64.b64encode(text.encode()).decode() for key, text in data.items()}
        self.verbs: list[str] = []

    def get(self, kind: str, name: str, namespace: str | None = None) -> dict[str, Any] | None:
        return {"kind": kind, "data": dict(self.data)} if self.data else None

    def create(self, manifest: dict[str, Any], *, dry_run: bool) -> None:
        self.verbs.append("create")
        if not dry_run:
            self.data = dict(manifest["data"])

    def patch(self, kind: str, name: str, body: dict[str, Any], namespace: str | None = None, *, dry_run: bool) -> None:
        self.verbs.append("patch")
        if not dry_run:
            self.data |= body["data"]

    def texts(self) -> dict[str, str]:
        return {key: base64.b64decode(text).decode() for key, text in self.data.items()}


def reference(path: Path) -> str:
    return f"file:{path}"


def test_a_plain_string_stands_for_itself() -> None:
    """Any string of a card may be a reference, and most are not."""
    assert secrets.resolve("https://gitlab.example.com") == "https://gitlab.example.com"


def test_each_kind_of_reference_reads_its_own_place(tmp_path: Path) -> None:
    """Environment, file and Secret key, each without a final line break."""
    (tmp_path / "token").write_text(f"{PLANTED}\n")
    assert secrets.resolve("env:TOKEN", environment={"TOKEN": PLANTED}) == PLANTED
    assert secrets.resolve(reference(tmp_path / "token")) == PLANTED
    assert secrets.resolve("secret:ci/runner/token", Secrets(token=f"{PLANTED}\n")) == PLANTED


@pytest.mark.parametrize("text", ["env:NOT_SET", "file:not/there", "secret:ci/runner/other"])
def test_a_reference_to_nothing_names_itself_and_how_to_give_the_value(text: str) -> None:
    """The page shows the reference and a command that takes the value without showing it."""
    with pytest.raises(SecretError, match="not there") as failed:
        secrets.resolve(text, Secrets(token=PLANTED), environment={})
    assert failed.value.where == text and failed.value.remedy and PLANTED not in str(failed.value)


def test_an_empty_secret_is_told_from_a_missing_one(tmp_path: Path) -> None:
    """A file or variable with nothing but blanks is a mistake of its own."""
    (tmp_path / "token").write_text(" \n")
    for text in (reference(tmp_path / "token"), "env:EMPTY"):
        with pytest.raises(SecretError, match="empty"):
            secrets.resolve(text, environment={"EMPTY": ""})
        assert not secrets.exists(text, environment={"EMPTY": ""})


def test_a_secret_of_the_cluster_without_a_cluster_is_explained() -> None:
    """What is needed to reach the cluster cannot be kept in it."""
    with pytest.raises(SecretError, match="before the cluster can be reached"):
        secrets.resolve("secret:ci/runner/token")


def test_a_file_that_is_no_text_is_not_shown(tmp_path: Path) -> None:
    """Bytes that are no UTF-8 are refused without being repeated."""
    (tmp_path / "token").write_bytes(b"\xff\xfe" + PLANTED.encode())
    with pytest.raises(SecretError, match="not UTF-8") as failed:
        secrets.resolve(reference(tmp_path / "token"))
    assert PLANTED not in str(failed.value)


def test_a_stored_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    """The file has mode 0600 and each folder made for it 0700, whatever the umask."""
    place = tmp_path / "new" / "deep" / "token"
    before = os.umask(0)
    try:
        secrets.store(reference(place), PLANTED, dry_run=False)
    finally:
        os.umask(before)
    assert secrets.resolve(reference(place)) == PLANTED
    assert [stat.S_IMODE(path.stat().st_mode) for path in (place, place.parent, place.parent.parent)] == [
        0o600,
        0o700,
        0o700,
    ]


def test_a_stored_file_takes_the_old_ones_place_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    """An older, wider file is replaced as a whole; no temporary file stays."""
    place = tmp_path / "token"
    place.write_text("old")
    place.chmod(0o644)
    secrets.store(reference(place), PLANTED, dry_run=False)
    assert place.read_text() == f"{PLANTED}\n" and stat.S_IMODE(place.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [place]


def test_a_symlink_stays_one(tmp_path: Path) -> None:
    """The file behind a link is replaced, not the link."""
    (tmp_path / "real").write_text("old")
    (tmp_path / "token").symlink_to(tmp_path / "real")
    secrets.store(reference(tmp_path / "token"), PLANTED, dry_run=False)
    assert (tmp_path / "token").is_symlink() and (tmp_path / "real").read_text() == f"{PLANTED}\n"


def test_a_rehearsed_write_changes_nothing(tmp_path: Path) -> None:
    """With dry_run neither file nor folder appears."""
    secrets.store(reference(tmp_path / "new" / "token"), PLANTED, dry_run=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("dry_run", [True, False])
def test_a_place_that_cannot_be_written_is_said_before_and_at_the_write(tmp_path: Path, dry_run: bool) -> None:
    """A folder where the file should be, and a file where the folder should be."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "folder", tmp_path / "file" / "token"):
        with pytest.raises(SecretError) as failed:
            secrets.store(reference(place), PLANTED, dry_run=dry_run)
        assert PLANTED not in str(failed.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


@pytest.mark.parametrize("text", ["env:TOKEN", PLANTED])
def test_only_files_and_secrets_can_be_written(text: str) -> None:
    """A variable, or a secret given in the place of its name, is refused without being repeated."""
    with pytest.raises(SecretError, match="cannot be stored there") as failed:
        secrets.store(text, PLANTED, dry_run=False)
    assert PLANTED not in str(failed.value)


def test_one_key_of_a_secret_is_written_and_the_others_stay() -> None:
    """The runner's token and the cluster's may share a Secret."""
    store = Secrets(other="kept")
    secrets.store("secret:ci/runner/token", PLANTED, store, dry_run=False)
    assert store.texts() == {"other": "kept", "token": PLANTED}


def test_a_secret_that_is_not_there_is_made() -> None:
    """The first key makes the Secret."""
    store = Secrets()
    secrets.store("secret:ci/runner/token", PLANTED, store, dry_run=False)
    assert store.texts() == {"token": PLANTED} and store.verbs == ["create"]


def test_a_rehearsed_write_of_a_secret_does_not_even_send_it() -> None:
    """The server is asked with a word in the secret's place."""
    store = Secrets(other="kept")
    secrets.store("secret:ci/runner/token", PLANTED, store, dry_run=True)
    assert store.texts() == {"other": "kept"} and store.verbs == ["patch"]
