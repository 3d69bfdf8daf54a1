"""What the accountant counts: frozen, versioned records of mechanisms that were run.

A record's meaning never changes; a new mechanism gets a new class and a new name. They have a
JSON form of their own because dp-accounting's events have no safe one (`from_named_tuple` imports
whatever the data names).
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import Final, Literal

from privacy.errors import AccountingError

NAME: Final = "poisson-gaussian"
VERSION: Final = 1

MIN_SAMPLING_RATE: Final = 1e-6
# Below this, one step already costs an epsilon of thousands: more likely a typing error than a
# choice, and costly to compute. No noise at all is spelled 0.
MIN_NOISE_MULTIPLIER: Final = 0.01
MAX_NOISE_MULTIPLIER: Final = 1e4
MAX_CLIPPING_NORM: Final = 1e6
MAX_STEPS: Final = 1_000_000

# A clipping engine promises a sensitivity of C (1 + this), for float32 rounds what it clips. The
# accountant divides every noise multiplier by 1 + this, so that what is charged covers it.
SENSITIVITY_TOLERANCE: Final = 1e-6


@dataclass(frozen=True, slots=True)
class PoissonGaussian:
    """`steps` Poisson-subsampled Gaussian steps of DP-SGD (Abadi et al. 2016, Algorithm 1).

    Each unit enters a step independently with `sampling_rate`; the gradients, each clipped to
    an L2 norm of `clipping_norm`, are summed and N(0, (noise_multiplier * clipping_norm)^2) is
    added to every coordinate. "zero-out": the neighbouring data set has one unit's contribution
    replaced by zero, while the declared number of units is public and unchanged.

    Raises `AccountingError` for figures that make no mechanism: negative, NaN, infinite, huge.
    """

    sampling_rate: float
    noise_multiplier: float
    clipping_norm: float
    steps: int
    unit: Literal["patient"] = "patient"
    neighbouring: Literal["zero-out"] = "zero-out"

    def __post_init__(self) -> None:
        _within("sampling_rate", self.sampling_rate, MIN_SAMPLING_RATE, 1.0)
        if not (_real(self.noise_multiplier) and self.noise_multiplier == 0):
            _within(
                "noise_multiplier",
                self.noise_multiplier,
                MIN_NOISE_MULTIPLIER,
                MAX_NOISE_MULTIPLIER,
                also="or exactly 0 for a run without privacy",
            )
        _within("clipping_norm", self.clipping_norm, 0.0, MAX_CLIPPING_NORM)
        if self.clipping_norm == 0:
            raise _wrong("clipping_norm", 0, "above 0")
        if type(self.steps) is not int or not 1 <= self.steps <= MAX_STEPS:
            raise _wrong("steps", self.steps, f"a whole number from 1 to {MAX_STEPS}")
        if self.unit != "patient":
            raise _wrong("unit", self.unit, "'patient'")
        if self.neighbouring != "zero-out":
            raise _wrong("neighbouring", self.neighbouring, "'zero-out'")

    @property
    def charged_multiplier(self) -> float:
        """The noise over the sensitivity that the engine really keeps: what is accounted for."""
        return self.noise_multiplier / (1 + SENSITIVITY_TOLERANCE)

    @property
    def no_privacy(self) -> bool:
        """True without noise: epsilon is infinite."""
        return self.noise_multiplier == 0

    def to_json(self) -> str:
        """Canonical JSON: equal events give equal text."""
        values = {"event": NAME, "version": VERSION, **asdict(self)}
        return json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)


Event = PoissonGaussian


def from_json(text: str) -> Event:
    """The event that `to_json` wrote; unknown names, versions, keys and types are refused."""
    try:
        values = json.loads(text, object_pairs_hook=_without_duplicates)
    except ValueError as error:
        raise AccountingError(
            "An event record is not valid JSON.", "The ledger or bundle holding it is damaged."
        ) from error
    if not isinstance(values, dict):
        raise AccountingError("An event record is no JSON object.", "See privacy/events.py.")
    kind, version = values.pop("event", None), values.pop("version", None)
    if (kind, version) != (NAME, VERSION):
        raise AccountingError(
            f"Unknown event {kind!r}, version {version!r}.",
            "It cannot be accounted for; a newer craftsfl may know it.",
        )
    return _build(values)


def _build(values: dict[str, object]) -> Event:
    types: dict[str, tuple[type, ...]] = {
        "sampling_rate": (float, int),
        "noise_multiplier": (float, int),
        "clipping_norm": (float, int),
        "steps": (int,),
        "unit": (str,),
        "neighbouring": (str,),
    }
    expected = {field.name for field in fields(PoissonGaussian)}
    if set(values) != expected:
        odd = ", ".join(sorted(expected ^ set(values)))
        raise AccountingError(f"Event record with missing or unknown keys: {odd}.")
    for name, allowed in types.items():
        if type(values[name]) not in allowed:
            raise AccountingError(f"Event record: {name} has the wrong type.")
    return PoissonGaussian(**values)  # type: ignore[arg-type]  # types checked above


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("duplicate key")
    return values


def _within(name: str, value: float, low: float, high: float, *, also: str = "") -> None:
    if not (_real(value) and low <= value <= high):  # NaN and infinity are not
        raise _wrong(name, value, f"from {low:g} to {high:g} {also}".strip())


def _real(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _wrong(name: str, value: object, expected: str) -> AccountingError:
    return AccountingError(f"{name} is {value!r}; it must be {expected}.", "Correct the study.")
