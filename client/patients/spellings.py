"""Keys that an earlier version gave to spreadsheets' spellings of an id.

It took `'00123`, `="00123"`, `123,0`, `1.23e+02` and `+123` for five patients, and `12-3` for
another with each kind of dash. A register of that time knows under these keys who withdrew;
without them they would be trained on again, as 123.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

from client.data.letters import LATIN_OF_CYRILLIC, LATIN_OF_GREEK

_APOSTROPHES: Final = "'\u2019\u2018`\u00b4"
_LONGEST_PADDED: Final = 12  # digits; wider ids than these are not padded with zeros in practice
_DECIMALS: Final = (",", ",0", ",00")
_PAIRS: Final = ("\u201c\u201d", "\u201e\u201c", "\u00ab\u00bb", "\u2039\u203a")
_DASHES: Final = "\u2010\u2012\u2013\u2014\u2015\u2212"
# The letters of another script for all that look like them, and what Turkish keyboards write.
_SCRIPTS: Final[tuple[Mapping[int, int | str], ...]] = (
    *(
        {latin: own for own, latin in known.items()}
        for known in (LATIN_OF_CYRILLIC, LATIN_OF_GREEK)
    ),
    {ord("i"): "\u0131"},
    {ord("i"): "i\u0307"},
)
_WORD: Final = re.compile(r"[^\W\d_]+")
_ZEROS: Final = (0x660, 0x6F0, 0x966, 0x9E6, 0xE50)  # Arabic, Persian, Devanagari, Bengali, Thai


def former_spellings(patient_id: str) -> Iterator[str]:
    """Every such key of an id in the form of `client.data.patient_key`, most of them never used.

    A whole number has one for each number of leading zeros, up to 12 digits in all.
    """
    for plain in _padded(patient_id):
        yield f'="{plain}"'
        yield f'"{plain}"'
        yield from (mark + plain for mark in _APOSTROPHES)
        yield from (first + plain + last for first, last in _PAIRS)
        yield from (plain + mark for mark in _APOSTROPHES)  # of two, the first was taken off
        yield from (plain.translate(_digits(zero)) for zero in _ZEROS)
    yield from _in_other_letters(patient_id)
    if "'" in patient_id:
        yield from (patient_id.replace("'", mark) for mark in _APOSTROPHES)
    if "-" in patient_id:
        yield from (patient_id.replace("-", dash) for dash in _DASHES)
    if patient_id.isdecimal():
        for decimals in _DECIMALS:
            yield from (plain + decimals for plain in _padded(patient_id))
        yield from (f"+{plain}" for plain in _padded(patient_id))
        if len(patient_id) > 3:
            yield from (f"{int(patient_id):,}".replace(",", mark) for mark in ".,'\u2019")
        yield from _shortened(patient_id)


def _digits(zero: int) -> dict[int, int]:
    return {ord("0") + digit: zero + digit for digit in range(10)}


def _in_other_letters(patient_id: str) -> Iterator[str]:
    """All of its words in another script, or one of them."""
    for script in _SCRIPTS:
        yield patient_id.translate(script)
        for word in _WORD.finditer(patient_id):
            before, after = patient_id[: word.start()], patient_id[word.end() :]
            yield before + word[0].translate(script) + after


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
