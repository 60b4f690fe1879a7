"""Errors are pages: what is wrong, where, what is allowed, what to do, where to read."""

from __future__ import annotations

import inspect
import re

import pytest

from runbook import errors
from runbook.errors import ChecksFailed, RunbookError, SettingsError

CLASSES = [one for _, one in inspect.getmembers(errors, inspect.isclass) if issubclass(one, RunbookError)]


def test_a_page_says_all_that_is_known_and_no_more() -> None:
    """The problem comes first; a row without content is left out, not shown empty."""
    error = SettingsError("The region is wrong.", where="card.yaml: region", value="x", allowed="a region id")
    assert str(error) == "The region is wrong.\n  where:   card.yaml: region\n  value:   'x'\n  allowed: a region id"
    assert str(RunbookError("Nothing more is known.")) == "Nothing more is known."


def test_long_rows_stay_in_their_column() -> None:
    """A remedy of several lines, a command say, is indented as one block and can be copied."""
    error = RunbookError("No right.", remedy="kubectl apply -f - <<END\nkind: Role\nEND")
    assert str(error).splitlines()[1:] == [
        "  do:      kubectl apply -f - <<END",
        "           kind: Role",
        "           END",
    ]


@pytest.mark.parametrize("value", ["", 0, False, [], "text"])
def test_a_value_is_shown_as_it_would_be_written(value: object) -> None:
    """Empty and false values are values too: they are shown, as Python writes them."""
    assert f"  value:   {value!r}" in str(RunbookError("Wrong.", value=value))


def test_an_anchor_leads_to_the_troubleshooting_page() -> None:
    """`#id` is a heading of notebooks/troubleshooting.md; any other page is taken as it is."""
    assert RunbookError("Wrong.", page="#cache-volume").page == "notebooks/troubleshooting.md#cache-volume"
    assert RunbookError("Wrong.", page="data/specs/SOURCES.md").page == "data/specs/SOURCES.md"
    assert RunbookError("Wrong.").page is None


def test_a_notebook_shows_the_page_and_no_stack() -> None:
    """IPython asks an exception how to show it: the answer is the page, with the class's name before the problem."""
    assert SettingsError("The region is wrong.", value=1)._render_traceback_() == [
        "SettingsError: The region is wrong.",
        "  value:   1",
    ]


def test_failed_checks_show_their_report() -> None:
    """The text of ChecksFailed ends with the report itself, so that a log's last lines are the report."""
    error = ChecksFailed("Connection: 1 of 2 checks failed.", "Connection: …\n  ✘ fail  The clock agrees")
    assert str(error).splitlines()[-1] == "  ✘ fail  The clock agrees"


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_one_word_catches_them_all(kind: type[RunbookError]) -> None:
    """Every error of ours is a RunbookError, has a sentence, and stands in the tree at the top of the module."""
    assert issubclass(kind, RunbookError)
    assert kind.__doc__
    assert re.search(rf"\b{kind.__name__}\b", errors.__doc__ or ""), f"{kind.__name__} is missing in the tree"
