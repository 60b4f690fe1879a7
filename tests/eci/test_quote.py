"""The answer about a pod's spec and price has one face for a terminal, one for JupyterLab, one for a program."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest

from runbook.eci import prices, quote, specs
from runbook.quantities import Size

ARTICLE = [
    (name, Size.parse(text)) for name, text in (("build", "2/6Gi"), ("service", "1/1Gi"), ("helper", "250m/512Mi"))
]

TEXT = """\
3.25 vCPU / 7.5 GiB → 4 vCPU / 8 GiB, CNY 0.882144 an hour
  requested     3.25 vCPU / 7.5 GiB   (build 2/6Gi + service 1/1Gi + helper 250m/512Mi)
  billed        4 vCPU / 8 GiB
  rule          3.25 vCPU / 7.5 GiB is rounded up to the nearest spec with at least as much of both
  table         all-regions: 4 vCPU with 2 4 8 16 32 GiB
  price         CNY 0.882144 an hour, list price since 2024-11-27 (cn, before tax and discounts)
  unused        0.75 vCPU / 0.5 GiB billed but not requested
  next smaller  4 vCPU / 6 GiB, CNY 0.044136 an hour less, if the request had 1.5 GiB less
  or            2 vCPU / 8 GiB, CNY 0.3528 an hour less, if the request had 1.25 vCPU less"""


def test_the_articles_pod_in_a_terminal() -> None:
    """The article's pod is told in nine lines: requested, billed, why, price, unused, the smaller specs."""
    assert str(quote.of(ARTICLE, region="cn-hangzhou")) == TEXT


def test_the_articles_pod_for_a_program() -> None:
    """The same values by name, the price a number with all its digits."""
    answer = quote.of(ARTICLE, region="cn-hangzhou").as_dict()
    assert answer["vcpu"] == 4
    assert answer["memory_gib"] == 8
    assert json.dumps(answer["price_per_hour"]) == "0.882144"
    assert (answer["currency"], answer["price_date"], answer["reason"]) == ("CNY", "2024-11-27", None)


def test_html_face_escapes_its_values() -> None:
    """JupyterLab shows the same lines, and nothing in them is taken for HTML."""
    html = quote.of([("<b>", Size.parse("1/1Gi"))], region="cn-hangzhou")._repr_html_()
    assert "&lt;b&gt; 1/1Gi" in html
    assert "<b> 1/1Gi" not in html


def test_nothing_requested_is_the_default() -> None:
    """A pod without sizes is quoted as 2 vCPU and 4 GiB, and the rule says that this is the default."""
    answer = quote.of([], region="cn-hangzhou")
    assert answer.match.spec == "2-4Gi"
    assert answer.match.rule.startswith("nothing requested: the default")
    assert "unused        nothing" in str(answer)


def test_explicit_specs_are_quoted() -> None:
    """Explicit specs replace the request: the price is theirs, and an ECS type has none."""
    assert quote.of(ARTICLE, region="cn-hangzhou", use_specs=["8-16Gi"]).price.per_hour == Decimal("1.764288")
    answer = quote.of(ARTICLE, region="cn-hangzhou", use_specs=["ecs.c6.large"])
    assert answer.as_dict()["price_per_hour"] is None
    assert answer.as_dict()["vcpu"] is None
    assert "price unknown" in str(answer)


def test_spot_says_why_it_has_no_price() -> None:
    """A spot pod is quoted with its spec and the reason why the list has no price for it."""
    answer = quote.of(ARTICLE, region="cn-hangzhou", spot=True)
    assert "4 vCPU / 8 GiB, spot, price unknown" in str(answer)
    assert answer.as_dict()["reason"] == answer.price.reason


@pytest.mark.parametrize("site", sorted(prices.SITES))
def test_json_numbers_print_every_digit(site: str) -> None:
    """For every spec of the ladder the JSON number prints exactly the digits of the Decimal."""
    for row in specs.shipped().offered("cn-hangzhou"):
        for memory in row.memory_gib:
            answer = quote.of([("build", Size(row.vcpu, int(memory * 2**30)))], region="cn-hangzhou", site=site)
            assert Decimal(json.dumps(answer.as_dict()["price_per_hour"])) == answer.price.per_hour
