"""The patch that carries out an advice on sizes: what to write into each `.gitlab-ci.yml`, and what the runner must allow for it.

A job's variables change its build container alone. What is written is the recommended rung without what helper and services ask
for, so that the pod as a whole asks for exactly the rung and nothing is rounded up.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from html import escape
from typing import TYPE_CHECKING, Any

import yaml

from runbook import html
from runbook.answer import Answer, Scope
from runbook.cost.job_sizes import Verdict
from runbook.cost.sizes import size_text
from runbook.quantities import GIB, MIB, Size

if TYPE_CHECKING:
    pass

MILLI = Decimal("0.001")
"""The step in which CPU is asked for; memory is in whole MiB. Both are rounded down, or the pod would ask for more than the rung."""


@dataclass(frozen=True)
class Patch:
    """The change of one job: what its build container asks for, and by `limit` or `request`."""

    project: str
    job: str
    ask: Size
    asked_by: str
    comment: str

    @property
    def variables(self) -> dict[str, str]:
        """As a job's variables: `KUBERNETES_CPU_REQUEST: "1900m"`."""
        sizes = self.ask.requests
        return {f"KUBERNETES_{name.upper()}_{self.asked_by.upper()}": value for name, value in sizes.items()}

    @property
    def yaml(self) -> str:
        """As a piece of `.gitlab-ci.yml`."""
        text = yaml.safe_dump({self.job: {"variables": self.variables}}, sort_keys=False, allow_unicode=True)
        return f"# {self.comment}\n{text}"


@dataclass(frozen=True)
class Patches:
    """All changes, and the jobs for which none can be written, with the reason."""

    patches: tuple[Patch, ...]
    without: tuple[str, ...]
    scope: Scope

    @property
    def runner(self) -> str:
        """As keys of `[runners.kubernetes]`: what jobs must be allowed to ask for, so that no patch is ignored."""
        most: dict[str, Size] = {}
        for patch in self.patches:
            most[patch.asked_by] = most.get(patch.asked_by, Size()).at_least(patch.ask)
        lines = [
            f'{name}_{word}_overwrite_max_allowed = "{value}"'
            for word, size in sorted(most.items())
            for name, value in size.requests.items()
        ]
        return "\n".join(["[runners.kubernetes]", *lines]) if lines else ""

    def __str__(self) -> str:
        return "\n".join(self._parts())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        title = self.scope.text(en="The patch", zh="修改内容")
        blocks = "".join(html.pre(part) for part in self._parts())
        return html.block(blocks, title=escape(title))

    def _parts(self) -> Iterator[str]:
        for project in dict.fromkeys(patch.project for patch in self.patches):
            mine = "\n".join(patch.yaml for patch in self.patches if patch.project == project)
            yield f"# {project}: .gitlab-ci.yml\n{mine}"
        if self.runner:
            why = self.scope.text(
                en="config.toml: at least so much, or the runner ignores the variables",
                zh="config.toml：至少允许这么多，否则 runner 会忽略这些变量",
            )
            yield f"# {why}\n{self.runner}\n"
        if self.without:
            why = self.scope.text(en="without a patch", zh="无法生成修改")
            yield "\n".join(f"# {line}" for line in (why, *self.without))
        if not self.patches and not self.without:
            yield self.scope.text(en="# nothing to change", zh="# 无需修改")


def of(advice: Answer) -> Patches:
    """The patches of `rightsizing.advice`, in its order."""
    scope = advice.scope
    table = advice.table
    whole_rung = (table["verdict"] == Verdict.KEEP) & table["why"].notna()
    moved = table[table["verdict"].isin([Verdict.SMALLER, Verdict.LARGER]) | whole_rung]
    patches, without = [], []
    for row in moved.to_dict("records"):
        if row["set_vcpu"] == row["set_vcpu"] and row["set_vcpu"] is not None:
            patches.append(_patch({str(name): value for name, value in row.items()}, scope))
        else:
            without.append(scope.text(
                en=f"{row['project']}, {row['job_name']}: what its build container asks for is not known, or the others leave no room",
                zh=f"{row['project']}，{row['job_name']}：build 容器的申请量未知，或其他容器已占满",
            ))  # fmt: skip
    return Patches(tuple(patches), tuple(without), scope)


def _patch(row: Mapping[str, Any], scope: Scope) -> Patch:
    cpu = Decimal(str(row["set_vcpu"])).quantize(MILLI, rounding="ROUND_FLOOR")
    memory = int(Decimal(str(row["set_memory_gib"])) * GIB) // MIB * MIB
    was, then = (size_text(row[f"{kind}_vcpu"], row[f"{kind}_memory_gib"]) for kind in ("billed", "recommended"))
    saves = row["saves_a_month"]
    money = "" if saves is None or saves != saves else scope.text(
        en=f", saves {scope.money(saves)} a month", zh=f"，每月节省 {scope.money(saves)}"
    )  # fmt: skip
    comment = scope.text(en=f"billed {was}, then {then}{money}", zh=f"计费由 {was} 变为 {then}{money}")
    if row["verdict"] == Verdict.KEEP:
        comment = f"{then}: {row['why']}"
    return Patch(row["project"], row["job_name"], Size(cpu, memory), row["asked_by"], comment)
