"""Whose ledger it must be: the same check for the agent, `site budget` and `site withdraw`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from privacy.error_ids import ErrorId
from privacy.errors import LedgerError
from privacy.ledger.chain import Chain
from privacy.ledger.head import Head


@dataclass(frozen=True, slots=True)
class Owner:
    """The site, the public halves of its two keys, and known heads of its ledger.

    `key` None: it cannot be checked whether the ledger's key is this site's. `identity` None: the
    site has none. `seen` maps where each head is ("is kept in ...") to it.
    """

    site: str
    key: bytes | None = None
    identity: bytes | None = None
    seen: Mapping[str, Head] = field(default_factory=dict)

    def check(self, chain: Chain, path: Path, *, may_be_unbound: bool = False) -> None:
        """Raise `LedgerError` if the ledger in `path` is someone else's, or older than a head."""
        genesis = chain.genesis
        if genesis.site != self.site:
            raise LedgerError(
                f"The ledger {path} belongs to the site {genesis.site}, not to {self.site}.",
                "Point agent.state at this site's folder, or correct `name` in site.toml.",
                id=ErrorId.LEDGER_FOREIGN,
            )
        if self.key is not None and genesis.public_key != self.key:
            raise LedgerError(
                f"The ledger {path} was signed with another key than this site's.",
                "Restore ledger and key from one backup of the state folder.",
                id=ErrorId.LEDGER_FOREIGN,
            )
        if not may_be_unbound:
            self._check_binding(chain, path)
        for origin, head in self.seen.items():
            chain.check_head(head, origin=origin)

    def _check_binding(self, chain: Chain, path: Path) -> None:
        bound = chain.bound.identity if chain.bound is not None else None
        if bound == self.identity:
            return
        if bound is None:
            raise LedgerError(
                f"The ledger {path} is bound to no identity: anyone could have made it.",
                "If it is this site's own from before it had an identity, bind it once: craftsfl "
                "site migrate-ledger site.toml. Otherwise restore the newest backup of the whole "
                "state folder.",
            )
        if self.identity is None:
            raise LedgerError(
                f"The ledger {path} is bound to an identity, and site.toml names none.",
                "Name key and roster in the [identity] table of site.toml.",
            )
        raise LedgerError(
            f"The ledger {path} is bound to another identity than this site's.",
            "Restore ledger and site.key from one backup. If the consortium has signed a new key "
            "for this site: craftsfl site migrate-ledger site.toml.",
            id=ErrorId.LEDGER_FOREIGN,
        )
