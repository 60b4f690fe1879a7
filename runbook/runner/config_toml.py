"""gitlab-runner's config.toml as a document that is edited in place: every byte that is not ours stays as it is.

Writing the whole document anew, even by a library that keeps comments, moves bytes in real files (no final newline, tables that
come back later, CRLF). So an edit here replaces, inserts or removes lines of the text, only those that say what has to change; then
the new text is parsed, and must mean the old values with that one change and nothing else. If it does not, the edit is refused.
"""

from __future__ import annotations

import codecs
import copy
import hashlib
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import tomlkit
from tomlkit.items import SingleKey

from runbook.errors import ConfigTomlError
from runbook.runner.toml_statements import Kind, Path, Statement, statements

PAGE = "#config-toml"
SERVICE_HOST = "CI_SERVICE_HOST"
"""Job variable with the address at which the services of a job answer; the only one of `environment` that is no secret by itself."""

_SECRET_KEY = re.compile(
    r"token|secret|password|access_?key|account_?key|private_?key|credential|sentry_dsn", re.IGNORECASE
)
_NOT_SECRET = re.compile(r"_allowed$|^token_(obtained|expires)_at$")
_SECRET_TEXT = re.compile(
    r"\bgl[a-z]{1,6}-[A-Za-z0-9_.-]{6,}|((?:token|secret|password|passwd|key)[A-Za-z_]*[\"']?\s*[=:]\s*)[^\s,]+",
    re.IGNORECASE,
)
_TEXT = re.compile(r"\"(?:\\.|[^\"\\])*\"|'[^']*'")

_AT_LINE = re.compile(r"\s*\(at (?:line (\d+), column \d+|end of document)\)")
_KEY_OF_LINE = re.compile(r"\s*([A-Za-z0-9_.\"-]+)\s*=")


@dataclass(frozen=True, repr=False)
class Runner:
    """One ``[[runners]]`` section: its place among the sections (from 0), the line of its header, its values. `repr` shows no token."""

    index: int
    line: int
    values: Mapping[str, Any]

    @property
    def path(self) -> Path:
        return ("runners", self.index)

    @property
    def name(self) -> str:
        return str(self.values.get("name", ""))

    def get(self, *keys: str) -> Any:
        """The value at a path within the section, or None."""
        return dig(self.values, keys)

    def __str__(self) -> str:
        return f"[[runners]] {self.name or '(no name)'} at line {self.line}"

    __repr__ = __str__


@dataclass(frozen=True, repr=False)
class Document:
    """A config.toml: the text with its own line endings, and where it came from (for errors). `repr` shows no content.

    Each edit returns a new Document and raises ConfigTomlError where it cannot be done without touching something else.
    """

    text: str
    where: str
    bom: bool = False

    @classmethod
    def parse(cls, data: bytes, where: str) -> Document:
        """Bytes of a file → Document. A byte order mark and line endings are kept. Raises ConfigTomlError with the line."""
        bom = data.startswith(codecs.BOM_UTF8)
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            raise ConfigTomlError(
                "The file is not UTF-8 text.",
                where=f"{where}, line {line}",
                allowed="TOML, which is UTF-8 by definition",
                remedy="Save the file as UTF-8.",
                page=PAGE,
            ) from None
        document = cls(text, where, bom)
        _ = document.values
        return document

    @cached_property
    def values(self) -> dict[str, Any]:
        """What the text means."""
        try:
            return tomllib.loads(self.text)
        except tomllib.TOMLDecodeError as error:
            raise _not_toml(error, self.text, self.where) from None

    @cached_property
    def statements(self) -> tuple[Statement, ...]:
        return tuple(statements(self.text))

    @property
    def data(self) -> bytes:
        """The bytes of the file."""
        return (codecs.BOM_UTF8 if self.bom else b"") + self.text.encode()

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    @property
    def newline(self) -> str:
        """The line ending of the first line, which is also that of what is added."""
        first = self.text.find("\n")
        return "\r\n" if first > 0 and self.text[first - 1] == "\r" else "\n"

    def line(self, statement: Statement) -> int:
        """The number of a statement's first line, from 1."""
        return self.text.count("\n", 0, statement.start) + 1

    @cached_property
    def runners(self) -> tuple[Runner, ...]:
        """The ``[[runners]]`` sections. Raises ConfigTomlError where `runners` is a table or an inline array."""
        found = self.values.get("runners", [])
        headers = [s for s in self.statements if s.kind is Kind.ELEMENT and len(s.path) == 2 and s.path[0] == "runners"]
        if not isinstance(found, list) or len(found) != len(headers):
            first = next(s for s in self.statements if s.path[0] == "runners")
            form = "an inline array" if isinstance(found, list) else "a table"
            raise ConfigTomlError(
                f"`runners` is {form} here; gitlab-runner's own files have one [[runners]] section a runner.",
                where=f"{self.where}, line {self.line(first)}",
                value=self.text[first.start : first.value[0]].strip().removesuffix("=").strip(),
                allowed="[[runners]], with two brackets, above the settings of each runner",
                remedy="gitlab-runner does not read this as a runner either. Correct the line by hand, then run again.",
                page="#config-toml-runners-table",
            )
        return tuple(Runner(index, self.line(header), found[index]) for index, header in enumerate(headers))

    def get(self, path: Path) -> Any:
        """The value at a path, or None."""
        return dig(self.values, path)

    def section_text(self, path: Path) -> str:
        """The lines about one element or table, from its first statement to its last, foreign statements left out."""
        return "".join(self.text[start:end] for start, end in self._runs(path))

    # -- edits

    def with_value(self, path: Path, value: Any) -> Document:
        """The value at `path` set; only its own characters change, or one line is added. Equal already: the same document."""
        if same(self.get(path), value):
            return self
        expected = copy.deepcopy(self.values)
        _put(expected, path, value)
        return self._edited(self._text_with(path, value), expected)

    def with_text_in_array(self, path: Path, text: str, *, instead_of: str) -> Document:
        """The array at `path` with `text` in place of the first string that begins with `instead_of`, else before all others."""
        present = self.get(path)
        if present is None:
            return self.with_value(path, [text])
        if text in present:
            return self
        old = next((item for item in present if isinstance(item, str) and item.startswith(instead_of)), None)
        expected = copy.deepcopy(self.values)
        _put(expected, path, [text, *present] if old is None else [text if item == old else item for item in present])
        return self._edited(self._text_with_item(path, text, old, empty=not present), expected)

    def with_element(self, path: Path, values: Mapping[str, Any]) -> Document:
        """One more element at the end of the array of tables at `path`, which may be new."""
        present = self.get(path) or []
        expected = copy.deepcopy(self.values)
        _put(expected, path, [*present, copy.deepcopy(dict(values))])
        parent = path[:-1]
        names = [str(key) for key in path if isinstance(key, str)]
        text = element_text(names, values, self.newline, depth=self._depth(parent, len(names)))
        if parent:
            return self._edited(self._inserted(self._end(parent), text), expected)
        blank = self.newline if self.text else ""
        return self._edited(self._inserted(len(self.text), blank + text), expected)

    def without(self, path: Path) -> Document:
        """Without the value, table or element at `path`, its lines and the comments between them. Absent: the same document."""
        if self.get(path) is None:
            return self
        expected = copy.deepcopy(self.values)
        _remove(expected, path)
        text = self.text
        whole = isinstance(path[-1], int)
        for start, end in reversed(self._runs(path)):
            text = _cut(text, start, end, blank_line_too=whole)
        return self._edited(text, expected)

    # -- how

    def _edited(self, text: str, expected: Mapping[str, Any]) -> Document:
        after = Document(text, self.where, self.bom)
        try:
            holds = after.values == expected
        except ConfigTomlError:
            holds = False
        if not holds:
            raise ConfigTomlError(
                "This file is written in a form that cannot be edited without touching something else; nothing was changed.",
                where=self.where,
                allowed="each [[runners]] section in one piece, its tables below it, settings as `key = value`",
                remedy="Let gitlab-runner write the file in its own form (it does so on the next register), or add the section by hand.",
                page="#config-toml-form",
            )
        return after

    def _text_with(self, path: Path, value: Any) -> str:
        parent = path[:-1]
        own = [s for s in self.statements if s.kind is Kind.VALUE and s.path == path]
        if own:
            return self._replaced(own[-1].value, rendered(value))
        inline = [s for s in self.statements if s.kind is Kind.VALUE and s.path == path[: len(s.path)]]
        if inline:  # the table is written as { … } on one line
            table = copy.deepcopy(self.get(inline[-1].path))
            _put(table, path[len(inline[-1].path) :], value)
            return self._replaced(inline[-1].value, rendered(table))
        headed = [s for s in self.statements if s.table == parent]
        if headed or not parent:
            direct = [s for s in headed if s.kind is Kind.VALUE] or headed
            return self._with_line(direct[-1:], path[-1:], value)
        dotted = [
            s for s in self.statements if s.kind is Kind.VALUE and s.within(parent) and len(s.table) < len(parent)
        ]
        if dotted:
            return self._with_line(dotted[-1:], path[len(dotted[-1].table) :], value)
        names = [str(key) for key in parent if isinstance(key, str)]
        owner = max((s.table for s in self.statements if s.table == parent[: len(s.table)]), key=len)
        lines = table_text(names, {str(path[-1]): value}, self.newline, depth=self._depth(owner, len(names)))
        return self._inserted(self._end(parent), lines)

    def _with_line(self, after: Sequence[Statement], keys: Path, value: Any) -> str:
        """A line ``keys = value`` behind a statement, or at the top of the file."""
        line = f"{'.'.join(key_text(str(key)) for key in keys)} = {rendered(value)}{self.newline}"
        if not after:
            return line + (self.newline if self.text and self.statements else "") + self.text
        indent = self._indent(after[0]) + ("  " if after[0].kind is not Kind.VALUE and self._indented else "")
        return self._inserted(after[0].end, indent + line)

    def _text_with_item(self, path: Path, text: str, old: str | None, *, empty: bool) -> str:
        start, end = next(s for s in self.statements if s.kind is Kind.VALUE and s.path == path).value
        if old is None:
            return self._replaced((start + 1, start + 1), rendered(text) + ("" if empty else ", "))
        for item in _TEXT.finditer(self.text, start, end):
            if tomllib.loads(f"item = {item[0]}")["item"] == old:
                return self._replaced(item.span(), rendered(text))
        return self._replaced((start, end), rendered([text if item == old else item for item in self.get(path)]))

    def _replaced(self, span: tuple[int, int], text: str) -> str:
        return self.text[: span[0]] + text + self.text[span[1] :]

    def _inserted(self, offset: int, lines: str) -> str:
        """Whole lines put at an offset where a line begins; a file without a final newline stays one."""
        if offset == len(self.text) and self.text and not self.text.endswith("\n"):
            return self.text + self.newline + lines.removesuffix(self.newline)
        return self.text[:offset] + lines + self.text[offset:]

    def _runs(self, path: Path) -> list[tuple[int, int]]:
        """The stretches of text, from statement to statement, that are only about `path`."""
        runs: list[tuple[int, int]] = []
        open_run = False
        for statement in self.statements:
            inside = statement.within(path)
            if inside and open_run:
                runs[-1] = (runs[-1][0], statement.end)
            elif inside:
                runs.append((statement.start, statement.end))
            open_run = inside
        return runs

    def _end(self, path: Path) -> int:
        """The offset behind the last statement about `path`, or about the nearest table around it that the file has."""
        runs = next(runs for length in range(len(path), -1, -1) if (runs := self._runs(path[:length])))
        return runs[-1][1]

    def _indent(self, statement: Statement) -> str:
        line = self.text[statement.start : statement.end]
        return line[: len(line) - len(line.lstrip(" \t"))]

    @cached_property
    def _indented(self) -> bool:
        """Whether the file indents what stands below a [[runners]] header, as gitlab-runner does (true for a file without any)."""
        below = [s for s in self.statements if len(s.path) > 2 and s.path[0] == "runners"]
        return not below or any(self._indent(s) for s in below)

    def _depth(self, parent: Path, names: int) -> int:
        """How far to indent a header of so many names, as gitlab-runner does: by one step less than its names."""
        return names - 1 if self._indented or not parent else -1


def shown(text: str, before: str = "") -> str:
    """A piece of config.toml for human eyes: tokens, keys and passwords hidden, also in `environment` and in comments.

    A secret that is another one than at the same place of `before` is shown as `(hidden, new)`.
    """
    document, earlier = Document(text, ""), Document(before, "")
    pieces: list[str] = []
    position = 0
    for statement in document.statements:
        start, end = statement.value
        pieces.append(_without_secret_text(text[position:start]))
        pieces.append(_shown_value(statement.path, text[start:end], document, earlier))
        position = end
    return "".join([*pieces, _without_secret_text(text[position:])])


def _shown_value(path: Path, text: str, document: Document, earlier: Document) -> str:
    key, value = str(path[-1]), document.get(path)
    if isinstance(value, str) and _SECRET_KEY.search(key) and not _NOT_SECRET.search(key):
        old = earlier.get(path)
        return '"(hidden, new)"' if old is not None and old != value else '"(hidden)"'
    if key == "environment":
        return _TEXT.sub(_shown_variable, text)
    return _without_secret_text(text)


def _shown_variable(match: re.Match[str]) -> str:
    name, equals, _ = match[0][1:-1].partition("=")
    return match[0] if name == SERVICE_HOST or not equals else f'"{name}=(hidden)"'


def _without_secret_text(text: str) -> str:
    return _SECRET_TEXT.sub(lambda match: f"{match[1] or ''}(hidden)", text)


def dig(values: Any, path: Sequence[str | int]) -> Any:
    """The value at a path of keys and numbers, or None."""
    for key in path:
        if isinstance(values, Mapping):
            values = values.get(key)
        elif isinstance(values, list) and isinstance(key, int):
            values = values[key] if key < len(values) else None
        else:
            return None
    return values


def same(one: Any, other: Any) -> bool:
    """Equal in value and in TOML type: 1 is not true, and not 1.0."""
    return type(one) is type(other) and bool(one == other)


def rendered(value: Any) -> str:
    """A value as TOML writes it on one line: text, number, truth value, date, list, or a mapping as an inline table."""
    if isinstance(value, Mapping):
        inner = ", ".join(f"{key_text(key)} = {rendered(inner)}" for key, inner in value.items())
        return f"{{ {inner} }}" if inner else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(rendered(inner) for inner in value)}]"
    text: str = tomlkit.item(value).as_string()
    return text


def key_text(key: str) -> str:
    """A key as TOML writes it, quoted where it must be."""
    text: str = SingleKey(key).as_string()
    return text


def element_text(names: Sequence[str], values: Mapping[str, Any], newline: str = "\n", *, depth: int = 0) -> str:
    """``[[names]]`` with its values and tables below it, indented as gitlab-runner writes them; `depth` -1 indents nothing."""
    return _block(f"[[{'.'.join(key_text(name) for name in names)}]]", names, values, newline, depth)


def table_text(names: Sequence[str], values: Mapping[str, Any], newline: str = "\n", *, depth: int = 0) -> str:
    """``[names]`` with its values and tables below it."""
    return _block(f"[{'.'.join(key_text(name) for name in names)}]", names, values, newline, depth)


def _block(header: str, names: Sequence[str], values: Mapping[str, Any], newline: str, depth: int) -> str:
    outer, inner = ("", "") if depth < 0 else ("  " * depth, "  " * (depth + 1))
    below = depth if depth < 0 else depth + 1
    tables = {key: value for key, value in values.items() if isinstance(value, Mapping)}
    arrays = {key: value for key, value in values.items() if _is_array_of_tables(value)}
    text = f"{outer}{header}{newline}"
    for key, value in values.items():
        if key not in tables and key not in arrays:
            text += f"{inner}{key_text(key)} = {rendered(value)}{newline}"
    for key, value in tables.items():
        text += table_text([*names, key], value, newline, depth=below)
    for key, elements in arrays.items():
        text += "".join(element_text([*names, key], element, newline, depth=below) for element in elements)
    return text


def _is_array_of_tables(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, Mapping) for item in value)


def _put(values: Any, path: Path, value: Any) -> None:
    for key in path[:-1]:
        values = values[key] if isinstance(key, int) else values.setdefault(key, {})
    values[path[-1]] = value


def _remove(values: Any, path: Path) -> None:
    parent = dig(values, path[:-1])
    del parent[path[-1]]
    if isinstance(parent, list) and not parent:
        _remove(values, path[:-1])


def _cut(text: str, start: int, end: int, *, blank_line_too: bool) -> str:
    before, after = text[:start], text[end:]
    if not after and not text.endswith("\n"):
        before = before.removesuffix("\n").removesuffix("\r")
        return re.sub(r"\r?\n\Z", "", before) if blank_line_too and before.endswith("\n") else before
    if blank_line_too:
        before = re.sub(r"(\A|\n)\r?\n\Z", r"\1", before)
    return before + after


def _not_toml(error: tomllib.TOMLDecodeError, text: str, where: str) -> ConfigTomlError:
    """The page for a file that is not TOML. It names the line and its key, never what the line says: that may be a token."""
    at = _AT_LINE.search(str(error))
    lines = text.split("\n")
    number = int(at[1]) if at and at[1] else len(lines)
    key = _KEY_OF_LINE.match(lines[number - 1])
    return ConfigTomlError(
        f"The file is not TOML: {_AT_LINE.sub('', str(error))}.",
        where=f"{where}, line {number}",
        value=key[1] if key else None,
        allowed="TOML: [[runners]] headers and key = value lines, text in quotes",
        remedy="Correct this line. `gitlab-runner list` refuses the file at the same place.",
        page=PAGE,
    )
