"""What programs write into a cell besides its text, and texts that are none.

Escapes that stand for one sign (`&amp;`, Excel's `_x000D_`) become it. What was read in a wrong
encoding, or is markup of a word processor, is refused: a caption would teach it, and an id in it
would be another patient's than the same id written well.
"""

# Why: docs/adr/0077-what-a-cell-means.md

from __future__ import annotations

import html
import re
from typing import Final

_ENTITY: Final = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
_EXCEL: Final = re.compile(r"_x000[dD]_(\n?)|_x000[aA]_|_x0009_")
_CONTROL: Final = re.compile(r"[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f]")  # all but white space


def _read_as(codec: str) -> str:
    """The second byte of a sign in UTF-8, read in that encoding; for a set of a pattern."""
    read = bytes(range(0x80, 0xC0)).decode(codec, "ignore")
    return re.escape("".join(c for c in read if not c.isspace()))


# The same, read as Windows-1252 or ISO 8859-1.
_REST: Final = "".join(
    {chr(byte) for byte in range(0x80, 0xC0)}
    | {bytes([byte]).decode("cp1252", "ignore") for byte in range(0x80, 0xA0)}
)
# Behind a capital, a Portuguese letter and the quote after it look the same.
_TWICE: Final = re.compile(
    rf"(?<![A-Z\xc0-\xdd])\xc3[{_REST}]|\xc2[\xa0-\xbf]|\xe2\u20ac[{_REST}]"
    rf"|(?:[\xce\xcf][{_REST}]){{2}}|(?:[\xd0\xd1][{_REST}]){{2}}|(?:[\xe3-\xe9][{_REST}]{{2}}){{2}}"
)
# Letters alone are a tag where they close one: `a<b>c` may be a comparison.
# The same in other wrong encodings: of DOS, of the Macintosh, Central European, Cyrillic. A letter
# in such a place is an accident; three Cyrillic ones in a row, or a capital before, may be a word.
_OF_DOS: Final = "\u251c.|\xd4\xc7.|\u0393\xc7."
_OF_MAC: Final = f"\u221a[{_read_as('mac_roman')}]|\u201a\xc4."
_OF_OTHERS: Final = (
    f"(?<![A-Z\xc0-\xdd])\u0102[{_read_as('cp1250')}]|(?:[\u0420\u0421][{_read_as('cp1251')}]){{3}}"
)
_OTHERWISE: Final = re.compile(f"{_OF_DOS}|{_OF_MAC}|{_OF_OTHERS}")
# One byte for a letter, read as another encoding's: DrŸse and Dr¸se for Drüse.
_MISREAD: Final = re.compile("[A-Za-z][\u0178\xb8\u2030\u02c6][a-z]|[a-z]\u0160[a-z]")
_ESCAPED: Final = re.compile(
    r"\\u[0-9a-fA-F]{4}|\\x[0-9a-fA-F]{2}|%[CD][0-9A-F]%[89AB][0-9A-F]|[A-Za-z]%2[0-9A-F]"
    r"|=[CD][0-9A-F]=[89AB][0-9A-F]"
)
_BYTES: Final = re.compile(r"b'[^']*'|b\"[^\"]*\"")
_WHOLE: Final = re.compile(r'="([^"]*)"')  # Excel's way to say that a cell is text

_TAG: Final = re.compile(
    r"</(?:[biu]|[a-z][a-z0-9]{1,9})\s*>"
    r"|<(?:p|br|div|span|html|body|table|tr|td|li|ul|ol|font)(?:\s[^<>]*)?/?>",
    re.IGNORECASE,
)


def unwrapped(text: str) -> str:
    """What is in `="…"`, Excel's way to say that a cell is text; other texts as they are."""
    whole = _WHOLE.fullmatch(text)
    return whole[1].strip() if whole else text


def cell_text(text: str) -> str:
    """The text with escapes undone: HTML's with a semicolon, and Excel's for ends of lines."""
    if "_x00" in text:
        text = _EXCEL.sub(lambda found: "\t" if found[0] == "_x0009_" else "\n", text)
    return _ENTITY.sub(lambda found: html.unescape(found[0]), text) if "&" in text else text


def cell_fault(text: str) -> str:
    """Why this is no text, to be read behind the column's name; "" where nothing shows it."""
    if _TWICE.search(text) or (not text.isascii() and _OTHERWISE.search(text)):
        return (
            "was converted to UTF-8 twice (\xc3\xbc for \xfc); export the table again from the "
            "source, with the encoding UTF-8"
        )
    if _MISREAD.search(text):
        return (
            "was read in another encoding than it was written in (Dr\u0178se for Dr\xfcse); export "
            "the table again from the source, with the encoding UTF-8"
        )
    if _ESCAPED.search(text) or _BYTES.fullmatch(text):
        return (
            "shows a program's escapes (\\u00fc, %C3%BC or b'\u2026'), not the letters; export the "
            "text itself"
        )
    if _CONTROL.search(text):
        return (
            "holds control characters, as of another encoding or of a printer; export the table "
            "again, with the encoding UTF-8"
        )
    if "\ufffd" in text:
        return "holds \ufffd, where letters were lost; export the table again from the source"
    if text.startswith("{\\rtf"):
        return "is a text document (RTF); export its plain text"
    return "holds tags of HTML; export its plain text" if _TAG.search(text) else ""
