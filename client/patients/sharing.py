"""Pictures that stand under several patients: a reason for a person to look, and for nothing else.

The same picture under two ids may be one person with two ids, a blank that everybody has, a copy by
mistake, or one that somebody has put there on purpose. Data cannot tell which.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Who = TypeVar("Who", bytes, str)


@dataclass(frozen=True, slots=True)
class Shared(Generic[Who]):
    """So many pictures stand under exactly these patients, two or more."""

    patients: frozenset[Who] = field(repr=False)
    pictures: int


def shared_by(sightings: Iterable[tuple[Who, bytes]]) -> tuple[Shared[Who], ...]:
    """What (patient, name of a picture) pairs have in common; the most pictures first."""
    under: dict[bytes, set[Who]] = defaultdict(set)
    for who, picture in sightings:
        under[picture].add(who)
    found = Counter(frozenset(those) for those in under.values() if len(those) > 1)
    return tuple(Shared(those, pictures) for those, pictures in found.most_common())


def sharing_with(one: Who, shared: Iterable[Shared[Who]]) -> frozenset[Who]:
    """Everybody who shares a picture with `one`."""
    sets = [each.patients for each in shared if one in each.patients]
    return frozenset().union(*sets) - {one}
