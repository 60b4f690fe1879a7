"""How long jobs wait before they run, and what that costs: queue, schedule, pull, prepare, run; image caches against their price.

| phase | from | to | billed |
|---|---|---|---|
| queue | the job is created | a runner takes it (GitLab's own number) | no |
| schedule | the pod is created | ECI is Pending | no |
| pull | ECI is Pending | the last image is there | yes |
| prepare | the last image is there | the first container runs | yes |
| run | the first container runs | nothing of the pod runs any more | yes |

Durations are counted in whole seconds, which Kubernetes reports, rather than sorted: quantiles are exact to the second.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import narwhals as nw
import numpy as np

from runbook.answer import Answer, Scope
from runbook.cost import other_costs, quantiles
from runbook.cost.collected import collected, count
from runbook.moments import duration
from runbook.settings import OtherCost

if TYPE_CHECKING:
    import pandas as pd

QUEUE, SCHEDULE, PULL, PREPARE, RUN, START = "queue", "schedule", "pull", "prepare", "run", "start-up"
PHASES = (QUEUE, SCHEDULE, PULL, PREPARE, RUN)
CHINESE = {QUEUE: "排队", SCHEDULE: "调度", PULL: "拉取镜像", PREPARE: "准备", RUN: "运行", START: "启动合计"}
"""The phases in Chinese; `start-up` is schedule, pull and prepare of one pod together."""

_COLUMNS = {QUEUE: "job_queued_seconds"} | {phase: f"{phase}_seconds" for phase in (SCHEDULE, PULL, PREPARE, RUN)}

CACHED, UNCACHED = "image cache", "no image cache"
EDGES = (0.0, 1.0, 2.0, *(base * 2.0**power for power in range(10) for base in (3.0, 4.0)), math.inf)
"""Seconds at which the bins of `pulls` begin and end: 0, 1, 2, 3, 4, 6, 8, 12, 16, ... 2048, and more."""

FEWEST = 5
"""Pulls without a cache that an image needs so that its own mean stands for what a cache saved it."""


def phases(pods: nw.LazyFrame[Any], scope: Scope) -> Answer:
    """How long each phase takes, by week.

    `table`: `week`, `phase` (those of `PHASES`, and `start-up`), `pods` whose phase is known, `p50_seconds`, `p95_seconds`.
    """
    started = _counted(pods, SCHEDULE, PULL, PREPARE)
    known = started.dropna()
    known = known[(known[[SCHEDULE, PULL, PREPARE]] >= 0).all(axis=1)]
    whole: pd.DataFrame = known.assign(**{START: known[SCHEDULE] + known[PULL] + known[PREPARE]})
    sources = {QUEUE: _counted(pods, QUEUE), RUN: _counted(pods, RUN), START: whole}
    every = [_quantiles(sources.get(phase, started), phase) for phase in (*PHASES, START)]
    table = _stacked([by_week for by_week, _ in every])
    backwards = sum(backwards for _, backwards in every[:-1])
    total, seen = int(started["pods"].sum()), int(whole["pods"].sum())
    return Answer(
        "startup-phases",
        scope.text(en="How long do jobs wait before they run?", zh="作业在运行前等待多久？"),
        _said_of_phases(whole, sources[QUEUE], scope),
        table,
        scope,
        total,
        notes=_gaps(total - seen, backwards, scope),
    )


def pulls(pods: nw.LazyFrame[Any], scope: Scope) -> Answer:
    """How long images take to be there, with an image cache and without, by week.

    `table`: `week`, `images` (`image cache` or `no image cache`), `from_seconds`, `to_seconds` (bins of `EDGES`), `pods`, and
    `share` of the pods of that week and kind.
    """
    counted = _counted(pods.filter(~nw.col("image_cache_hit").is_null()), PULL, by=("image_cache_hit",)).dropna()
    counted = counted[counted[PULL] >= 0]
    counted["images"] = np.where(counted["image_cache_hit"].astype(bool), CACHED, UNCACHED)
    return Answer(
        "startup-pulls",
        scope.text(en="How long do images take, cached and not?", zh="镜像拉取需要多久？"),
        _said_of_pulls(counted, scope),
        _binned(counted),
        scope,
        int(counted["pods"].sum()),
    )


def image_caches(pods: nw.LazyFrame[Any], scope: Scope, others: Sequence[OtherCost]) -> Answer:
    """What image caches saved against what they cost: billed seconds of pulling that pods with a cache did not need.

    A pod with a cache is held against the mean pull of the same image without one (of all images, where that was seen fewer than
    `FEWEST` times), and a second is worth what the pod cost a second. `table`, a row an image: `image`, `cached` and `uncached`
    pods, `unpriced` ones among the cached, `cached_seconds`, `uncached_seconds` (means of the pull), `seconds_saved`, `saved` (null
    where no pod's cost is known), and the 95 % interval `saved_low` to `saved_high` that the scatter of the pulls without a cache
    leaves. `others` are the card's costs; those of the service `image-cache` count. `parts["balance"]`: `line`, `cost`, null where
    the card has none of them.
    """
    images = _per_image(pods)
    table = _saved(images)
    paid = _paid(others, scope)
    saved = float(table["saved"].sum(min_count=1))
    return Answer(
        "startup-image-caches",
        scope.text(en="Do image caches pay?", zh="镜像缓存划算吗？"),
        _said_of_caches(table, saved, paid, scope),
        table,
        scope,
        int(images["cached"].sum() + images["uncached"].sum()),
        notes=_notes_on_caches(images, scope),
        parts={"balance": _balance(saved, paid)},
    )


def _counted(pods: nw.LazyFrame[Any], *phases: str, by: Sequence[str] = ()) -> pd.DataFrame:
    """How many pods had these durations (whole seconds; unknown ones are null) in each week: one row each combination."""
    keys = ["week", *by, *phases]
    durations = pods.select("week", *by, *(nw.col(_COLUMNS[phase]).round().alias(phase) for phase in phases))
    return collected(durations.group_by(keys).agg(nw.len().alias("pods")), by=keys)


def _binned(counted: pd.DataFrame) -> pd.DataFrame:
    """The pulls of each week, with a cache and without, in bins: every bin between the least and the most, empty ones too."""
    import pandas as pd

    edges = np.array(EDGES)
    bins = np.searchsorted(edges, counted[PULL], side="right") - 1
    keys = [
        sorted(counted["week"].unique()),
        sorted(counted["images"].unique()),
        range(bins.min(), bins.max() + 1) if len(bins) else [],
    ]
    every = pd.MultiIndex.from_product(keys, names=["week", "images", "bin"])
    table = (
        counted.assign(bin=bins)
        .groupby(["week", "images", "bin"])["pods"]
        .sum()
        .reindex(every, fill_value=0)
        .reset_index()
    )
    total = table.groupby(["week", "images"])["pods"].transform("sum")
    at = table.pop("bin").to_numpy(int)
    table.insert(2, "from_seconds", edges[at])
    table.insert(3, "to_seconds", edges[at + 1])
    return table.assign(share=(table["pods"] / total.where(total > 0)).fillna(0.0))


def _quantiles(counted: pd.DataFrame, phase: str) -> tuple[pd.DataFrame, int]:
    """p50 and p95 of a phase by week, and how many pods went backwards in it (a clock was wrong)."""
    import pandas as pd

    known = counted[counted[phase].notna()]
    backwards = int(known.loc[known[phase] < 0, "pods"].sum())
    rows = [
        (week, phase, int(one["pods"].sum()), *(quantiles.of_counts(one[phase], one["pods"], q) for q in (0.5, 0.95)))
        for week, one in known[known[phase] >= 0].groupby("week")
    ]
    return pd.DataFrame(rows, columns=["week", "phase", "pods", "p50_seconds", "p95_seconds"]), backwards


def _stacked(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The parts below each other, by week and in the order of the phases."""
    import pandas as pd

    filled = [part for part in parts if len(part)] or list(parts[:1])
    return pd.concat(filled, ignore_index=True).sort_values("week", kind="stable", ignore_index=True)


def _said_of_phases(whole: pd.DataFrame, queue: pd.DataFrame, scope: Scope) -> str:
    if whole.empty:
        return scope.text(
            en="No pod of this window is known from its creation to its first container.",
            zh="该时段内没有从创建到首个容器启动均有记录的 Pod。",
        )
    middle, slow = (quantiles.of_counts(whole[START], whole["pods"], q) for q in (0.5, 0.95))
    sums = {phase: float((whole[phase] * whole["pods"]).sum()) for phase in (SCHEDULE, PULL, PREPARE)}
    longest = max(sums, key=lambda phase: sums[phase])
    share = sums[longest] / (sum(sums.values()) or 1)
    waits = queue[queue[QUEUE].notna() & (queue[QUEUE] >= 0)]
    waited = quantiles.of_counts(waits[QUEUE], waits["pods"], 0.95)
    before = scope.text(
        en="" if math.isnan(waited) else f"; before that, 95% of the jobs have a runner within {duration(waited)}",
        zh="" if math.isnan(waited) else f"；在此之前，95% 的作业在 {duration(waited)} 内被 Runner 领取",
    )
    return scope.text(
        en=f"A pod runs {duration(middle)} after its creation at the median and {duration(slow)} at p95; "
        f"{longest} is {share:.0%} of that time{before}.",
        zh=f"Pod 从创建到运行的中位数为 {duration(middle)}，p95 为 {duration(slow)}；{CHINESE[longest]}占其中 {share:.0%}{before}。",
    )


def _said_of_pulls(counted: pd.DataFrame, scope: Scope) -> str:
    told = {
        images: [quantiles.of_counts(one[PULL], one["pods"], q) for q in (0.5, 0.95)]
        for images, one in counted.groupby("images")
    }
    if not told:
        return scope.text(
            en="For no pod of this window is it known when its images were there.",
            zh="该时段内没有镜像就绪时间的记录。",
        )
    times = {images: f"{duration(middle)} (p95 {duration(slow)})" for images, (middle, slow) in told.items()}
    nobody = scope.text(en="– (no pod)", zh=" –（无 Pod）")
    cached, uncached = (times.get(images, nobody) for images in (CACHED, UNCACHED))
    return scope.text(
        en=f"With an image cache all images are there after {cached} at the median, without one after {uncached}.",
        zh=f"有镜像缓存时，镜像就绪的中位数为 {cached}；没有时为 {uncached}。",
    )


def _per_image(pods: nw.LazyFrame[Any]) -> pd.DataFrame:
    """One row an image: how many pods pulled it with a cache and without, the sums of their pulls, and what a second of them cost."""
    pull, rate = nw.col("pull_seconds"), nw.col("rate")
    known = pods.filter(~nw.col("image_cache_hit").is_null(), ~nw.col("image").is_null(), pull >= 0).with_columns(
        nw.when(nw.col("seconds") > 0).then(nw.col("effective_cost") / nw.col("seconds")).alias("rate"),
    )
    hit = nw.col("image_cache_hit")
    sums = known.with_columns(
        nw.when(hit).then(pull).otherwise(0.0).alias("cached_pull"),
        nw.when(~hit).then(pull).otherwise(0.0).alias("uncached_pull"),
        nw.when(~hit).then(pull * pull).otherwise(0.0).alias("uncached_square"),
        nw.when(hit).then(rate).otherwise(0.0).alias("cached_rate"),
        nw.when(hit).then(rate * pull).otherwise(0.0).alias("cached_cost"),
        nw.when(hit).then(nw.col("rate").is_null()).otherwise(False).alias("unpriced"),
    )
    names = ("cached_pull", "uncached_pull", "uncached_square", "cached_rate", "cached_cost")
    return collected(
        sums.group_by("image").agg(
            count(hit).alias("cached"), count(~hit).alias("uncached"), count(nw.col("unpriced")).alias("unpriced"),
            *(nw.col(name).sum() for name in names),
        ),
        by=["image"],
    )  # fmt: skip


def _saved(images: pd.DataFrame) -> pd.DataFrame:
    """What each image's caches saved, the most first; only images that were pulled with a cache and have a pull to compare with."""
    seen = images["uncached"] >= FEWEST
    everywhere = images[["uncached", "uncached_pull", "uncached_square"]].sum()
    n = images["uncached"].where(seen, everywhere["uncached"]).replace(0, math.nan)
    total = images["uncached_pull"].where(seen, everywhere["uncached_pull"])
    square = images["uncached_square"].where(seen, everywhere["uncached_square"])
    mean = total / n
    error = ((((square - n * mean**2) / (n - 1).where(n > 1)).clip(lower=0) / n) ** 0.5).fillna(0.0)
    table = images[["image", "cached", "uncached", "unpriced"]].copy()
    table["cached_seconds"] = images["cached_pull"] / images["cached"].where(images["cached"] > 0)
    table["uncached_seconds"] = mean
    table["seconds_saved"] = images["cached"] * mean - images["cached_pull"]
    priced = images["cached"] > images["unpriced"]
    table["saved"] = (images["cached_rate"] * mean - images["cached_cost"]).where(priced)
    for side, sign in (("saved_low", -1), ("saved_high", 1)):
        table[side] = table["saved"] + sign * 1.96 * error * images["cached_rate"]
    table = table[(table["cached"] > 0) & mean.notna()]
    return table.sort_values(["saved", "image"], ascending=[False, True], ignore_index=True)


def _paid(others: Sequence[OtherCost], scope: Scope) -> float | None:
    """What the card says that image caches cost on these days; None where it says nothing of them."""
    caches = [one for one in others if one.service == "image-cache"]
    return float(other_costs.lines(caches, scope.first, scope.last)["cost"].sum()) if caches else None


def _balance(saved: float, paid: float | None) -> pd.DataFrame:
    import pandas as pd

    cost = math.nan if paid is None else paid
    return pd.DataFrame({"line": ["saved", "image caches", "net"], "cost": [saved, -cost, saved - cost]})


def _said_of_caches(table: pd.DataFrame, saved: float, paid: float | None, scope: Scope) -> str:
    cost = scope.money(paid)
    if table.empty:
        return scope.text(
            en="No pod of this window used an image cache that a pull without one could be compared with"
            + (f"; the caches cost {cost}." if paid else "."),
            zh="该时段内没有可与无缓存拉取相比较的镜像缓存使用记录" + (f"；缓存费用为 {cost}。" if paid else "。"),
        )
    starts, waiting = int(table["cached"].sum()), duration(float(table["seconds_saved"].sum()))
    spread = math.sqrt(float((((table["saved_high"] - table["saved_low"]) / 2) ** 2).sum()))
    interval = f"{scope.money(saved - spread)} – {scope.money(saved + spread)}"
    money = scope.money(saved) if math.isnan(saved) else f"{scope.money(saved)} ({interval})"
    text = scope.text(
        en=f"Image caches saved {waiting} of waiting in {starts:,} starts, and in money {money}",
        zh=f"镜像缓存在 {starts:,} 次启动中节省 {waiting} 等待时间，金额 {money}",
    )
    if paid is None:
        return text + scope.text(en="; the card does not say what they cost.", zh="；配置卡未填写其费用。")
    text += scope.text(
        en=f"; they cost {cost}: {scope.money(saved - paid)} net",
        zh=f"；费用为 {cost}：净额 {scope.money(saved - paid)}",
    )
    if not saved > 0:
        return text + scope.text(en=".", zh="。")
    even = math.ceil(round((starts - int(table["unpriced"].sum())) * paid / saved, 6))
    return text + scope.text(en=f". They pay from {even:,} starts on.", zh=f"。达到 {even:,} 次启动即可回本。")


def _notes_on_caches(images: pd.DataFrame, scope: Scope) -> tuple[str, ...]:
    notes = [
        scope.text(
            en="Assumed: without its cache a pod would have pulled as long as others did; what waiting costs people is not in it.",
            zh="假设：没有缓存时，拉取时间与其他 Pod 相同；未计入人员等待的代价。",
        )
    ]
    few = int((images["uncached"] < FEWEST).sum())
    if few:
        notes.append(
            scope.text(
                en=f"{few:,} of {len(images):,} images were pulled without a cache fewer than {FEWEST} times: "
                "the mean of all images stands for them.",
                zh=f"{len(images):,} 个镜像中有 {few:,} 个的无缓存拉取少于 {FEWEST} 次，以全部镜像的平均值代替。",
            )
        )
    unpriced = int(images["unpriced"].sum())
    if unpriced:
        notes.append(
            scope.text(
                en=f"{unpriced:,} pods with a cache have no known cost: their seconds count, their money does not.",
                zh=f"{unpriced:,} 个使用缓存的 Pod 费用未知：计入时间，未计入金额。",
            )
        )
    return tuple(notes)


def _gaps(unseen: int, backwards: int, scope: Scope) -> tuple[str, ...]:
    notes = []
    if unseen:
        notes.append(
            scope.text(
                en=f"{unseen:,} pods are not in the start-up: one of their moments is not known, or they never ran.",
                zh=f"{unseen:,} 个 Pod 未计入启动时间：缺少某一时刻的记录，或从未运行。",
            )
        )
    if backwards:
        notes.append(
            scope.text(
                en=f"{backwards:,} phases end before they begin and are left out: a clock was wrong.",
                zh=f"{backwards:,} 个阶段的结束早于开始，已剔除：时钟有误。",
            )
        )
    return tuple(notes)
