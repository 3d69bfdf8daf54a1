"""What `bench.stage_two` trains: sizes, the constants of each loss, and which patients."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import numpy as np

from bench.training import CROSS_ATTENTION
from model.encoders.files import find_encoder
from model.lab.pretraining.corpus import draw_caption
from model.lab.tissue.domain import RARE_TYPES, STAINS, domain_caption
from model.lab.tissue.tile import MORPHOLOGIES
from model.processor import multiplies_bfloat16
from privacy.accounting import calibrate_noise_multiplier
from privacy.study.manifest import Adapter
from privacy.study.stage_two import (
    CaptionEffects,
    DriftSuppressor,
    Encoder,
    Grounding,
    StageTwo,
    Structure,
)
from strategies.rule import UpdateRule

if TYPE_CHECKING:
    from client.training.precision import Precision

REFERENCE: Final = "tiny"
EVALUATOR: Final = "tiny-evaluator"  # never used in training
BASELINE: Final = "denoising"
STRUCTURE: Final = "structure"
GROUNDING: Final = "grounding"
EFFECTS: Final = "effects"
SHUFFLED: Final = "effects, shuffled"
BOTH: Final = "effects + grounding"
SQUARED: Final = "effects, squared error"
STAGE_TWO_LOSSES: Final = (BASELINE, STRUCTURE, GROUNDING, EFFECTS, SHUFFLED, BOTH, SQUARED)

# Every pair of the domain, fixed before any patient is drawn. Grounding contrasts a row's own
# caption with these; alignment subtracts the mean over them, using another encoder.
DOMAIN_CAPTIONS: Final = tuple(
    domain_caption(rare, stain) for rare in RARE_TYPES for stain in STAINS
)
SHOWN: Final = {  # the morphology of each, which no loss is told
    domain_caption(rare, stain): rare.morphology for rare in RARE_TYPES for stain in STAINS
}

# Fixed before anything was tuned on this question: what the table reports, and what constants may
# be chosen on. Nobody may look at a reported seed and choose afterwards.
REPORTED_SEEDS: Final = tuple(range(200, 210))
TUNING_SEEDS: Final = tuple(range(100, 104))

_ANCHORS: Final = 53_000  # seed of the drift suppressor's captions
_PHRASES: Final = 57_000  # of the effects' phrases


def public_captions(seed: int, count: int) -> tuple[str, ...]:
    """Captions like stage one's, one morphology after the other."""
    random = np.random.default_rng(seed)
    return tuple(draw_caption(i % len(MORPHOLOGIES), random) for i in range(count))


def anchor_captions(count: int) -> tuple[str, ...]:
    """The drift suppressor's public captions; some occur twice."""
    return public_captions(_ANCHORS, count)


@lru_cache
def phrase_captions(count: int) -> dict[str, str]:
    """Distinct captions of stage one, and the morphology that each names."""
    random, found = np.random.default_rng(_PHRASES), dict[str, str]()
    while len(found) < count:
        label = len(found) % len(MORPHOLOGIES)
        found.setdefault(draw_caption(label, random), MORPHOLOGIES[label])
    return found


@dataclass(frozen=True)
class Constants:
    """Constants of the terms, tuned on seeds whose patients are not reported."""

    structure: float = 0.02  # lambda
    structure_margin: float = 0.64  # m: craftsfl model margin --block up_blocks.0
    block: str = "up_blocks.0"
    grounding: float = 0.2  # gamma
    temperature: float = 0.02  # tau
    each: int = 1  # K
    effects_margin: float = 0.5
    phrases: int = 96
    squared: float = 1.0  # lambda of the control without a scale of its own


@dataclass(frozen=True)
class TrainingPlan:
    """How one half of the table trains. `drift` is beta, `effects` lambda.

    Each step takes `drawn` of the `patients`. With `epsilon` the mean of each step carries the
    noise that three hospitals' sealed steps over ALL of them would open, where `colluders` may
    subtract theirs; the draw's own scatter counts towards it (`added_deviation`).
    """

    drift: float
    effects: float
    rule: UpdateRule
    patients: int = 1200  # N
    rank: int = 4
    frozen_a: bool = False
    targets: tuple[str, ...] = CROSS_ATTENTION
    steps: int = 50  # T
    drawn: int = 64
    clipping_norm: float = 1.0  # which no gradient reaches
    epsilon: float | None = None
    delta: float = 1e-5
    sites: int = 3
    colluders: int = 1  # n_c

    @property
    def adapter(self) -> Adapter:
        """What is trained."""
        rank = self.rank
        return Adapter(targets=self.targets, rank=rank, alpha=float(rank), frozen_a=self.frozen_a)

    @property
    def sigma(self) -> float:
        """Noise multiplier of T sums over everybody; 0 without privacy."""
        return 0.0 if self.epsilon is None else _sigma(self.epsilon, self.delta, self.steps)

    @property
    def opened_deviation(self) -> float:
        """Of the noise in each number of an opened mean over everybody, in units of C."""
        return self.sigma * math.sqrt(self.sites / (self.sites - self.colluders)) / self.patients

    def added_deviation(self, parameters: int) -> float:
        """Of the noise that is added to each number of the mean over those drawn.

        Such that noise and sampling together vary as they would with everybody in the step:
        gradients that are all clipped scatter by C in all, over P numbers (docs/adr/0043).
        """
        scatter = (1 / self.drawn - 1 / self.patients) / parameters
        return math.sqrt(max(self.opened_deviation**2 - scatter, 0.0))


@lru_cache
def _sigma(epsilon: float, delta: float, steps: int) -> float:
    return calibrate_noise_multiplier(epsilon=epsilon, delta=delta, sampling_rate=1.0, steps=steps)


@dataclass(frozen=True)
class StageTwoSetting:
    """One run's sizes; the same for every loss.

    `draws`: of (t, noise) for every held-out tile. `public`: stage-one tiles; drift is
    measured on those whose caption no term saw. `obeyed`: stage-one captions that an image is drawn
    for. `anchors`: captions of the suppressor.
    """

    plain: TrainingPlan
    private: TrainingPlan
    held_out: int = 80
    public: int = 48
    obeyed: int = 48
    anchors: int = 120
    draws: int = 4
    sampling_steps: int = 10
    guidance: float = 3.0
    constants: Constants = Constants()

    @property
    def patients(self) -> int:
        """How many are drawn for training; a half with fewer takes the first of them."""
        return max(self.plain.patients, self.private.patients)

    def plan(self, *, private: bool) -> TrainingPlan:
        """How a run trains."""
        return self.private if private else self.plain

    def digest(self, loss: str, *, private: bool) -> str:
        """Identifies, in the file of finished runs, what a run depends on except its seed."""
        sizes = {n: v for n, v in asdict(self).items() if n not in ("plain", "private", "anchors")}
        terms = self.terms(loss, private=private)
        made = None if terms is None else terms.model_dump(mode="json")
        plan = asdict(self.plan(private=private))
        evaluator = find_encoder(EVALUATOR).digest()
        precision = self.precision(loss, private=private)
        text = json.dumps([loss, made, plan, sizes, evaluator, precision], sort_keys=True)
        return hashlib.sha256(text.encode("ascii")).hexdigest()[:16]

    def terms(self, loss: str, *, private: bool) -> StageTwo | None:
        """The terms that one of STAGE_TWO_LOSSES adds to denoising."""
        if loss == BASELINE:
            return None
        grounded = loss in (GROUNDING, BOTH)
        return StageTwo(
            structure=self.structure() if loss == STRUCTURE else None,
            effects=self.effects(loss, private=private) if loss.startswith(EFFECTS) else None,
            drift=self._drift(private=private) if grounded else None,
            grounding=self._grounding() if grounded else None,
        )

    def precision(self, loss: str, *, private: bool) -> Precision:
        """Of the frozen layers while it trains: a site's own rule (docs/adr/0070), untimed."""
        terms = self.terms(loss, private=private)
        compares = terms is not None and terms.effects is not None
        return "bfloat16" if multiplies_bfloat16() and not compares else "float32"

    def structure(self) -> Structure:
        """Places against the reference encoder's."""
        constants = self.constants
        return Structure(
            weight=constants.structure,
            margin=constants.structure_margin,
            block=constants.block,
            encoder=_reference(),
        )

    def effects(self, loss: str = EFFECTS, *, private: bool) -> CaptionEffects:
        """What captions do against what stage one's do."""
        constants = self.constants
        weight = self.plan(private=private).effects
        return CaptionEffects(
            weight=constants.squared if loss == SQUARED else weight,
            margin=constants.effects_margin,
            encoder=_reference(),
            phrases=tuple(phrase_captions(constants.phrases)),
        )

    def _drift(self, *, private: bool) -> DriftSuppressor:
        """Under public captions: under the patients' own it would oppose what should be learned."""
        weight = self.plan(private=private).drift
        return DriftSuppressor(weight=weight, captions=anchor_captions(self.anchors))

    def _grounding(self) -> Grounding:
        constants = self.constants
        return Grounding(
            weight=constants.grounding,
            temperature=constants.temperature,
            captions=DOMAIN_CAPTIONS,
            each=constants.each,
        )


def _reference() -> Encoder:
    return Encoder(source=REFERENCE, digest=find_encoder(REFERENCE).digest())


FULL: Final = StageTwoSetting(
    plain=TrainingPlan(drift=1.2, effects=0.5, rule=UpdateRule("adam", 0.03)),
    # The demo's: three hospitals of 170 patients, 50 sealed steps.
    private=TrainingPlan(
        drift=0.8,
        effects=0.1,
        rule=UpdateRule("adam", 0.06),
        patients=510,
        rank=1,
        frozen_a=True,
        clipping_norm=0.0005,
        epsilon=8.0,
    ),
)
# Too little to learn anything: every part runs, and the table is complete.
QUICK: Final = StageTwoSetting(
    plain=replace(FULL.plain, patients=16, drawn=4, steps=1),
    private=replace(FULL.private, patients=12, drawn=4, steps=1),
    held_out=4,
    public=4,
    obeyed=4,
    anchors=8,
    draws=1,
    sampling_steps=2,
)
