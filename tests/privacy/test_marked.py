from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy.visible import marked, visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Hospital [north] 2", "Hospital [north] 2"),
        ("Köln", "Kö{U+00F6}ln"),
        ("nоrth", "nо{U+043E}rth"),  # a Cyrillic o
        ("abc\u202edef", "abc{U+202E}def"),  # right-to-left override
        ("שלום", "{U+05E9}{U+05DC}{U+05D5}{U+05DD}"),
        ("a\u0301", "a{U+0301}"),  # a combining accent
        ("a\u00a0b\u200b", "a{U+00A0}b{U+200B}"),
        ("\x1b[31mred\x07", "{U+001B}[31mred{U+0007}"),
        ("a{U+00F6}", "a{U+007B}U+00F6{U+007D}"),  # a forged mark
        ("x\ny", "x{U+000A}y"),
        ("\ud800", "{U+D800}"),
        ("\U0001f600", "{U+1F600}"),
    ],
)
def test_whatever_is_not_plain_is_marked(text: str, shown: str) -> None:
    assert marked(text) == shown


@given(st.text(), st.text())
def test_no_two_names_are_shown_alike(first: str, second: str) -> None:
    assert (marked(first) == marked(second)) == (first == second)


@given(st.text())
def test_without_letters_beyond_ascii_nothing_but_printable_ascii_is_shown(text: str) -> None:
    for char in marked(text):
        assert char.isprintable()
        assert char.isascii() or char.isalpha()


def test_a_message_keeps_its_letters_and_steers_no_terminal() -> None:
    assert visible("ε of Köln:\nnext", keep="\n") == "ε of Köln:\nnext"
    assert visible("a\x1b[2Jb\u202ec\x9b") == r"a\x1b[2Jb\u202ec\x9b"
