"""The language of ``rules: - if:``: variables, strings, patterns, ``== != =~ !~ && ||`` and parentheses."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

Variables = Mapping[str, str]
Value = str | bool | None | re.Pattern[str]
Evaluator = Callable[[Variables], Value]

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<variable>\$\w+|\$\{\w+\})
      | (?P<string>"[^"]*"|'[^']*')
      | (?P<pattern>/(?:\\.|[^/\\\n])+/[imsU]*)
      | (?P<null>null\b)
      | (?P<operator>==|!=|=~|!~|&&|\|\||\(|\))
    )""",
    re.VERBOSE,
)
_COMPARISONS = frozenset({"==", "!=", "=~", "!~"})


class ExpressionError(ValueError):
    """The text is not an expression of this language."""


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str


def parse(text: str) -> Callable[[Variables], bool]:
    """A function from variables to the truth of `text`. Raises ExpressionError."""
    parser = _Parser(_tokens(text))
    evaluate = parser.alternatives()
    if parser.current is not None:
        raise ExpressionError(f"unexpected {parser.current.text!r} in {text!r}")
    return lambda variables: _truth(evaluate(variables))


def _tokens(text: str) -> list[_Token]:
    tokens, position, stripped = [], 0, text.rstrip()
    while position < len(stripped):
        match = _TOKEN.match(stripped, position)
        if match is None or match.lastgroup is None:
            raise ExpressionError(f"cannot read {stripped[position:]!r}")
        tokens.append(_Token(match.lastgroup, match.group(match.lastgroup)))
        position = match.end()
    if not tokens:
        raise ExpressionError("an empty expression")
    return tokens


class _Parser:
    """Recursive descent: ``||`` binds weaker than ``&&``, comparisons bind strongest."""

    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens = tokens
        self._position = 0

    @property
    def current(self) -> _Token | None:
        return self._tokens[self._position] if self._position < len(self._tokens) else None

    def _take(self, *texts: str) -> bool:
        if self.current is not None and self.current.kind == "operator" and self.current.text in texts:
            self._position += 1
            return True
        return False

    def alternatives(self) -> Evaluator:
        left = self._conjunction()
        while self._take("||"):
            left = _either(left, self._conjunction())
        return left

    def _conjunction(self) -> Evaluator:
        left = self._comparison()
        while self._take("&&"):
            left = _both(left, self._comparison())
        return left

    def _comparison(self) -> Evaluator:
        left = self._operand()
        if self.current is not None and self.current.text in _COMPARISONS:
            operator = self.current.text
            self._position += 1
            return _compare(operator, left, self._operand())
        return left

    def _operand(self) -> Evaluator:
        if self._take("("):
            inner = self.alternatives()
            if not self._take(")"):
                raise ExpressionError("a parenthesis is not closed")
            return inner
        token = self.current
        if token is None or token.kind == "operator":
            raise ExpressionError("a value is missing" if token is None else f"unexpected {token.text!r}")
        self._position += 1
        return _value(token)


def _value(token: _Token) -> Evaluator:
    if token.kind == "variable":
        name = token.text.strip("${}")
        return lambda variables: variables.get(name)
    if token.kind == "null":
        return lambda _: None
    constant: Value = token.text[1:-1] if token.kind == "string" else _pattern(token.text)
    return lambda _: constant


def _pattern(text: str) -> re.Pattern[str]:
    body, _, flags = text[1:].rpartition("/")
    known = {"i": re.IGNORECASE, "m": re.DOTALL, "s": re.DOTALL, "U": re.NOFLAG}
    try:
        return re.compile(body.replace(r"\/", "/"), sum((known[flag] for flag in set(flags)), re.NOFLAG))
    except re.error as error:
        raise ExpressionError(f"{text} is not a pattern: {error}") from error


def _truth(value: Value) -> bool:
    return value is True or (isinstance(value, str) and value != "") or isinstance(value, re.Pattern)


def _either(left: Evaluator, right: Evaluator) -> Evaluator:
    return lambda variables: _truth(left(variables)) or _truth(right(variables))


def _both(left: Evaluator, right: Evaluator) -> Evaluator:
    return lambda variables: _truth(left(variables)) and _truth(right(variables))


def _compare(operator: str, left: Evaluator, right: Evaluator) -> Evaluator:
    def evaluate(variables: Variables) -> bool:
        a, b = left(variables), right(variables)
        if operator in ("==", "!="):
            return (a == b) is (operator == "==")
        return _matches(a, b) is (operator == "=~")

    return evaluate


def _matches(value: Value, pattern: Value) -> bool:
    # A pattern may come out of a variable, written with its slashes.
    if isinstance(pattern, str):
        pattern = _pattern(pattern) if re.fullmatch(r"/.+/[imsU]*", pattern) else re.compile(re.escape(pattern))
    return isinstance(value, str) and isinstance(pattern, re.Pattern) and pattern.search(value) is not None
