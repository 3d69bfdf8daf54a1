"""The members of a simulated consortium: names, identities, and the roster that all have signed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import shake_256
from itertools import count
from pathlib import Path
from typing import Any, Self

from client.agent.masking import Membership
from client.agent.ready import ReadyAgent, SiteMemory
from client.agent.site_agent import AgentParts, SiteAgent
from privacy.identity import MARKER_BYTES, Identity, marker_path
from privacy.secagg.client import Effects
from privacy.secagg.roster import Member, Roster, SignedRoster, add_signature, propose_roster

_SEED_BYTES = 32


def seeded_identity(seed: str) -> Identity:
    """An identity that anybody can make again: it proves nothing."""
    return Identity.from_seed(shake_256(seed.encode()).digest(_SEED_BYTES))


@dataclass(frozen=True)
class SimulatedMembers:
    """Who takes part. `signed` is the consortium's first roster."""

    identities: Mapping[str, Identity]
    signed: SignedRoster

    @classmethod
    def of(
        cls,
        identities: Mapping[str, Identity],
        *,
        consortium: str = "simulation",
        ids: Iterable[int] | None = None,
        quorum: int | None = None,
    ) -> Self:
        """Members in the order of `identities`, with `ids` (1, 2, ... unless given).

        `quorum` is the majority unless given. Raises `SecAggError` for what is not a roster.
        """
        members = [
            Member(site, name, identity.public, f"Hospital {name}")
            for site, (name, identity) in zip(ids or count(1), identities.items(), strict=False)
        ]
        signed = propose_roster(members, quorum or len(members) // 2 + 1, consortium=consortium)
        for identity in identities.values():
            signed = add_signature(signed, identity, None)
        return cls(dict(identities), signed)

    @classmethod
    def seeded(cls, names: Iterable[str], **roster: Any) -> Self:  # noqa: ANN401 - as of `of`
        """Members whose identities follow from their names."""
        return cls.of({name: seeded_identity(name) for name in names}, **roster)

    @property
    def roster(self) -> Roster:
        """Without its signatures."""
        return self.signed.roster

    def sites(self, patients: int) -> dict[str, Any]:
        """The tables of a study over all members, who declare as many `patients` each."""
        return {
            "sites": [{"name": name, "declared_patients": patients} for name in self.identities],
            "secure_aggregation": {"roster": self.roster.digest().hex(), "bound": 1.0},
        }

    def membership(self, name: str) -> Membership:
        """What the agent of `name` is told of itself and the others."""
        return Membership(self.identities[name], self.roster)

    def agent(
        self,
        name: str,
        parts: AgentParts,
        effects: Effects | None = None,
        memory: SiteMemory | None = None,
    ) -> SiteAgent:
        """The agent of `name`; without a `memory` it remembers earlier attempts while it lives."""
        given = memory or SiteMemory()
        return ReadyAgent(parts, self.membership(name), given, effects or Effects()).make()

    def write_key(self, name: str, path: Path) -> None:
        """The private key of `name` as a site keeps it, without a passphrase."""
        path.write_bytes(self.identities[name].pem(None))
        path.chmod(0o600)
        marker_path(path).write_bytes(bytes(MARKER_BYTES))
