"""The server's side of secure aggregation, sans I/O: every transition is in this file.

Bonawitz et al. 2017 (CCS), Figure 4. One machine serves one attempt.

    stage        sends             to      takes         of whom     leaves
    ADVERTISE    Offer             cohort  Advertise     cohort      U1
    SHARE        Advertisements    U1      ShareBundle   U1          U2
    INPUT        Deliver           U2      MaskedInput   U2          U3
    CONSISTENCY  Survivors         U3      Consistency   U3          U4
    UNMASK       UnmaskRequest     U4      Unmask        U4          U5
    DONE         -                         -

`deadline` continues with those that have answered: call it when nobody is being waited for, or when
the time for the exchange is over. U1, U2 and U3 need max(t, minimum) sites, U4 and U5 need t; one
fewer is a clean end (`Aborted`), after which nothing can be unmasked: the server has at most t - 1
shares of any secret, or none at all.

Guarantees, each with a test: what is not in the table, or fails a check, raises `Refused` with the
site and the check and changes nothing; an answer that comes twice counts once; the sum is exact
for U3, or there is none. A false share is found because it contradicts the public key or the
commitment; another t-subset is tried, and the site is named.

This side needs no secret and is trusted with nothing: the sites check everything.
"""

# Why: docs/adr/0011-secure-aggregation-protocol.md

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import NoReturn

import numpy as np

from privacy.errors import SecAggError
from privacy.identity import verify
from privacy.secagg import keys, transcript
from privacy.secagg.advertising import check_advertisement, public_key, shown
from privacy.secagg.keys import KeyPair
from privacy.secagg.offer import encoding_of, threshold
from privacy.secagg.recovery import recover_secret
from privacy.secagg.refusals import Aborted, Refused
from privacy.secagg.roster import Roster
from privacy.secagg.shamir import check_share
from privacy.secagg.stream import apply_masks
from privacy.secagg.witness import MemoryWitness, Witness
from privacy.wire.bodies import Body, Running
from privacy.wire.checks import Check
from privacy.wire.offer import Offer
from privacy.wire.secagg import (
    Advertise,
    Advertisements,
    Consistency,
    Deliver,
    Lanes,
    MaskedInput,
    SecAggRefusal,
    ShareBundle,
    Survivors,
    Unmask,
    UnmaskRequest,
)


class Stage(Enum):
    """The exchange under way."""

    ADVERTISE = "advertise"
    SHARE = "share"
    INPUT = "masked input"
    CONSISTENCY = "consistency"
    UNMASK = "unmask"
    DONE = "done"
    ABORTED = "aborted"


_ORDER = tuple(Stage)[:6]
_ANSWERS: dict[Stage, type[Body]] = {
    Stage.ADVERTISE: Advertise,
    Stage.SHARE: ShareBundle,
    Stage.INPUT: MaskedInput,
    Stage.CONSISTENCY: Consistency,
    Stage.UNMASK: Unmask,
}


@dataclass(frozen=True, slots=True)
class UnmaskedSum:
    """The sum of the survivors' lanes (uint64 [L], modulo 2^64).

    `lost` names the exchange at which each other site dropped out, `false` the sites whose shares
    contradicted the others.
    """

    lanes: Lanes
    survivors: tuple[int, ...]
    lost: Mapping[int, Stage]
    false: tuple[int, ...]


@dataclass(slots=True)
class _Record:
    """What the sites have sent. Grows by one accepted answer at a time."""

    advertised: dict[int, Advertise] = field(default_factory=dict)
    bundles: dict[int, ShareBundle] = field(default_factory=dict)
    inputs: dict[int, bytes] = field(default_factory=dict)  # signatures; the lanes are summed up
    consistent: dict[int, bytes] = field(default_factory=dict)
    unmasked: dict[int, Unmask] = field(default_factory=dict)

    def answers(self, stage: Stage) -> Mapping[int, object]:
        """The answers of one exchange by site."""
        by_stage = (self.advertised, self.bundles, self.inputs, self.consistent, self.unmasked)
        return by_stage[_ORDER.index(stage)]


class SecAggServer:
    """One attempt. Not thread-safe."""

    def __init__(
        self, roster: Roster, offer: Offer, minimum: int = 3, witness: Witness | None = None
    ) -> None:
        """`minimum`: the largest n_min of the sites' policies; `witness`: of their ledgers.

        Raises `SecAggError`, before anything is sent, for an offer that no site would accept.
        """
        strangers = set(offer.cohort) - set(roster.sites)
        if strangers or offer.roster_digest != roster.digest():
            raise SecAggError(
                "The offer's cohort or digest does not fit this roster.", "Take its sites."
            )
        n, t = len(offer.cohort), threshold(len(offer.cohort))
        if offer.threshold != t or n < minimum:
            raise SecAggError(
                f"A cohort of {n} needs the threshold {t} and at least {minimum} sites.",
                "Wait for more sites.",
            )
        self._witness = witness or MemoryWitness()
        self._roster = roster
        self._offer = offer
        self._od = transcript.offer_digest(offer)
        self._floor = max(t, minimum)
        self._sum: Lanes = np.zeros(encoding_of(offer).lanes, np.uint64)
        self._record = _Record()
        self._stage = Stage.ADVERTISE
        self._asked: tuple[int, ...] = offer.cohort
        self._gone: set[int] = set()
        self._lost: dict[int, Stage] = {}
        self._keys = Advertisements(())  # U1
        self._th = b""
        self._sharers: tuple[int, ...] = ()  # U2
        self._survivors: tuple[int, ...] = ()  # U3
        self._false: set[int] = set()

    def offer(self) -> Offer:
        """What the sites are offered."""
        return self._offer

    @property
    def stage(self) -> Stage:
        """The exchange under way."""
        return self._stage

    @property
    def waiting(self) -> frozenset[int]:
        """The sites whose answer is still to come; when there is none, call `deadline`."""
        if self._stage not in _ANSWERS:
            return frozenset()
        answered = self._record.answers(self._stage)
        return frozenset(set(self._asked) - set(answered) - self._gone)

    def requests(self) -> dict[int, Body]:
        """The message for each site of `waiting`; the same ones however often they are sent."""
        return {site: self._request(site) for site in sorted(self.waiting)}

    def drop(self, site: int) -> None:
        """Stop waiting for a site: its SuperNode is gone, or it has refused."""
        self._gone.add(site)

    def receive(self, site: int, body: Body) -> None:
        """Take the answer of `site`, as the transport names it; `Refused` if it is not allowed.

        `Running` changes nothing; a `SecAggRefusal` drops the site.
        """
        if site not in self._asked or self._stage not in _ANSWERS:
            raise Refused(Check.SENDER, site)
        if isinstance(body, SecAggRefusal):
            self.drop(site)
        elif not (isinstance(body, Running) and self._stage is Stage.INPUT):
            self._take(site, body)

    def deadline(self) -> None:
        """Continue with those that have answered; `Aborted` if they are too few."""
        stage = self._stage
        if stage not in _ANSWERS:
            raise SecAggError("The attempt is over.", "Start a new attempt.")
        answered = tuple(sorted(self._record.answers(stage)))
        missing = sorted(set(self._asked) - set(answered))
        needed = self._offer.threshold if _ORDER.index(stage) >= 3 else self._floor
        if len(answered) < needed:
            self._abort(Check.TOO_FEW, missing)
        for site in missing:
            self._lost.setdefault(site, stage)
        self._conclude(answered)
        self._asked = answered
        self._stage = _ORDER[_ORDER.index(stage) + 1]

    def result(self) -> UnmaskedSum:
        """The sum; `SecAggError` before the attempt has come to its end."""
        if self._stage is not Stage.DONE:
            raise SecAggError("There is no sum yet.", "Call deadline until the stage is DONE.")
        false = tuple(sorted(self._false))
        # A survivor that fell silent later is in the sum all the same.
        lost = {site: stage for site, stage in self._lost.items() if site not in self._survivors}
        return UnmaskedSum(self._sum, self._survivors, lost, false)

    def _request(self, site: int) -> Body:
        match self._stage:
            case Stage.ADVERTISE:
                return self._offer
            case Stage.SHARE:
                return self._keys
            case Stage.INPUT:
                return self._delivery(site)
            case Stage.CONSISTENCY:
                return Survivors(self._survivors)
            case _:
                return UnmaskRequest(tuple(sorted(self._record.consistent.items())))

    def _delivery(self, site: int) -> Deliver:
        """The shares for `site`: its place in a bundle is its rank in U1 without the sender."""
        rank = {entry.site: number for number, entry in enumerate(self._keys.entries)}
        shares = [
            (sender, self._record.bundles[sender].sealed[rank[site] - (rank[site] > rank[sender])])
            for sender in self._sharers
            if sender != site
        ]
        return Deliver(tuple(shares))

    def _take(self, site: int, body: Body) -> None:
        if not isinstance(body, _ANSWERS[self._stage]):
            raise Refused(Check.OUT_OF_ORDER, site)
        match body:
            case Advertise():
                self._on_advertise(site, body)
            case ShareBundle():
                self._on_bundle(site, body)
            case MaskedInput():
                self._on_input(site, body)
            case Consistency():
                self._on_consistency(site, body)
            case Unmask():
                self._on_unmask(site, body)

    def _on_advertise(self, site: int, entry: Advertise) -> None:
        known = self._record.advertised
        if entry.site != site:
            raise Refused(Check.SENDER, site)
        check_advertisement(entry, self._od, self._roster)
        if _is_repeated(known.get(site), entry, site):
            return
        taken = {key for other in known.values() for key in _keys_of(other)}
        if len(_keys_of(entry)) < 3 or taken & _keys_of(entry):
            raise Refused(Check.REPEATED_KEY, site)
        self._witness.see([shown(entry, self._roster)])
        known[site] = entry

    def _on_bundle(self, site: int, bundle: ShareBundle) -> None:
        if len(bundle.sealed) != len(self._keys.entries) - 1:
            raise Refused(Check.SHARE_COUNT, site)
        if not _is_repeated(self._record.bundles.get(site), bundle, site):
            self._record.bundles[site] = bundle

    def _on_input(self, site: int, masked: MaskedInput) -> None:
        if masked.lanes.size != self._sum.size:
            raise Refused(Check.INPUT_LENGTH, site)
        signed = transcript.masked_input(self._th, self._sharers, masked.lanes)
        self._check_signature(site, masked.signature, signed)
        # Ed25519 is deterministic (RFC 8032), so the signature stands for the vector.
        if not _is_repeated(self._record.inputs.get(site), masked.signature, site):
            self._sum += masked.lanes
            self._record.inputs[site] = masked.signature

    def _on_consistency(self, site: int, body: Consistency) -> None:
        signed = transcript.consistency(self._th, self._sharers, self._survivors)
        self._check_signature(site, body.signature, signed)
        if not _is_repeated(self._record.consistent.get(site), body.signature, site):
            self._record.consistent[site] = body.signature

    def _on_unmask(self, site: int, body: Unmask) -> None:
        if len(body.shares) != len(self._sharers):
            raise Refused(Check.SHARE_COUNT, site)
        try:
            for share in body.shares:
                check_share(share)
        except SecAggError:
            raise Refused(Check.SHARE, site) from None
        if not _is_repeated(self._record.unmasked.get(site), body, site):
            self._record.unmasked[site] = body

    def _check_signature(self, site: int, signature: bytes, signed: bytes) -> None:
        if not verify(public_key(self._roster, site), signature, signed):
            raise Refused(Check.SIGNATURE, site)

    def _conclude(self, answered: tuple[int, ...]) -> None:
        """What an exchange leaves for the next one."""
        match self._stage:
            case Stage.ADVERTISE:
                entries = self._record.advertised
                self._keys = Advertisements(tuple(entries[site] for site in answered))
                self._th = transcript.transcript(self._od, self._keys)
            case Stage.SHARE:
                self._sharers = answered
            case Stage.INPUT:
                self._survivors = answered
            case Stage.UNMASK:
                self._unmask()

    def _unmask(self) -> None:
        """Take all masks off the sum: the survivors' own, and those paired with the dropped."""
        seeds: list[tuple[bytes, int]] = []
        for site in self._sharers:
            if site in self._survivors:
                seeds.append((keys.self_seed(self._recovered(site), self._th, site), -1))
                continue
            mask = KeyPair(self._recovered(site))
            for peer in self._survivors:
                public = self._record.advertised[peer].mask_key
                seed = keys.pair_seed(mask, public, self._th, site, peer)
                seeds.append((seed, -keys.pair_sign(peer, site)))
        apply_masks(self._sum, seeds)

    def _recovered(self, owner: int) -> bytes:
        """The secret of `owner` that U3 decides on; `Aborted` if the shares do not yield it."""
        entry, cohort = self._record.advertised[owner], self._offer.cohort
        place = self._sharers.index(owner)
        shares = {
            cohort.index(site) + 1: body.shares[place]
            for site, body in self._record.unmasked.items()
        }
        distrusted = {cohort.index(site) + 1 for site in self._false}
        survived = owner in self._survivors

        def accept(secret: bytes) -> bool:
            if survived:
                return keys.commitment(secret, owner, self._od) == entry.commitment
            return KeyPair(secret).public == entry.mask_key

        found = recover_secret(shares, self._offer.threshold, accept, distrusted)
        if found is None:
            self._abort(Check.SELF_MASK if survived else Check.MASK_KEY, [owner])
        self._false |= {cohort[x - 1] for x in found.false}
        return found.secret

    def _abort(self, check: Check, sites: list[int]) -> NoReturn:
        stage, self._stage = self._stage, Stage.ABORTED
        self._sum = np.zeros(0, np.uint64)
        raise Aborted(stage.value, check, sites)


def _is_repeated(known: object, answer: object, site: int) -> bool:
    """Whether the same answer is already there; `Refused` if a different one is."""
    if known is not None and known != answer:
        raise Refused(Check.ANSWERED, site)
    return known is not None


def _keys_of(entry: Advertise) -> set[bytes]:
    return {entry.share_key, entry.mask_key, entry.commitment}
