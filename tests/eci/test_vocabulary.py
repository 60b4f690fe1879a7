"""The vocabulary is a page to read: every word has its line and its grade, and none stands twice."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
import yaml

from runbook.eci import vocabulary

ECI_NODE = Path(__file__).resolve().parents[2] / "sandbox" / "eci-node"
TREE = ast.parse(Path(vocabulary.__file__).read_text(encoding="utf-8"))


def described() -> dict[str, str]:
    """Name of each constant and the docstring that follows it."""
    return {
        assigned.targets[0].id: following.value.value
        for assigned, following in zip(TREE.body, TREE.body[1:], strict=False)
        if isinstance(assigned, ast.Assign)
        and isinstance(assigned.targets[0], ast.Name)
        and isinstance(following, ast.Expr)
        and isinstance(following.value, ast.Constant)
        and isinstance(following.value.value, str)
    }


CONSTANTS = [name for name in vars(vocabulary) if name.isupper()]


@pytest.mark.parametrize("name", CONSTANTS)
def test_every_word_has_a_line_and_a_grade(name: str) -> None:
    """Each constant is followed by one line that begins with how well it is known."""
    line = described()[name]
    assert re.match(r"\[[DOI?]\] \S", line), line
    assert "\n" not in line


def test_annotation_keys_are_distinct() -> None:
    """No annotation key has two names."""
    keys = [getattr(vocabulary, name) for name in CONSTANTS]
    prefixed = [key for key in keys if isinstance(key, str) and key.startswith(vocabulary.PREFIX)]
    assert len(prefixed) == len(set(prefixed))


REASONS = [
    ("NoStock", vocabulary.REASON_NO_STOCK, True),
    ("ContainerGroup.NoStock", vocabulary.REASON_NO_STOCK, True),
    ("StockExhaust", vocabulary.REASON_NO_STOCK, False),
    ("NoStockAtAll", vocabulary.REASON_NO_STOCK, False),
    ("", vocabulary.REASON_NO_STOCK, False),
    (None, vocabulary.REASON_NO_STOCK, False),
]


@pytest.mark.parametrize(("observed", "reason", "same"), REASONS)
def test_reason_with_or_without_prefix(observed: str | None, reason: str, same: bool) -> None:
    """A reason is known again with and without the prefix that ECI sometimes puts before it."""
    assert vocabulary.is_reason(observed, reason) is same


def test_a_real_pod_bears_these_words(traces: Path) -> None:
    """The keys that a real pod of 2023 bears under ECI's prefix are all in the vocabulary, but for internal ones."""
    recorded = yaml.safe_load(
        (traces / "eci-pods" / "eci-pod-running-cn-shenzhen-2containers.yaml").read_text(encoding="utf-8")
    )
    keys = {key for key in recorded["metadata"]["annotations"] if key.startswith(vocabulary.PREFIX)}
    internal = {"eci-kube-proxy-enabled", "eci-drop-apiserver-interactive-caps"}
    known = {getattr(vocabulary, name) for name in CONSTANTS if isinstance(getattr(vocabulary, name), str)}
    assert keys - known == {vocabulary.PREFIX + name for name in internal}


def go_strings(file: str, pattern: str) -> set[str]:
    return set(re.findall(pattern, (ECI_NODE / file).read_text(encoding="utf-8")))


def test_the_practice_node_uses_no_other_annotations() -> None:
    """Every annotation key that the practice node reads or writes is in the vocabulary."""
    keys = go_strings("annotations.go", r'"(k8s\.aliyun\.com/[a-z-]+)"')
    assert len(keys) > 20
    assert keys <= {getattr(vocabulary, name) for name in CONSTANTS if isinstance(getattr(vocabulary, name), str)}


def test_the_practice_node_tells_no_other_events() -> None:
    """Every reason of an event that the practice node tells in ECI's name is in the vocabulary."""
    reasons = go_strings("events.go", r'"([A-Za-z]+)", componentECI')
    assert len(reasons) > 8
    assert reasons <= {getattr(vocabulary, name) for name in CONSTANTS if name.startswith("EVENT_")}
