"""Charges as a FOCUS 1.2 dataset: the columns that finance tools of any cloud read (https://focus.finops.org/focus-specification/v1-2/).

    dataset = Dataset(account="1000000000000001", account_name="practice", month=date(2026, 11, 1), cluster="practice", currency="CNY")
    table = usage(lines, pods, dataset)                     # pricing.charge_lines, pricing.priced
    more = [plans(coverage, terms, dataset), other(terms.other, dataset)]

A row is one settled piece of one item of one instance. What each column holds and why is in data/focus/README.md. Amounts are
decimals, so that a unit price times its quantity is the cost to the last digit.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import cache
from typing import TYPE_CHECKING, Any

from runbook.cost import other_costs
from runbook.eci import tables
from runbook.eci.charges import CHINA, Item
from runbook.settings import OtherCost

if TYPE_CHECKING:
    import pyarrow as pa

    from runbook.cost.savings_plans import Coverage
    from runbook.settings import Cost

VERSION = "1.2"
PROVIDER = "Alibaba Cloud"
PLAN_ID = "cost.savings_plans"
"""The savings plans of the card, taken together: the card does not know the vendor's ids."""

UNIT_PRICE, QUANTITY, COST = (22, 16), (15, 6), (38, 22)
"""Digits in all and after the point of the decimals; a unit price times a quantity has those of a cost."""

DECIMALS = {
    "BilledCost": COST, "CommitmentDiscountQuantity": COST, "ConsumedQuantity": QUANTITY, "ContractedCost": COST,
    "ContractedUnitPrice": UNIT_PRICE, "EffectiveCost": COST, "ListCost": COST, "ListUnitPrice": UNIT_PRICE,
    "PricingCurrencyContractedUnitPrice": UNIT_PRICE, "PricingCurrencyEffectiveCost": COST,
    "PricingCurrencyListUnitPrice": UNIT_PRICE, "PricingQuantity": QUANTITY, "x_BilledMemoryGib": QUANTITY, "x_BilledVcpu": QUANTITY, "x_OnDemandCost": COST,
}  # fmt: skip
_PRICING_CURRENCY = {
    "PricingCurrency": "BillingCurrency",
    "PricingCurrencyContractedUnitPrice": "ContractedUnitPrice",
    "PricingCurrencyEffectiveCost": "EffectiveCost",
    "PricingCurrencyListUnitPrice": "ListUnitPrice",
}
"""ECI is priced in the currency in which it is billed: these columns repeat others."""
MOMENTS = ("BillingPeriodEnd", "BillingPeriodStart", "ChargePeriodEnd", "ChargePeriodStart")

COLUMNS = (
    "AvailabilityZone", "BilledCost", "BillingAccountId", "BillingAccountName", "BillingCurrency", "BillingPeriodEnd",
    "BillingPeriodStart", "ChargeCategory", "ChargeClass", "ChargeDescription", "ChargeFrequency", "ChargePeriodEnd",
    "ChargePeriodStart", "CommitmentDiscountCategory", "CommitmentDiscountId", "CommitmentDiscountName",
    "CommitmentDiscountQuantity", "CommitmentDiscountStatus", "CommitmentDiscountType", "CommitmentDiscountUnit",
    "ConsumedQuantity", "ConsumedUnit", "ContractedCost", "ContractedUnitPrice", "EffectiveCost", "InvoiceId",
    "InvoiceIssuerName", "ListCost", "ListUnitPrice", "PricingCategory", "PricingCurrency",
    "PricingCurrencyContractedUnitPrice", "PricingCurrencyEffectiveCost", "PricingCurrencyListUnitPrice", "PricingQuantity",
    "PricingUnit", "ProviderName", "PublisherName", "RegionId", "RegionName", "ResourceId", "ResourceName", "ResourceType", "ServiceCategory",
    "ServiceName", "ServiceSubcategory", "SkuId", "SkuMeter", "SkuPriceDetails", "SkuPriceId", "Tags",
    "x_BilledMemoryGib", "x_BilledVcpu", "x_OnDemandCost", "x_PodUid", "x_Problem",
)  # fmt: skip
"""The columns in their order: FOCUS' own by name, then ours."""


@dataclass(frozen=True)
class Dataset:
    """What all rows have in common. `month` is any day of the billing month; `account` the one that is billed."""

    account: str
    account_name: str
    month: date
    cluster: str
    currency: str

    @property
    def first(self) -> date:
        return self.month.replace(day=1)

    @property
    def last(self) -> date:
        return (self.first + timedelta(days=31)).replace(day=1) - timedelta(days=1)

    @property
    def period(self) -> tuple[datetime, datetime]:
        """The billing period: a month of China's, as moments in UTC; the end is the first moment that is out of it."""
        return _midnight(self.first), _midnight(self.last + timedelta(days=1))


@dataclass(frozen=True)
class Service:
    """A service in FOCUS' words."""

    name: str
    category: str
    subcategory: str
    meter: str


ECI = Service("Elastic Container Instance", "Compute", "Serverless Compute", "")
SAVINGS_PLAN = Service("Savings Plan", "Other", "Other (Other)", "Committed spend")
OTHERS: Mapping[str, Service] = {
    "nat": Service("NAT Gateway", "Networking", "Network Routing", "NAT gateway"),
    "eip": Service("Elastic IP Address", "Networking", "Network Connectivity", "Elastic IP address"),
    "slb": Service("Server Load Balancer", "Networking", "Application Networking", "Load balancer"),
    "oss": Service("Object Storage Service", "Storage", "Object Storage", "Object storage"),
    "disk": Service("Block Storage", "Storage", "Block Storage", "Disk"),
    "image-cache": Service("ECI Image Cache", "Storage", "Other (Storage)", "Image cache"),
    "other": Service("Other", "Other", "Other (Other)", "Other"),
}
"""The services of the card's other costs."""

METERS = {
    Item.CPU: "vCPU time",
    Item.MEM: "Memory time",
    Item.INSTANCE_TYPE: "Instance time",
    Item.SYSTEM_DISK: "Ephemeral storage time",
}

TAGS = {
    "gitlab.project": "project_path", "gitlab.namespace": "project_namespace", "gitlab.pipeline": "pipeline_id",
    "gitlab.job": "job_id", "gitlab.job_name": "job_name", "gitlab.stage": "job_stage", "gitlab.ref": "job_ref",
    "gitlab.runner": "runner_name", "kubernetes.cluster": "cluster",
}  # fmt: skip
"""Keys of the column Tags, and the column of the priced pods that each is from."""


@cache
def region_names() -> dict[str, str]:
    """What the vendor calls its regions."""
    path = tables.DATA / "focus" / "regions.csv"
    return {row["region"]: row["name"] for row in tables.rows(path, frozenset({"region", "name"}))}


@cache
def schema() -> pa.Schema:
    """The Arrow schema of the dataset."""
    import pyarrow as pa

    def type_of(name: str) -> Any:
        if name in MOMENTS:
            return pa.timestamp("us", tz="UTC")
        return pa.decimal128(*DECIMALS[name]) if name in DECIMALS else pa.string()

    return pa.schema([(name, type_of(name)) for name in COLUMNS], metadata={"focus_version": VERSION})


# -- instances --------------------------------------------------------------------------------------------------------


def usage(lines: pa.Table, pods: pa.Table, dataset: Dataset) -> pa.Table:
    """The rows of the month's charge lines; `pods` are the priced pods that they are of. What a savings plan covers of a line is
    a row of its own, as FOCUS asks: a discount applies to the whole of its row.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    inside = pc.and_(
        pc.greater_equal(lines["day"], pa.scalar(dataset.first)), pc.less_equal(lines["day"], pa.scalar(dataset.last))
    )
    chosen = lines.filter(inside)
    parts = [
        _usage(chosen.filter(pc.less(chosen["covered"], 1.0)), pods, dataset, covered=False),
        _usage(chosen.filter(pc.greater(chosen["covered"], 0.0)), pods, dataset, covered=True),
    ]
    return pa.concat_tables(parts)


def _usage(lines: pa.Table, pods: pa.Table, dataset: Dataset, *, covered: bool) -> pa.Table:
    """The covered part of each line, or the part that is not covered."""
    import pyarrow as pa
    import pyarrow.compute as pc

    place = pc.index_in(lines["pod_uid"], value_set=pods["pod_uid"].combine_chunks())

    def of_pod(name: str) -> Any:
        return pods[name].combine_chunks().take(place)

    part = lines["covered"] if covered else pc.subtract(1.0, lines["covered"])
    quantity = _decimal(pc.multiply(lines["pricing_quantity"], part), QUANTITY)
    listed, contracted = (_decimal(lines[f"{one}_unit_price"], UNIT_PRICE) for one in ("list", "contracted"))
    by_plan = pc.subtract(lines["effective_cost"], lines["billed_cost"])
    effective = _decimal(by_plan if covered else lines["billed_cost"], COST)
    spot = pc.fill_null(of_pod("spot"), False)
    skus = _skus(lines["item"], of_pod)
    columns: dict[str, Any] = {
        "AvailabilityZone": of_pod("zone"),
        "BilledCost": _nothing(lines.num_rows) if covered else effective,
        "ChargeCategory": "Usage",
        "ChargeDescription": _looked_up(lines["item"], _DESCRIPTIONS),
        "ChargeFrequency": "Usage-Based",
        "ChargePeriodEnd": lines["charge_period_end"],
        "ChargePeriodStart": lines["charge_period_start"],
        "ConsumedQuantity": quantity,
        "ConsumedUnit": lines["pricing_unit"],
        "ContractedCost": _product(contracted, quantity),
        "ContractedUnitPrice": contracted,
        "EffectiveCost": effective,
        "ListCost": _product(listed, quantity),
        "ListUnitPrice": listed,
        "PricingCategory": "Committed" if covered else pc.if_else(spot, "Dynamic", "Standard"),
        "PricingQuantity": quantity,
        "PricingUnit": lines["pricing_unit"],
        "RegionId": of_pod("region"),
        "RegionName": _region_names(of_pod("region")),
        "ResourceId": lines["instance_id"],
        "ResourceType": pc.if_else(pc.is_valid(lines["instance_id"]), "Container Group", pa.scalar(None, pa.string())),
        "Tags": _tags(pods).take(place),
        "x_BilledMemoryGib": _decimal(of_pod("billed_memory_gib"), QUANTITY),
        "x_BilledVcpu": _decimal(of_pod("billed_vcpu"), QUANTITY),
        "x_OnDemandCost": _on_demand(lines, of_pod, part),
        "x_PodUid": lines["pod_uid"],
        "x_Problem": of_pod("problem"),
    }  # fmt: skip
    if covered:
        columns |= _commitment("Used", effective, dataset)
    return _table(columns | skus | _service(ECI), lines.num_rows, dataset)


_DESCRIPTIONS = {
    Item.CPU.value: "vCPU of a container group, by the second",
    Item.MEM.value: "Memory of a container group, by the second",
    Item.INSTANCE_TYPE.value: "Container group billed by its ECS instance type, by the second",
    Item.SYSTEM_DISK.value: "Ephemeral storage of a container group above 30 GiB, by the second",
}


def _skus(item: Any, of_pod: Callable[[str], Any]) -> dict[str, Any]:
    """What is sold: an item, or an ECS type; its price also depends on region, compute category and whether it is spot."""
    import pyarrow.compute as pc

    by_type = pc.equal(item, Item.INSTANCE_TYPE.value)
    kind = pc.fill_null(of_pod("ecs_type"), "unknown type")
    category = pc.fill_null(of_pod("compute_category"), "general")
    sku = pc.if_else(
        by_type, pc.binary_join_element_wise("eci", kind, ":"), pc.binary_join_element_wise("eci", item, ":")
    )
    market = pc.if_else(pc.fill_null(of_pod("spot"), False), "spot", category)
    details = pc.if_else(
        by_type,
        pc.binary_join_element_wise('{"InstanceType": "', kind, '"}', ""),
        pc.binary_join_element_wise('{"x_ComputeCategory": "', category, '"}', ""),
    )
    return {
        "SkuId": sku,
        "SkuMeter": _looked_up(item, {one.value: meter for one, meter in METERS.items()}),
        "SkuPriceDetails": details,
        "SkuPriceId": pc.binary_join_element_wise(sku, pc.fill_null(of_pod("region"), "any"), market, ":"),
    }


def _on_demand(lines: pa.Table, of_pod: Callable[[str], Any], part: Any) -> Any:
    """What the line would have cost by vCPU and memory: its pod's equivalent, by time, where it is billed by an ECS type."""
    import pyarrow as pa
    import pyarrow.compute as pc

    begin, end = (pc.cast(lines[f"charge_period_{one}"], pa.int64()) for one in ("start", "end"))
    seconds = pc.divide(pc.cast(pc.subtract(end, begin), pa.float64()), 1e6)
    of_time = pc.divide(
        seconds, pc.if_else(pc.greater(of_pod("seconds"), 0.0), of_pod("seconds"), pa.scalar(None, pa.float64()))
    )
    by_type = pc.equal(lines["item"], Item.INSTANCE_TYPE.value)
    equivalent = pc.if_else(by_type, pc.multiply(of_pod("on_demand_cost"), of_time), lines["contracted_cost"])
    return _decimal(pc.multiply(equivalent, part), COST)


def _tags(pods: pa.Table) -> Any:
    """The job of each pod as a flat JSON object of texts; what is not known is left out."""
    import pyarrow as pa
    import pyarrow.compute as pc

    pairs = []
    for key, column in TAGS.items():
        value = pc.cast(pods[column], pa.string()).combine_chunks()
        for found, escaped in (("\\", "\\\\"), ('"', '\\"')):
            value = pc.replace_substring(value, pattern=found, replacement=escaped)
        value = pc.replace_substring_regex(value, pattern=r"[[:cntrl:]]", replacement=" ")
        pairs.append(pc.binary_join_element_wise(f'"{key}": "', value, '"', ""))
    inside = pc.binary_join_element_wise(*pairs, ", ", null_handling="skip")
    return pc.binary_join_element_wise("{", inside, "}", "")


def _region_names(regions: Any) -> Any:
    """The names of regions; the id of one that is not known, for a name must be there."""
    import pyarrow.compute as pc

    return pc.coalesce(_looked_up(regions, region_names()), regions)


# -- savings plans and other costs ------------------------------------------------------------------------------------


def plans(coverage: Coverage | None, terms: Cost, dataset: Dataset) -> pa.Table:
    """What the card's savings plans cost, a day: the purchase, and what of it covered nothing. `coverage` is that of `usage`."""
    rows = []
    for day in other_costs.days(dataset.first, dataset.last):
        holding = [one for one in terms.savings_plans if one.first <= day <= one.last]
        paid = sum((one.per_hour for one in holding), Decimal(0)) * other_costs.HOURS_A_DAY
        if not paid:
            continue
        rows.append(_plan(day, "Purchase", paid, dataset))
        unused = _unused(coverage, day)
        if unused:
            rows.append(_plan(day, "Unused", unused, dataset))
    return _of_rows(rows, dataset)


def _unused(coverage: Coverage | None, day: date) -> Decimal:
    if coverage is None:
        return Decimal(0)
    first = int(_midnight(day).timestamp()) // 3600
    of_day = (coverage.hours >= first) & (coverage.hours < first + other_costs.HOURS_A_DAY)
    return Decimal(str(round(float(coverage.unused[of_day].sum()), 12)))


def _plan(day: date, what: str, amount: Decimal, dataset: Dataset) -> dict[str, Any]:
    purchase = what == "Purchase"
    row = _day_row(SAVINGS_PLAN, day, amount, dataset) | {
        "ChargeCategory": "Purchase" if purchase else "Usage",
        "ChargeDescription": "Committed spend of savings plans" if purchase else "Committed spend that covered nothing",
        "ChargeFrequency": "Recurring",
        "BilledCost": amount if purchase else Decimal(0),
        "EffectiveCost": Decimal(0) if purchase else amount,
        "ConsumedQuantity": None,
        "ConsumedUnit": None,
        "PricingCategory": "Standard" if purchase else "Committed",
        "ResourceId": PLAN_ID,
        "ResourceType": "Savings Plan",
        "SkuId": "savings-plan",
        "SkuPriceId": "savings-plan",
    }
    return row | _commitment(None if purchase else "Unused", amount, dataset)


def _commitment(status: str | None, quantity: Any, dataset: Dataset) -> dict[str, Any]:
    return {
        "CommitmentDiscountCategory": "Spend",
        "CommitmentDiscountId": PLAN_ID,
        "CommitmentDiscountName": f"Savings plans of {dataset.cluster}",
        "CommitmentDiscountQuantity": quantity,
        "CommitmentDiscountStatus": status,
        "CommitmentDiscountType": "Savings Plan",
        "CommitmentDiscountUnit": dataset.currency,
    }


def other(lines: Sequence[OtherCost], dataset: Dataset) -> pa.Table:
    """The card's other costs, a row a line and day."""
    rows = [
        _day_row(OTHERS[line.service], day, amount, dataset) | {
            "ChargeDescription": line.name,
            "ChargeFrequency": "One-Time" if line.per == "once" else "Recurring",
            "SkuId": line.service,
            "SkuPriceId": f"{line.service}:{line.name.encode('ascii', 'backslashreplace').decode()}",
            "Tags": json.dumps({"kubernetes.cluster": dataset.cluster}),
        }
        for line in lines
        for day in other_costs.days(dataset.first, dataset.last)
        if (amount := other_costs.on(line, day))
    ]  # fmt: skip
    return _of_rows(rows, dataset)


def _day_row(service: Service, day: date, amount: Decimal, dataset: Dataset) -> dict[str, Any]:
    """One day of something that costs so much a day."""
    price = amount.quantize(Decimal(1).scaleb(-UNIT_PRICE[1]))
    return _service(service) | {
        "BilledCost": price,
        "ChargeCategory": "Usage",
        "ChargePeriodEnd": _midnight(day + timedelta(days=1)),
        "ChargePeriodStart": _midnight(day),
        "ConsumedQuantity": Decimal(1),
        "ConsumedUnit": "Days",
        "ContractedCost": price,
        "ContractedUnitPrice": price,
        "EffectiveCost": price,
        "ListCost": price,
        "ListUnitPrice": price,
        "PricingCategory": "Standard",
        "PricingQuantity": Decimal(1),
        "PricingUnit": "Days",
        "SkuMeter": service.meter,
        "x_OnDemandCost": price,
    }


# -- tables -----------------------------------------------------------------------------------------------------------


def _service(service: Service) -> dict[str, Any]:
    return {
        "ServiceName": service.name,
        "ServiceCategory": service.category,
        "ServiceSubcategory": service.subcategory,
    }


def _table(columns: Mapping[str, Any], rows: int, dataset: Dataset) -> pa.Table:
    """The columns with those that all rows have in common; what is not given is null."""
    import pyarrow as pa

    start, end = dataset.period
    common = {
        "BillingAccountId": dataset.account, "BillingAccountName": dataset.account_name, "BillingCurrency": dataset.currency,
        "BillingPeriodStart": start, "BillingPeriodEnd": end, "InvoiceIssuerName": PROVIDER, "ProviderName": PROVIDER,
        "PublisherName": PROVIDER,
    }  # fmt: skip
    given = common | dict(columns)
    given |= {priced: given.get(billed) for priced, billed in _PRICING_CURRENCY.items()}
    made = []
    for field in schema():
        value: Any = given.get(field.name)
        if value is None or isinstance(value, str | datetime):
            made.append(pa.repeat(pa.scalar(value, field.type), rows))
        else:
            column = value.combine_chunks() if isinstance(value, pa.ChunkedArray) else value
            made.append(column.cast(field.type))
    return pa.table(made, schema=schema())


def _of_rows(rows: Sequence[Mapping[str, Any]], dataset: Dataset) -> pa.Table:
    import pyarrow as pa

    names = {name for row in rows for name in row}
    columns = {name: pa.array([row.get(name) for row in rows], schema().field(name).type) for name in names}
    return _table(columns, len(rows), dataset)


def _decimal(numbers: Any, digits: tuple[int, int]) -> Any:
    """Numbers as decimals; of a cost the first twelve digits after the point, which is all that a double is good for."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kept = min(digits[1], 12) if digits == COST else digits[1]
    return pc.cast(pc.cast(numbers, pa.decimal128(digits[0], kept)), pa.decimal128(*digits))


def _product(price: Any, quantity: Any) -> Any:
    import pyarrow.compute as pc

    return pc.multiply(price, quantity)


def _nothing(rows: int) -> Any:
    import pyarrow as pa

    return pa.repeat(pa.scalar(Decimal(0), pa.decimal128(*COST)), rows)


def _looked_up(keys: Any, words: Mapping[str, str]) -> Any:
    """The word of each key; null for one that has none."""
    import pyarrow as pa
    import pyarrow.compute as pc

    place = pc.index_in(keys, value_set=pa.array(list(words), pa.string()))
    return pa.array(list(words.values()), pa.string()).take(pc.cast(place, pa.int32()))


def _midnight(day: date) -> datetime:
    """The beginning of a day of China, in UTC."""
    return datetime(day.year, day.month, day.day, tzinfo=CHINA).astimezone(UTC)
