"""Sizes read like Kubernetes' own specification of quantities."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runbook import quantities
from runbook.errors import QuantityError, SettingsError
from runbook.quantities import GIB, MIB, Size

CPU = [
    ("2", "2"),
    ("0.5", "0.5"),
    (".5", "0.5"),
    ("1.", "1"),
    ("+1", "1"),
    ("500m", "0.5"),
    ("250m", "0.25"),
    ("1500m", "1.5"),
    ("100u", "0.0001"),
    ("123456789n", "0.123456789"),
    ("0.1234567891", "0.123456790"),
    ("2e3", "2000"),
    ("1E-1", "0.1"),
    ("1k", "1000"),
    (2, "2"),
    (0.1, "0.1"),
    (Decimal("1.25"), "1.25"),
    ("0", "0"),
]

MEMORY = [
    ("1Ki", 1024),
    ("512Mi", 512 * MIB),
    ("1.5Gi", 1610612736),
    ("6Gi", 6 * GIB),
    ("1Ti", 1024 * GIB),
    ("1Pi", 2**50),
    ("1Ei", 2**60),
    ("1k", 1000),
    ("1M", 10**6),
    ("1G", 10**9),
    ("1T", 10**12),
    ("1P", 10**15),
    ("1E", 10**18),
    ("1e9", 10**9),
    ("128974848", 128974848),
    (128974848, 128974848),
    ("123Mi", 128974848),
    ("1181116006400m", 1181116007),
    ("0.1", 1),
    ("0", 0),
]

BAD = [
    ("", "empty"),
    ("x", "begins with a number"),
    ("Gi", "begins with a number"),
    (" 1Gi", "begins with a number"),
    ("-1", "negative"),
    ("1GB", "`GB`"),
    ("1gi", "`gi`"),
    ("1K", "`K`"),
    ("1 Gi", "` Gi`"),
    ("1,5Gi", "decimal point"),
    ("1.5.5", "`.5`"),
    ("1Gi\n", "`Gi\n`"),
    ("1e9999", "`e9999`"),
    ("9223372036854775808", "larger than Kubernetes can hold"),
    ("1e400", "larger than Kubernetes can hold"),
    ("٣", "begins with a number"),
    (True, "not bool"),
    (None, "not NoneType"),
    (float("nan"), "begins with a number"),
    ([], "not list"),
]

BAD_SIZES = ["", "2", "2/", "/6Gi", "2/6Gi/1", "2:6Gi", "2c/6Gi", "2/6GB", "two/6Gi", "-1/6Gi", None, 2]


@pytest.mark.parametrize(("text", "cores"), CPU)
def test_cpu(text: quantities.Quantity, cores: str) -> None:
    """CPU is read as an exact number of cores, in every notation that Kubernetes knows."""
    assert quantities.cpu(text) == Decimal(cores)


@pytest.mark.parametrize(("text", "number_of_bytes"), MEMORY)
def test_memory(text: quantities.Quantity, number_of_bytes: int) -> None:
    """Memory is read as whole bytes, a fraction rounded up, in every notation that Kubernetes knows."""
    assert quantities.memory(text) == number_of_bytes


@pytest.mark.parametrize(("text", "bad_part"), BAD)
def test_bad_quantity_names_its_bad_part(text: object, bad_part: str) -> None:
    """A quantity that Kubernetes would refuse is refused with its bad part, where it stood, and what is allowed."""
    with pytest.raises(QuantityError) as caught:
        quantities.parse(text, where="--memory")  # type: ignore[arg-type]
    assert bad_part in str(caught.value)
    assert caught.value.where == "--memory"
    assert caught.value.value is text
    assert caught.value.allowed


def test_quantity_error_is_a_settings_error() -> None:
    """Whoever reports errors of the card also catches errors of the sizes in it."""
    assert issubclass(QuantityError, SettingsError)


@pytest.mark.parametrize(
    ("text", "cores", "number_of_bytes"),
    [("2/6Gi", "2", 6 * GIB), ("250m/512Mi", "0.25", 512 * MIB), ("0.5/1.5Gi", "0.5", 1536 * MIB), ("1/0", "1", 0)],
)
def test_size(text: str, cores: str, number_of_bytes: int) -> None:
    """A size is CPU, a slash, and memory."""
    assert Size.parse(text) == Size(Decimal(cores), number_of_bytes)


@pytest.mark.parametrize("text", BAD_SIZES)
def test_bad_size(text: object) -> None:
    """Anything but CPU/memory is refused with an error that names where it stood and shows a right one."""
    with pytest.raises(QuantityError) as caught:
        Size.parse(text, where="--build")  # type: ignore[arg-type]
    assert "--build" in str(caught.value)
    assert caught.value.allowed


@pytest.mark.parametrize("text", ["2/6", "2/400m", "1/1000k"])
def test_forgotten_memory_unit(text: str) -> None:
    """Memory below one MiB is a forgotten or mistaken suffix, and the error offers the likely ones."""
    with pytest.raises(QuantityError, match="less than one MiB") as caught:
        Size.parse(text)
    assert "Gi or" in str(caught.value.remedy)


def test_sizes_add_up_exactly() -> None:
    """The article's build, service and helper sum to 3.25 vCPU and 7.5 GiB."""
    total = sum((Size.parse(text) for text in ("2/6Gi", "1/1Gi", "250m/512Mi")), Size())
    assert total == Size(Decimal("3.25"), 7680 * MIB)
    assert f"{total:long}" == "3.25 vCPU / 7.5 GiB"


def test_larger_of_each_dimension() -> None:
    """`at_least` takes CPU from one and memory from the other where they are the larger."""
    assert Size.parse("2/1Gi").at_least(Size.parse("1/4Gi")) == Size.parse("2/4Gi")


def test_fits_needs_both_dimensions() -> None:
    """A size does not fit where either its CPU or its memory is too large."""
    assert Size.parse("2/4Gi").fits(Size.parse("2/4Gi"))
    assert not Size.parse("2/4Gi").fits(Size.parse("4/2Gi"))
    assert not Size.parse("2/4Gi").fits(Size.parse("1/8Gi"))


def test_size_as_resources_of_a_container() -> None:
    """A size gives the requests of a container in Kubernetes' own notation."""
    assert Size.parse("0.25/0.5Gi").requests == {"cpu": "250m", "memory": "512Mi"}


@given(st.integers(0, 10**12), st.integers(MIB, 2**50))
def test_text_reads_back(nano_cores: int, number_of_bytes: int) -> None:
    """What a size prints is the size again when parsed."""
    size = Size(Decimal(nano_cores).scaleb(-9), number_of_bytes)
    assert Size.parse(str(size)) == size
    assert quantities.cpu(size.requests["cpu"]) == size.cpu
    assert quantities.memory(size.requests["memory"]) == size.memory


@given(st.integers(0, 2**63 - 1))
def test_gib_is_exact(number_of_bytes: int) -> None:
    """GiB are an exact decimal, so nothing is lost by showing them."""
    assert quantities.memory(f"{quantities.gib(number_of_bytes):f}Gi") == number_of_bytes


@given(st.text(max_size=12))
def test_any_text_is_a_quantity_or_a_clear_error(text: str) -> None:
    """No text makes the parser fail in any way but its own."""
    try:
        assert quantities.parse(text) >= 0
    except QuantityError as error:
        assert error.allowed
