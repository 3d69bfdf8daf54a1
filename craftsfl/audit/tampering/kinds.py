"""The registry of what may be done to a bundle, each with the names by which it must be found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from craftsfl.audit.tampering.draft import DishonestKeys, Draft, Tampered
from privacy.audit.faults import Flaw
from privacy.errors import AuditError


class NotHere(AuditError):
    """This cannot be done to this bundle: it has nothing of the kind, or a key is missing."""


@dataclass(frozen=True)
class Tampering:
    """One kind. `change` changes the draft and says what it did; `needs_keys`: only dishonest
    insiders can do it.
    """

    name: str
    change: Callable[[Draft], str]
    expected: frozenset[Flaw]
    needs_keys: bool = False


KINDS: Final[dict[str, Tampering]] = {}


def kind(
    name: str, *expected: Flaw, needs_keys: bool = False
) -> Callable[[Callable[[Draft], str]], Callable[[Draft], str]]:
    """Register a change under `name`, which must be found by one of the names `expected`."""

    def registered(change: Callable[[Draft], str]) -> Callable[[Draft], str]:
        KINDS[name] = Tampering(name, change, frozenset(expected), needs_keys)
        return change

    return registered


def tamper(data: bytes, name: str, seed: str, keys: DishonestKeys | None = None) -> Tampered:
    """The bundle `data`, broken in the way `name`; `NotHere` where that is not possible."""
    one = KINDS[name]
    if one.needs_keys and keys is None:
        raise NotHere("Only whoever has a key of the consortium can do this.")
    draft = Draft.of(data, seed, keys)
    words = one.change(draft)
    return Tampered(draft.sealed(), name, words, one.expected, draft.site)


def keys_of(draft: Draft) -> DishonestKeys:
    """The dishonest insider's keys."""
    if draft.keys is None:
        raise NotHere("Only whoever has a key of the consortium can do this.")
    return draft.keys
