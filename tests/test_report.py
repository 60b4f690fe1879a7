"""A report is a value with a verdict and two faces; failing is a call that a notebook makes last."""

from __future__ import annotations

import json
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runbook import html, report
from runbook.errors import ChecksFailed
from runbook.report import Check, Report, Status, Unknown

PASS = Check.passed("api", "The API server answers", "v1.36.3-aliyun.1")
WARN = Check.warned("clock", "The clocks agree", "2 min apart", expected="less than 5 s", remedy="chronyc makestep")
FAIL = Check.failed("node", "A virtual node is there", "none\nof 3 nodes", expected="one a zone", remedy="Add one.")
SKIP = Check.skipped("price", "The price is known", "spot: the market's price")


class Text(HTMLParser):
    """The text of a page, and whether every tag is closed in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.text, self.open, self.balanced = "", list[str](), True
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        self.balanced = self.balanced and bool(self.open) and self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize(
    ("checks", "outcome", "verdict"),
    [
        ([PASS], "", "green"),
        ([], "", "green"),
        ([PASS, WARN], "", "green, 1 warning"),
        ([WARN, WARN, SKIP], "", "green, 2 warnings, 1 skipped"),
        ([PASS], "nothing to change", "green; nothing to change"),
        ([PASS, SKIP], "3 created", "green, 1 skipped; 3 created"),
        ([PASS, FAIL, SKIP], "3 created", "1 of 3 checks failed"),
        ([FAIL, FAIL], "", "2 of 2 checks failed"),
    ],
)
def test_the_verdict_is_one_line(checks: list[Check], outcome: str, verdict: str) -> None:
    """A table of notebooks shows it: green with what is worth a look, or how many checks failed."""
    assert Report("Connection", checks, outcome=outcome).verdict == verdict


def test_only_a_failed_check_fails_a_report() -> None:
    """Warnings and skipped checks leave a report green: only failures stop a scheduler."""
    assert Report("Connection", [PASS, WARN, SKIP]).ok
    assert not Report("Connection", [PASS, FAIL]).ok
    assert Report("Connection", [PASS, FAIL]).failures == [FAIL]


def test_a_good_report_hands_itself_on() -> None:
    """raise_for_failures returns the report, so that it can be chained."""
    good = Report("Connection", [PASS])
    assert good.raise_for_failures() is good


def test_a_bad_report_raises_itself() -> None:
    """The error's last lines are the report: observed, expected, remedy, and where to read."""
    with pytest.raises(ChecksFailed) as caught:
        Report("Connection", [PASS, FAIL]).raise_for_failures()
    lines = str(caught.value).splitlines()
    assert lines[0] == "Connection: 1 of 2 checks failed."
    assert lines[1] == "Connection: 1 of 2 checks failed"
    assert lines[-5:] == [
        "          none",
        "          of 3 nodes",
        "          expected: one a zone",
        "          do: Add one.",
        "          read: notebooks/troubleshooting.md#node",
    ]


def test_a_green_check_needs_no_advice() -> None:
    """Expected, remedy and page are shown only where something is to be done."""
    text = str(Report("Connection", [PASS, SKIP]))
    assert "expected:" not in text
    assert "read:" not in text
    assert "✔ pass  The API server answers" in text
    assert "spot: the market's price" in text


def test_facts_stand_above_the_checks() -> None:
    """Name and value pairs are aligned below the title."""
    lines = str(Report("Connection", [PASS], {"server": "https://x", "CA": "y"})).splitlines()
    assert lines[1:3] == ["    server  https://x", "    CA      y"]


def test_the_face_in_jupyterlab_says_the_same() -> None:
    """The HTML holds every word of the checks, colours each by its status, and is well formed."""
    page = Report("Connection", [PASS, WARN, FAIL, SKIP], {"server": "https://x"})._repr_html_()
    seen = Text(page)
    assert seen.balanced
    colours = {Status.PASS: html.GREEN, Status.WARN: html.AMBER, Status.FAIL: html.RED, Status.SKIP: html.GREY}
    for check in (PASS, WARN, FAIL, SKIP):
        assert check.title in seen.text
        assert colours[check.status] in page
    assert "chronyc makestep" in seen.text
    assert "#node" in seen.text
    assert "https://x" in seen.text


@given(st.text(alphabet="<>&'\"/ab\n", max_size=20))
def test_what_others_wrote_is_escaped(text: str) -> None:
    """A name or message from outside, whatever it holds, is text in the page, never markup."""
    check = Check.failed("id", text, text, expected=text, remedy=text)
    for page in (Report(text, [check], {text: text})._repr_html_(), html.pairs({text: text})):
        seen = Text(page)
        assert seen.balanced
        assert text in seen.text


def test_a_check_is_found_by_its_id() -> None:
    """report["id"] is that check: tests and later cells ask for one by name."""
    assert Report("Connection", [PASS, FAIL])["node"] is FAIL


def test_reports_combine() -> None:
    """Several reports as one: facts and checks in order under a new title, what became of each is kept."""
    one = Report("One", [PASS], {"a": "1"}, "2 created")
    other = Report("Other", [FAIL], {"b": "2"})
    both = report.combined("Both", [one, other])
    assert (both.title, list(both.checks), dict(both.facts)) == ("Both", [PASS, FAIL], {"a": "1", "b": "2"})
    assert "2 created" in report.combined("Both", [one, Report("Other", [PASS])]).verdict


def test_a_report_is_plain_values_for_a_program() -> None:
    """as_dict survives JSON, with each check's status as a word."""
    plain = json.loads(json.dumps(Report("Connection", [PASS, WARN], {"server": "x"}).as_dict()))
    assert plain["verdict"] == "green, 1 warning"
    assert [check["status"] for check in plain["checks"]] == ["pass", "warn"]
    assert plain["checks"][1]["remedy"] == "chronyc makestep"


def test_the_four_answers() -> None:
    """There are four answers and no fifth."""
    assert [status.value for status in Status] == ["pass", "warn", "fail", "skip"]


def test_what_is_not_known_says_why() -> None:
    """Unknown is a fact with a reason, not an empty text."""
    assert str(Unknown("403 on persistentvolumes")) == "unknown (403 on persistentvolumes)"


def test_pairs_for_a_terminal() -> None:
    """text_pairs aligns names; a value of several lines stays in its column."""
    assert report.text_pairs("Facts", {"a": "1\n2", "long": "3"}).splitlines() == [
        "Facts",
        "  a     1",
        "        2",
        "  long  3",
    ]
    assert html.pairs({}) == ""
