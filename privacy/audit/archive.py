"""A bundle's outside: a zip file of which the same contents always have the same bytes.

Members are stored, never compressed, by ascending name, dated 1 January 1980, without comments,
extra fields or anything between them. Any zip program opens it. It is read here without one: bytes
that this module would not write are refused, so there is nothing to unpack, no size that is not
there, no name that leaves the folder, and no second reading of the same bytes.
"""

# Why: docs/adr/0060-auditors-bundle.md

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator, Mapping
from typing import Final

from privacy.errors import AuditError

LARGEST_BUNDLE: Final = 1 << 30  # of a bundle
MOST_FILES: Final = 20_000
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9.-]{0,63}(/[a-z0-9][a-z0-9.-]{0,63}){0,3}")
_LOCAL: Final = struct.Struct("<4s5H3L2H")
_CENTRAL: Final = struct.Struct("<4s6H3L5H2L")
_END: Final = struct.Struct("<4s4H2LH")
_LOCAL_MARK: Final = b"PK\x03\x04"
_END_MARK: Final = b"PK\x05\x06"
_VERSION: Final = 20
_FIRST_DAY: Final = 0x21  # 1980-01-01 in MS-DOS's words
_FILE: Final = 0o100644 << 16  # a regular file that anybody may read
_HINT: Final = "Take the file as `craftsfl audit export` wrote it; repacked ones are not read."


def write_archive(files: Mapping[str, bytes]) -> bytes:
    """The bytes of `files` by name; `AuditError` for names and sizes that no reader takes."""
    if len(files) > MOST_FILES:
        raise AuditError(f"{len(files)} files are more than a bundle may have.", "Leave some out.")
    for name in files:
        _check_name(name)
    data = b"".join(_pieces(files))
    if len(data) > LARGEST_BUNDLE:
        raise AuditError(
            f"The bundle would have {len(data)} bytes; at most {LARGEST_BUNDLE} are read.",
            "Leave the masked vectors out: craftsfl audit export --without-vectors",
        )
    return data


def read_archive(data: bytes) -> dict[str, bytes]:
    """The files of a bundle; `AuditError` for bytes that `write_archive` does not write."""
    if len(data) > LARGEST_BUNDLE:
        raise AuditError(f"It has more than {LARGEST_BUNDLE} bytes.", _HINT)
    if data[:4] not in (_LOCAL_MARK, _END_MARK):
        raise AuditError("It is not a zip file.", _HINT)
    files: dict[str, bytes] = {}
    at, last = 0, ""
    while data[at : at + 4] == _LOCAL_MARK:
        name, start, size = _member(data, at)
        if name <= last:
            raise AuditError("Its files are not in order, or one is there twice.", _HINT)
        if len(files) == MOST_FILES:
            raise AuditError(f"It holds more than {MOST_FILES} files.", _HINT)
        at, last = start + size, name
        files[name] = data[start:at]
    if not _same(data, files):
        raise AuditError("It is cut short, damaged, or packed by another program.", _HINT)
    return files


def _member(data: bytes, at: int) -> tuple[str, int, int]:
    """Name, place and size of the file at `at`; what else stands there is compared later."""
    if at + _LOCAL.size > len(data):
        raise AuditError("It is cut short.", _HINT)
    _, _, flags, method, _, _, _, packed, size, letters, extra = _LOCAL.unpack_from(data, at)
    if method or flags or extra or packed != size:
        raise AuditError("A file in it is compressed, encrypted or otherwise unusual.", _HINT)
    start = at + _LOCAL.size + letters
    if start + size > len(data):
        raise AuditError("It is cut short.", _HINT)
    try:
        name = data[at + _LOCAL.size : start].decode("ascii")
    except UnicodeDecodeError:
        raise AuditError("A file in it has a name that no bundle has.", _HINT) from None
    _check_name(name)
    return name, start, size


def _same(data: bytes, files: Mapping[str, bytes]) -> bool:
    """Whether `write_archive` would write `data`, without a second copy of it."""
    at = 0
    for piece in _pieces(files):
        if data[at : at + len(piece)] != piece:
            return False
        at += len(piece)
    return at == len(data)


def _pieces(files: Mapping[str, bytes]) -> Iterator[bytes]:
    central, at = [], 0
    for name in sorted(files):
        data, letters = files[name], name.encode("ascii")
        crc, size = zlib.crc32(data), len(data)
        common = (_VERSION, 0, 0, 0, _FIRST_DAY, crc, size, size, len(letters), 0)
        yield _LOCAL.pack(_LOCAL_MARK, *common) + letters
        yield data
        entry = (*common, 0, 0, 0, _FILE, at)
        central.append(_CENTRAL.pack(b"PK\x01\x02", _VERSION | 3 << 8, *entry) + letters)
        at += _LOCAL.size + len(letters) + size
    directory = b"".join(central)
    yield directory
    count = len(files)
    yield _END.pack(_END_MARK, 0, 0, count, count, len(directory), at, 0)


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise AuditError("A file in it has a name that no bundle has.", _HINT)
