"""One attempt as a site has it, from its journalled label to the bytes that leave."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from privacy.errors import SecAggError
from privacy.identity import Identity, verify
from privacy.secagg.advertising import public_key
from privacy.secagg.keys import digest, pair_sign
from privacy.secagg.refusals import Refused
from privacy.secagg.roster import Roster
from privacy.secagg.sealed.epochs import EpochKeys, check_of, mask_seed, noise_seed_of
from privacy.secagg.sealed.journal import SealedIntent
from privacy.secagg.sealed.label import SealedStudy
from privacy.secagg.sealed.mac import mac_key, tags_of
from privacy.secagg.sealed.residues import packed_residues, reduced, residue_lanes, residues_of
from privacy.secagg.stream import apply_masks
from privacy.wire.bodies import SIGNATURE_BYTES
from privacy.wire.checks import Check
from privacy.wire.codec import Writer
from privacy.wire.log import LogFields
from privacy.wire.sealed import Sealed, SealedCollect, SealedReady, SealedStep, StepForm
from privacy.wire.secagg import KEY_BYTES, Lanes, lane_bytes

NO_NONCE: Final = bytes(KEY_BYTES)

_SEALED: Final = b"sealed"
_READY: Final = b"sealed-ready"
_COMMITMENT: Final = b"sealed-commitment"


@dataclass(frozen=True, slots=True)
class PendingStep:
    """The attempt that a site is in: what it is journalled as, and when its vector is due (ms)."""

    intent: SealedIntent
    slot: int
    form: StepForm

    @property
    def label(self) -> bytes:
        """L, 32 bytes."""
        return self.intent.label


@dataclass(frozen=True, slots=True, repr=False)
class StepSecrets:
    """What masks and proves one vector: the pairs' mask seeds with signs, and mk."""

    seeds: tuple[tuple[bytes, int], ...]
    checks: tuple[bytes, ...]
    mac: bytes
    adds_constant: bool

    @classmethod
    def of(cls, keys: EpochKeys, group: bytes, site: int, intent: SealedIntent) -> StepSecrets:
        """From the keys of the attempt's own epoch, after the attempt is journalled."""
        label, peers = intent.label, [peer for peer in intent.cohort if peer != site]
        when = (intent.session, intent.step, intent.attempt)
        return cls(
            tuple((mask_seed(keys.pairs[j], label), pair_sign(site, j)) for j in peers),
            tuple(check_of(keys.pairs[j], label) for j in peers),
            mac_key(group, label, when, intent.cohort),
            site == intent.cohort[0],
        )

    def masked(self, numbers: NDArray[np.int64], bits: int) -> Lanes:
        """The lanes that leave, uint64 [L + 3]: the vector, a zero, two tags; all of it masked."""
        tags = tags_of(numbers, self.mac, constant=self.adds_constant)  # before they are reduced
        words = residues_of(numbers, bits)
        proof = np.concatenate((np.zeros(1, np.uint64), tags))
        apply_masks(words, self.seeds, behind=proof)
        lanes = np.concatenate((packed_residues(reduced(words, bits), bits), proof))
        lanes.flags.writeable = False
        return lanes


class OpenStep:
    """The attempt under way. Its secrets go as soon as they have been used."""

    def __init__(
        self, step: SealedStep, intent: SealedIntent, noise: bytes, secrets: StepSecrets
    ) -> None:
        self.pending: Final = PendingStep(intent, step.slot, step.form)
        self.request: Final = step.signed_part()
        self.missed = False
        self.sealed: Sealed | None = None
        self.ready: SealedReady | None = None
        self.nonce = NO_NONCE
        self.masked: Lanes | None = None
        self._noise: bytes | None = noise  # nk(e)
        self._centres: bytes | None = None
        self._secrets: StepSecrets | None = secrets
        self._checks = secrets.checks

    def is_same_attempt(self, step: SealedStep) -> bool:
        """Whether `step` has this attempt's numbers; its bytes may be others."""
        intent = self.pending.intent
        return (intent.step, intent.attempt) == (step.step, step.attempt)

    def noise_seed(self, label: bytes, centres: bytes) -> bytes:
        """Expand(nk(e), "noise", L, H(y)); `SecAggError` for other centres than the first."""
        if label != self.pending.label or self._noise is None or len(centres) != KEY_BYTES:
            raise _too_late()
        if self._centres not in (None, centres):
            raise SecAggError(
                "This attempt has already noised other centres: one label, one vector.",
                "Start a new attempt.",
            )
        self._centres = centres
        return noise_seed_of(self._noise, label, centres)

    def provide(self, label: bytes, numbers: NDArray[np.int64], study: SealedStudy) -> None:
        """Mask the vector (int64 [n]), once; from here on there is no other."""
        if label != self.pending.label or self._secrets is None:
            raise _too_late()
        flat = numbers.ndim == 1 and numbers.dtype == np.int64
        if not flat or residue_lanes(len(numbers), study.bits) != study.lanes:
            raise SecAggError(f"A vector is not one row of integers for {study.lanes} lanes.")
        secrets, self._secrets, self._noise = self._secrets, None, None
        self.masked = secrets.masked(numbers, study.bits)

    def give_up(self) -> None:
        """There is no vector, and from here on there will be none."""
        self.missed, self._secrets, self._noise = True, None, None

    def seal(self, identity: Identity, log: LogFields) -> Sealed:
        """The masked vector with its signature; the attempt has been charged."""
        if self.masked is None:
            raise Refused(Check.NO_VECTOR)
        made = Sealed(
            label=self.pending.label,
            lanes=self.masked,
            checks=self._checks,
            nonce=self.nonce,
            head=log.head,
            checkpoint=log.checkpoint,
            cosignature=log.cosignature,
        )
        signature = identity.sign(sealed_signed(made, identity.public))
        self.sealed, self.masked = replace(made, signature=signature), None
        return self.sealed

    def commit(self, identity: Identity, nonce: bytes) -> SealedReady:
        """A signed commitment to the masked vector, which does not leave yet."""
        if self.masked is None:
            raise Refused(Check.NO_VECTOR)
        label = self.pending.label
        commitment = commitment_of(nonce, self.masked)
        signature = identity.sign(ready_signed(label, commitment))
        self.nonce, self.ready = nonce, SealedReady(label, commitment, signature)
        return self.ready


def sent_digest(lanes: Lanes) -> bytes:
    """SHA-256 of masked lanes: what the ledger holds of a vector, 32 bytes."""
    return hashlib.sha256(lane_bytes(lanes)).digest()


def sealed_signed(sealed: Sealed, public: bytes) -> bytes:
    """What the signature of a `Sealed` covers, for the site with this identity key.

    H("sealed", L, public key, SHA-256(lanes), checks, nonce, head, checkpoint, cosignature).
    """
    checks = Writer().u16(len(sealed.checks)).done() + b"".join(sealed.checks)
    return digest(
        _SEALED,
        *(sealed.label, public, sent_digest(sealed.lanes), checks, sealed.nonce),
        *(sealed.head, sealed.checkpoint, sealed.cosignature),
    )


def ready_signed(label: bytes, commitment: bytes) -> bytes:
    """What the signature of a `SealedReady` covers: H("sealed-ready", L, commitment)."""
    return digest(_READY, label, commitment)


def commitment_of(nonce: bytes, lanes: Lanes) -> bytes:
    """H("sealed-commitment", nonce, lanes), 32 bytes: hides and binds the masked lanes."""
    return digest(_COMMITMENT, nonce, lane_bytes(lanes))


def check_commitments(collect: SealedCollect, pending: PendingStep, roster: Roster) -> None:
    """Raise `Refused` unless each member of K, and nobody else, has signed its commitment."""
    if collect.label != pending.label:
        raise Refused(Check.LABEL)
    if tuple(site for site, _ in collect.commitments) != pending.intent.cohort:
        raise Refused(Check.COMMITMENT)
    for site, entry in collect.commitments:
        commitment, signature = entry[:-SIGNATURE_BYTES], entry[-SIGNATURE_BYTES:]
        signed = ready_signed(collect.label, commitment)
        if not verify(public_key(roster, site), signature, signed):
            raise Refused(Check.SIGNATURE, site)


def ready_entry(ready: SealedReady) -> bytes:
    """What stands in a SealedCollect for a site: commitment and signature, 96 bytes."""
    return ready.commitment + ready.signature


def _too_late() -> SecAggError:
    return SecAggError(
        "There is no attempt that this belongs to, or its vector was burned.", "Drop it."
    )
