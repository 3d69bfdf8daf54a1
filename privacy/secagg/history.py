"""The rule for a consortium's whole chain of rosters: nobody comes back as somebody else.

Sites' journals, the logs and the table of ledgers refer to ids and keys from years ago, so

- an id belongs to one name permanently, and a name to one id: a site that left may return, as
  itself;
- a key belongs to one id permanently; one that its site has replaced is given up, perhaps because
  it was stolen, and is never anybody's again.
"""

from __future__ import annotations

from collections.abc import Iterable

from privacy.errors import SecAggError
from privacy.secagg.roster import Roster


def check_history(rosters: Iterable[Roster]) -> None:
    """Raise `SecAggError` unless `rosters`, oldest first, keep to the rules above."""
    names: dict[int, str] = {}
    ids: dict[str, int] = {}
    owners: dict[bytes, int] = {}
    newest: dict[int, bytes] = {}
    given_up: set[bytes] = set()
    for roster in rosters:
        for member in roster.members:
            site, key = member.site, member.public_key
            if names.setdefault(site, member.name) != member.name:
                raise _reused(roster, f"the id {site} of {names[site]} to {member.name}")
            if ids.setdefault(member.name, site) != site:
                raise _reused(roster, f"the name {member.name} of id {ids[member.name]} to {site}")
            if owners.setdefault(key, site) != site:
                raise _reused(roster, f"the key of {names[owners[key]]} to {member.name}")
            if newest.get(site, key) != key:
                given_up.add(newest[site])
            if key in given_up:
                raise _reused(roster, f"{member.name} a key that {member.name} has given up")
            newest[site] = key


def ids_given(rosters: Iterable[Roster]) -> dict[str, int]:
    """The id of every name that was ever in one of `rosters`."""
    return {member.name: member.site for roster in rosters for member in roster.members}


def _reused(roster: Roster, what: str) -> SecAggError:
    return SecAggError(
        f"Roster {roster.sequence} of {roster.consortium} gives {what}.",
        "Ids and keys are never reused: propose it again with craftsfl rounds roster propose.",
    )
