"""The demo's study, in both modes: what the consortium agrees on before anybody trains.

Pooled: all patients in every step, shares of one noise, each round one sealed step. Threshold:
every hospital trains for itself with all the noise of its own, and updates are masked.
"""

# Why: docs/adr/0043-what-makes-private-training-learn.md

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal

from craftsfl.demo.templates import POOLED_STUDY_TEMPLATE, STUDY_TEMPLATE
from privacy.accounting import calibrate_noise_multiplier, epsilon
from privacy.mechanisms.pooled import PooledTerms
from privacy.secagg.offer import most_absent
from privacy.secagg.width import coordinate_bound

DemoMode = Literal["pooled", "threshold"]

EPSILON_BUDGET: Final = 8.0
DELTA: Final = 1e-5
_EPSILON_PLANNED: Final = 7.5  # of all attempts; what is left shows that a budget need not be used
# Of tissue that the base knows: what real hospitals' tiles are like, nobody can say beforehand.
KNOWN_PROMPTS: Final = (
    "colon adenocarcinoma, colon: round glands with open lumens.",
    "diffuse large B-cell lymphoma, lymph node: dense lymphoid sheets.",
    "sarcoma, soft tissue: fascicles of spindle cells.",
    "breast invasive carcinoma, breast: pale pools of mucin.",
)

# Pooled. Chosen by `bench.pooled` on synthetic tissue of other patients (docs/measurements.md).
_STEPS: Final = 40
# All of cross-attention: what is new is what words mean.
_POOLED_TARGETS: Final = ("attn2.to_q", "attn2.to_k", "attn2.to_v", "attn2.to_out.0")
_PARAMETERS: Final = 1536  # of the tiny base with these targets at rank 1, frozen A
_POOLED_CLIP: Final = 0.0005
_POOLED_RATE: Final = 0.06
_GRID: Final = 8.0
_SPARE_ATTEMPTS: Final = 6  # slots are short, and the machine may get busier than it was
_NOISE_COLLUDERS: Final = 1

# Threshold.
_ROUND_TARGETS: Final = ("attn1.to_v", "attn1.to_out.0", "attn2.to_v", "attn2.to_out.0")
_ROUNDS: Final = 2  # each takes five exchanges of a few seconds, and waits for its reply slot
_ATTEMPTS: Final = 2  # of a round
_SAMPLING_RATE: Final = 0.25
_STEPS_PER_ROUND: Final = 6
_LEARNING_RATE: Final = 0.03
_CLIP: Final = 0.0005
_LARGEST_ADAPTER: Final = 1_000_000  # parameters; the bound grows with the root of its logarithm


@dataclass(frozen=True)
class StudyDraft:
    """What the demo's study depends on; `declared` patients by hospital, digests as in the file."""

    name: str
    rounds: int | None
    base_digest: str
    roster: str
    reply_slot: float
    declared: Mapping[str, int]
    prompts: tuple[str, ...]  # that pictures are drawn of
    coordinator_key: str = ""

    @property
    def patients(self) -> int:
        """Declared by all hospitals together."""
        return sum(self.declared.values())

    def shared(self) -> dict[str, object]:
        """What both templates are filled in with."""
        sites = "".join(
            f'[[sites]]\nname = "{name}"\ndeclared_patients = {declared}\n\n'
            for name, declared in self.declared.items()
        )
        return {
            "name": self.name,
            "digest": self.base_digest,
            "delta": DELTA,
            "roster": self.roster,
            "reply_slot": self.reply_slot,
            "min_sites": len(self.declared) - most_absent(len(self.declared)),
            "sites": sites,
            "prompts": json.dumps(self.prompts),
        }


def study_text(mode: DemoMode, draft: StudyDraft) -> str:
    """The study file."""
    return _pooled_text(draft) if mode == "pooled" else _threshold_text(draft)


def patients_at_once(mode: DemoMode, declared: int) -> float:
    """How many patients all hospitals train on between two reply slots, on average."""
    return declared * (1.0 if mode == "pooled" else _SAMPLING_RATE * _STEPS_PER_ROUND)


def _pooled_text(draft: StudyDraft) -> str:
    steps = draft.rounds or _STEPS
    return POOLED_STUDY_TEMPLATE.format(
        **draft.shared(),
        rounds=steps,
        targets=json.dumps(_POOLED_TARGETS),
        parameters=_PARAMETERS,
        clipping_norm=_POOLED_CLIP,
        learning_rate=_POOLED_RATE,
        grid=_GRID,
        spare_attempts=_SPARE_ATTEMPTS,
        noise_colluders=_NOISE_COLLUDERS,
        noise_multiplier=_pooled_noise(draft, steps),
        coordinator_key=draft.coordinator_key,
    )


def _pooled_noise(draft: StudyDraft, steps: int) -> float:
    """The least sigma, to a thousandth, whose steps and spare attempts cost what is planned."""
    sites = len(draft.declared)
    terms = PooledTerms(
        sites=sites,
        smallest_cohort=sites - most_absent(sites),
        noise_colluders=_NOISE_COLLUDERS,
        noise_multiplier=1.0,
        clipping_norm=_POOLED_CLIP,
        parameters=_PARAMETERS,
        steps=steps,
        spare_attempts=_SPARE_ATTEMPTS,
        patients=draft.patients,
        grid=_GRID,
    )

    def enough(thousandths: int) -> bool:
        event = replace(terms, noise_multiplier=thousandths / 1000).event
        return epsilon([event] * terms.most_charges, DELTA) <= _EPSILON_PLANNED

    low, high = 500, 1000
    while not enough(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high / 1000


def _threshold_text(draft: StudyDraft) -> str:
    rounds = draft.rounds or _ROUNDS
    return STUDY_TEMPLATE.format(
        **draft.shared(),
        rounds=rounds,
        targets=json.dumps(_ROUND_TARGETS),
        clipping_norm=_CLIP,
        noise_multiplier=_noise_multiplier(rounds),
        attempts=_ATTEMPTS,
        steps=_STEPS_PER_ROUND,
        sampling_rate=_SAMPLING_RATE,
        learning_rate=_LEARNING_RATE,
        bound=_bound(draft),
    )


def _bound(draft: StudyDraft) -> float:
    """B of a round: Adam moves a parameter by about the learning rate per step, whatever the noise.

    Rotated, such an update of length r has coordinates of about r / sqrt(d).
    """
    share = max(draft.declared.values()) / draft.patients
    norm = share * _STEPS_PER_ROUND * _LEARNING_RATE * math.sqrt(_LARGEST_ADAPTER)
    return math.ceil(coordinate_bound(norm, _LARGEST_ADAPTER, len(draft.declared)) * 1000) / 1000


def _noise_multiplier(rounds: int) -> float:
    """The sigma for which `rounds` rounds with all attempts cost a patient `_EPSILON_PLANNED`.

    A hospital refuses a study that could cost more than its budget before the end.
    """
    sigma = calibrate_noise_multiplier(
        epsilon=_EPSILON_PLANNED,
        delta=DELTA,
        sampling_rate=_SAMPLING_RATE,
        steps=rounds * _STEPS_PER_ROUND,
        attempts=_ATTEMPTS,
    )
    return math.ceil(sigma * 1000) / 1000
