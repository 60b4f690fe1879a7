"""Where each statement of a TOML text stands: its path, its lines, and the place of its value.

A parser gives values and forgets the text; an editor that must keep every foreign byte needs both. The text is expected to be
valid: `config_toml` has it parsed by `tomllib` first, and compares the values again after each edit.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any

Path = tuple[str | int, ...]
"""Keys from the root; a number is a place in an array of tables: ``("runners", 0, "kubernetes", "host")``."""

_TOKEN = re.compile(
    r'''(?P<string>"""(?:\\[\s\S]|(?!""")[^\\])*"{3,5}|\'\'\'(?:(?!\'\'\')[\s\S])*'{3,5}|"(?:\\.|[^"\\\n])*"|'[^'\n]*')'''
    r"|(?P<comment>#[^\n]*)|(?P<newline>\n)|(?P<space>[ \t\r]+)|(?P<open>[\[{])|(?P<close>[\]}])|(?P<equals>=)|(?P<bare>[^\s\"'#\[\]{}=]+)"
)
_PLAIN_LINE = re.compile(
    r"[ \t]*([A-Za-z0-9_-]+)[ \t]*=[ \t]*(\"[^\"\\\n]*\"|[A-Za-z0-9_+-]+)[ \t\r]*(?:#[^\n]*)?(?:\n|\Z)"
)
"""What most lines look like; found at once, while the general way looks at every token."""
_EMPTY_LINE = re.compile(r"[ \t\r]*(?:#[^\n]*)?(?:\n|\Z)")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_BARE_HEADER = re.compile(r"\[{1,2}([A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*)\]{1,2}")


class Kind(Enum):
    """What a statement is."""

    TABLE = "[table]"
    ELEMENT = "[[element of an array of tables]]"
    VALUE = "key = value"


@dataclass(frozen=True)
class Statement:
    """One statement: offsets into the text, `start` to `end` for its whole lines, `value` for what stands after ``=``."""

    kind: Kind
    path: Path
    table: Path
    """The header above it (for a header: itself)."""
    start: int
    end: int
    value: tuple[int, int]

    def within(self, path: Path) -> bool:
        """Whether it says something about the table, element or value at `path`."""
        return self.path[: len(path)] == path


def statements(text: str) -> Iterator[Statement]:
    """Every statement of a valid TOML text in order; blank lines and comments lie between them."""
    table: Path = ()
    elements: dict[Path, int] = {}
    position = 0
    while position < len(text):
        empty = _EMPTY_LINE.match(text, position)
        if empty and empty.end() > position:
            position = empty.end()
            continue
        start = position
        plain = _PLAIN_LINE.match(text, start)
        if plain:
            position = plain.end()
            yield Statement(Kind.VALUE, (*table, plain[1]), table, start, position, plain.span(2))
            continue
        separator, last, position = _extent(text, start)
        if text[start:last].lstrip(" \t")[:1] == "[":
            header = text[start:last].strip()
            array = header.startswith("[[")
            table = _resolved(_keys(header), array, elements)
            yield Statement(Kind.ELEMENT if array else Kind.TABLE, table, table, start, position, (last, last))
        else:
            path = table + _keys(text[start:separator])
            value_start = separator + 1 + len(text[separator + 1 : last]) - len(text[separator + 1 : last].lstrip())
            yield Statement(Kind.VALUE, path, table, start, position, (value_start, last))


def _extent(text: str, start: int) -> tuple[int, int, int]:
    """Of the statement at `start`: offset of its first ``=``, end of its last token, end of its last line."""
    depth, separator, last = 0, -1, start
    for token in _TOKEN.finditer(text, start):
        match token.lastgroup:
            case "newline" if depth == 0:
                return separator, last, token.end()
            case "comment" | "newline" | "space":
                continue
            case "open":
                depth += 1
            case "close":
                depth -= 1
            case "equals" if separator < 0:
                separator = token.start()
        last = token.end()
    return separator, last, len(text)


def _keys(text: str) -> tuple[str, ...]:
    """The keys in a header or before ``=``: ``[[a."b.c"]]`` is ("a", "b.c")."""
    text = text.strip()
    if _BARE_KEY.fullmatch(text):
        return (text,)
    if header := _BARE_HEADER.fullmatch(text):
        return tuple(header[1].split("."))
    inner: Any = tomllib.loads(text if text.startswith("[") else f"{text} = 0")
    keys: list[str] = []
    while inner and isinstance(inner, dict | list):
        if isinstance(inner, list):
            inner = inner[0]
        else:
            ((key, inner),) = inner.items()
            keys.append(key)
    return tuple(keys)


def _resolved(keys: tuple[str, ...], array: bool, elements: dict[Path, int]) -> Path:
    """A header's keys with the number of the current element behind each array of tables; counts a new element."""
    path: Path = ()
    for number, key in enumerate(keys, start=1):
        path += (key,)
        if array and number == len(keys):
            elements[path] = elements.get(path, 0) + 1
        if path in elements:
            path += (elements[path] - 1,)
    return path
