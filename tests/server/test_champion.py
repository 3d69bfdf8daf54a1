"""The champions before the present one."""

from __future__ import annotations

import pytest

from server.champion import Move, line_of


def moves(text: str) -> list[Move]:
    """`12<1`: promoted 1, promoted 2, rolled back to 1."""
    found, back = [], False
    for letter in text:
        if letter == "<":
            back = True
            continue
        found.append(Move(letter, back, 0, "somebody"))
        back = False
    return found


@pytest.mark.parametrize(
    ("past", "present", "line"),
    [
        ("", "1", "1"),
        ("1", "1", "1"),
        ("12", "2", "12"),
        ("123<2", "2", "12"),
        ("123<2<1", "1", "1"),
        ("12<13", "3", "13"),
        ("121", "1", "121"),
        ("121<2", "2", "12"),
        ("11", "1", "1"),
        ("12", "1", "1"),  # a process died before it moved the alias
        ("123", "2", "12"),  # moved by hand
        ("12", "7", "127"),  # to one that was never promoted
    ],
)
def test_a_rollback_goes_back_through_the_line(past: str, present: str, line: str) -> None:
    assert "".join(line_of(moves(past), present)) == line
