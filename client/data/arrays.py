"""A mask that Cellpose, StarDist or a script saved as a NumPy array: numbers, never a pickle."""

from __future__ import annotations

import io
import math
import warnings
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
import numpy.typing as npt

from privacy.errors import DataError

# An old NumPy's header is read as well as a new one's, and nobody here can save the file again.
warnings.filterwarnings("ignore", message=r"Reading `\.npy`")

_MAGIC: Final = b"\x93NUMPY"
_ZIP: Final = b"PK\x03\x04"
_CURE: Final = "save the labels alone (numpy.save of the array of masks), or export them as PNG"


def is_array(source: Path | bytes) -> bool:
    """Whether NumPy wrote it (`.npy`, `.npz`), by its first bytes."""
    return _start(source).startswith((_MAGIC, _ZIP))


def read_array(source: Path | bytes, *, most: int) -> npt.NDArray[np.int64]:
    """The whole numbers [height, width], at most `most` of them.

    Raises `DataError` with a reason that names no file; nothing of a pickle is ever loaded, and
    what the header promises is looked at before there is room made for it.
    """
    if _start(source).startswith(_ZIP):
        raise DataError(f"an archive (.npz, or a zip): {_CURE}")
    try:
        with io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as file:
            shape, kind = _header(file)
            _check_kind(shape, kind, most)
            file.seek(0)
            found = np.lib.format.read_array(file, allow_pickle=False)
    except (ValueError, EOFError, SyntaxError, TypeError):
        raise DataError("damaged array, or cut short: copy it again, or save it again") from None
    except OSError as error:
        raise DataError(f"it cannot be read: {error.strerror}") from None
    return np.asarray(found).astype(np.int64)


def _header(file: BinaryIO) -> tuple[tuple[int, ...], np.dtype[np.generic]]:
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        shape, _, kind = np.lib.format.read_array_header_1_0(file)
    else:
        shape, _, kind = np.lib.format.read_array_header_2_0(file)
    return shape, kind


def _check_kind(shape: tuple[int, ...], kind: np.dtype[np.generic], most: int) -> None:
    if kind.hasobject:
        raise DataError(
            f"a pickle, as Cellpose's _seg.npy, which could start a program when opened: {_CURE}"
        )
    if 0 in shape:
        raise DataError(f"an empty array: {_CURE}")
    if len(shape) != 2:
        raise DataError(
            f"an array of {len(shape)} dimensions; a mask has height and width, with a number for "
            "each nucleus"
        )
    if math.prod(shape) > most:
        raise DataError(f"{shape[1]}x{shape[0]} labels: not a tile's")
    if kind.kind not in "iub":
        raise DataError(
            f"a mask has whole numbers, not {kind.name}; save it with numpy.uint16 or numpy.int32"
        )


def _start(source: Path | bytes) -> bytes:
    if isinstance(source, bytes):
        return source[: len(_MAGIC)]
    try:
        with source.open("rb") as file:
            return file.read(len(_MAGIC))
    except OSError as error:
        raise DataError(f"it cannot be read: {error.strerror}") from None
