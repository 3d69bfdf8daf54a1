"""One session as a site has it: its keys, and what it has accepted of the others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from privacy.errors import SecAggError
from privacy.identity import Identity
from privacy.secagg.keys import KeyPair
from privacy.secagg.refusals import Refused
from privacy.secagg.roster import Roster
from privacy.secagg.sealed.epochs import (
    ROOT_BYTES,
    EpochKeys,
    open_group,
    pair_root,
    seal_group,
)
from privacy.secagg.sealed.label import (
    SessionDigests,
    group_commitment,
    group_digest,
    keys_digest,
    session_digest,
)
from privacy.secagg.sealed.opening import (
    check_group,
    check_key_list,
    shown_ledger,
    signed_group,
    signed_key,
)
from privacy.secagg.witness import Witness
from privacy.wire.bodies import SIGNATURE_BYTES
from privacy.wire.checkpoint import Checkpoint
from privacy.wire.checks import Check
from privacy.wire.session import (
    SessionGroup,
    SessionKey,
    SessionKeys,
    SessionOffer,
    SessionOpening,
)


@dataclass(frozen=True, slots=True, repr=False)
class SiteSession:
    """An immutable value: every step of the set-up makes another one. No text shows its secrets.

    `pair` is the X25519 key and `noise` nk(0) until the list has come; then there are `keys`;
    `secret` is the group's, from the first step on (the dealer's own: from dealing on).
    """

    offer: SessionOffer
    sd: bytes
    own: SessionKey
    pair: KeyPair | None
    noise: bytes
    listed: SessionKeys | None = None
    kd: bytes = b""
    keys: EpochKeys | None = None
    group: SessionGroup | None = None
    secret: bytes = b""
    begun: bool = False

    @classmethod
    def opened(
        cls,
        identity: Identity,
        site: int,
        offer: SessionOffer,
        ledger: Checkpoint,
        random: Callable[[int], bytes],
    ) -> SiteSession:
        """A session with a new key and a new nk(0), once its number is in the journal."""
        sd, pair = session_digest(offer), KeyPair(random(ROOT_BYTES))
        own = SessionKey(site, pair.public, ledger, bytes(SIGNATURE_BYTES))
        # nk(0) now and not with the list: a snapshot from between would draw another one.
        return cls(offer, sd, signed_key(identity, sd, own), pair, random(ROOT_BYTES))

    @property
    def digests(self) -> SessionDigests:
        """sd, kd and gd, once all of it has been accepted."""
        group = self.dealt_group()
        return SessionDigests(self.sd, self.kd, group_digest(self.sd, self.kd, group))

    def with_keys(self, listed: SessionKeys, roster: Roster, witness: Witness) -> SiteSession:
        """The session with everybody's keys, its own private key gone; one list only.

        `Refused` for another list, or one that is not allowed.
        """
        if self.listed is not None or self.pair is None:
            if listed != self.listed:
                raise Refused(Check.SECOND_KEYS)
            return self
        check_key_list(listed, self.offer, self.sd, roster)
        if self.own not in listed.entries:
            raise Refused(Check.OWN_KEY, self.own.site)
        others = [entry for entry in listed.entries if entry != self.own]
        witness.see([shown_ledger(entry, roster) for entry in others])
        kd, me = keys_digest(self.sd, listed), (self.own.site, self.own.key)
        roots = {
            entry.site: pair_root(
                self.pair.exchange(entry.key), self.sd, kd, me, (entry.site, entry.key)
            )
            for entry in others
        }
        keys = EpochKeys(0, roots, self.noise)
        return replace(self, listed=listed, kd=kd, pair=None, noise=b"", keys=keys)

    def dealt(self, identity: Identity, random: Callable[[int], bytes]) -> SiteSession:
        """The session with a group's secret of this site's making, in a box for every other."""
        if self.keys is None or self.begun:
            raise Refused(Check.OUT_OF_ORDER)
        if self.group is not None:
            return self
        secret, site = random(ROOT_BYTES), self.own.site
        boxes = tuple(
            (peer, seal_group(root, site, secret)) for peer, root in sorted(self.keys.pairs.items())
        )
        commitment = group_commitment(self.sd, self.kd, secret)
        group = SessionGroup(site, commitment, boxes, bytes(SIGNATURE_BYTES))
        return replace(self, group=signed_group(identity, self.sd, self.kd, group), secret=secret)

    def with_opening(
        self, opening: SessionOpening | None, roster: Roster, witness: Witness
    ) -> SiteSession:
        """The session as its first step opens it; later ones may repeat the opening, or leave it.

        `Refused` without one at the first step, and for another list or group at a later one.
        """
        if opening is None:
            if not self.begun:
                raise Refused(Check.NO_KEYS)
            return self
        if self.begun:
            if (opening.keys, opening.group) != (self.listed, self.group):
                raise Refused(Check.SECOND_KEYS)
            return self
        session = self.with_keys(opening.keys, roster, witness)
        group = opening.group
        check_group(group, opening.keys, session.sd, session.kd, roster)
        if group == session.group:  # this site's own
            return session
        return replace(session, group=group, secret=session._secret_in(group))

    def _secret_in(self, group: SessionGroup) -> bytes:
        """The secret that another site has dealt."""
        box = dict(group.boxes).get(self.own.site)
        if box is None or self.keys is None:  # this site's own group, but not the one it has made
            raise Refused(Check.GROUP, group.dealer)
        try:
            secret = open_group(self.keys.pairs[group.dealer], group.dealer, box)
        except SecAggError:
            raise Refused(Check.GROUP, group.dealer) from None
        if group_commitment(self.sd, self.kd, secret) != group.commitment:
            raise Refused(Check.GROUP, group.dealer)
        return secret

    def dealt_group(self) -> SessionGroup:
        """The group that this session has, of this site's making or another's."""
        if self.group is None:
            raise Refused(Check.NO_KEYS)
        return self.group

    def accepted(self) -> tuple[SessionKeys, EpochKeys]:
        """The list and the keys; `Refused` before there are any."""
        if self.listed is None or self.keys is None:
            raise Refused(Check.NO_KEYS)
        return self.listed, self.keys
