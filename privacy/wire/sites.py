"""Lists of sites in messages: u16 ids from 1 on, strictly ascending, so that a set has one form."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from privacy.wire.codec import Reader, Writer, malformed

MAX_SITES = 1000


def check_ids(sites: Sequence[int]) -> None:
    """Refuse anything but a strictly ascending list of at most `MAX_SITES` ids."""
    ascending = all(first < second for first, second in pairwise(sites))
    if len(sites) > MAX_SITES or not ascending or any(not 1 <= s <= 0xFFFF for s in sites):
        raise malformed("A list of sites is too long, out of order or out of range.")


def write_ids(writer: Writer, sites: tuple[int, ...]) -> None:
    """Their number (u16), then the ids."""
    writer.u16(len(sites))
    for site in sites:
        writer.u16(site)


def read_ids(reader: Reader) -> tuple[int, ...]:
    """The reverse of `write_ids`; the order is checked by the body."""
    return tuple(reader.u16() for _ in range(reader.u16()))


def write_pairs(writer: Writer, pairs: tuple[tuple[int, bytes], ...], length: int) -> None:
    """Their number (u16), then each id with its `length` bytes."""
    writer.u16(len(pairs))
    for site, data in pairs:
        writer.u16(site).fixed(data, length)


def read_pairs(reader: Reader, length: int) -> tuple[tuple[int, bytes], ...]:
    """The reverse of `write_pairs`."""
    return tuple((reader.u16(), reader.fixed(length)) for _ in range(reader.u16()))
