"""Keys that an earlier version gave to spreadsheets' spellings of an id.

It took `'00123`, `="00123"`, `123,0` and `1.23e+02` for four patients. A register of that time
knows under these keys who withdrew; without them they would be trained on again, as 123.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

_APOSTROPHES: Final = "'\u2019\u2018`\u00b4"
_LONGEST_PADDED: Final = 12  # digits; wider ids than these are not padded with zeros in practice
_DECIMALS: Final = (",", ",0", ",00")


def former_spellings(patient_id: str) -> Iterator[str]:
    """Every such key of an id in the form of `client.data.patient_key`, most of them never used.

    A whole number has one for each number of leading zeros, up to 12 digits in all.
    """
    for plain in _padded(patient_id):
        yield f'="{plain}"'
        yield f'"{plain}"'
        yield from (mark + plain for mark in _APOSTROPHES)
    if patient_id.isdecimal():
        for decimals in _DECIMALS:
            yield from (plain + decimals for plain in _padded(patient_id))
        yield from _shortened(patient_id)


def _padded(patient_id: str) -> Iterator[str]:
    yield patient_id
    if patient_id.isdecimal():
        for width in range(len(patient_id) + 1, _LONGEST_PADDED + 1):
            yield patient_id.zfill(width)


def _shortened(number: str) -> Iterator[str]:
    """The number in scientific form, with all digits that it needs."""
    exponent = len(number) - 1
    exact = number[1:].rstrip("0")
    powers = (f"e+{exponent:02d}", f"e+{exponent}", f"e{exponent:02d}", f"e{exponent}")
    for decimals in (exact, exact or "0", exact + "0", number[1:]):
        for point in (".", ","):
            mantissa = f"{number[0]}{point}{decimals}" if decimals else number[0]
            yield from (mantissa + power for power in powers)
