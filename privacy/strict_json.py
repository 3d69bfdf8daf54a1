"""Untrusted JSON: it has exactly one meaning, or it is refused."""

from __future__ import annotations

import json
import math
from typing import Final

_LIMIT: Final = 2**64
_MOST_VALUES: Final = 1 << 22
_SEPARATORS: Final = ",[{"  # those in strings count too: whoever has that many has too many
_DIGITS: Final = 21  # of 2**64, and a minus sign


def read_json(text: str) -> object:
    """The value that `text` stands for; ValueError if it is not JSON (RFC 8259), or ambiguous.

    Refused in addition to what the standard library refuses: a name that occurs twice in an
    object, NaN and infinity (1e999 included), integers beyond 64 bits, lone surrogates, nesting
    that is too deep, and more than 2^22 values: each takes many times the bytes that it has here.
    """
    if len(text) > _MOST_VALUES and sum(map(text.count, _SEPARATORS)) > _MOST_VALUES:
        raise ValueError("too many values")
    try:
        found: object = json.loads(
            text,
            object_pairs_hook=_unique,
            parse_constant=_refuse,
            parse_float=_finite,
            parse_int=_whole,
        )
        json.dumps(found, ensure_ascii=False).encode("utf-8")
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except UnicodeEncodeError:
        raise ValueError("half of a surrogate pair is not text") from None
    return found


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name occurs twice")
    return found


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is not a number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("a number is too large")
    return value


def _whole(text: str) -> int:
    value = int(text) if len(text) <= _DIGITS else _LIMIT
    if abs(value) >= _LIMIT:
        raise ValueError("an integer is too large")
    return value
