"""JSON of others: one meaning or none."""

from __future__ import annotations

import json
import math
from typing import Final

_LIMIT: Final = 2**64
_DIGITS: Final = 21  # of 2**64, with a sign


def read_json(text: str) -> object:
    """What `text` says. Raises ValueError where it is no JSON (RFC 8259) or says two things.

    Refused beyond the standard library's refusals: a name twice in one object, NaN and infinity
    (also as 1e999), whole numbers beyond 64 bit, lone surrogates, and nesting that is too deep.
    """
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
        raise ValueError("half of a surrogate pair is no text") from None
    return found


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name is given twice")
    return found


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is no number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("a number is too large")
    return value


def _whole(text: str) -> int:
    value = int(text) if len(text) <= _DIGITS else _LIMIT
    if abs(value) >= _LIMIT:
        raise ValueError("a whole number is too large")
    return value
