"""config.toml is edited byte by byte: on other people's real files, on forms that are rare but valid, and on generated ones."""

from __future__ import annotations

import codecs
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runbook.errors import ConfigTomlError
from runbook.runner.config_toml import Document, shown

SECTION: dict[str, Any] = {
    "name": "eci",
    "url": "https://gitlab.example.com",
    "token": "glrt-ours-0123456789",
    "executor": "kubernetes",
    "environment": ["CI_SERVICE_HOST=127.0.0.1"],
    "kubernetes": {
        "host": "https://10.0.0.1:6443",
        "cpu_request": "2",
        "pod_annotations": {"k8s.aliyun.com/eci-spot-strategy": "SpotAsPriceGo"},
        "volumes": {"pvc": [{"name": "cache", "mount_path": "/cache"}]},
    },
}

CHANGES: list[tuple[tuple[str, ...], Any]] = [
    (("kubernetes", "host"), "https://10.0.0.2:6443"),
    (("kubernetes", "poll_timeout"), 600),
    (("kubernetes", "pod_labels", "ci-job-id"), "$CI_JOB_ID"),
    (("clone_url",), "http://gitlab.internal"),
    (("limit",), 3),
]


def document(text: str) -> Document:
    return Document.parse(text.encode(), "config.toml")


def variants(data: bytes) -> dict[str, bytes]:
    """One file as different editors and systems leave it."""
    unix = data.replace(b"\r\n", b"\n")
    return {
        "as it is": data,
        "no final newline": unix.rstrip(b"\n"),
        "blank lines at the end": unix + b"\n\n",
        "CRLF": unix.replace(b"\n", b"\r\n"),
        "CRLF, no final newline": unix.rstrip(b"\n").replace(b"\n", b"\r\n"),
        "BOM": codecs.BOM_UTF8 + unix,
    }


def in_changed_and_out(data: bytes) -> None:
    """Assert that our section goes in, is changed and is taken out again, and that nothing else moves."""
    before = Document.parse(data, "config.toml")
    path = ("runners", len(before.runners))
    added = before.with_element(("runners",), SECTION)
    assert added.data.startswith(data)
    assert added.values == {**before.values, "runners": [*before.values.get("runners", []), SECTION]}
    changed = added
    for keys, value in CHANGES:
        changed = changed.with_value((*path, *keys), value)
    changed = changed.with_text_in_array((*path, "environment"), "CI_SERVICE_HOST=::1", instead_of="CI_SERVICE_HOST=")
    assert changed.data.startswith(data)
    assert changed.get((*path, "environment")) == ["CI_SERVICE_HOST=::1"]
    assert all(changed.get((*path, *keys)) == value for keys, value in CHANGES)
    assert changed.without(path).data == data


def real_files(traces: Path) -> list[Path]:
    files = sorted((traces / "runner-config").glob("*.toml"))
    assert len(files) > 20
    return files


def test_real_files_keep_every_byte(traces: Path) -> None:
    """In every real configuration our section goes in, is changed, and is taken out again; what remains is the file, byte for byte."""
    tried = 0
    for file in real_files(traces):
        if isinstance(tomllib.loads(file.read_text()).get("runners", []), dict):
            continue
        for name, data in variants(file.read_bytes()).items():
            try:
                in_changed_and_out(data)
            except AssertionError as error:
                raise AssertionError(f"{file.name}, {name}") from error
            tried += 1
    assert tried > 100


def test_real_sections_are_edited_line_by_line(traces: Path) -> None:
    """A value set in a real section adds or changes single lines; every other line stays where it was."""
    for file in real_files(traces):
        if isinstance(tomllib.loads(file.read_text()).get("runners", []), dict):
            continue
        before = Document.parse(file.read_bytes(), file.name)
        for runner in before.runners:
            after = before.with_value((*runner.path, "limit"), 17)
            old, new = before.text.splitlines(), after.text.splitlines()
            unchanged = [line for line in new if not line.strip().startswith("limit = 17")]
            assert unchanged == [line for line in old if line in unchanged], file.name
            assert 0 <= len(new) - len(old) <= 1, file.name


def test_real_files_that_are_not_toml(traces: Path) -> None:
    """A real file that is not TOML is refused with its line, and without what the line says."""
    files = sorted((traces / "runner-config" / "invalid").glob("*.toml"))
    assert files
    for file in files:
        with pytest.raises(ConfigTomlError) as refused:
            Document.parse(file.read_bytes(), file.name)
        assert f"{file.name}, line " in str(refused.value)
        assert "<prepare config flags" not in str(refused.value)


def test_real_files_with_runners_as_a_table(traces: Path) -> None:
    """Where a real file has [runners] as a table, the error names the line and the form that gitlab-runner reads."""
    found = 0
    for file in real_files(traces):
        if isinstance(tomllib.loads(file.read_text()).get("runners", []), dict):
            found += 1
            with pytest.raises(ConfigTomlError, match="is a table") as refused:
                _ = Document.parse(file.read_bytes(), file.name).runners
            assert "[[runners]]" in str(refused.value)
            assert "line " in str(refused.value)
    assert found


PIECES = [
    'concurrent = 4 # "a" [[runners]]\n',
    "# a comment\n",
    "\n",
    '[session_server]\n  listen_address = "[::]:8093"\n',
    '[[runners]]\n  name = "a"\n  url = "https://a" # x\n\n  [runners.docker]\n    volumes = ["/cache",\n  # in between\n  "/b"]\n',
    '[[ "runners" ]]\nname="b"\nkubernetes = { host = "h", pod_labels = { "a.b/c" = "1" } }\n',
    '[[runners]]\n\tname = \'c\'\n\tpre_build_script = """\n[[runners]]\n  name = "no runner"\n"""\n\t[runners.cache]\n\t[runners.kubernetes.volumes]\n',
    '[[runners]]\nkubernetes.host = "d"\nkubernetes.pod_labels."x/y" = \'z\'\nenvironment = [ "A=1", ] # end\n',
    '[[runners]]\n[runners.kubernetes]\n[[runners.kubernetes.volumes.pvc]]\nname = "e"\nmount_path = "/e"\n[runners.cache]\n[runners.cache.s3]\n',
]


@st.composite
def files(draw: st.DrawFn) -> bytes:
    """A valid config.toml of known pieces: globals first, each table but [[runners]] once."""
    first = draw(st.lists(st.sampled_from(PIECES[1:3]), max_size=2)) + draw(st.sampled_from([[], PIECES[:1]]))
    rest = draw(st.lists(st.sampled_from([*PIECES[1:3], *PIECES[4:]]), max_size=6))
    server = draw(st.integers(0, len(rest)))
    data = "".join([*first, *rest[:server], *draw(st.sampled_from([[], PIECES[3:4]])), *rest[server:]]).encode()
    return draw(st.sampled_from(list(variants(data).values())))


@given(data=files())
def test_generated_files_keep_every_byte(data: bytes) -> None:
    """Whatever valid pieces a file is made of, our section goes in and out again without a trace."""
    in_changed_and_out(data)


@given(data=files(), values=st.lists(st.sampled_from(CHANGES), min_size=1, max_size=5))
def test_any_section_can_be_edited(data: bytes, values: list[tuple[tuple[str, ...], Any]]) -> None:
    """A value set in any section is there afterwards, and every other value of the file is as it was."""
    edited = Document.parse(data, "config.toml")
    for runner in edited.runners:
        for keys, value in values:
            edited = edited.with_value((*runner.path, *keys), value)
            assert edited.get((*runner.path, *keys)) == value


USER_EDITED = """\
[[runners]]
  name = "eci"   # ours
  # token = "kept comment"
  my_own_key = true
  environment = ["A=1", # first
    "CI_SERVICE_HOST=old"]
  [runners.kubernetes]
    host = 'https://old' # why
    unknown = [1,
      2]
    [runners.kubernetes.pod_labels]
      mine = "x"
"""


def test_what_people_wrote_into_our_section_stays() -> None:
    """Comments, unknown keys, quotes and line breaks in our own section survive an update of other keys."""
    after = (
        document(USER_EDITED)
        .with_value(("runners", 0, "kubernetes", "host"), "https://new")
        .with_text_in_array(("runners", 0, "environment"), "CI_SERVICE_HOST=127.0.0.1", instead_of="CI_SERVICE_HOST=")
        .with_value(("runners", 0, "kubernetes", "pod_labels", "ci-job-id"), "$CI_JOB_ID")
    )
    expected = USER_EDITED.replace("'https://old'", '"https://new"').replace(
        "SERVICE_HOST=old", "SERVICE_HOST=127.0.0.1"
    )
    assert after.text == expected + '      ci-job-id = "$CI_JOB_ID"\n'


def test_equal_values_change_nothing() -> None:
    """Setting what is there already keeps even its way of writing."""
    before = document(USER_EDITED)
    assert before.with_value(("runners", 0, "kubernetes", "host"), "https://old") is before
    assert before.with_text_in_array(("runners", 0, "environment"), "A=1", instead_of="A=") is before
    assert before.without(("runners", 0, "clone_url")) is before


def test_a_number_is_not_its_text() -> None:
    """A value of another type counts as another value: 10 in place of "10"."""
    after = document('[[runners]]\nlimit = "10"\n').with_value(("runners", 0, "limit"), 10)
    assert after.text == "[[runners]]\nlimit = 10\n"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "concurrent = 5\n"),
        ("concurrent = 1 # few\n", "concurrent = 5 # few\n"),
        ("check_interval = 0\n[[runners]]\n", "check_interval = 0\nconcurrent = 5\n[[runners]]\n"),
        ("[[runners]]\n", "concurrent = 5\n\n[[runners]]\n"),
        ("check_interval = 0", "check_interval = 0\nconcurrent = 5"),
    ],
)
def test_a_global_key(before: str, after: str) -> None:
    """A global key is set above the first table, where TOML wants it."""
    assert document(before).with_value(("concurrent",), 5).text == after


@pytest.mark.parametrize(
    ("line", "after"),
    [
        ('environment = ["A=1"]', 'environment = ["B=2", "A=1"]'),
        ("environment = []", 'environment = ["B=2"]'),
        ("environment = ['B=1', \"A=1\"]", 'environment = ["B=2", "A=1"]'),
    ],
)
def test_one_text_in_an_array(line: str, after: str) -> None:
    """A text goes to the front of an array, or in place of the one with its beginning; the others stay as written."""
    edited = document(f"[[runners]]\n{line}\n").with_text_in_array(
        ("runners", 0, "environment"), "B=2", instead_of="B="
    )
    assert edited.text == f"[[runners]]\n{after}\n"


def test_tables_that_come_back_later() -> None:
    """A section whose tables are spread over the file is still edited and removed, and what lies between stays."""
    text = '[[runners]]\nname = "a"\n[session_server]\nsession_timeout = 1\n[runners.docker]\nimage = "i"\n'
    edited = document(text).with_value(("runners", 0, "docker", "image"), "j")
    assert edited.text == text.replace('"i"', '"j"')
    assert edited.without(("runners", 0)).text == "[session_server]\nsession_timeout = 1\n"


def test_the_middle_one_is_removed() -> None:
    """Taking one section out leaves its neighbours, the comment above the next one, and one blank line between them."""
    text = (
        '[[runners]]\nname = "a"\n\n[[runners]]\nname = "b"\n[runners.docker]\n\n# about c\n[[runners]]\nname = "c"\n'
    )
    assert document(text).without(("runners", 1)).text == text.replace(
        '\n[[runners]]\nname = "b"\n[runners.docker]\n', ""
    )


def test_a_form_that_cannot_be_edited_safely_is_refused() -> None:
    """An array of tables written inline cannot take one more; the edit is refused and says that nothing was changed."""
    inline = document('[[runners]]\nkubernetes = { volumes = { pvc = [ { name = "a", mount_path = "/a" } ] } }\n')
    with pytest.raises(ConfigTomlError, match="nothing was changed"):
        inline.with_element(("runners", 0, "kubernetes", "volumes", "pvc"), {"name": "b", "mount_path": "/b"})


@pytest.mark.parametrize(
    ("data", "line", "word"),
    [
        (b"concurrent = 1\n\ntoken = glrt-secret-0123456789\n", 3, "token"),
        (b'[[runners]]\nname = "a\n', 2, "name"),
        (b"a = 1\na = 2\n", 2, "a"),
        ("name = 'ä'\n".encode("latin-1"), 1, "UTF-8"),
        ("﻿a = 1\n".encode("utf-16"), 1, "UTF-8"),
    ],
)
def test_not_toml(data: bytes, line: int, word: str) -> None:
    """What is not TOML is refused with file, line and key, and never with the value, which may be a token."""
    with pytest.raises(ConfigTomlError) as refused:
        Document.parse(data, "/etc/gitlab-runner/config.toml")
    assert f"/etc/gitlab-runner/config.toml, line {line}" in str(refused.value)
    assert word in str(refused.value)
    assert "glrt-secret" not in str(refused.value)


@pytest.mark.parametrize(
    "text", ["[runners]\n", "[runners.docker]\n", 'runners = [{ name = "a" }]\n', "runners.x = 1\n"]
)
def test_runners_in_a_form_that_the_runner_does_not_write(text: str) -> None:
    """`runners` as a table or as an inline array is named with its line; our section is not put beside it."""
    with pytest.raises(ConfigTomlError, match="here; gitlab-runner's own files") as refused:
        _ = document("concurrent = 1\n" + text).runners
    assert "line 2" in str(refused.value)


def test_secrets_are_never_shown() -> None:
    """Tokens, keys, passwords and environment values are hidden in what is shown, also in comments; a changed one is marked."""
    text = (
        '[[runners]]\n  token = "glrt-T0ken-aaaaaaaaaaaa" # old: token = "T0ken-b"\n  token_expires_at = 2026-01-01T00:00:00Z\n'
        '  # glrt-T0ken-cccccccccc\n  environment = ["X=T0ken-d", "CI_SERVICE_HOST=127.0.0.1"]\n  pre_build_script = "PASSWORD=T0ken-e run"\n'
        '  [runners.cache.s3]\n    AccessKey = "T0ken-f"\n    SecretKey = \'T0ken-g\'\n    BucketName = "seen"\n'
        '  [runners.kubernetes]\n    bearer_token = """T0ken-h"""\n    bearer_token_overwrite_allowed = false\n    image_pull_secrets = ["seen-too"]\n'
    )
    seen = shown(text, text.replace("T0ken-h", "other"))
    assert "T0ken" not in seen
    assert 'bearer_token = "(hidden, new)"' in seen
    assert 'token = "(hidden)"' in seen
    for kept in (
        "seen",
        "seen-too",
        "CI_SERVICE_HOST=127.0.0.1",
        "2026-01-01",
        "bearer_token_overwrite_allowed = false",
    ):
        assert kept in seen


def test_nothing_of_a_document_is_in_its_repr() -> None:
    """A document and its sections are printed without their content."""
    parsed = document('[[runners]]\nname = "a"\ntoken = "T0ken"\n')
    assert "T0ken" not in repr(parsed) + repr(parsed.runners) + str(parsed.runners[0])
    assert str(parsed.runners[0]) == "[[runners]] a at line 1"
