"""Texts of others: one meaning, and nothing in them acts on a terminal."""

from __future__ import annotations

import sys

import pytest

from privacy.strict_json import read_json
from privacy.visible import visible


def test_no_code_point_acts_or_hides() -> None:
    every = "".join(map(chr, range(sys.maxunicode + 1)))
    shown = visible(every)
    assert shown.isprintable()
    for hidden in (
        *"\x00\x07\x1b\x7f\x9b\n\r\t\u00ad\u034f\u061c\u200b\u200e",
        *"\u202e\u2066\u2800\u3164\ufeff",
    ):
        assert hidden not in shown
    assert visible("\x1b[2J\x9b\u202egnp\ud800\U000e0041") == (
        r"\x1b[2J\x9b\u202egnp\ud800\U000e0041"
    )


def test_what_people_write_stays_as_it_is() -> None:
    text = "Drüsen, 腺, железы: 40 × (H&E) — «mucin»"
    assert visible(text) == text
    assert visible("one\ntwo\r", keep="\n") == "one\ntwo\\x0d"
    assert visible("abcdef", most=4) == "abc…"


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 1, "a": 2}',
        '[{"b": {"a": 1, "a": 1}}]',
        "NaN",
        "[-Infinity]",
        "1e999",
        str(2**64),
        "9" * 10_000,
        "[" * 100_000,
        "",
        "{'a': 1}",
        r'"\ud800"',
    ],
)
def test_json_says_one_thing_or_nothing(text: str) -> None:
    with pytest.raises(ValueError):
        read_json(text)


def test_json_is_read() -> None:
    assert read_json('{"a": [1, 2.5, -3, true, null, "x"]}') == {"a": [1, 2.5, -3, True, None, "x"]}
