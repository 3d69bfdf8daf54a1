"""A character set without our signs costs signs, and no command."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable

import pytest

from craftsfl.__main__ import main as program
from craftsfl.audit.program import main as auditors_file
from craftsfl.spelling_out import spell_out

TEXT = "ε 7.28 of 7.99 ██░ Köln…"


@pytest.mark.parametrize(
    ("encoding", "text", "written"),
    [
        ("ascii", TEXT, b"epsilon 7.28 of 7.99 ##. K{U+00F6}ln..."),
        ("latin-1", TEXT, b"epsilon 7.28 of 7.99 ##. K\xf6ln..."),
        ("cp1253", "ε 8 █", "ε 8 #".encode("cp1253")),
        ("utf-8", TEXT, TEXT.encode()),
        ("utf-8", "tiles/\udcff.png", b"tiles/{U+DCFF}.png"),
    ],
)
def test_signs_are_spelt_out_where_they_are_lacking(
    encoding: str, text: str, written: bytes
) -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding)
    spell_out(stream, io.StringIO())
    stream.write(text)
    stream.flush()
    assert raw.getvalue() == written


@pytest.mark.parametrize(
    ("main", "typed"),
    [(program, ["audit", "verify", "sample"]), (auditors_file, ["verify", "sample"])],
)
def test_a_program_spells_out_what_a_terminal_lacks(
    main: Callable[[], None], typed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONSAFEPATH", "")
    stream = io.TextIOWrapper(io.BytesIO(), encoding="latin-1")
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(sys, "argv", ["craftsfl", *typed])
    with pytest.raises(SystemExit):
        main()
    stream.flush()
    assert b"epsilon, recomputed" in stream.buffer.getvalue()  # type: ignore[attr-defined]
