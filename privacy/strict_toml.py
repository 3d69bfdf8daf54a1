"""Untrusted TOML: read in a time that its length bounds.

The standard library's reader takes quadratic time for a key of many parts (a.a.a = 1): one of
50,000 keeps it busy for minutes. No key of ours has more than three.
"""

from __future__ import annotations

import re
import tomllib
from typing import Any, Final

_MOST_PARTS: Final = 64
_PART: Final = r"""(?:[A-Za-z0-9_-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+"""
_LONG_KEY: Final = re.compile(rf"(?<![A-Za-z0-9_-]){_PART}(?:\.[ \t]*+{_PART}){{{_MOST_PARTS}}}")


def read_toml(text: str) -> dict[str, Any]:
    """The values of a TOML file; ValueError, or RecursionError, for what is none.

    Refused in addition to what the standard library refuses: a key of more than 64 parts. Read in
    addition: a byte order mark at the beginning, which nobody sees and some editors write.
    """
    text = text.removeprefix("\ufeff")
    if _LONG_KEY.search(text):
        raise ValueError("a key has too many parts")
    return tomllib.loads(text)
