"""Kubernetes quantities (`500m`, `1.5Gi`) and sizes (`2/6Gi`: CPU and memory), parsed once at the border.

Inside there are only cores as Decimal, bytes as int, and `Size`, which holds both. The grammar is Kubernetes' own
(https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/); as there, a fraction of a byte or
of a billionth is rounded up. Everything is exact: no float is made on the way.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import ROUND_CEILING, Context, Decimal
from typing import Self

from runbook.errors import QuantityError

KIB, MIB, GIB, TIB = 2**10, 2**20, 2**30, 2**40

BINARY = {"Ki": KIB, "Mi": MIB, "Gi": GIB, "Ti": TIB, "Pi": 2**50, "Ei": 2**60}
DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
FACTORS: dict[str, Decimal] = {name: Decimal(factor) for name, factor in BINARY.items()}
FACTORS |= {name: Decimal(1).scaleb(power) for name, power in DECIMAL.items()}

LARGEST = 2**63 - 1
"""What Kubernetes' own 64-bit arithmetic holds."""

SMALLEST_STEP = Decimal("1e-9")

CPU_ALLOWED = "cores (`2`, `0.5`) or thousandths of a core (`500m`)"
MEMORY_ALLOWED = "bytes with a suffix: `512Mi`, `1.5Gi`; binary Ki Mi Gi Ti, decimal k M G T"
SIZE_ALLOWED = "CPU/memory, for example `2/6Gi`, `0.5/1Gi` or `250m/512Mi`"

Quantity = str | int | float | Decimal
"""What a manifest may hold where Kubernetes reads a quantity: YAML turns `cpu: 2` into an int."""

_SHAPE = re.compile(r"(?P<sign>[+-]?)(?P<number>[0-9]+\.?[0-9]*|\.[0-9]+)(?P<suffix>.*)", re.DOTALL)
_EXPONENT = re.compile(r"[eE][+-]?[0-9]{1,3}")
_EXACT = Context(prec=100, rounding=ROUND_CEILING)
_SLIPS = {
    "b": "nothing (a plain number is bytes)",
    "K": "k or Ki",
    "kb": "k or Ki",
    "mb": "M or Mi",
    "gb": "G or Gi",
    "tb": "T or Ti",
    "ki": "Ki",
    "mi": "Mi",
    "gi": "Gi",
    "ti": "Ti",
    "g": "G or Gi",
    "t": "T or Ti",
    "kib": "Ki",
    "mib": "Mi",
    "gib": "Gi",
    "tib": "Ti",
    "c": "nothing (a plain number is cores)",
}


def parse(quantity: Quantity, *, where: str | None = None, allowed: str = MEMORY_ALLOWED) -> Decimal:
    """The value of any Kubernetes quantity, exact down to a billionth.

    `where` names the field or option for the error, `allowed` what may stand there. Raises QuantityError.
    """
    if isinstance(quantity, bool) or not isinstance(quantity, Quantity):
        raise QuantityError(
            f"A quantity is text or a number, not {type(quantity).__name__}.",
            where=where,
            value=quantity,
            allowed=allowed,
        )
    text = str(quantity)
    shape = _SHAPE.fullmatch(text)
    if shape is None:
        raise QuantityError(
            "A quantity begins with a number." if text else "A quantity is empty.",
            where=where,
            value=quantity,
            allowed=allowed,
        )
    if shape["sign"] == "-":
        raise QuantityError("A quantity cannot be negative.", where=where, value=quantity, allowed=allowed)
    value = _EXACT.multiply(Decimal(shape["number"]), _factor(shape["suffix"], quantity, where, allowed))
    if value > LARGEST:
        raise QuantityError(
            "A quantity is larger than Kubernetes can hold.", where=where, value=quantity, allowed=f"at most {LARGEST}"
        )
    return value.quantize(SMALLEST_STEP, context=_EXACT).normalize(_EXACT)


def _factor(suffix: str, quantity: Quantity, where: str | None, allowed: str) -> Decimal:
    if suffix in FACTORS:
        return FACTORS[suffix]
    if _EXPONENT.fullmatch(suffix):
        return Decimal("1" + suffix)
    slip = _SLIPS.get(suffix) or _SLIPS.get(suffix.lower())
    remedy = f"Write {slip} in place of `{suffix}`." if slip else None
    if suffix.startswith(","):
        remedy = "Write a decimal point, not a comma."
    raise QuantityError(
        f"The suffix `{suffix}` is not one that Kubernetes knows.",
        where=where,
        value=quantity,
        allowed=allowed,
        remedy=remedy,
    )


def cpu(quantity: Quantity, *, where: str | None = None) -> Decimal:
    """Cores: `500m` is 0.5, `2` is 2. Raises QuantityError."""
    return parse(quantity, where=where, allowed=CPU_ALLOWED)


def memory(quantity: Quantity, *, where: str | None = None) -> int:
    """Bytes: `1.5Gi` is 1610612736. A fraction of a byte counts as a byte. Raises QuantityError."""
    return int(parse(quantity, where=where, allowed=MEMORY_ALLOWED).to_integral_value(ROUND_CEILING))


def gib(number_of_bytes: int) -> Decimal:
    """Bytes in GiB, exactly, without trailing zeros: 1610612736 is 1.5."""
    return plain(_EXACT.divide(Decimal(number_of_bytes), Decimal(GIB)))


def plain(number: Decimal) -> Decimal:
    """The same number without trailing zeros and without an exponent: 2.50 is 2.5, 1E+1 is 10."""
    return Decimal(format(number.normalize(_EXACT), "f"))


def cpu_text(cores: Decimal) -> str:
    """Cores as Kubernetes writes them: `2`, `250m`, and finer ones as `n`."""
    for suffix in ("", "m", "n"):
        count = _EXACT.divide(cores, FACTORS[suffix])
        if count == count.to_integral_value():
            break
    return f"{count.to_integral_value(ROUND_CEILING):f}{suffix}"


def memory_text(number_of_bytes: int) -> str:
    """Bytes as Kubernetes writes them, in the largest binary unit that leaves no fraction: `1536Mi`, `6Gi`."""
    if number_of_bytes == 0:
        return "0"
    fitting = [suffix for suffix, factor in BINARY.items() if number_of_bytes % factor == 0]
    if not fitting:
        return str(number_of_bytes)
    return f"{number_of_bytes // BINARY[fitting[-1]]}{fitting[-1]}"


@dataclass(frozen=True)
class Size:
    """CPU and memory of a container or a pod. `str()` gives `2/6Gi`, which `parse` reads back."""

    cpu: Decimal = Decimal(0)
    """Cores."""
    memory: int = 0
    """Bytes."""

    @classmethod
    def parse(cls, text: str, *, where: str | None = None) -> Self:
        """`2/6Gi` → Size. `where` names the option or field for the error. Raises QuantityError."""
        cpu_part, slash, memory_part = text.partition("/") if isinstance(text, str) else ("", "", "")
        if not (cpu_part and slash and memory_part):
            raise QuantityError("A size is CPU and memory.", where=where, value=text, allowed=SIZE_ALLOWED)
        size = cls(
            cpu(cpu_part, where=f"{where or 'size'}: CPU `{cpu_part}`"),
            memory(memory_part, where=f"{where or 'size'}: memory `{memory_part}`"),
        )
        if 0 < size.memory < MIB:
            number = memory_part.rstrip("m")
            raise QuantityError(
                f"The memory `{memory_part}` is less than one MiB: its suffix is missing or wrong.",
                where=where,
                value=text,
                allowed=SIZE_ALLOWED,
                remedy=f"Write {cpu_part}/{number}Gi or {cpu_part}/{number}Mi.",
            )
        return size

    @property
    def memory_gib(self) -> Decimal:
        """Memory in GiB, exactly."""
        return gib(self.memory)

    @property
    def requests(self) -> dict[str, str]:
        """As the `requests` or `limits` of a container's `resources`."""
        return {"cpu": cpu_text(self.cpu), "memory": memory_text(self.memory)}

    def fits(self, other: Size) -> bool:
        """Whether `other` has at least this much of both."""
        return self.cpu <= other.cpu and self.memory <= other.memory

    def at_least(self, other: Size) -> Size:
        """The larger of each of the two dimensions."""
        return Size(max(self.cpu, other.cpu), max(self.memory, other.memory))

    def __add__(self, other: Size) -> Size:
        return Size(self.cpu + other.cpu, self.memory + other.memory)

    def __str__(self) -> str:
        return f"{cpu_text(self.cpu)}/{memory_text(self.memory)}"

    def __format__(self, spec: str) -> str:
        """With the format `long`: `3.25 vCPU / 7.5 GiB`; otherwise as `str`."""
        if spec == "long":
            return f"{plain(self.cpu):f} vCPU / {self.memory_gib:f} GiB"
        return format(str(self), spec)
