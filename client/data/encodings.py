"""The text of a table's bytes: UTF-8, and what can be taken for nothing else.

A byte that is not UTF-8 becomes a lone surrogate and stays in its own cell: whether one cell can be
read depends on that cell alone.
"""

from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import Final

from privacy.errors import DataError

ENDS_OF_FILES: Final = "\0\x1a"  # of old DOS programs, and of copies that were padded
_UTF_16: Final = (b"\xff\xfe", b"\xfe\xff")
_TWICE: Final = "\xef\xbb\xbf".encode()
_UTF_32: Final = (b"\xff\xfe\0\0", b"\0\0\xfe\xff")
# Western and Central European encodings of Windows and ISO. A byte is read only where all of them
# agree on a letter, as on those of German, and on most of French.
_WESTERN: Final = ("cp1252", "cp1250", "cp1254", "iso8859-15", "iso8859-1")


def table_text(path: Path, *, utf_16: bool = False) -> str:
    """The file's text with line feeds only; raises `DataError` for a mark of another encoding.

    With `utf_16`, a file with that mark, as Excel's "Unicode text" has it, is read as such.
    """
    data = path.read_bytes()
    if data.startswith(_UTF_16):
        if not utf_16 or data.startswith(_UTF_32):
            raise other_encoding(path)
        text = data[: len(data) // 2 * 2].decode("utf-16", "surrogatepass")
    elif data.startswith(_UTF_32):
        raise other_encoding(path)
    elif data.startswith(_TWICE):
        raise DataError(
            f"{path} was converted to UTF-8 twice: it begins with the signs of a mark of UTF-8.",
            "Export it again, from the program that made it, with the encoding UTF-8.",
        )
    else:
        text = data.decode("utf-8-sig", "surrogateescape")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def other_encoding(path: Path) -> DataError:
    """A table in an encoding that nobody can tell for certain."""
    return DataError(
        f"{path} is not UTF-8.",
        'Save it with the encoding UTF-8 (in Excel: Save as, "CSV UTF-8").',
    )


def has_halves(text: str) -> bool:
    """Whether it has a lone surrogate: that is not valid text, and no encoder accepts it."""
    return any("\ud800" <= letter <= "\udfff" for letter in text)


def western(text: str) -> str:
    """The text where its surrogates can only be letters of Windows-1252; otherwise unchanged.

    Such letters stand alone among ASCII ones: a word of nothing else is Cyrillic or Greek.
    """
    if not has_halves(text):
        return text
    if any(ord(letter) > 0x7F and letter not in _LETTERS for letter in text):
        return text
    found = "".join(_LETTERS.get(letter, letter) for letter in text)
    words = "".join(c if c.isalpha() else " " for c in found).split()
    plain = all(2 * sum(c.isascii() for c in word) >= len(word) for word in words)
    return found if plain else text


def _letters() -> dict[str, str]:
    found = {}
    for byte in range(0x80, 0x100):
        read = {bytes([byte]).decode(name, "replace") for name in _WESTERN}
        letter = read.pop()
        if not read and unicodedata.category(letter) in ("Lu", "Ll"):
            found[chr(0xDC00 + byte)] = letter
    return found


_LETTERS: Final = _letters()
