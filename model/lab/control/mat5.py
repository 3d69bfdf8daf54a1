"""Numeric arrays of MATLAB level-5 files (versions 5 to 7), and nothing else in them.

scipy's reader trusts type codes in the file, so some damaged files end the process. This one checks
every length and code, and skips cells, structures, objects and text without looking inside.
Layout: "MAT-File Format", The MathWorks, chapter 1. All errors are `BadMatFile`.
"""

# Why: docs/adr/0003-dependencies.md

from __future__ import annotations

import struct
import zlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST_BYTES = 1 << 29  # of one array, after decompression
_HEADER, _MATRIX, _COMPRESSED = 128, 14, 15
_NUMBERS = MappingProxyType(
    {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
)
_NUMERIC_CLASSES = range(6, 16)  # mxDOUBLE_CLASS to mxUINT64_CLASS
_COMPLEX = 0x0800
_ORDERS = MappingProxyType({b"IM": "<", b"MI": ">"})
_PEEK = 4096  # bytes that hold an array's flags, dimensions and name


class BadMatFile(ValueError):
    """Bytes that are not a level-5 file, or not one that can be read here."""


class NewerMatFile(BadMatFile):
    """A version 7.3 file, which is HDF5."""


@dataclass(frozen=True, slots=True)
class _Element:
    kind: int
    data: memoryview


def read_arrays(path: Path, names: Collection[str]) -> dict[str, NDArray[Any]]:
    """Those of the numeric arrays called `names` that the file holds, in their stored dtype."""
    raw = memoryview(path.read_bytes())
    if len(raw) < _HEADER:
        raise BadMatFile("too short")
    if bytes(raw[:10]) == b"MATLAB 7.3" or bytes(raw[:4]) == b"\x89HDF":
        raise NewerMatFile("HDF5")
    order = _ORDERS.get(bytes(raw[126:128]))
    if order is None:
        raise BadMatFile("no level-5 header")
    found = {}
    for element in _elements(raw[_HEADER:], order):
        named = _array(element, order, names)
        if named is not None:
            found[named[0]] = named[1]
    return found


def _elements(data: memoryview, order: str) -> Iterator[_Element]:
    """Elements one after another; each starts at a multiple of 8, except after a compressed one."""
    at = 0
    while at < len(data):
        if len(data) - at < 8:
            raise BadMatFile("cut short")
        (first, size) = struct.unpack_from(f"{order}II", data, at)
        if first >> 16:  # a small element: its length, its type and four bytes of data
            if first >> 16 > 4:
                raise BadMatFile("a small element of more than 4 bytes")
            yield _Element(first & 0xFFFF, data[at + 4 : at + 4 + (first >> 16)])
            at += 8
            continue
        if size > len(data) - at - 8:
            raise BadMatFile("cut short")
        yield _Element(first, data[at + 8 : at + 8 + size])
        at += 8 + (size if first == _COMPRESSED else -(-size // 8) * 8)


def _array(
    element: _Element, order: str, names: Collection[str]
) -> tuple[str, NDArray[Any]] | None:
    """Name and values of a numeric array that is wanted, else None."""
    if element.kind == _COMPRESSED:
        if _wanted(_inflate(element.data, _PEEK), order, names) is None:
            return None
        matrix = next(_elements(_inflate(element.data, MOST_BYTES), order), None)
        if matrix is None or matrix.kind != _MATRIX:
            raise BadMatFile("a compressed element without an array")
        element = matrix
    elif element.kind != _MATRIX:
        return None
    if not element.data:
        return None
    parts = _elements(element.data, order)
    flags, shape, name = _flags(parts, order), _shape(parts, order), _name(parts)
    if name not in names or flags & 0xFF not in _NUMERIC_CLASSES:
        return None
    if flags & _COMPLEX:
        raise BadMatFile("complex numbers")
    return name, _values(next(parts, None), shape, order)


def _wanted(start: memoryview, order: str, names: Collection[str]) -> str | None:
    """The name at the `start` of a decompressed array if it is wanted, else None."""
    if len(start) < 8:
        raise BadMatFile("cut short")
    parts = _elements(start[8:], order)
    _flags(parts, order), _shape(parts, order)
    name = _name(parts)
    return name if name in names else None


def _inflate(data: memoryview, most: int) -> memoryview:
    try:
        engine = zlib.decompressobj()
        whole = engine.decompress(data, most)
    except zlib.error:
        raise BadMatFile("damaged compression") from None
    if most == MOST_BYTES and (engine.unconsumed_tail or not engine.eof):
        raise BadMatFile("too large, or cut short")
    return memoryview(whole)


def _flags(parts: Iterator[_Element], order: str) -> int:
    part = next(parts, None)
    if part is None or part.kind != 6 or len(part.data) != 8:
        raise BadMatFile("an array without flags")
    return int(struct.unpack(f"{order}II", part.data)[0])


def _shape(parts: Iterator[_Element], order: str) -> tuple[int, ...]:
    part = next(parts, None)
    if part is None or part.kind != 5 or len(part.data) % 4 or not 8 <= len(part.data) <= 128:
        raise BadMatFile("an array without dimensions")
    shape = struct.unpack(f"{order}{len(part.data) // 4}i", part.data)
    if min(shape) < 0:
        raise BadMatFile("negative dimensions")
    return shape


def _name(parts: Iterator[_Element]) -> str:
    part = next(parts, None)
    if part is None or part.kind not in (1, 2, 16):
        raise BadMatFile("an array without a name")
    return bytes(part.data).decode("latin-1")


def _values(part: _Element | None, shape: tuple[int, ...], order: str) -> NDArray[Any]:
    """Column by column, as MATLAB stores them."""
    if part is None or part.kind not in _NUMBERS:
        raise BadMatFile("an array without numbers")
    dtype = np.dtype(order + _NUMBERS[part.kind])
    count = 1
    for length in shape:
        count *= length
    if count * dtype.itemsize != len(part.data):
        raise BadMatFile("dimensions that do not fit the data")
    return np.frombuffer(part.data, dtype).reshape(shape, order="F")
