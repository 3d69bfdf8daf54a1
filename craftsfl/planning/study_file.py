"""A plan as `study.toml`, with every bound of it written down, and what a policy has to allow."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final

from craftsfl.planning.plan import StudyPlan
from privacy.study.manifest import Study

NOT_YET: Final = "0" * 64
"""In place of a digest or a key that the consortium does not have yet."""

_PROMPTS: Final = ("colon adenocarcinoma, colon: round glands with open lumens.",)


@dataclass(frozen=True, slots=True)
class StudyNames:
    """What a plan does not know of its study. `roster` and `coordinator_key`: 64 hex digits."""

    name: str
    base: str  # digest
    source: str
    roster: str = NOT_YET
    coordinator_key: str = NOT_YET


def planned_study_text(plan: StudyPlan, names: StudyNames) -> str:
    """`study.toml` of the plan's pooled study. Raises `ConfigError` if no agent would read it."""
    asked, known, noise = plan.asked, plan.known, plan.pooled.noise
    cost = plan.pooled.cost
    grounds = "rehearsal: synthetic tissue" if known.rehearsed else "public data: not rehearsed yet"
    sites = "\n".join(
        f'[[sites]]\nname = "{site.name}"\ndeclared_patients = {site.declared_patients}\n'
        for site in asked.sites
    )
    values = {
        "name": names.name,
        "rounds": asked.steps,
        "digest": names.base,
        "source": json.dumps(names.source),
        "targets": json.dumps(list(asked.adapter.targets)),
        "rank": asked.adapter.rank,
        "alpha": asked.adapter.alpha,
        "tiles": asked.tiles,
        "draws": asked.draws,
        "clip": f"{known.clipping_norm:g}",
        "sigma": f"{noise.sigma:.4f}",
        "delta": f"{asked.delta:g}",
        "colluders": asked.colluders,
        "parameters": asked.parameters,
        "grid": f"{noise.terms.grid:.1f}",
        "spare": asked.spare_attempts,
        "key": names.coordinator_key,
        "grounds": json.dumps(grounds),
        "rate": f"{plan.learning_rate:g}",
        "roster": names.roster,
        "min_sites": asked.min_sites,
        "deadline": f"{3 * cost.slot:.1f}",
        "slot": f"{cost.slot:.1f}",
        "sites": sites,
        "prompts": json.dumps(list(_PROMPTS)),
        "charges": noise.terms.most_charges,
        "epsilon": f"{asked.epsilon:g}",
    }
    return _TEMPLATE.format(**values)


def policy_lines(study: Study, epsilon: float) -> str:
    """What every hospital's policy.toml has to allow for the study, and no more."""
    training, pooled = study.training, study.pooled
    spare = 0 if pooled is None else pooled.spare_attempts
    absent = len(study.sites) - study.smallest_cohort
    return "\n".join(
        (
            f"study_epsilon = {epsilon:g}",
            f'studies = ["{study.digest().hex()}"]',
            f'bases = ["{study.base.digest}"]',
            'mechanisms = ["pooled"]',
            'across_studies = "gdp-filter"',
            f"min_noise_colluders = {study.privacy.noise_colluders}",
            f"max_spare_attempts = {spare}",
            f"min_cohort = {study.smallest_cohort}",
            f"max_absent = {absent}",
            f"max_rounds = {study.rounds}",
            "max_steps_per_round = 1",
            f"max_tiles_per_patient = {training.tiles_per_patient}",
            f"max_draws_per_tile = {training.draws_per_tile}",
            f"max_clipping_norm = {training.clipping_norm:g}",
            f"max_rank = {study.adapter.rank}",
            f"min_noise_multiplier = {training.noise_multiplier:.4f}",
            f"max_parameters = {0 if pooled is None else pooled.parameters}",
            f"min_reply_slot = {study.cohort.reply_slot:.1f}",
        )
    )


_TEMPLATE: Final = """\
# The public manifest of a study, planned by `craftsfl rounds plan`: every number in it was chosen
# on synthetic or public tissue, and none on a patient. Coordinator and sites hold the same file.
name = "{name}"
rounds = {rounds}                    # T: steps

[base]
digest = "{digest}"
source = {source}

[adapter]
targets = {targets}
rank = {rank}
alpha = {alpha}
frozen_a = true

[training]                     # all patients in every step; the optimiser is [aggregation]'s
sampling_rate = 1.0
steps = 1
tiles_per_patient = {tiles}
draws_per_tile = {draws}
clipping_norm = {clip}         # C
noise_multiplier = {sigma}     # sigma, of the whole sum: {charges} charges make epsilon {epsilon}
loss = "denoising"

[privacy]
mechanism = "pooled"
delta = {delta}
noise_colluders = {colluders}            # n_c

[pooled]
parameters = {parameters}              # P
grid = {grid}
spare_attempts = {spare}             # A
session_hours = 8.0
coordinator_key = "{key}" # craftsfl rounds key

[chosen]
clipping_norm = {grounds}
learning_rate = {grounds}
adapter = {grounds}
rounds = {grounds}
reply_slot = "rehearsal: the planning machine's speed"

[aggregation]
strategy = "adam"
learning_rate = {rate}
beta1 = 0.9
beta2 = 0.95
floor = 0.1
secure_aggregation = "required"

[secure_aggregation]
roster = "{roster}" # craftsfl rounds roster show
colluders = {colluders}
exchange_deadline = 60.0

[cohort]
min_sites = {min_sites}
round_deadline = {deadline}
reply_slot = {slot}

{sites}
[samples]                      # the only prompts that are ever drawn or tracked: replace them
prompts = {prompts}
seeds = [1, 2]
steps = 20
guidance = 3.0
"""
