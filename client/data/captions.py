"""Why a cell is no caption, although it is text: nobody would see what is learnt from it."""

# Why: docs/adr/0083-what-a-caption-is-not.md

from __future__ import annotations

import re
from typing import Final

from client.data.patient_ids import is_spreadsheets_error

_LIST: Final = re.compile(
    r"\[\s*(['\"]).*\1\s*,?\s*\]|\(\s*(['\"]).*\2\s*,?\s*\)|\[[-+0-9.,e\s]+\]", re.DOTALL
)
_OBJECT: Final = re.compile(r"\{\s*['\"][^'\"]*['\"]\s*:.*\}", re.DOTALL)


def caption_fault(text: str) -> str:
    """Why this is no caption, with the cure; "" where it may be one, or is empty. Repeats none."""
    if is_spreadsheets_error(text):
        return "text is an error of a spreadsheet (#N/A, #REF! and the like); write the caption"
    if _LIST.fullmatch(text):
        return "text is a list, as a program shows it (['\u2026']); write one text"
    if _OBJECT.fullmatch(text):
        return "text is an object, as a program shows it ({'\u2026': \u2026}); write one text"
    if text and not any(c.isalnum() or ord(c) > 0x2FFF for c in text):
        return "text has no letter; write what the tile shows"
    return ""
