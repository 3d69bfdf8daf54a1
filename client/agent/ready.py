"""From its parts to an agent that answers: the one place where a hospital's is put together."""

# Why: docs/adr/0030-ready-agents-and-quick-tests.md

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from client.agent.log_file import LogFile
from client.agent.masked_agent import MaskedAgent
from client.agent.masking import Membership, masking_of
from client.agent.sealed_agent import SealedAgent
from client.agent.sealing import sealing_of
from client.agent.site_agent import AgentParts, SiteAgent
from client.agent.state import StateFolder
from client.agent.witness import WitnessFile
from privacy.log.memory import LogMemory
from privacy.secagg.client import Effects
from privacy.secagg.witness import Witness


@dataclass(frozen=True, slots=True)
class SiteMemory:
    """Where a site remembers what earlier attempts bind it to; None: in this process only."""

    survivors: Path | None = None  # the sets that it has signed without noise
    cohorts: Path | None = None  # the sites that each round may still have
    witness: Witness | None = None  # what it knows of the others' ledgers
    chain: Path | None = None  # the adapter that it has worked out itself
    log: LogMemory | None = None  # what it has cosigned

    @classmethod
    def at(cls, state: StateFolder) -> SiteMemory:
        """In the site's state folder."""
        witness, log = WitnessFile(state.witness), LogFile(state.log)
        return cls(state.survivors, state.cohorts, witness, state.chain, log)


@dataclass(frozen=True, slots=True)
class ReadyAgent:
    """All that a hospital's agent is made of: equal values make agents that act alike."""

    parts: AgentParts
    membership: Membership
    memory: SiteMemory = field(default_factory=SiteMemory)
    effects: Effects = field(default_factory=Effects)

    def make(self) -> SiteAgent:
        """The agent: one of sealed steps where the study's noise is pooled, else a masked one.

        Raises `ConfigError`, `PolicyError` or `LedgerError`; see `sealing_of` and `masking_of`.
        """
        return self._sealed() if self.parts.rules.study.pools_noise else self._masked()

    def _sealed(self) -> SealedAgent:
        parts, memory = self.parts, self.memory
        sealing = sealing_of(
            *(parts.rules, self.membership, parts.trainer.layout),
            *(memory.witness, self.effects, memory.log),
        )
        return SealedAgent(parts, sealing, memory.chain)

    def _masked(self) -> MaskedAgent:
        parts, memory = self.parts, self.memory
        masking = masking_of(
            parts.rules,
            self.membership,
            parts.trainer.layout.parameters,
            memory.survivors,
            memory.cohorts,
            memory.witness,
        )
        return MaskedAgent(parts, replace(masking, effects=self.effects))
