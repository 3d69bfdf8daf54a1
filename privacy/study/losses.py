"""Names of the losses that a study may use, and of those that no private study ever may.

Clipping bounds one patient's influence only if no term couples two patients' rows: then a patient's
gradient is its own, whoever else was drawn. The names below are refused wherever they are
requested, with the reason; none of them is implemented.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Final, Literal

from pydantic import BeforeValidator

_CONTRAST = "it contrasts a patient's rows with those of the others that were drawn"
_STATISTICS = "it takes statistics over all rows that were drawn"
_ADAPTIVE = "its weights follow the losses of all rows that were drawn"

COUPLED: Final[Mapping[str, str]] = MappingProxyType(
    {
        "infonce": _CONTRAST,
        "clip-contrast": _CONTRAST,
        "softrepa-in-batch": _CONTRAST,
        "barlow": _STATISTICS,
        "vicreg": _STATISTICS,
        "batch-cka": _STATISTICS,
        "batch-correlation": _STATISTICS,
        "adaptive-weights": _ADAPTIVE,
        "gradient-balanced": _ADAPTIVE,
    }
)
"""Losses that couple patients, and how. (van den Oord 2018; Zbontar 2021; Kornblith 2019)"""

UNCOUPLED_HINT: Final = (
    'Use "stage-two": it compares a row with public captions and its own reference only.'
)


def coupled(name: str) -> str | None:
    """Why the loss `name` is refused on private data; None if it is not known to couple rows.

    Another spelling does not help: case, blanks, underscores and a leading "in-batch-" are ignored.
    """
    plain = name.lower().replace("_", "-").replace(" ", "-").removeprefix("in-batch-")
    reason = COUPLED.get(plain)
    return None if reason is None else f"the loss {name!r} couples patients: {reason}"


def _refuse_coupled(value: object) -> object:
    reason = coupled(value) if isinstance(value, str) else None
    if reason is not None:
        raise ValueError(f"{reason}. {UNCOUPLED_HINT}")
    return value


LossName = Annotated[Literal["denoising", "stage-two"], BeforeValidator(_refuse_coupled)]
