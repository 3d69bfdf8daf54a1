"""Releases of one step, made by the code that makes a site's, and what an attacker reads off them.

Nothing of a step is done here again. "local": `LocalTrainer.train`, from the draw to the
optimiser. "pooled": `LocalTrainer.clipped_sum`, then `Sealing.training`, which adds the site's
share of the noise and packs it, as before the masks.

The attacker knows all but the noise and who took part (and who was drawn): every canary's clipped
gradient, from a second run of the same step with everybody in it and the same draws of (t, noise).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast

import numpy as np
import torch
from numpy.typing import NDArray

from client.agent.sealing import Sealing, sealing_of
from client.agent.work import DrawnShare
from client.policy import SiteRules
from client.training import LocalTrainer
from craftsfl.empirical.cohort import AUDITED_SITE, COHORT, Audited, StandIn, stand_in
from craftsfl.simulation.federated import boundless_policy
from craftsfl.simulation.trainers import single_thread
from model.layout import initial_vector
from model.processor import multiplies_bfloat16
from privacy.closing import Closing
from privacy.config import check
from privacy.dpsgd.choice import choose_engine
from privacy.dpsgd.engine import BLANK, ClippedSum, PhysicalBatch
from privacy.dpsgd.engine import PatientGradients as Gradients
from privacy.dpsgd.noise import NoiseSource, SystemNoise
from privacy.dpsgd.release import CONTRIBUTION_BITS
from privacy.events import Event, Observer
from privacy.mechanisms.pooled import PooledGaussian
from privacy.mechanisms.pooled.share import opened
from privacy.secagg.sealed.attempt import PendingStep
from privacy.secagg.sealed.epochs import EpochKeys, noise_seed_of
from privacy.secagg.sealed.journal import SealedIntent
from privacy.study.manifest import Study
from privacy.study.pooling import grid_of
from privacy.study.terms import event_of, mechanism_of
from privacy.wire.sealed import StepForm

if TYPE_CHECKING:
    from privacy.dpsgd.lora_engine import LoraEngine
    from privacy.dpsgd.opacus_engine import OpacusEngine

_PLACES: Final = 12  # of a physical batch: several batches, so that who moves is seen to matter
_UNIT: Final = 2.0**-CONTRIBUTION_BITS


@dataclass(frozen=True)
class ObservedStep:
    """One release, in units of C. `present`, `entered`: bool [canaries]; the first is decided here.

    `scores`: float64 [canaries], how far the release lies in each canary's own direction, the
    others' gradients taken out: noise, plus `signals` where the canary has entered. Directions are
    orthonormal, so that the noise in scores is independent. `norms`: of what each adds. `noise`:
    what is left of the release without all gradients, [P]. `kept`: whether whoever took part adds,
    bit for bit, what it adds where everybody is in.
    """

    present: NDArray[np.bool_]
    entered: NDArray[np.bool_]
    scores: NDArray[np.float64]
    signals: NDArray[np.float64]
    norms: NDArray[np.float64]
    noise: NDArray[np.float64]
    kept: bool


class AuditedSite:
    """A site with canaries for patients."""

    def __init__(self, world: StandIn, kind: Audited) -> None:
        self._world, self._kind = world, kind
        study = world.study
        self._everyone = _with_everybody(study)
        self._adapter = initial_vector(self._trainer(study, ()).layout, b"empirical audit")
        self._keys = EpochKeys(0, {}, os.urandom(32))
        self._draws = KeptNoise(SystemNoise())  # pooled: one secret of all draws
        self._parts: NDArray[np.float64] | None = None

    @classmethod
    def of(cls, kind: Audited, canaries: int, seed: int) -> AuditedSite:
        """A site with so many canaries, made from `seed`."""
        return cls(stand_in(kind, canaries, seed), kind)

    @property
    def canaries(self) -> int:
        """How many there are."""
        return self._world.canaries

    @property
    def study(self) -> Study:
        """What the site takes part in."""
        return self._world.study

    @property
    def share(self) -> float:
        """What the noise of one release has to have for a standard deviation, over C."""
        return mechanism_of(self.study).noise_share(len(COHORT))

    @property
    def claim(self) -> Event:
        """What one release is accounted as, before any mask."""
        if self._kind == "local":
            return event_of(self.study)
        training = self.study.training
        one = PooledGaussian(
            sampling_rate=training.sampling_rate,
            noise_multiplier=training.noise_multiplier,
            clipping_norm=training.clipping_norm,
            steps=1,
            parameters=len(self._adapter),
            grid=8.0 if self.study.pooled is None else self.study.pooled.grid,
            cohort=len(COHORT),
            smallest_cohort=len(COHORT),
            noise_colluders=self.study.privacy.noise_colluders,
        )
        return one.seen_by(Observer.MASKS_BROKEN)

    def release(self, present: NDArray[np.bool_]) -> ObservedStep:
        """One release of a step in which the canaries are enrolled that are `present`."""
        with single_thread():
            made = self._drawn(present) if self._kind == "local" else self._summed(present)
        released, seen, parts = made
        entered = np.isin(np.arange(self.canaries), list(seen))
        noise = released - parts[entered].sum(axis=0)
        directions, signals = _directions(parts)
        return ObservedStep(
            present=present,
            entered=entered,
            scores=noise @ directions + entered * signals,
            signals=signals,
            norms=np.sqrt(np.square(parts).sum(axis=1)),
            noise=noise,
            kept=all(np.array_equal(own, parts[place]) for place, own in seen.items()),
        )

    def _drawn(self, present: NDArray[np.bool_]) -> _Made:
        noise, seen, everybody = KeptNoise(SystemNoise()), SeenParts(), SeenParts()
        own = self._trainer(self.study, np.flatnonzero(~present), noise, seen)
        moved = own.train(self._adapter, progress=_ignored, should_stop=_never)
        again = self._trainer(self._everyone, (), noise.again(), everybody)
        again.train(self._adapter, progress=_ignored, should_stop=_never)
        constants = mechanism_of(self.study).constants(self.canaries)
        # SGD at a rate of one: what it moved is the release, and nothing else.
        released = -moved.astype(np.float64) * (constants.denominator / constants.clipping_norm)
        return released, seen.parts, everybody.rows(self.canaries)

    def _summed(self, present: NDArray[np.bool_]) -> _Made:
        if self._parts is None:
            everybody = SeenParts()
            everyone = self._trainer(self.study, (), self._draws, everybody)
            everyone.clipped_sum(self._adapter, 0, progress=_ignored, should_stop=_never)
            self._parts = everybody.rows(self.canaries)
        seen = SeenParts()
        trainer = self._trainer(self.study, np.flatnonzero(~present), self._draws.again(), seen)
        self._keys = self._keys.at(self._keys.epoch + 1)
        pending = _pending(self._keys.epoch)
        share = self._sealing(trainer).training(trainer, _ShareSeeds(self._keys), pending)
        drawn = cast(DrawnShare, share(self._adapter, progress=_ignored, should_stop=_never))
        released = opened(drawn, grid_of(self.study, len(COHORT)))
        return released, seen.parts, self._parts

    def _sealing(self, trainer: LocalTrainer) -> Sealing:
        rules = SiteRules(AUDITED_SITE, self.study, boundless_policy(self.study))
        return sealing_of(rules, self._world.members.membership(AUDITED_SITE), trainer.layout)

    def _trainer(
        self,
        study: Study,
        absent: Iterable[int],
        noise: NoiseSource | None = None,
        seen: SeenParts | None = None,
    ) -> LocalTrainer:
        rows = study.training.tiles_per_patient * study.training.draws_per_tile
        return LocalTrainer(
            study,
            AUDITED_SITE,
            self._world.pipeline,
            self._world.tiles.without([int(one) for one in absent]),
            noise=noise,
            physical_rows=_PLACES * rows,
            # What a site's own trainer does where it is faster: here, wherever it can.
            precision="bfloat16" if multiplies_bfloat16() else "float32",
            engine=lambda module, own: _Watching(choose_engine(module, own), seen or SeenParts()),
        )


class KeptNoise:
    """The system's randomness, and what was drawn, so that a step can be taken `again`."""

    def __init__(self, source: NoiseSource) -> None:
        self._source = source
        self._drawn: list[NDArray[np.float64]] = []

    def uniform(self, n: int) -> NDArray[np.float64]:
        """See `NoiseSource.uniform`."""
        self._drawn.append(self._source.uniform(n))
        return self._drawn[-1]

    def again(self) -> NoiseSource:
        """The same numbers in the same order; new ones after them."""
        return _Again(self._drawn)


class _Again:
    def __init__(self, drawn: list[NDArray[np.float64]]) -> None:
        self._left = list(drawn)

    def uniform(self, n: int) -> NDArray[np.float64]:
        return self._left.pop(0) if self._left else SystemNoise().uniform(n)


class SeenParts:
    """What the engine said that each patient adds, in units of C."""

    def __init__(self) -> None:
        self.parts: dict[int, NDArray[np.float64]] = {}

    def add(self, patients: Iterable[int], parts: torch.Tensor) -> None:
        """Note a batch: numbers of patients or `BLANK`, and integers [places, P]."""
        for patient, part in zip(patients, parts.double().cpu().numpy() * _UNIT, strict=True):
            if patient != BLANK:
                self.parts[patient] = part

    def rows(self, patients: int) -> NDArray[np.float64]:
        """Everybody's, [patients, P]."""
        return np.stack([self.parts[patient] for patient in range(patients)])


class _Watching(Closing):
    """The site's own engine, whose contributions are read on the way."""

    def __init__(self, engine: LoraEngine | OpacusEngine, seen: SeenParts) -> None:
        self._engine, self._seen = engine, seen

    @property
    def size(self) -> int:
        return self._engine.size

    def gradients(self, batch: PhysicalBatch) -> Gradients:
        return self._engine.gradients(batch)

    def clipped_sum(self, batches: Iterable[PhysicalBatch], clipping_norm: float) -> ClippedSum:
        return self._engine.clipped_sum(batches, clipping_norm)

    def contributions(
        self, batches: Iterable[PhysicalBatch], clipping_norm: float
    ) -> Iterator[torch.Tensor]:
        standing: list[list[int]] = []

        def noted() -> Iterator[PhysicalBatch]:
            for batch in batches:
                standing.append(batch.patients.tolist())
                yield batch

        for parts in self._engine.contributions(noted(), clipping_norm):
            self._seen.add(standing.pop(0), parts)
            yield parts

    def close(self) -> None:
        self._engine.close()


@dataclass(frozen=True)
class _ShareSeeds:
    """The seeds of a site's shares, one epoch's key for each release."""

    keys: EpochKeys

    def noise_seed(self, label: bytes, centres: bytes) -> bytes:
        return noise_seed_of(self.keys.noise, label, centres)


_Made = tuple[NDArray[np.float64], dict[int, NDArray[np.float64]], NDArray[np.float64]]


def _directions(
    parts: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Orthonormal columns [P, n], nearest to the rows' own directions; and each row in its column.

    Löwdin 1950: with G = A A^T, the columns of A^T G^(-1/2). The diagonal of G^(1/2) is what is
    left of each canary: where they hardly overlap, nearly all of its norm.
    """
    values, vectors = np.linalg.eigh(parts @ parts.T)
    root = np.sqrt(np.maximum(values, 1e-12))
    directions = parts.T @ (vectors / root) @ vectors.T
    return directions, np.einsum("ij,ij->j", parts.T, directions)


def _with_everybody(study: Study) -> Study:
    """`study` with everybody in every step: only to learn what each canary adds."""
    values = study.model_dump(mode="json")
    values["training"]["sampling_rate"] = 1.0
    return check(values, Study, where="the stand-in study")


def _pending(epoch: int) -> PendingStep:
    label = hashlib.sha256(b"empirical audit %d" % epoch).digest()
    intent = SealedIntent(1, 1, 0, epoch, epoch, label, COHORT, 0)
    return PendingStep(intent, 0, StepForm.DIRECT)


def _never() -> bool:
    return False


def _ignored(done: int, total: int) -> None:
    """No progress is shown."""
