"""The offer that opens an attempt of secure aggregation, alone or with the model to train."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar, Self

from privacy.wire.bodies import DIGEST_BYTES, Body, Kind, StartTraining
from privacy.wire.codec import Reader, Writer, malformed
from privacy.wire.sites import check_ids, read_ids, write_ids

VERSION = 2  # 1: the advertisements named no ledger


class MechanismNumber(IntEnum):
    """Who adds the noise. Numbers never change."""

    PLAIN = 0  # nobody: the sum itself is published
    LOCAL = 1  # every site, enough for its own patients
    POOLED = 2  # every site, a share of it


@dataclass(frozen=True, slots=True)
class Terms:
    """What a study fixes for all of its rounds: the recipe (its digest) and what follows from it.

    `dimension` is the number of values of an update, `bits` the width of a packed field, `bound`
    the largest magnitude of a coordinate (B, not the clip), `clipping_norm` the L2 bound of one
    patient (C), `weight_cap` the largest weight of a site, `noise_multiplier` sigma over C.
    """

    recipe_digest: bytes
    dimension: int
    bits: int
    bound: float
    clipping_norm: float
    weight_cap: float
    mechanism: MechanismNumber
    noise_multiplier: float

    def __post_init__(self) -> None:
        if not (self.dimension >= 1 and 2 <= self.bits <= 32):
            raise malformed("An offer's dimension or bits are out of range.")
        for value in (self.bound, self.clipping_norm, self.weight_cap):
            if not (math.isfinite(value) and value > 0):
                raise malformed("A bound of an offer is not a positive number.")
        if not (math.isfinite(self.noise_multiplier) and self.noise_multiplier >= 0):
            raise malformed("An offer's noise multiplier is negative or infinite.")
        if (self.mechanism is MechanismNumber.PLAIN) != (self.noise_multiplier == 0):
            raise malformed("An offer's noise contradicts its mechanism.")

    def write(self, writer: Writer) -> None:
        """Append all fields."""
        writer.fixed(self.recipe_digest, DIGEST_BYTES).u32(self.dimension).u8(self.bits)
        writer.f64(self.bound).f64(self.clipping_norm).f64(self.weight_cap)
        writer.u8(self.mechanism).f64(self.noise_multiplier)

    @classmethod
    def read(cls, reader: Reader) -> Self:
        """Take all fields."""
        return cls(
            recipe_digest=reader.fixed(DIGEST_BYTES),
            dimension=reader.u32(),
            bits=reader.u8(),
            bound=reader.f64(),
            clipping_norm=reader.f64(),
            weight_cap=reader.f64(),
            mechanism=_mechanism(reader.u8()),
            noise_multiplier=reader.f64(),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Offer(Body):
    """Exchange 0, down: the attempt that is offered. `od` is the digest of exactly these bytes.

    `cohort` is a strictly ascending tuple of site ids, `threshold` is t, `expiry` is in Unix
    seconds: after it no site accepts another message of this attempt.
    """

    KIND: ClassVar[Kind] = Kind.OFFER
    version: int
    run: int
    round: int
    attempt: int
    roster_digest: bytes
    model_digest: bytes
    terms: Terms
    threshold: int
    expiry: int
    cohort: tuple[int, ...]

    def __post_init__(self) -> None:
        check_ids(self.cohort)

    def _write(self, writer: Writer) -> None:
        writer.u16(self.version).u64(self.run).u32(self.round).u32(self.attempt)
        writer.fixed(self.roster_digest, DIGEST_BYTES).fixed(self.model_digest, DIGEST_BYTES)
        self.terms.write(writer)
        writer.u16(self.threshold).u64(self.expiry)
        write_ids(writer, self.cohort)

    @classmethod
    def _read(cls, reader: Reader) -> Self:
        return cls(
            version=reader.u16(),
            run=reader.u64(),
            round=reader.u32(),
            attempt=reader.u32(),
            roster_digest=reader.fixed(DIGEST_BYTES),
            model_digest=reader.fixed(DIGEST_BYTES),
            terms=Terms.read(reader),
            threshold=reader.u16(),
            expiry=reader.u64(),
            cohort=read_ids(reader),
        )


@dataclass(frozen=True, slots=True, eq=False)
class TrainMasked(Body):
    """Exchange 0 with the round's model in one message: an offer, and what to train from.

    The answer is the Advertise, which also says that training has begun.
    """

    KIND: ClassVar[Kind] = Kind.TRAIN_MASKED
    offer: Offer
    start: StartTraining

    def _write(self, writer: Writer) -> None:
        self.offer._write(writer)
        self.start._write(writer)

    @classmethod
    def _read(cls, reader: Reader) -> Self:
        return cls(Offer._read(reader), StartTraining._read(reader))


def _mechanism(value: int) -> MechanismNumber:
    try:
        return MechanismNumber(value)
    except ValueError:
        raise malformed("An offer names a mechanism that does not exist.") from None
