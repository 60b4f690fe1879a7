"""The ladder, rule by rule and example by example of the vendor's pages, and what must hold for any request."""

from __future__ import annotations

import csv
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runbook.eci import prices, specs, tables, vocabulary
from runbook.eci.specs import Ladder, Mode, Row
from runbook.errors import QuantityError, SettingsError, SpecError
from runbook.quantities import GIB, MIB, Size

HANGZHOU, HONG_KONG = "cn-hangzhou", "cn-hongkong"
"""A region with both tables, and one with the first only."""

ARTICLE = {"build": "2/6Gi", "service": "1/1Gi", "helper": "250m/512Mi"}


def size(text: str) -> Size:
    return Size.parse(text)


def container(name: str = "build", env: dict[str, str] | None = None, **resources: dict[str, Any]) -> dict[str, Any]:
    variables = [{"name": key, "value": value} for key, value in (env or {}).items()]
    return {"name": name, "env": variables, "resources": resources}


def pod(*containers: dict[str, Any], init: tuple[dict[str, Any], ...] = (), **annotations: str) -> dict[str, Any]:
    keys = {getattr(vocabulary, name.upper()): value for name, value in annotations.items()}
    return {
        "metadata": {"name": "job", "annotations": keys},
        "spec": {"containers": list(containers), "initContainers": list(init)},
    }


def requests(text: str) -> dict[str, dict[str, str]]:
    return {"requests": size(text).requests}


def limits(text: str) -> dict[str, dict[str, str]]:
    return {"limits": size(text).requests}


# -- rounding up ------------------------------------------------------------------------------------------------------

EXAMPLES = [
    # what the vendor's pages and the article show
    ("7/13Gi", HANGZHOU, False, "8-14Gi"),
    ("3/6Gi", HANGZHOU, False, "4-6Gi"),
    ("4.25/8.5Gi", HANGZHOU, False, "6-10Gi"),
    ("4/8Gi", HANGZHOU, False, "4-8Gi"),
    ("3250m/7.5Gi", HANGZHOU, False, "4-8Gi"),
    ("3250m/7.5Gi", HONG_KONG, False, "4-8Gi"),
    ("3250m/7.5Gi", HANGZHOU, True, "4-8Gi"),
    ("3.5/8Gi", HANGZHOU, False, "4-8Gi"),
    ("2/4Gi", HONG_KONG, False, "2-4Gi"),
    # the table of twelve regions is not there elsewhere
    ("7/13Gi", HONG_KONG, False, "8-16Gi"),
    ("3/6Gi", HONG_KONG, False, "4-8Gi"),
    ("5/5Gi", HONG_KONG, False, "8-8Gi"),
    ("5/5Gi", "ap-southeast-1", False, "6-6Gi"),
    ("4/31Gi", HANGZHOU, False, "4-32Gi"),
    ("4/33Gi", HANGZHOU, False, "6-34Gi"),
    ("4/33Gi", HONG_KONG, False, "8-64Gi"),
    # nor for spot
    ("3/6Gi", HANGZHOU, True, "4-8Gi"),
    ("4/6Gi", HANGZHOU, True, "4-8Gi"),
    # spot begins at 2 vCPU, and at 2 GiB there
    ("0.25/0.5Gi", HANGZHOU, True, "2-2Gi"),
    ("1/8Gi", HANGZHOU, True, "2-8Gi"),
    ("4/2Gi", HANGZHOU, True, "4-4Gi"),
    # the ends of the ladder
    ("0/0", HANGZHOU, False, "0.25-0.5Gi"),
    ("1m/1Mi", HANGZHOU, False, "0.25-0.5Gi"),
    ("64/512Gi", HANGZHOU, False, "64-512Gi"),
    ("33/1Gi", HANGZHOU, False, "52-96Gi"),
    # memory decides
    ("0.25/4Gi", HANGZHOU, False, "1-4Gi"),
    ("0.25/9Gi", HANGZHOU, False, "2-10Gi"),
    ("0.25/9Gi", HONG_KONG, False, "2-16Gi"),
    ("1/513Mi", HANGZHOU, False, "1-2Gi"),
    ("2/500Gi", HANGZHOU, False, "64-512Gi"),
    # one step over
    ("4001m/8Gi", HONG_KONG, False, "8-8Gi"),
    ("2/4097Mi", HONG_KONG, False, "2-8Gi"),
    ("2/4097Mi", HANGZHOU, False, "2-6Gi"),
]


@pytest.mark.parametrize(("request_", "region", "spot", "spec"), EXAMPLES)
def test_rounds_up_to_the_nearest_spec(request_: str, region: str, spot: bool, spec: str) -> None:
    """A request becomes the spec with the fewest vCPU, then the least memory, that holds it in that region."""
    found = specs.match(size(request_), region=region, spot=spot)
    assert found.spec == spec
    assert found.mode is (Mode.SPOT if spot else Mode.VCPU_MEMORY)
    assert found.table.split(":")[0] in (("spot",) if spot else ("all-regions", "some-regions"))


def test_the_match_says_why() -> None:
    """A match names the rule in plain words and the row of the vendor's table."""
    found = specs.match(size("3/6Gi"), region=HANGZHOU)
    assert found.rule == "3 vCPU / 6 GiB is rounded up to the nearest spec with at least as much of both"
    assert found.table.startswith("some-regions: 4 vCPU with 6 10 12 14 18")
    assert specs.match(size("4/8Gi"), region=HANGZHOU).rule == "4 vCPU / 8 GiB is a spec of its own"


def test_unused_is_what_is_billed_but_was_not_requested() -> None:
    """The article's pod leaves 0.75 vCPU and 0.5 GiB unused of its 4 vCPU and 8 GiB."""
    found = specs.match(size("3250m/7.5Gi"), region=HANGZHOU)
    assert found.unused == size("750m/512Mi")


def test_smaller_specs_give_up_memory_or_vcpu() -> None:
    """Below 4-8Gi lie 4-6Gi with less memory and 2-8Gi with less vCPU; at the bottom there is nothing."""
    found = specs.match(size("3250m/7.5Gi"), region=HANGZHOU)
    assert specs.rungs_down(found) == (size("4/6Gi"), size("2/8Gi"))
    assert specs.rungs_down(specs.match(size("3250m/7.5Gi"), region=HONG_KONG)) == (size("4/4Gi"), size("2/8Gi"))
    assert specs.rungs_down(specs.match(Size(), region=HANGZHOU)) == ()
    assert specs.rungs_down(specs.match(Size(), region=HANGZHOU, use_specs=["ecs.c6.large"])) == ()


# -- compute category, use-specs, refusals ----------------------------------------------------------------------------

CATEGORIES = [
    ("0.25/0.5Gi", "economy", "0.25-0.5Gi", "economy"),
    ("0.25/0.5Gi", "general", "1-2Gi", "general"),
    ("8/62Gi", "economy", "8-62Gi", "economy"),
    ("9/12Gi", "economy, general", "12-12Gi", "general"),
    ("1/2Gi", "general,economy", "1-2Gi", "general"),
]


@pytest.mark.parametrize(("request_", "category", "spec", "taken"), CATEGORIES)
def test_compute_category(request_: str, category: str, spec: str, taken: str) -> None:
    """A category has the same specs within its vCPU range; of several the first that holds the request is taken."""
    found = specs.match(size(request_), region=HANGZHOU, compute_category=category)
    assert (found.spec, found.compute_category) == (spec, taken)


USE_SPECS = [
    (["2-4Gi", "4-8Gi"], False, "2-4Gi"),
    (["4-8Gi"], False, "4-8Gi"),
    (["3-6Gi"], False, "4-6Gi"),
    (["0.5-1Gi"], True, "2-2Gi"),
    (["2.0-4.0Gi"], False, "2-4Gi"),
]


@pytest.mark.parametrize(("entries", "spot", "spec"), USE_SPECS)
def test_use_specs_replace_the_request(entries: list[str], spot: bool, spec: str) -> None:
    """The first entry of eci-use-specs is taken whatever was requested, itself rounded up where it is no spec."""
    found = specs.match(size("16/64Gi"), region=HANGZHOU, spot=spot, use_specs=entries)
    assert found.spec == spec
    assert "eci-use-specs replaces requests and limits" in found.rule


@pytest.mark.parametrize("spot", [False, True])
def test_use_specs_may_name_an_ecs_type(spot: bool) -> None:
    """An ECS type is recognised; its vCPU and memory are not known to the ladder, so they are None."""
    found = specs.match(size("1/1Gi"), region=HANGZHOU, spot=spot, use_specs=["ecs.c6.xlarge", "4-8Gi"])
    assert (found.vcpu, found.memory_gib, found.instance_type) == (None, None, "ecs.c6.xlarge")
    assert found.mode is (Mode.SPOT if spot else Mode.ECS_TYPE)
    assert found.spec == "ecs.c6.xlarge"
    assert found.unused is None


REFUSED = [
    ({"request": size("65/1Gi")}, "request", "at most 64 vCPU"),
    ({"request": size("1/513Gi")}, "request", "at most 512 GiB"),
    ({"request": size("9/8Gi"), "compute_category": "economy"}, "request", "at most 8 vCPU"),
    ({"region": "cn-hangzou"}, "region", "Did you mean cn-hangzhou?"),
    ({"region": "mars"}, "region", "regions.csv"),
    ({"region": "mars", "spot": True}, "region", "regions.csv"),
    ({"region": "mars", "use_specs": ["ecs.c6.large"]}, "region", "regions.csv"),
    ({"compute_category": "cheap"}, vocabulary.COMPUTE_CATEGORY, "economy, general"),
    ({"compute_category": "economy", "spot": True}, vocabulary.COMPUTE_CATEGORY, "FeatureBasedConstraintConflict"),
    ({"use_specs": ["2/4Gi"]}, vocabulary.USE_SPECS, "`2-4Gi`"),
    ({"use_specs": ["c6.large"]}, vocabulary.USE_SPECS, "ecs.c6.xlarge"),
    ({"use_specs": ["2-4Gi"] * 6}, vocabulary.USE_SPECS, "at most five"),
    ({"use_specs": ["2-4Gi", "ecs"]}, vocabulary.USE_SPECS, "'ecs'"),
]


@pytest.mark.parametrize(("changes", "where", "text"), REFUSED)
def test_refused(changes: dict[str, Any], where: str, text: str) -> None:
    """What ECI would refuse is refused with the field, the value and what is allowed."""
    arguments: dict[str, Any] = {"request": size("2/4Gi"), "region": HANGZHOU} | changes
    with pytest.raises(SpecError) as caught:
        specs.match(arguments.pop("request"), **arguments)
    assert caught.value.where == where
    assert text in str(caught.value)


# -- what a pod asks for ----------------------------------------------------------------------------------------------

PODS = [
    ("limits before requests", pod(container(**requests("8/8Gi"), **limits("1/2Gi"))), "1/2Gi"),
    ("requests where no limits", pod(container(**requests("1/2Gi")), container(**requests("0.5/1Gi"))), "1500m/3Gi"),
    ("neither: the default", pod(container(), container("helper")), "2/4Gi"),
    ("no containers: the default", pod(), "2/4Gi"),
    ("limits of one, requests of another", pod(container(**limits("1/2Gi")), container(**requests("4/8Gi"))), "1/2Gi"),
    ("only memory", pod(container(requests={"memory": "3Gi"})), "0/3Gi"),
    ("the article", pod(*(container(name, **requests(text)) for name, text in ARTICLE.items())), "3250m/7.5Gi"),
    (
        "an ignored container",
        pod(container(**limits("2/4Gi")), container("proxy", {"__ECI_RESOURCE_IGNORE__": "TRUE"}, **limits("1/1Gi"))),
        "2/4Gi",
    ),
    (
        "ignored only when TRUE",
        pod(container(**limits("2/4Gi")), container("proxy", {"__ECI_RESOURCE_IGNORE__": "no"}, **limits("1/1Gi"))),
        "3/5Gi",
    ),
    (
        "limits of an ignored container do not decide",
        pod(container(**requests("2/4Gi")), container("x", {"__ECI_RESOURCE_IGNORE__": "TRUE"}, **limits("1/1Gi"))),
        "2/4Gi",
    ),
    ("a small init container", pod(container(**limits("2/4Gi")), init=(container("i", **limits("1/1Gi")),)), "2/4Gi"),
    ("a large init container", pod(container(**limits("1/2Gi")), init=(container("i", **limits("2/1Gi")),)), "2/2Gi"),
    ("numbers instead of text", pod(container(requests={"cpu": 1, "memory": 2 * GIB})), "1/2Gi"),
]


@pytest.mark.parametrize(("manifest", "expected"), [row[1:] for row in PODS], ids=[row[0] for row in PODS])
def test_requested(manifest: dict[str, Any], expected: str) -> None:
    """A pod asks for the sum of its limits, else of its requests, else for the default."""
    assert specs.requested(manifest).size == size(expected)


def test_requested_says_what_was_counted() -> None:
    """The basis names what was added up and what was left out."""
    manifest = pod(
        container(**limits("1/2Gi")),
        container("proxy", {"__ECI_RESOURCE_IGNORE__": "TRUE"}),
        init=(container("init-permissions", **limits("2/1Gi")),),
    )
    assert specs.requested(manifest).basis == (
        "sum of the limits of 1 container, 1 left out by __ECI_RESOURCE_IGNORE__, "
        "raised by init container init-permissions"
    )


def test_manifest_without_the_optional_parts() -> None:
    """A pod whose annotations, resources and environment are absent or null is read like an empty one."""
    bare = {"metadata": {"annotations": None}, "spec": {"containers": [{"name": "build", "resources": None}]}}
    assert specs.for_pod(bare, region=HANGZHOU).spec == "2-4Gi"
    assert specs.for_pod({"spec": {}}, region=HANGZHOU).spec == "2-4Gi"


def test_bad_size_names_its_container() -> None:
    """A size that is none names the container and the field."""
    with pytest.raises(QuantityError) as caught:
        specs.requested(pod(container("helper", requests={"cpu": "1", "memory": "512MB"})))
    assert caught.value.where == "container helper, requests.memory"


# -- the pod with its annotations -------------------------------------------------------------------------------------


def test_for_pod_explains_sum_and_rounding() -> None:
    """The article's pod becomes 4 vCPU and 8 GiB, and the rule tells both steps."""
    manifest = pod(*(container(name, **requests(text)) for name, text in ARTICLE.items()))
    found = specs.for_pod(manifest, region=HANGZHOU)
    assert found.spec == "4-8Gi"
    assert found.rule.startswith("sum of the requests of 3 containers; 3.25 vCPU / 7.5 GiB is rounded up")


def test_vendor_example_with_a_sidecar() -> None:
    """Two containers of 2/4 and a sidecar of 0.25/0.5 become 6/10 in Hangzhou, or 4/8 when the sidecar is ignored."""
    two = container("a", **limits("2/4Gi")), container("b", **limits("2/4Gi"))
    sidecar = container("sidecar", **limits("250m/512Mi"))
    ignored = container("sidecar", {"__ECI_RESOURCE_IGNORE__": "TRUE"}, **limits("250m/512Mi"))
    assert specs.for_pod(pod(*two, sidecar), region=HANGZHOU).spec == "6-10Gi"
    assert specs.for_pod(pod(*two, ignored), region=HANGZHOU).spec == "4-8Gi"


ANNOTATED = [
    ({"use_specs": "4-8Gi, 8-16Gi"}, "4-8Gi", Mode.VCPU_MEMORY),
    ({"use_specs": "ecs.c6.large"}, "ecs.c6.large", Mode.ECS_TYPE),
    ({"spot_strategy": "SpotAsPriceGo"}, "2-2Gi", Mode.SPOT),
    ({"spot_strategy": "SpotWithPriceLimit", "spot_price_limit": "0.2"}, "2-2Gi", Mode.SPOT),
    ({"spot_strategy": "NoSpot"}, "1-2Gi", Mode.VCPU_MEMORY),
    ({"compute_category": "economy"}, "1-2Gi", Mode.VCPU_MEMORY),
    ({"instance_family": "ecs.c6"}, "1-2Gi", Mode.ECS_TYPE),
    ({"instance_generation": "6,5"}, "1-2Gi", Mode.ECS_TYPE),
    ({"instance_generation": "6", "spot_strategy": "SpotAsPriceGo"}, "2-2Gi", Mode.SPOT),
]


@pytest.mark.parametrize(("annotations", "spec", "mode"), ANNOTATED)
def test_annotations_of_a_pod(annotations: dict[str, str], spec: str, mode: Mode) -> None:
    """Specs, spot, compute category, family and generation are read from the pod's annotations."""
    found = specs.for_pod(pod(container(**requests("1/2Gi")), **annotations), region=HANGZHOU)
    assert (found.spec, found.mode) == (spec, mode)


def test_unknown_spot_strategy() -> None:
    """A misspelt spot strategy is refused, for ECI would not take it either."""
    with pytest.raises(SpecError, match="spot strategy") as caught:
        specs.for_pod(pod(spot_strategy="SpotAsPricego"), region=HANGZHOU)
    assert "SpotAsPriceGo" in str(caught.value.allowed)


STORAGE = [
    (pod(container()), "0"),
    (pod(container(), extra_ephemeral_storage="20Gi"), "20"),
    (pod(container(requests={"ephemeral-storage": "30Gi"})), "0"),
    (pod(container(requests={"ephemeral-storage": "45Gi"})), "15"),
    (pod(container(requests={"ephemeral-storage": "35Gi"}), extra_ephemeral_storage="20Gi"), "20"),
    (pod(container(requests={"ephemeral-storage": "60Gi"}), extra_ephemeral_storage="20Gi"), "30"),
]


@pytest.mark.parametrize(("manifest", "gib"), STORAGE)
def test_extra_ephemeral_storage(manifest: dict[str, Any], gib: str) -> None:
    """Thirty GiB are free; above them counts the larger of the annotation and the containers' requests."""
    assert specs.for_pod(manifest, region=HANGZHOU).extra_ephemeral_gib == Decimal(gib)


def test_a_real_gitlab_pod(traces: Path) -> None:
    """The spec of a pod recorded on a real ECI node is the one that its annotation says was billed."""
    yaml = pytest.importorskip("yaml")
    text = (traces / "eci-pods" / "eci-pod-running-cn-shenzhen-2containers.yaml").read_text(encoding="utf-8")
    recorded = yaml.safe_load(text)
    found = specs.for_pod(recorded, region="cn-shenzhen")
    assert f"{found.vcpu}.0-{found.memory_gib}.0Gi" == recorded["metadata"]["annotations"][vocabulary.INSTANCE_SPEC]


# -- for any request --------------------------------------------------------------------------------------------------

SIZES = st.builds(
    Size,
    st.integers(0, 64_000).map(lambda milli: Decimal(milli).scaleb(-3)),
    st.integers(0, 512 * 1024).map(lambda mib: mib * MIB),
)
REGIONS = st.sampled_from([HANGZHOU, HONG_KONG])


def billed(request: Size, region: str, spot: bool, category: str | None = None) -> Size:
    found = specs.match(request, region=region, spot=spot, compute_category=category)
    assert found.vcpu is not None
    assert found.memory_gib is not None
    return Size(found.vcpu, int(found.memory_gib * GIB))


@given(SIZES, REGIONS, st.booleans())
def test_the_spec_holds_the_request(request_: Size, region: str, spot: bool) -> None:
    """What is billed is never less than what was requested."""
    assert request_.fits(billed(request_, region, spot))


@given(SIZES, REGIONS, st.booleans())
def test_a_spec_is_its_own_match(request_: Size, region: str, spot: bool) -> None:
    """Asking for exactly the billed spec is billed the same."""
    once = billed(request_, region, spot)
    assert billed(once, region, spot) == once


@given(SIZES, SIZES, REGIONS, st.booleans())
def test_asking_for_more_is_never_billed_fewer_vcpu(one: Size, other: Size, region: str, spot: bool) -> None:
    """The vCPU billed grow with the request."""
    assert billed(one, region, spot).cpu <= billed(one.at_least(other), region, spot).cpu


@given(SIZES, REGIONS, st.booleans())
def test_nothing_smaller_on_the_ladder_fits(request_: Size, region: str, spot: bool) -> None:
    """No other spec holds the request with at most as much of both."""
    taken = billed(request_, region, spot)
    smaller = [spec for spec in every_spec(region, spot) if spec != taken and spec.fits(taken)]
    assert not [spec for spec in smaller if request_.fits(spec)]


@pytest.mark.parametrize("site", ["cn", "intl"])
@pytest.mark.parametrize("category", ["general", "economy"])
@pytest.mark.parametrize("region", [HANGZHOU, HONG_KONG])
def test_nearest_is_also_cheapest(region: str, category: str, site: str) -> None:
    """The pages say only *nearest*: as we read it, it is the cheapest up to 8 vCPU, and above at most 5 % dearer."""
    unit = {
        item: row.price
        for item in (prices.VCPU, prices.MEMORY)
        if (row := prices.find(prices.shipped(), item, site=site, region=region, category=category))
    }

    def cost(spec: Size) -> Decimal:
        return spec.cpu * unit[prices.VCPU] + spec.memory_gib * unit[prices.MEMORY]

    ladder = every_spec(region, spot=False, category=category)
    steps = {Size(one.cpu, other.memory) for one in ladder for other in ladder}
    for request_ in steps:
        fitting = [spec for spec in ladder if request_.fits(spec)]
        if not fitting:
            continue
        taken = cost(billed(request_, region, spot=False, category=category))
        limit = 1 if request_.cpu <= 8 else Decimal("1.05")
        assert taken <= limit * min(map(cost, fitting)), request_


def every_spec(region: str, spot: bool, category: str | None = None) -> list[Size]:
    rows = specs.shipped().offered(region, spot=spot, category=category)
    return [Size(row.vcpu, int(memory * GIB)) for row in rows for memory in row.memory_gib]


# -- the tables -------------------------------------------------------------------------------------------------------


def test_every_row_has_date_and_source() -> None:
    """Each row of the tables says since when it is valid and which page it was read from."""
    for path in (tables.DATA / "specs").glob("*.csv"):
        with path.open(encoding="utf-8") as file:
            for row in csv.DictReader(file):
                assert row["valid_from"] >= "2020-01-01", (path, row)
                assert row["source"].startswith("https://"), (path, row)


def test_the_tables_are_a_ladder() -> None:
    """Memory sizes of a row ascend, no spec stands in two tables of one region, and spot is part of all regions'."""
    ladder = specs.shipped()
    assert all(list(row.memory_gib) == sorted(set(row.memory_gib)) for row in ladder.rows)
    everywhere = every_spec(HONG_KONG, spot=False)
    twelve = every_spec(HANGZHOU, spot=False)
    assert len(set(twelve)) == len(twelve)
    assert set(everywhere) < set(twelve)
    assert set(every_spec(HANGZHOU, spot=True)) < set(everywhere)
    assert (len(everywhere), len(twelve), len(every_spec(HANGZHOU, spot=True))) == (44, 106, 34)


def test_the_twelve_regions() -> None:
    """The additional table holds in the twelve regions that the vendor lists."""
    assert sum("some-regions" in names for names in specs.shipped().regions.values()) == 12


def test_a_ladder_can_be_handed_in() -> None:
    """Another ladder than the shipped one can be matched against."""
    ladder = Ladder((Row("all-regions", Decimal(3), (Decimal(5),)),), {"here": ("all-regions",)}, {})
    found = specs.match(size("1/1Gi"), region="here", ladder=ladder)
    assert found.spec == "3-5Gi"
    assert replace(found, vcpu=None).spec == "an ECS type that ECI picks"


def test_missing_table(tmp_path: Path) -> None:
    """A folder without the tables is a clear error that names the file and what to do."""
    with pytest.raises(SettingsError, match="missing") as caught:
        Ladder.load(tmp_path)
    assert "ladder.csv" in str(caught.value.where)
    assert "pip install -e ." in str(caught.value.remedy)


def test_table_without_a_column(tmp_path: Path) -> None:
    """A table that lacks a column names the column."""
    (tmp_path / "ladder.csv").write_text("table,vcpu\nall-regions,2\n", encoding="utf-8")
    with pytest.raises(SettingsError, match="lacks a column") as caught:
        Ladder.load(tmp_path)
    assert caught.value.value == "memory_gib"
