"""A site's side of secure aggregation, sans I/O: every transition is in this file.

Bonawitz et al. 2017 (CCS), Figure 4, the variant for a malicious server, on the complete graph.
One machine serves one attempt and dies with it; its secrets are in memory only.

    stage      takes            returns          then
    OFFER      Offer            Advertise        KEYS
    KEYS       Advertisements   ShareBundle      DELIVERY
    DELIVERY   Deliver          Running          WAITING    the update is not provided yet
    DELIVERY   Deliver          MaskedInput      INPUT      it is
    WAITING    the same Deliver Running          WAITING
    WAITING    the same Deliver MaskedInput      INPUT      once `provide` was called
    INPUT      Survivors        Consistency      SIGNED
    SIGNED     UnmaskRequest    Unmask           DONE

The first two exchanges and the first Deliver run while the site trains. So exactly two messages
follow the one that collects the masked input, and a round has five with `TrainMasked` (the Offer
travels with the model), plus repeated Delivers while training lasts.

Guarantees, each with a test:

- What is not in the table raises `Refused` and changes nothing; so does whatever fails a check.
- The last message taken, repeated byte for byte, is answered with the very same bytes, because
  Flower loses replies; each stage has one answer only. Nothing is answered after the expiry.
- Never do both shares of one peer leave; none leaves before t sites of the cohort signed the
  same sets U2 and U3, with this site in U3 and |U3| >= max(t, n_min).
- A peer whose ledger is older than before, or a different one, gets none of this site's shares.
- The lanes leave once: `provide` takes them over, masks them in place, and forgets them.
"""

# Why: docs/adr/0011-secure-aggregation-protocol.md

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import TypeVar

import numpy as np

from privacy.errors import SecAggError
from privacy.identity import Identity, verify
from privacy.secagg import keys, transcript
from privacy.secagg.advertising import check_advertisements, public_key, shown
from privacy.secagg.encoding import Encoding
from privacy.secagg.keys import KeyPair
from privacy.secagg.offer import (
    Expected,
    Rules,
    SecAggPolicy,
    encoding_of,
    survivors_differ_too_little,
)
from privacy.secagg.refusals import Refused
from privacy.secagg.roster import Roster
from privacy.secagg.shamir import check_share, split_secret
from privacy.secagg.stream import apply_masks
from privacy.secagg.witness import Ledgers
from privacy.wire.bodies import SIGNATURE_BYTES, Body, Running
from privacy.wire.checks import Check
from privacy.wire.offer import Offer
from privacy.wire.secagg import (
    SHARE_BYTES,
    Advertise,
    Advertisements,
    Consistency,
    Deliver,
    Lanes,
    MaskedInput,
    ShareBundle,
    Survivors,
    Unmask,
    UnmaskRequest,
)

_T = TypeVar("_T")


class ClientStage(Enum):
    """Where the machine stands: what it waits for."""

    OFFER = "offer"
    KEYS = "advertisements"
    DELIVERY = "shares"
    WAITING = "update"
    INPUT = "survivors"
    SIGNED = "signatures"
    DONE = "nothing"


@dataclass(frozen=True, slots=True)
class Effects:
    """What comes from outside: Unix seconds, and secret random bytes."""

    clock: Callable[[], float] = time.time
    random: Callable[[int], bytes] = os.urandom


@dataclass(frozen=True, slots=True, repr=False)
class _Secrets:
    """This site's own: never repeated in another attempt, never written anywhere."""

    share: KeyPair
    mask: KeyPair
    b: bytes


@dataclass(frozen=True, slots=True, repr=False)
class _Shares:
    """One site's two secrets, as far as this site has them: 33 bytes each."""

    mask_key: bytes
    b: bytes


@dataclass(frozen=True, slots=True, repr=False)
class _State:
    """All that changes, in one value: a transition makes a new one, or raises and makes none."""

    stage: ClientStage = ClientStage.OFFER
    offer: Offer | None = None
    od: bytes = b""
    own: Advertise | None = None
    secrets: _Secrets | None = None
    th: bytes = b""
    peers: Mapping[int, Advertise] | None = None  # U1 without this site
    channels: Mapping[int, bytes] | None = None  # X25519 secrets with the peers' share keys
    shares: Mapping[int, _Shares] | None = None  # by owner; this site's own share of its own too
    sharers: tuple[int, ...] = ()  # U2
    survivors: tuple[int, ...] = ()  # U3


class SecAggClient:
    """One attempt at one site. Not thread-safe; the caller holds a lock."""

    def __init__(
        self,
        identity: Identity,
        roster: Roster,
        policy: SecAggPolicy,
        expected: Expected,
        ledgers: Ledgers,
        effects: Effects | None = None,
    ) -> None:
        """Raises `SecAggError` if the roster is not the pinned one or does not list the site."""
        site = roster.site_of(identity.public)
        if roster.digest() != policy.roster_digest or site is None:
            raise SecAggError(
                "The roster is not the one that the policy pins, or does not list this site.",
                "Compare the fingerprints; take the roster that the consortium has signed.",
            )
        self._identity = identity
        self._rules = Rules(site, roster, policy, expected)
        self._ledgers = ledgers
        self._effects = effects or Effects()
        self._earlier: tuple[frozenset[int], ...] = ()
        self._state = _State()
        self._lanes: Lanes | None = None
        self._provided = False
        self._answered: tuple[Body, Body] | None = None  # the last message taken, and the reply

    @property
    def site(self) -> int:
        """This site's id in the roster."""
        return self._rules.site

    @property
    def stage(self) -> ClientStage:
        """What the machine waits for."""
        return self._state.stage

    @property
    def offer(self) -> Offer | None:
        """The offer that was taken, if any."""
        return self._state.offer

    @property
    def is_open(self) -> bool:
        """Whether a message may still be due: taken up, not answered to the end, not expired."""
        offer, ended = self._state.offer, self._state.stage is ClientStage.DONE
        return offer is not None and not ended and self._effects.clock() < offer.expiry

    @property
    def encoding(self) -> Encoding:
        """How to encode the update; `SecAggError` before an offer was taken."""
        if self._state.offer is None:
            raise SecAggError("No offer was taken yet.", "Wait for the server's offer.")
        return encoding_of(self._state.offer)

    @property
    def survivors(self) -> tuple[int, ...]:
        """U3, once this site has signed it: without noise it is to be remembered."""
        return self._state.survivors

    def remember(self, earlier: tuple[frozenset[int], ...]) -> None:
        """The survivor sets that this site has signed in earlier rounds of the study."""
        self._earlier = earlier

    def provide(self, lanes: Lanes) -> None:
        """Hand over the encoded update, uint64 [L]; once, and the array is overwritten.

        Raises `SecAggError` for a second update, one of another length, or before an offer.
        """
        wanted = self.encoding.lanes
        if lanes.shape != (wanted,) or lanes.dtype != np.uint64 or not lanes.flags.writeable:
            raise SecAggError(f"An update is not one row of {wanted} writable 64-bit lanes.")
        if self._provided:
            raise SecAggError(
                "An update has already been provided; it is burned.", "Make a new one."
            )
        self._lanes, self._provided = lanes, True

    def close(self) -> None:
        """Forget everything: the attempt is over for this site."""
        self._state = _State(stage=ClientStage.DONE)
        self._lanes, self._answered, self._provided = None, None, True

    def receive(self, body: Body) -> Body:
        """The answer to the server's message; `Refused` where it is not allowed."""
        offer = self._state.offer
        if offer is not None and self._effects.clock() >= offer.expiry:
            raise Refused(Check.EXPIRED)
        if self._answered is not None and self._answered[0] == body:
            if self._state.stage is not ClientStage.WAITING or self._lanes is None:
                return self._answered[1]
            state, reply = self._masked(self._state)
        else:
            state, reply = self._transition(body)
        self._state, self._answered = state, (body, reply)
        return reply

    def _transition(self, body: Body) -> tuple[_State, Body]:
        state = self._state
        match (state.stage, body):
            case (ClientStage.OFFER, Offer() as offer):
                return self._on_offer(offer)
            case (ClientStage.KEYS, Advertisements() as advertisements):
                return self._on_advertisements(state, advertisements)
            case (ClientStage.DELIVERY, Deliver() as deliver):
                delivered = self._on_deliver(state, deliver)
                return (delivered, Running()) if self._lanes is None else self._masked(delivered)
            case (ClientStage.INPUT, Survivors() as survivors):
                return self._on_survivors(state, survivors)
            case (ClientStage.SIGNED, UnmaskRequest() as request):
                return self._on_unmask(state, request)
        raise Refused(self._why_not(body))

    def _why_not(self, body: Body) -> Check:
        """Why this is the wrong time for the message."""
        if isinstance(body, Offer) and self._state.offer is not None:
            return Check.OUT_OF_ORDER if body == self._state.offer else Check.SECOND_OFFER
        if self._answered is not None and type(self._answered[0]) is type(body):
            return Check.ANSWERED
        return Check.OUT_OF_ORDER

    def _on_offer(self, offer: Offer) -> tuple[_State, Body]:
        """Exchange 0: check and journal the offer, make the attempt's keys, advertise them."""
        self._rules.check(offer, self._effects.clock())
        ledger = self._ledgers.journal()
        od = transcript.offer_digest(offer)
        random = self._effects.random
        secrets = _Secrets(KeyPair(random(32)), KeyPair(random(32)), random(32))
        entry = Advertise(
            site=self.site,
            share_key=secrets.share.public,
            mask_key=secrets.mask.public,
            commitment=keys.commitment(secrets.b, self.site, od),
            ledger=ledger,
            signature=bytes(SIGNATURE_BYTES),
        )
        own = replace(entry, signature=self._identity.sign(transcript.advertised(od, entry)))
        return _State(ClientStage.KEYS, offer, od, own, secrets), own

    def _on_advertisements(
        self, state: _State, advertisements: Advertisements
    ) -> tuple[_State, Body]:
        """Exchange 1: check everybody's keys, share the two secrets among them."""
        offer, secrets = _known(state.offer), _known(state.secrets)
        check_advertisements(advertisements, offer, state.od, self._rules.roster)
        if state.own not in advertisements.entries:
            raise Refused(Check.OWN_KEY, self.site)
        if len(advertisements.entries) < self._floor(offer):
            raise Refused(Check.TOO_FEW)
        roster, others = self._rules.roster, advertisements.entries
        self._ledgers.witness.see([shown(entry, roster) for entry in others if entry != state.own])
        th = transcript.transcript(state.od, advertisements)
        peers = {entry.site: entry for entry in advertisements.entries if entry.site != self.site}
        channels = {site: secrets.share.exchange(peer.share_key) for site, peer in peers.items()}
        dealt = self._deal(offer, secrets)
        sealed = [
            keys.seal_shares(channels[site], th, self.site, site, shares.mask_key + shares.b)
            for site, shares in sorted(dealt.items())
            if site in peers
        ]
        after = replace(
            state,
            stage=ClientStage.DELIVERY,
            th=th,
            peers=peers,
            channels=channels,
            shares={self.site: dealt[self.site]},
        )
        return after, ShareBundle(tuple(sealed))

    def _deal(self, offer: Offer, secrets: _Secrets) -> dict[int, _Shares]:
        """Fresh shares of this site's secrets for the whole cohort; x = place in it, from 1."""
        count, t, random = len(offer.cohort), offer.threshold, self._effects.random
        mask_keys = split_secret(secrets.mask.private, count, t, random)
        seeds = split_secret(secrets.b, count, t, random)
        return {
            site: _Shares(*pair) for site, *pair in zip(offer.cohort, mask_keys, seeds, strict=True)
        }

    def _on_deliver(self, state: _State, deliver: Deliver) -> _State:
        """Exchange 2, first half: open the shares that the others of U2 have dealt to this site."""
        offer, channels = _known(state.offer), _known(state.channels)
        for sender, _ in deliver.shares:
            if sender not in channels:
                raise Refused(Check.NOT_IN_COHORT, sender)
        if len(deliver.shares) + 1 < self._floor(offer):
            raise Refused(Check.TOO_FEW)
        shares = dict(_known(state.shares))
        for sender, sealed in deliver.shares:
            shares[sender] = self._opened(state, sender, sealed)
        return replace(
            state,
            stage=ClientStage.WAITING,
            shares=shares,
            sharers=tuple(sorted(shares)),
            channels=None,
        )

    def _opened(self, state: _State, sender: int, sealed: bytes) -> _Shares:
        secret = _known(state.channels)[sender]
        try:
            plain = keys.open_shares(secret, state.th, sender, self.site, sealed)
            shares = _Shares(plain[:SHARE_BYTES], plain[SHARE_BYTES:])
            check_share(shares.mask_key)
            check_share(shares.b)
        except SecAggError:
            raise Refused(Check.SHARE, sender) from None
        return shares

    def _masked(self, state: _State) -> tuple[_State, Body]:
        """Exchange 2, second half: mask the update and let it go, once."""
        secrets, lanes = _known(state.secrets), _known(self._lanes)
        own, peers = self.site, _known(state.peers)
        seeds = [(keys.self_seed(secrets.b, state.th, own), 1)]
        for site in state.sharers:
            if site != own:
                mask = peers[site].mask_key
                seed = keys.pair_seed(secrets.mask, mask, state.th, own, site)
                seeds.append((seed, keys.pair_sign(own, site)))
        self._lanes = None  # from here on the update is burned, whatever happens
        apply_masks(lanes, seeds)
        signed = transcript.masked_input(state.th, state.sharers, lanes)
        lanes.flags.writeable = False  # the array is now what was signed
        reply = MaskedInput(lanes, self._identity.sign(signed))
        return replace(state, stage=ClientStage.INPUT, secrets=None, peers=None), reply

    def _on_survivors(self, state: _State, body: Survivors) -> tuple[_State, Body]:
        """Exchange 3: sign the survivors if their number and composition are allowed."""
        survivors = body.sites
        strangers = set(survivors) - set(state.sharers)
        if strangers:
            raise Refused(Check.SURVIVORS, min(strangers))
        if self.site not in survivors:
            raise Refused(Check.SELF_OMITTED, self.site)
        if len(survivors) < self._floor(_known(state.offer)):
            raise Refused(Check.TOO_FEW)
        policy = self._rules.policy
        if survivors_differ_too_little(policy, frozenset(survivors), self._earlier):
            raise Refused(Check.DIFFERENCING)
        signed = transcript.consistency(state.th, state.sharers, survivors)
        reply = Consistency(self._identity.sign(signed))
        return replace(state, stage=ClientStage.SIGNED, survivors=survivors), reply

    def _on_unmask(self, state: _State, request: UnmaskRequest) -> tuple[_State, Body]:
        """Exchange 4: one share for each of U2, once t sites have signed what this one has."""
        offer, shares = _known(state.offer), _known(state.shares)
        strangers = {site for site, _ in request.signatures} - set(state.survivors)
        if strangers or len(request.signatures) < offer.threshold:
            raise Refused(Check.UNMASK_SIGNATURES)
        signed = transcript.consistency(state.th, state.sharers, state.survivors)
        for site, signature in request.signatures:
            if not verify(public_key(self._rules.roster, site), signature, signed):
                raise Refused(Check.SIGNATURE, site)
        reply = Unmask(
            tuple(
                shares[site].b if site in state.survivors else shares[site].mask_key
                for site in state.sharers
            )
        )
        return replace(state, stage=ClientStage.DONE, shares=None), reply

    def _floor(self, offer: Offer) -> int:
        return self._rules.policy.floor(len(offer.cohort))


def _known(value: _T | None) -> _T:
    """What the stage guarantees to be there."""
    if value is None:
        raise SecAggError("A part of the attempt is gone.", "Start a new attempt.")
    return value
