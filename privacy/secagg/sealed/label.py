"""What a session's and an attempt's masks hang on: recomputed by each site from its own data.

    sd = H("session", SessionOffer without its signature)
    kd = H("session-keys", sd, SessionKeys)
    gd = H("session-group", sd, kd, SessionGroup)
    L  = H("label", version, sd, kd, gd, step, attempt, e, form, slot, K,
           study, roster, terms, base, layout, frozen, lanes, bits, adapter, state, sums [, log])
    e  = (step - first) attempts + attempt, from 1 to E = (last - first + 1) attempts

`H` is `privacy.secagg.keys.digest`. In L, numbers are one field (version u16; step, attempt, e u32;
form u8; slot u64; the ids of K; lanes u32, bits u8, in this order), digests are 32 bytes each.
`log` is H("label-log", head, checkpoint) of what the step says of the consortium's log, and only
there where it says something.
Pair masks of two sites cancel only when both have the same L: so another model, cohort, key list,
slot or history at one of two halves makes no sum, and needs no round of consistency.
"""

# Why: docs/adr/0040-sealed-steps.md

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from privacy.errors import SecAggError
from privacy.secagg.keys import digest
from privacy.secagg.sealed.residues import MAX_RESIDUE_BITS, MIN_RESIDUE_BITS
from privacy.wire.bodies import DIGEST_BYTES
from privacy.wire.codec import Writer
from privacy.wire.sealed import PROOF_LANES, SealedStep
from privacy.wire.session import (
    SEALED_VERSION,
    SessionGroup,
    SessionKeys,
    SessionOffer,
    SessionOpening,
)
from privacy.wire.sites import write_ids

MOST_EPOCHS: Final = 10_000  # a jump over all of them still takes no more than seconds

_SESSION: Final = b"session"
_KEYS: Final = b"session-keys"
_GROUP: Final = b"session-group"
_SECRET: Final = b"session-group-secret"
_LABEL: Final = b"label"
_LOG: Final = b"label-log"


@dataclass(frozen=True, slots=True)
class SealedStudy:
    """What is the same in all sessions of a study, at every site and at the coordinator.

    Digests have 32 bytes; `base`, `layout`, `frozen` are of the base model, the adapter's layout
    and the frozen factors, `terms_digest` of the pooled terms. A packed vector has `lanes` words
    with fields of `bits`. `steps` is T, `attempts` how often one step may be tried, `n_min` the
    smallest cohort, `most_changes` how often the cohort may change in the study.
    `coordinator` is the coordinator's Ed25519 key. Raises `SecAggError` for values out of range.
    """

    study_digest: bytes
    roster_digest: bytes
    terms_digest: bytes
    base: bytes
    layout: bytes
    frozen: bytes
    lanes: int
    bits: int
    steps: int
    attempts: int
    n_min: int
    most_changes: int
    coordinator: bytes

    def __post_init__(self) -> None:
        digests = (self.study_digest, self.roster_digest, self.terms_digest, self.base)
        if any(len(one) != DIGEST_BYTES for one in (*digests, self.layout, self.frozen)):
            raise SecAggError("A digest of the study does not have 32 bytes.")
        fits = MIN_RESIDUE_BITS <= self.bits <= MAX_RESIDUE_BITS and self.lanes % self.bits == 0
        if not (1 <= self.lanes < 1 << 32 and fits):
            raise SecAggError(f"{self.lanes} lanes with fields of {self.bits} bits are no vector.")
        if not (self.steps >= 1 and 1 <= self.attempts < 1 << 16):
            raise SecAggError("A study without a step, or without an attempt at one.")
        if self.steps * self.attempts > MOST_EPOCHS:
            raise SecAggError(
                f"{self.steps} steps with {self.attempts} attempts each are too many to number.",
                f"Take fewer spare attempts: the product may be {MOST_EPOCHS}.",
            )

    @property
    def sent(self) -> int:
        """The lanes of a Sealed: the packed vector, one of zero, and two of the MAC."""
        return self.lanes + PROOF_LANES


@dataclass(frozen=True, slots=True)
class ChainDigests:
    """Where the adapter stands before a step: of the adapter, the optimiser and the opened sums."""

    adapter: bytes
    state: bytes
    sums: bytes


@dataclass(frozen=True, slots=True)
class SessionDigests:
    """sd, kd and gd of a session."""

    session: bytes
    keys: bytes
    group: bytes


def session_digest(offer: SessionOffer) -> bytes:
    """sd, 32 bytes."""
    return digest(_SESSION, offer.signed_part())


def keys_digest(sd: bytes, keys: SessionKeys) -> bytes:
    """kd, 32 bytes: the whole list of keys."""
    return digest(_KEYS, sd, keys.encode())


def session_digests(offer: SessionOffer, opening: SessionOpening) -> SessionDigests:
    """sd, kd and gd of a session that was opened."""
    sd = session_digest(offer)
    kd = keys_digest(sd, opening.keys)
    return SessionDigests(sd, kd, group_digest(sd, kd, opening.group))


def group_digest(sd: bytes, kd: bytes, group: SessionGroup) -> bytes:
    """gd, 32 bytes: who dealt the group's secret, and how."""
    return digest(_GROUP, sd, kd, group.encode())


def group_commitment(sd: bytes, kd: bytes, secret: bytes) -> bytes:
    """What a dealer publishes of the group's secret, 32 bytes: hides it, and binds to it.

    Two secrets among honest sites with one label would be a second sum of theirs: the difference of
    two tags tells a linear function of one part of them.
    """
    return digest(_SECRET, sd, kd, secret)


def epoch_of(offer: SessionOffer, step: int, attempt: int) -> int:
    """e of an attempt at a step; 0 if it is not one of the session's."""
    if not (offer.first <= step <= offer.last and 1 <= attempt <= offer.attempts):
        return 0
    return (step - offer.first) * offer.attempts + attempt


def label_of(
    study: SealedStudy, digests: SessionDigests, epoch: int, chain: ChainDigests, step: SealedStep
) -> bytes:
    """L, 32 bytes. Of `step` it takes step, attempt, form, slot, cohort and log, nothing else.

    With the log in it, sites that are shown two logs have two labels, and no sum opens.
    """
    numbers = Writer().u16(SEALED_VERSION).u32(step.step).u32(step.attempt).u32(epoch)
    numbers.u8(step.form).u64(step.slot)
    write_ids(numbers, step.cohort)
    numbers.u32(study.lanes).u8(study.bits)
    return digest(
        _LABEL,
        numbers.done(),
        *(digests.session, digests.keys, digests.group),
        *(study.study_digest, study.roster_digest, study.terms_digest),
        *(study.base, study.layout, study.frozen),
        *(chain.adapter, chain.state, chain.sums),
        *([digest(_LOG, step.head, step.checkpoint)] if step.log else []),
    )
