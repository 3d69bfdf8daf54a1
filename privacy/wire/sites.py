"""Lists of sites in messages: u16 ids from 1 on, strictly ascending, so that a set has one form."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import lru_cache
from itertools import islice
from operator import lt

from privacy.wire.codec import Reader, Writer, malformed

MAX_SITES = 1000


def check_ids(sites: Sequence[int]) -> None:
    """Refuse anything but a strictly ascending list of at most `MAX_SITES` ids."""
    ascending = len(sites) <= MAX_SITES and all(map(lt, sites, islice(sites, 1, None)))
    if not ascending or (sites and not 1 <= sites[0] <= sites[-1] <= 0xFFFF):
        raise malformed("A list of sites is too long, out of order or out of range.")


def write_ids(writer: Writer, sites: tuple[int, ...]) -> None:
    """Their number (u16), then the ids."""
    writer.u16(len(sites))
    for site in sites:
        writer.u16(site)


def read_ids(reader: Reader) -> tuple[int, ...]:
    """The reverse of `write_ids`; the order is checked by the body."""
    return _ids(reader.fixed(2 * reader.u16()))


@lru_cache(maxsize=256)  # a study's cohorts stand in every step's messages and records
def _ids(data: bytes) -> tuple[int, ...]:
    return struct.unpack(f">{len(data) // 2}H", data)


def write_pairs(writer: Writer, pairs: tuple[tuple[int, bytes], ...], length: int) -> None:
    """Their number (u16), then each id with its `length` bytes."""
    writer.u16(len(pairs))
    for site, data in pairs:
        writer.u16(site).fixed(data, length)


def read_pairs(reader: Reader, length: int) -> tuple[tuple[int, bytes], ...]:
    """The reverse of `write_pairs`."""
    return tuple((reader.u16(), reader.fixed(length)) for _ in range(reader.u16()))
