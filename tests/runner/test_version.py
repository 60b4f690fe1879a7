"""Versions of GitLab Runner are read and compared by number."""

import pytest

from runbook.runner.version import Version, parse


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("17.9.2", Version(17, 9, 2)),
        ("v14.7.1", Version(14, 7, 1)),
        ("16.0", Version(16, 0, 0)),
        (" 19.4.0~pre.17.g1a2b3c4 ", Version(19, 4, 0)),
        ("18.11.0-rc1", Version(18, 11, 0)),
    ],
)
def test_forms(text: str, version: Version) -> None:
    """Every form in which GitLab and the binary print a version is read as its three numbers."""
    assert parse(text) == version


def test_order() -> None:
    """Versions compare as numbers, not as text."""
    assert parse("17.10.0") > parse("17.9.2") >= parse("17.9")


@pytest.mark.parametrize("text", ["", "latest", "17", "development version", "17.x"])
def test_not_a_version(text: str) -> None:
    """Text that is no version is refused with the text and an example."""
    with pytest.raises(ValueError, match="17.9.2"):
        parse(text)


def test_prints_three_numbers() -> None:
    """A version prints as GitLab prints it."""
    assert str(parse("v17.9")) == "17.9.0"
