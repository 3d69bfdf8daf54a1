"""What libtiff finds wrong while Pillow decodes a TIFF: heard here, instead of written to stderr.

Pillow leaves libtiff's error handler as it is. It writes lines that name no file, and of some
compressions (fax) libtiff fills in what it cannot read and Pillow takes it: a picture that nobody
drew. So whoever decodes asks afterwards whether anything was said. There is one handler in a
process; it counts for each thread. Where Pillow was built so that the handler cannot be found,
nothing is counted and libtiff writes its lines.
"""

from __future__ import annotations

import ctypes
import threading
from typing import Final

from PIL import _imaging

# (module, format, arguments): the arguments are a `va_list`, a pointer on all of our machines.
_HANDLER: Final = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p)


class _Heard(threading.local):
    faults = 0


_heard: Final = _Heard()


def tiff_faults() -> int:
    """How many faults libtiff has told of in this thread."""
    return _heard.faults


def _hear(module: bytes, words: bytes, values: int) -> None:
    _heard.faults += 1


_handler: Final = _HANDLER(_hear)  # libtiff keeps its address: it has to live as long


def _listen() -> None:
    try:
        # Names are looked for in a library and in those that it was linked with.
        setter = ctypes.CDLL(_imaging.__file__).TIFFSetErrorHandler
    except (AttributeError, OSError):
        return
    setter.restype, setter.argtypes = ctypes.c_void_p, [_HANDLER]
    setter(_handler)


_listen()
