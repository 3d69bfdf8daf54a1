"""Our few signs on a terminal, or in a file, whose character set has none of them.

A Latin-1 locale or a file name that is no text would else end a command in the middle of a table.
"""

from __future__ import annotations

import codecs
import io
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, TextIO

_HANDLER: Final = "craftsfl-spelt-out"
_SIGNS: Final[Mapping[str, str]] = MappingProxyType(
    {
        **{"ε": "epsilon", "δ": "delta", "σ": "sigma", "μ": "mu", "…": "...", "·": "."},
        **{"“": '"', "”": '"', "‘": "'", "’": "'", "–": "-", "−": "-", "×": "x"},
        **{"→": "->", "↑": "^", "↓": "v", "●": "*", "○": "o", "◐": "~"},
        **{"█": "#", "▇": "#", "▆": "#", "▅": "+", "▄": "+", "▃": "-", "▂": "-", "▁": "_"},
        **{"▒": "+", "░": ".", "┤": "|", "└": "+", "─": "-"},
    }
)


def spell_out(*streams: TextIO) -> None:
    """From now on write what a stream's character set lacks in ASCII, and never fail for it."""
    codecs.register_error(_HANDLER, _spelt)
    for stream in streams:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_HANDLER)


def _spelt(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    words = (_SIGNS.get(sign, f"{{U+{ord(sign):04X}}}") for sign in lacking)
    return "".join(words), error.end
