"""The constants of a pooled study's optimiser: public, and the same at every site."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from privacy.errors import ConfigError
from privacy.secagg.keys import digest
from privacy.wire.codec import Writer

RuleKind = Literal["momentum", "adam"]

_NUMBERS: Final[dict[str, int]] = {"momentum": 1, "adam": 2}  # in the digest: never change them
_RULE_TAG: Final = b"adapter chain: rule"
# Wide, but such that no product of two numbers of `strategies.descent` is ever subnormal.
_SMALLEST: Final = 1e-9
_LARGEST: Final = 1e6


@dataclass(frozen=True, slots=True)
class UpdateRule:
    """How an opened mean moves the adapter: see `strategies.descent` for what each letter does.

    `learning_rate` is for gradients in units of the clipping norm C, so that C can be changed
    without it: for "momentum" it is C times the rate that plain SGD would take.
    `floor` is the least second moment that "adam" divides by, in units of the noise's variance.
    `averaging` is the degree eta of the average over iterates; None publishes the last one.
    Raises `ConfigError` for constants outside their range.
    """

    kind: RuleKind
    learning_rate: float
    beta1: float = 0.9
    beta2: float = 0.95
    floor: float = 0.1
    averaging: float | None = None

    def __post_init__(self) -> None:
        if self.kind not in _NUMBERS:
            raise ConfigError(
                f"There is no pooled optimiser {self.kind!r}.", "Use momentum or adam."
            )
        _check("learning_rate", self.learning_rate, _SMALLEST <= self.learning_rate <= _LARGEST)
        for name, beta in (("beta1", self.beta1), ("beta2", self.beta2)):
            _check(name, beta, beta == 0 or _SMALLEST <= beta < 1)
        _check("floor", self.floor, _SMALLEST <= self.floor <= _LARGEST)
        if self.averaging is not None:
            _check("averaging", self.averaging, 0 <= self.averaging <= _LARGEST)

    def digest(self) -> bytes:
        """32 bytes that name these constants."""
        writer = Writer().u8(_NUMBERS[self.kind])
        for value in (self.learning_rate, self.beta1, self.beta2, self.floor):
            writer.f64(value)
        if self.averaging is not None:
            writer.f64(self.averaging)
        return digest(_RULE_TAG, writer.done())


def _check(name: str, value: float, fits: bool) -> None:
    if not fits:  # which NaN never does
        raise ConfigError(
            f"aggregation.{name} = {value:g} is outside its range.",
            f"learning_rate, floor: {_SMALLEST:g} to {_LARGEST:g}. beta1, beta2: 0, or "
            f"{_SMALLEST:g} to below 1. averaging: 0 to {_LARGEST:g}.",
        )
