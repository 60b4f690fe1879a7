"""Which words a chart can write on this machine: the fonts that are there, and the language that they allow."""

from __future__ import annotations

import functools
from collections.abc import Collection, Sequence

from runbook.answer import Language

LATIN = "DejaVu Sans"
"""Comes with matplotlib: charts look the same on every machine."""

CHINESE = (
    "Noto Sans CJK SC", "Noto Sans SC", "Source Han Sans SC", "Source Han Sans CN", "WenQuanYi Micro Hei", "WenQuanYi Zen Hei",
    "Microsoft YaHei", "PingFang SC", "Heiti SC", "SimHei", "Droid Sans Fallback", "Noto Sans CJK JP",
)  # fmt: skip
"""Families with the glyphs of simplified Chinese, the best first."""

MISSING = "?"
"""Stands for a character that no font here has: an empty box says less."""

NO_CHINESE_FONT = (
    "The card asks for Chinese, but no font here has its characters: answers and charts are in English. "
    "Install one (Debian: fonts-noto-cjk, Red Hat: google-noto-sans-cjk-fonts)."
)


def language(wanted: Language, names: Collection[str] | None = None) -> tuple[Language, str]:
    """The language that charts can be in, and one sentence where it is not the one that is wanted (else empty).

    `names` are the font families there are (None: those that matplotlib finds). Whoever opens a period asks here, so that
    sentences and charts speak the same language.
    """
    if wanted == "zh" and chinese_font(installed() if names is None else names) is None:
        return "en", NO_CHINESE_FONT
    return wanted, ""


def chinese_font(names: Collection[str]) -> str | None:
    """The best of the families that has Chinese glyphs; None where none has."""
    return next((name for name in CHINESE if name in names), None)


@functools.cache
def installed() -> frozenset[str]:
    """The families that matplotlib finds on this machine."""
    from matplotlib import font_manager

    return frozenset(font.name for font in font_manager.fontManager.ttflist)


@functools.cache
def families() -> tuple[str, ...]:
    """The families that texts are set in: Latin first, Chinese for what it lacks."""
    chinese = chinese_font(installed())
    return (LATIN, chinese) if chinese else (LATIN,)


def drawable(text: str, names: Sequence[str] | None = None) -> str:
    """The text with every character that none of the families (None: ours) can draw replaced by `?`."""
    if text.isascii():
        return text
    glyphs: frozenset[int] = frozenset()
    for name in families() if names is None else names:
        glyphs |= _glyphs(name)
        if all(_can_draw(one, glyphs) for one in text):
            return text
    return "".join(one if _can_draw(one, glyphs) else MISSING for one in text)


def _can_draw(character: str, glyphs: frozenset[int]) -> bool:
    return character == "\n" or ord(character) in glyphs


@functools.cache
def _glyphs(name: str) -> frozenset[int]:
    """The code points that a family has."""
    from matplotlib import font_manager

    return frozenset(font_manager.get_font(font_manager.findfont(name)).get_charmap())
