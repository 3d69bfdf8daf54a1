"""Pictures listed under several patients: a reason for a person to look, and for nothing else.

The same picture under two ids may mean one person with two ids, a blank that everyone has, a copy
made by mistake, or one planted on purpose. Data cannot tell which.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Shared:
    """The number of pictures listed under exactly these patients (two or more), by their lines."""

    patients: frozenset[bytes] = field(repr=False)
    pictures: int


def shared_by(sightings: Iterable[tuple[bytes, bytes]]) -> tuple[Shared, ...]:
    """What (line, name of a picture) pairs have in common; the most pictures first."""
    under: dict[bytes, set[bytes]] = defaultdict(set)
    for who, picture in sightings:
        under[picture].add(who)
    found = Counter(frozenset(those) for those in under.values() if len(those) > 1)
    return tuple(Shared(those, pictures) for those, pictures in found.most_common())


def sharing_with(one: bytes, shared: Iterable[Shared]) -> frozenset[bytes]:
    """Everyone who shares a picture with `one`."""
    sets = [each.patients for each in shared if one in each.patients]
    return frozenset().union(*sets) - {one}
