"""Why the model and the bill differ for an instance on a day: the causes, what to do about each, and how they are told apart."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from enum import StrEnum

import narwhals as nw

from runbook.cost.priced import Problem

HALF_A_CENT = 0.005
"""What rounding to 0.01 can change of one fee."""

_DIGITS = 2e-6
"""What the digits that the bill writes can hide of one fee."""
_SAME = 1e-4
"""Two prices that differ by less than this part of them are the same."""


class Cause(StrEnum):
    """Why estimate and bill of an instance on a day differ; the first that holds is taken."""

    AGREES = "agrees"
    OTHER_ACCOUNT = "bill of another account"
    NOT_IN_HISTORY = "not in the history"
    NOT_YET = "not on the bill yet"
    MISSING_DAY = "day missing from the bill"
    NOT_ON_BILL = "not on the bill"
    UNKNOWN_TYPE = "unknown ECS type"
    NO_TIMES = "start or end unknown"
    NO_PRICE = "no price or spec"
    BOUNDED = "start or end is a bound"
    ASSUMED = "spec is assumed"
    OTHER_ITEM = "billed by another item"
    SECONDS = "other seconds observed"
    ROUNDING = "rounded to 0.01"
    SPOT_PRICE = "another spot price"
    SAVINGS_PLAN = "savings plan"
    DISCOUNT = "discount not in the card"
    LIST_PRICE = "another list price"
    UNEXPLAINED = "not explained"


PENDING = (Cause.NOT_YET, Cause.MISSING_DAY)
"""Nothing of that day is on the bill: such days are no part of the comparison."""


@dataclass(frozen=True)
class Reading:
    """What a cause is called in Chinese, and what to do about it."""

    zh: str
    remedy: str
    remedy_zh: str


READINGS = {
    Cause.AGREES: Reading("一致", "", ""),
    Cause.OTHER_ACCOUNT: Reading(
        "账单属于其他账号",
        "No instance of the bill is in the history: fetch the bill of the account that owns the cluster.",
        "账单中的实例均不在历史中：请获取集群所属账号的账单。",
    ),
    Cause.NOT_IN_HISTORY: Reading(
        "历史中没有",
        "Billed, and no collector saw it: another cluster of the account, or a time when nobody watched.",
        "已计费但未被采集：属于该账号的其他集群，或当时没有采集。",
    ),
    Cause.NOT_YET: Reading(
        "尚未出账", "Bills come 24 to 48 hours late: ask again.", "账单延迟 24 至 48 小时：稍后再取。"
    ),
    Cause.MISSING_DAY: Reading(
        "账单缺少该日期",
        "The bill has nothing of ECI for that day, but for later ones: fetch or export it again with that day.",
        "账单缺少该日期的 ECI 数据：请重新获取或导出。",
    ),
    Cause.NOT_ON_BILL: Reading(
        "账单中没有",
        "The bill has that day, but not this instance: a start that failed is free; else ask the vendor.",
        "账单有该日期但没有该实例：启动失败不计费，否则请咨询厂商。",
    ),
    Cause.UNKNOWN_TYPE: Reading(
        "ECS 规格未知",
        "Nobody wrote down which ECS type the spot instance got: the bill knows what it cost.",
        "没有记录抢占式实例所用的 ECS 规格：以账单为准。",
    ),
    Cause.NO_TIMES: Reading("起止时间未知", "Let a collector watch all the time.", "请让采集持续运行。"),
    Cause.NO_PRICE: Reading(
        "没有价格或规格",
        "Add the price to data/prices, or archive prices with operations/30-archive-prices.",
        "在 data/prices 中补充价格，或用 operations/30-archive-prices 归档价格。",
    ),
    Cause.BOUNDED: Reading(
        "起止时间只是界限",
        "Nobody watched its start or its end: the estimate is the most that it can be.",
        "未观测到开始或结束：估算值是上限。",
    ),
    Cause.ASSUMED: Reading(
        "规格为推定",
        "Nobody wrote down the billed spec: it was taken from what was requested.",
        "没有记录计费规格：由申请量推定。",
    ),
    Cause.OTHER_ITEM: Reading(
        "计费项不同",
        "The bill charges it by ECS type and the model by vCPU and memory, or the other way round: look at its annotations.",
        "账单按 ECS 规格而模型按 vCPU 和内存计费（或相反）：请查看 Pod 注解。",
    ),
    Cause.SECONDS: Reading(
        "观测到的秒数不同",
        "The price agrees, the seconds do not: the bill's are the right ones.",
        "单价一致而秒数不同：以账单为准。",
    ),
    Cause.ROUNDING: Reading(
        "四舍五入到 0.01",
        "Within what rounding each fee can change; cost.bill_rounding of the card says how to round.",
        "在逐笔四舍五入的范围内；可在 cost.bill_rounding 中设定。",
    ),
    Cause.SPOT_PRICE: Reading(
        "抢占式价格不同",
        "Archive the market's prices more often: the bill paid another one.",
        "请更频繁地归档市场价格：账单价格不同。",
    ),
    Cause.SAVINGS_PLAN: Reading(
        "节省计划",
        "A savings plan covered another part of it than the card's cost.savings_plans says.",
        "节省计划抵扣的部分与 cost.savings_plans 不同。",
    ),
    Cause.DISCOUNT: Reading(
        "折扣未写入配置",
        "The list price agrees and the amount does not: write the contract's discount into cost.discounts.",
        "目录价一致而金额不同：请把合同折扣写入 cost.discounts。",
    ),
    Cause.LIST_PRICE: Reading(
        "目录价不同",
        "Add the price that the bill took to data/prices, with its date.",
        "请把账单所用价格连同日期加入 data/prices。",
    ),
    Cause.UNEXPLAINED: Reading("未解释", "Look at the instances below.", "请查看下面的实例。"),
}
"""What is said of each cause."""

_OF_PROBLEM = {
    Cause.UNKNOWN_TYPE: (Problem.UNKNOWN_ECS_TYPE,),
    Cause.NO_TIMES: (Problem.NO_START, Problem.NO_END, Problem.NEGATIVE_DURATION),
    Cause.NO_PRICE: (Problem.NO_PRICE, Problem.NO_SPOT_PRICE, Problem.UNKNOWN_SPEC),
}
"""Why an instance that is on the bill has no estimate."""


def cause(last: date | None, *, elsewhere: bool) -> nw.Expr:
    """The cause of a row's difference. `last` is the newest day of the bill; `elsewhere` says that it shares no instance with the history."""
    estimate, billed, listed = nw.col("estimate"), nw.col("billed"), nw.col("listed")
    gap = (estimate.fill_null(0.0) - billed.fill_null(0.0)).abs()
    fees = nw.max_horizontal(nw.col("hours").fill_null(1), nw.col("fees").fill_null(1)).cast(nw.Float64)
    digits = fees * _DIGITS
    in_cents = ((billed * 100).round() - billed * 100).abs() < 1e-6
    rounding = nw.when(in_cents).then(fees * HALF_A_CENT + digits).otherwise(digits)
    off = (nw.col("model_seconds") - nw.col("seconds")).abs()
    ratio = nw.when(off > 0.5).then(nw.col("seconds") / nw.col("model_seconds")).otherwise(nw.lit(1.0))
    same_price = (estimate * ratio - billed).abs() <= rounding + billed.abs() * _SAME
    same_list = (nw.col("list_estimate") * ratio - listed).abs() <= rounding + listed.abs() * _SAME
    problem = nw.col("problem").fill_null("")
    spot = nw.col("is_spot").fill_null(0) > 0
    modelled, on_bill = ~nw.col("modelled").is_null(), ~nw.col("on_bill").is_null()
    late = nw.lit(True) if last is None else nw.col("day") > nw.lit(last)
    by_other_item = (nw.col("by_type") > 0) != (nw.col("by_ecs_type") > 0)
    free = (billed.abs() <= digits) & (listed > digits)
    rules: list[tuple[Cause, nw.Expr]] = [
        (Cause.AGREES, ~on_bill & (gap <= digits)),
        (Cause.NOT_YET, ~on_bill & late),
        (Cause.OTHER_ACCOUNT, nw.lit(elsewhere)),
        (Cause.MISSING_DAY, ~nw.col("day_on_bill")),
        (Cause.NOT_ON_BILL, ~on_bill),
        (Cause.NOT_IN_HISTORY, ~modelled & nw.col("pods").is_null()),
        *((one, ~modelled & problem.is_in([each.value for each in some])) for one, some in _OF_PROBLEM.items()),
        (Cause.SECONDS, ~modelled),
        (Cause.AGREES, gap <= digits),
        (Cause.OTHER_ITEM, by_other_item),
        (Cause.BOUNDED, (problem == Problem.BOUNDED.value) & (estimate > billed)),
        (Cause.BOUNDED, (problem == Problem.STILL_RUNNING.value) & (estimate < billed)),
        (Cause.ASSUMED, problem == Problem.ASSUMED_SPEC.value),
        (Cause.SECONDS, (off > 0.5) & same_price),
        (Cause.ROUNDING, gap <= rounding),
        (Cause.SAVINGS_PLAN, (nw.col("covered") > 0) | free),
        (Cause.SPOT_PRICE, spot),
        (Cause.DISCOUNT, same_list),
        (Cause.LIST_PRICE, ~listed.is_null() & ((off <= 0.5) | off.is_null())),
    ]
    chain: nw.Expr = nw.lit(Cause.UNEXPLAINED.value)
    for one, holds in reversed(rules):
        chain = nw.when(holds).then(nw.lit(one.value)).otherwise(chain)
    return chain
