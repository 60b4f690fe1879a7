"""What can be written on this machine: Chinese with a font that has it, else English and one clear line; never an empty box."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest

from runbook.answer import Answer
from runbook.charts import fonts, style
from tests.cost.priced_pods import SCOPE

needs_chinese = pytest.mark.skipif(
    fonts.chinese_font(fonts.installed()) is None,
    reason="no font with Chinese characters here (Debian: fonts-noto-cjk)",
)


def test_english_needs_nothing() -> None:
    """English is always English: its font comes with matplotlib."""
    assert fonts.language("en", []) == ("en", "")
    assert fonts.LATIN in fonts.installed()


def test_chinese_with_a_font() -> None:
    """With any of the known fonts the answers are Chinese, and the best one is taken."""
    assert fonts.language("zh", ["WenQuanYi Zen Hei"]) == ("zh", "")
    assert fonts.chinese_font(["SimHei", "DejaVu Sans", "Noto Sans CJK SC"]) == "Noto Sans CJK SC"


def test_chinese_without_a_font() -> None:
    """Without one they are English, and one sentence says so and what to install."""
    language, said = fonts.language("zh", ["DejaVu Sans"])
    assert language == "en"
    assert "fonts-noto-cjk" in said


def test_what_no_font_has() -> None:
    """A character that none of the fonts has becomes a question mark; everything else stays."""
    assert fonts.drawable("部署 → deploy 🚀", [fonts.LATIN]) == "?? → deploy ?"
    assert fonts.drawable("plain") == "plain"


def test_a_chart_says_what_it_could_not_write() -> None:
    """Names of jobs hold anything: a rocket is drawn as a question mark, and the footer names the character."""
    table = pd.DataFrame({"job": ["deploy 🚀"], "cost": [1.0]})
    figure, axes = style.figure(Answer("jobs", "?", "One job 🚀.", table, SCOPE, 1), height=1)
    axes.barh([0], [1.0])
    style.rows(axes, list(table["job"]))
    words = style.words(figure)
    assert "deploy ?" in words and "One job ?." in words
    assert any(word.endswith("; ? = U+1F680") for word in words)
    assert style.svg(figure) == style.svg(figure)


@needs_chinese
def test_a_chinese_chart_has_no_empty_boxes(recwarn: pytest.WarningsRecorder) -> None:
    """Every character of a Chinese chart is found in a font: matplotlib warns of none."""
    scope = replace(SCOPE, language="zh")
    table = pd.DataFrame({"job": ["集成测试"], "cost": [1.0]})
    figure, axes = style.figure(Answer("jobs", "？", "一个作业花费 CNY 1.00。", table, scope, 1), height=1)
    axes.barh([0], [1.0])
    style.rows(axes, list(table["job"]))
    style.money_axis(axes, "x", scope, "费用")
    style.svg(figure)
    style.png(figure)
    assert not [one for one in recwarn if "Glyph" in str(one.message)]
