"""A character set without our signs costs signs, and no command."""

from __future__ import annotations

import io

import pytest

from craftsfl.spelling_out import spell_out

TEXT = "ε 7.28 of 7.99 ██░ Köln…"


@pytest.mark.parametrize(
    ("encoding", "text", "written"),
    [
        ("ascii", TEXT, b"epsilon 7.28 of 7.99 ##. K{U+00F6}ln..."),
        ("latin-1", TEXT, b"epsilon 7.28 of 7.99 ##. K\xf6ln..."),
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
