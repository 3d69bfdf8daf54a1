"""What a bad copy has done to a picture whose format has no checksum: decoders show no fault then.

A JPEG that was sent as text, or of which only the beginning arrived, decodes to a picture of its
size: other colours, or a grey lower half.
"""

from __future__ import annotations

from typing import Final

WITHOUT_CHECKSUM: Final = ("JPEG", "MPO", "WEBP", "BMP")
_ENOUGH: Final = 8  # line feeds; that chance puts a return before each of them: 1 in 256**8
_EMPTY: Final = bytes(64)
_END_OF_JPEG: Final = b"\xff\xd9"


def transfer_fault(data: bytes) -> str:
    """What happened to the bytes of a picture in such a format; "" where nothing shows."""
    feeds = data.count(b"\n")
    if feeds >= _ENOUGH and data.count(b"\r\n") == feeds:
        return "damaged by a transfer as text; copy it again, in binary mode"
    if data.startswith(b"RIFF"):
        data = data[: 8 + int.from_bytes(data[4:8], "little")]
    elif not data.startswith(b"\xff\xd8"):
        return ""
    if data.endswith(_EMPTY) and not data.rstrip(b"\0").endswith(_END_OF_JPEG):
        return "its end is nothing but zeros, as of a file that was not copied to its end"
    return ""
