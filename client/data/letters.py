"""Signs of an id that look alike on paper and on screens, as one sign.

An id that somebody types from a label comes out in the script of their keyboard: a Cyrillic or
Greek capital where the other table has the Latin one, a dash or quote of any kind, a sign that
cannot be seen. Told apart, one patient would be two. Capitals decide which letters look alike.
"""

# Why: docs/adr/0077-what-a-cell-means.md

from __future__ import annotations

import re
import unicodedata
from typing import Final

LATIN_OF_CYRILLIC: Final = str.maketrans("авекмнорстухіјѕ", "abekmhopctyxijs")
LATIN_OF_GREEK: Final = str.maketrans("αβεζηικμνορτυχ", "abezhikmnoptyx")
_DASHES: Final = dict.fromkeys(
    map(ord, "\u02d7\u058a\u05be\u2010\u2012\u2013\u2014\u2015\u2043\u2212\u2796\u2e3a\u2e3b"), "-"
)
_SLASHES: Final = dict.fromkeys(map(ord, "\u2044\u2215\u29f8"), "/")
_QUOTES: Final = {
    **dict.fromkeys(map(ord, "\u2018\u2019\u201a\u201b\u2032\u02bc\u02b9`\u00b4"), "'"),
    **dict.fromkeys(map(ord, "\u201c\u201d\u201e\u201f\u2033\u00ab\u00bb"), '"'),
}
# Without a shape, and in no category of their own: fillers, joiners, variants of the sign before.
_UNSEEN: Final = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\ufe00-\ufe0f\U000e0100-\U000e01ef]"
)
# A keyboard for Japanese writes the lengthening of a vowel where others have a hyphen.
_LENGTHENED: Final = re.compile("(?<=[0-9a-z])\u30fc")
_DOTTED: Final = re.compile("i\u0307")  # what folding makes of a Turkish capital


def keyboard_signs(text: str) -> str:
    """Casefolded text in NFKC, with the digits, dashes, slashes and quotes of a keyboard."""
    if text.isascii():
        return text.replace("`", "'")
    seen = _UNSEEN.sub("", text)
    digits = "".join(str(unicodedata.decimal(c)) if c.isdecimal() else c for c in seen)
    return _LENGTHENED.sub("-", digits.translate({**_DASHES, **_SLASHES, **_QUOTES}))


def latin_alike(text: str) -> str:
    """The same text with Latin letters for all that look like them as capitals."""
    if text.isascii():
        return text
    latin = text.translate(LATIN_OF_CYRILLIC).translate(LATIN_OF_GREEK)
    return _DOTTED.sub("i", latin).replace("\u0131", "i")
