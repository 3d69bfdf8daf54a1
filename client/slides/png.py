"""A tile, or a part of a contact sheet, as the bytes of a PNG."""

from __future__ import annotations

import struct
import zlib
from typing import Final

import numpy as np
from PIL import Image

_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_COLOURS: Final = 2  # the colour type of red, green and blue
_UP: Final = 2  # the filter type that takes the row above away


def lossless_png(picture: Image.Image) -> bytes:
    """The pixels of an RGB picture, packed in less than half of the time that Pillow takes.

    Most of that time it tries all five filters on every row. Of a photograph's filtered rows, runs
    are all that is worth looking for. The files are a tenth larger.
    """
    rows = np.asarray(picture)
    height, width, channels = rows.shape
    filtered = np.empty((height, 1 + width * channels), np.uint8)
    filtered[:, 0] = _UP
    flat = rows.reshape(height, -1)
    filtered[0, 1:] = flat[0]  # above the first row, all is zero
    np.subtract(flat[1:], flat[:-1], out=filtered[1:, 1:])  # modulo 256, as a PNG's filters are
    packer = zlib.compressobj(level=1, memLevel=9, strategy=zlib.Z_RLE)
    header = struct.pack(">IIBBBBB", width, height, 8, _COLOURS, 0, 0, 0)
    packed = packer.compress(filtered.data) + packer.flush()
    chunks = ((b"IHDR", header), (b"IDAT", packed), (b"IEND", b""))
    return _SIGNATURE + b"".join(_chunk(kind, data) for kind, data in chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    checksum = zlib.crc32(data, zlib.crc32(kind))
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)
