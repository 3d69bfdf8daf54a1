"""Whether a JPEG 2000 picture has kept every number: masks may then be read from it.

No header proves that: the wavelet that can be undone says nothing of bits that an encoder left out
behind it. So the numbers are encoded again, without loss, and the same file has to come out. That
finds what OpenJPEG wrote, the library of most programs; others' files are not known to be exact.
"""

# Why: docs/adr/0072-exact-or-not-a-mask.md

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from typing import Final

from PIL import Image

_START: Final = b"\xff\x4f\xff\x51"  # start of a codestream, and its first segment
_COD: Final = 0xFF52
_TILE: Final = 0xFF90
_REVERSIBLE: Final = 1  # the 5-3 wavelet; ISO/IEC 15444-1, table A.20
_PROGRESSIONS: Final = ("LRCP", "RLCP", "RPCL", "PCRL", "CPRL")  # table A.16
_MOST_LEVELS: Final = 32


@dataclass(frozen=True, slots=True)
class _Style:
    """How a picture is coded, and where its first tile begins."""

    progression: int
    layers: int
    levels: int
    block: tuple[int, int]  # width and height of a code block
    wavelet: int
    tiles_at: int


def is_lossless(data: bytes, decoded: Image.Image) -> bool:
    """Whether `decoded`, of one channel, holds the very numbers that `data` was made from."""
    style = _style(data)
    if style is None or style.wavelet != _REVERSIBLE or style.layers != 1:
        return False
    again = io.BytesIO()
    try:
        decoded.save(
            again,
            "JPEG2000",
            no_jp2=True,
            irreversible=False,
            num_resolutions=style.levels + 1,
            codeblock_size=style.block,
            progression=_PROGRESSIONS[style.progression],
        )
    except (OSError, ValueError, LookupError):
        return False
    written = again.getvalue()
    own = _style(written)
    return own is not None and data[style.tiles_at :] == written[own.tiles_at :]


def _style(data: bytes) -> _Style | None:
    """What the main header says; None where there is none, or it is damaged."""
    at = data.find(_START) + 2
    found: tuple[int, ...] = ()
    try:
        while at > 1:
            marker, length = struct.unpack_from(">HH", data, at)
            if marker == _TILE:
                break
            if marker == _COD:
                found = struct.unpack_from(">xBHxBBBxB", data, at + 4)
            at += 2 + length
    except struct.error:
        return None
    if not found or found[2] > _MOST_LEVELS or max(found[3:5]) > 8:
        return None
    progression, layers, levels, wide, high, wavelet = found
    return _Style(progression, layers, levels, (4 << wide, 4 << high), wavelet, at)
