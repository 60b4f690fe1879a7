"""The cost review as a whole: its page, its files, its register, from one month to the next."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
import yaml

from runbook.errors import ChecksFailed
from runbook.history import store, used
from runbook.report import Status
from runbook.review import actions, pack, period
from runbook.review.outcomes import Verdict
from runbook.review.period import Period
from runbook.settings import Settings
from sandbox.traffic.records import measured_batches

BEGIN = datetime(2026, 9, 1, tzinfo=UTC)
NOW = datetime(2026, 12, 1, 9, tzinfo=UTC)
LATER = datetime(2026, 12, 20, tzinfo=UTC)


def card(folder: Path, **cost: Any) -> Settings:
    """A card whose folders lie in `folder`."""
    values: dict[str, Any] = {
        "name": "review", "region": "cn-hangzhou", "cache": {"bucket": "b"}, "smoke": {"project": "ops/smoke"},
        "gitlab": {"url": "https://gitlab.example.com", "token": "env:T"}, "history": {"url": str(folder / "history")},
        "cost": {
            "prices": str(folder / "prices"), "reports": str(folder / "reports"), "reviews": str(folder / "reviews"),
            "used": {"url": str(folder / "used")}, "timezone": "UTC", "budget": 5000,
            "other": [{"name": "NAT gateway", "service": "nat", "amount": 150, "first": "2026-01-01"}],
        } | cost,
    }  # fmt: skip
    return Settings.parse(values, where="test")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A history of three months: 6,000 generated pods, and what they used."""
    folder = tmp_path_factory.mktemp("pack")
    history, measures = store.open_store(card(folder)), used.open_store(card(folder))
    for batch, measured in measured_batches(6_000, seed=5, begin=BEGIN, days=91):
        history.append(_named(pa.Table.from_batches([batch])))
        measures.append(_named(measured))
    return folder


def _named(table: pa.Table) -> pa.Table:
    at = table.schema.get_field_index("cluster")
    return table.set_column(at, table.schema.field(at), pa.array(["review"] * table.num_rows, pa.string()))


@pytest.fixture(scope="module")
def november(folder: Path) -> Period:
    return period.open_period(card(folder), "2026-11-01", "2026-11-30")


@pytest.fixture(scope="module")
def review(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> pack.Review:
    """The review of November, in a folder that no other test writes to."""
    own = card(folder, reports=str(tmp_path_factory.mktemp("reports")))
    return pack.review(period.open_period(own, "2026-11-01", "2026-11-30"), now=NOW)


class Loads(HTMLParser):
    """What a browser would fetch, the ids, and the targets of links."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            elif name == "src" or (tag == "link" and name == "href") or tag in ("script", "iframe", "object"):
                self.fetched.append(value or tag)
            elif tag == "a" and name == "href":
                self.links.append(value or "")


def read(review: pack.Review) -> tuple[str, Loads]:
    text = review.page.read_text(encoding="utf-8")
    parser = Loads()
    parser.feed(text)
    return text, parser


def test_the_page_opens_without_a_network(review: pack.Review) -> None:
    """Nothing is fetched, no style sheet imports another, and no id stands twice."""
    text, found = read(review)
    assert found.fetched == []
    assert "@import" not in text and "url(http" not in text
    assert len(found.ids) == len(set(found.ids))


def test_every_link_leads_somewhere(review: pack.Review) -> None:
    """Links are places of the page, or files beside it that are there."""
    _, found = read(review)
    files = [link for link in found.links if not link.startswith("#")]
    assert {"headline.csv", "movers.csv", "actions.csv", actions.PROPOSED} <= set(files)
    assert all((review.page.parent / link).is_file() for link in files)
    assert {link[1:] for link in found.links if link.startswith("#")} <= set(found.ids)


def test_every_exhibit_says_its_sentence(review: pack.Review) -> None:
    """Each drawn answer is on the page with its sentence, and its numbers are in a CSV file."""
    from html import escape

    text, _ = read(review)
    assert len(review.answers) >= 14
    for question in pack.QUESTIONS:
        if question.name in review.answers and question.draw is not None:
            assert escape(review.answers[question.name].sentence) in text, question.name
            assert (review.page.parent / f"{question.name}.csv").is_file()


def test_sections_are_in_the_order_of_the_meeting(review: pack.Review) -> None:
    """Where are we, why, who, sizes, spot, waiting, failures, then what to do, and what it rests on."""
    _, found = read(review)
    sections = [id for id in found.ids if id.startswith("about-") or id in ("actions", "small-print")]
    order = ["about-where", "about-why", "about-who", "about-sizes", "about-spot", "about-time", "about-failed"]
    assert sections == [*order, "actions", "small-print"]


def test_numbers_of_a_sentence_stand_in_its_csv(review: pack.Review) -> None:
    """The spend that the first sentence names is the total of the cost lines and of the waterfall."""
    folder = review.page.parent
    spend = pd.read_csv(folder / "headline.csv").set_index("number").loc["spend", "value"]
    assert f"CNY {spend:,.2f}" in review.answers["headline"].sentence
    assert pd.read_csv(folder / "headline-costs.csv")["effective_cost"].iloc[-1] == pytest.approx(spend)
    assert pd.read_csv(folder / "movers.csv")["amount"].iloc[-1] == pytest.approx(spend)
    assert pd.read_csv(folder / "allocation.csv")["cost"].sum() == pytest.approx(spend)
    pods = pd.read_csv(folder / "trend-days.csv")["cost"].sum()
    assert pods == pytest.approx(spend - 150) == pytest.approx(pd.read_csv(folder / "who.csv")["cost"].sum())


def test_a_bill_that_may_change_is_said_above_everything(november: Period) -> None:
    """On the first of December November's bill is open; on the twentieth it is final, and the banner is gone."""
    few = pack.QUESTIONS[:1]
    assert (
        '<p class="banner">Bill not final: until 2026-12-03' in read(pack.review(november, now=NOW, questions=few))[0]
    )
    assert 'class="banner"' not in read(pack.review(november, now=LATER, questions=few))[0]


def test_what_is_assumed_and_what_is_wrong_is_printed(review: pack.Review, november: Period) -> None:
    """The page ends with the problems of the data and their share of the money, and with every named assumption."""
    from html import escape

    text, _ = read(review)
    assert all(escape(said) in text for said in november.report.facts.values())
    for row in november.quality.table.itertuples():
        assert escape(str(row.meaning)) in text


def test_the_same_period_gives_the_same_page(november: Period) -> None:
    """Made twice at the same moment, page, proposals and charts are the same bytes."""

    def written() -> list[bytes]:
        folder = pack.review(november, now=NOW).page.parent
        return [(folder / name).read_bytes() for name in (pack.PAGE, actions.PROPOSED, "movers.svg")]

    assert written() == written()


def test_an_exhibit_that_fails_does_not_stop_the_others(november: Period) -> None:
    """A fault in one question is named on the page and fails the report; everything else is there."""

    def broken(asked: pack.Asked) -> Any:
        raise ZeroDivisionError("no pods to divide by")

    questions = (pack.Question("where", "broken", broken), *pack.QUESTIONS[:1], *pack.QUESTIONS[2:3])
    made = pack.review(november, now=NOW, questions=questions)
    text, _ = read(made)
    assert "The exhibit broken could not be made" in text and "no pods to divide by" in text
    assert "test_pack.py, line" in text
    assert {"headline", "movers"} <= set(made.answers)
    assert made.report["review-exhibits"].status is Status.FAIL
    with pytest.raises(ChecksFailed, match="broken: ZeroDivisionError"):
        made.report.raise_for_failures()


def test_an_empty_history_is_a_page_too(tmp_path: Path) -> None:
    """Nothing was collected yet: every exhibit says so, nothing is proposed, and the report does not fail."""
    pods = period.open_period(card(tmp_path, other=[]), "2026-11-01", "2026-11-30")
    made = pack.review(pods, now=NOW)
    made.report.raise_for_failures()
    assert "No pod and no cost is known" in read(made)[0]
    assert made.outcomes == ()


def test_it_speaks_chinese(folder: Path, tmp_path: Path) -> None:
    """With a card in Chinese the page's own words are Chinese, and so are the sentences."""
    spoken = card(folder, language="zh", reports=str(tmp_path))
    made = pack.review(period.open_period(spoken, "2026-11-20", "2026-11-26"), now=NOW)
    text, _ = read(made)
    if made.scope.language == "zh":
        assert '<html lang="zh-CN">' in text
        assert "现状如何" in text and "账单未定" in text


def test_a_register_that_cannot_be_read_fails_the_report_and_not_the_page(folder: Path, tmp_path: Path) -> None:
    """Mistakes in what people wrote are told with the register's own page; the review is made without it."""
    spoiled = card(folder, reviews=str(tmp_path / "reviews"), reports=str(tmp_path / "reports"))
    (tmp_path / "reviews").mkdir()
    (tmp_path / "reviews" / "review.yaml").write_text("cluster: review\nactions:\n- id: a\n  what: b\n")
    made = pack.review(period.open_period(spoiled, "2026-11-20", "2026-11-26"), now=NOW)
    assert made.page.is_file()
    assert "action a: proposed: is missing" in made.report["review-register"].observed
    assert not made.report.ok


def test_the_next_review_reads_what_the_meeting_decided(folder: Path, tmp_path: Path) -> None:
    """October proposes; the meeting takes one, does one, rejects one; November says what became of each and proposes the rest."""
    own = card(folder, reviews=str(tmp_path / "reviews"), reports=str(tmp_path / "reports"))
    october = pack.review(period.open_period(own, "2026-10-01", "2026-10-31"), now=datetime(2026, 11, 5, tzinfo=UTC))
    written = yaml.safe_load((october.page.parent / actions.PROPOSED).read_text(encoding="utf-8"))
    taken, done, rejected, *rest = written["actions"]
    taken |= {"owner": "Li"}
    done |= {"owner": "Chen", "status": "done", "done": date(2026, 11, 3)}
    rejected |= {"status": "rejected", "because": "not worth a meeting"}
    (tmp_path / "reviews").mkdir()
    decided = yaml.safe_dump(written | {"actions": [taken, done, rejected]}, allow_unicode=True)
    (tmp_path / "reviews" / "review.yaml").write_text(decided, encoding="utf-8")
    november = pack.review(period.open_period(own, "2026-11-01", "2026-11-30"), now=NOW)
    became = {one.action.id: one for one in november.outcomes}
    assert became[taken["id"]].verdict is Verdict.OPEN
    assert became[done["id"]].verdict in (Verdict.SAVED, Verdict.UNCLEAR, Verdict.DEARER)
    assert became[done["id"]].measured is not None, (
        "the baseline that October wrote down is what November measures against"
    )
    assert became[rejected["id"]].sentence == "rejected: not worth a meeting"
    again = yaml.safe_load((november.page.parent / actions.PROPOSED).read_text(encoding="utf-8"))["actions"] or []
    assert not {one["id"] for one in again} & {taken["id"], done["id"], rejected["id"]}
    assert (tmp_path / "reviews" / "review.yaml").read_text(encoding="utf-8") == decided, "only people write there"
    text, _ = read(november)
    assert "not worth a meeting" in text and "Chen" in text
    assert rest or len(written["actions"]) == 3


def test_a_review_shows_where_its_page_is(review: pack.Review) -> None:
    """What a notebook displays names the page and repeats the sentences."""
    shown = review._repr_html_()
    assert str(review.page) in str(review) and "review.html" in shown
    assert re.search(r"CI cost CNY [\d,.]+ in 30 days", str(review))
