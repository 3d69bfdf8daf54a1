"""A policy.toml that allows what one study needs and no more; for a later study, that much more.

Pure: from the study, what a hospital decides about its lifetime budget, and the policy that it has.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from client.settings import ANY, Policy
from privacy.accounting.across import GaussianFilter
from privacy.accounting.bounds import largest_delta
from privacy.budget import cost_of_attempts
from privacy.config import check
from privacy.ledger import Charge
from privacy.study.manifest import Study
from privacy.study.terms import mechanism_of

_MOST_STUDIES: Final = 10  # that a proposal makes room for
_LARGEST: Final = 1e4  # no lifetime budget is proposed above it
_ROUNDED: Final = 100  # a proposed epsilon has two decimals, rounded up


@dataclass(frozen=True, slots=True)
class StudyPrice:
    """What the whole of a study costs a patient at one site, every attempt charged."""

    charge: Charge
    attempts: int
    declared_patients: int

    @classmethod
    def of(cls, study: Study, declared_patients: int) -> StudyPrice:
        """Of `study`, at a site that declares so many patients."""
        event = mechanism_of(study).event
        charge = Charge(study.digest(), event, study.privacy.delta)
        return cls(charge, study.most_attempts, declared_patients)

    @property
    def epsilon(self) -> float:
        """At the study's own delta."""
        return cost_of_attempts(self.charge, self.attempts)

    @property
    def delta(self) -> float:
        """The largest lifetime delta that this many patients allow."""
        return largest_delta(self.declared_patients)

    @property
    def studies(self) -> int:
        """How many studies like this one share that delta, by plan."""
        return max(1, min(_MOST_STUDIES, int(self.delta / self.charge.delta * (1 + 1e-9))))

    def lifetime(self, studies: int) -> float:
        """The lifetime epsilon within which so many studies like this one can end."""
        if not self._filtered:
            return _up(studies * self.epsilon)
        events = [self.charge.event.times(studies * self.attempts)]
        low, high = 0.0, max(1.0, self.epsilon)
        while not _fits(events, high, self.delta):
            low, high = high, 2 * high
            if high > _LARGEST:
                return math.inf
        while high - low > 1 / _ROUNDED:
            middle = (low + high) / 2
            low, high = (low, middle) if _fits(events, middle, self.delta) else (middle, high)
        return max(_up(high), _up(self.epsilon))

    @property
    def _filtered(self) -> bool:
        """Whether studies like this one are composed by a Gaussian filter."""
        return all(part.sampling_rate == 1 for part in self.charge.event.charged)


def sized_policy(study: Study, price: StudyPrice, lifetime: float, before: Policy | None) -> Policy:
    """What `before` allows, and what `study` needs in addition; without it, only the latter.

    `lifetime` is the epsilon of all studies together. A policy's other decisions stay as they are.
    """
    needs = _needs(study, price)
    if before is None:
        whole = {
            **needs,
            "epsilon": lifetime,
            "delta": price.delta,
            "across_studies": "gdp-filter" if study.pools_noise else "sum",
        }
    else:
        whole = before.model_dump(mode="json", exclude_unset=True)
        whole = {**whole, **_loosened(before, needs), "epsilon": max(lifetime, before.epsilon)}
    return check(whole, Policy, where="the proposed policy")


def loosened(before: Policy, after: Policy) -> tuple[str, ...]:
    """The bounds in which `after` allows more than `before`, as "max_rounds 6 -> 40"."""
    return tuple(
        f"{name} {_shown(getattr(before, name))} -> {_shown(getattr(after, name))}"
        for name in Policy.model_fields
        if getattr(before, name) != getattr(after, name)
    )


def policy_text(policy: Policy, study: Study) -> str:
    """The file, with what each part is for."""
    values = policy.model_dump(mode="json", exclude_unset=True)
    lines = [_HEAD.format(study=study.name)]
    for title, names in _PARTS:
        lines += [f"\n# {title}"]
        lines += [f"{name} = {json.dumps(values.pop(name))}" for name in names if name in values]
    if values:
        lines += ["\n# Decided before."]
        lines += [f"{name} = {json.dumps(value)}" for name, value in values.items()]
    return "\n".join(lines) + "\n"


def _needs(study: Study, price: StudyPrice) -> dict[str, Any]:
    """The least that a policy has to say for `study` to be admitted."""
    training, pooled = study.training, study.pooled
    needs: dict[str, Any] = {
        "study_epsilon": _up(price.epsilon),
        "studies": [study.digest().hex()],
        "bases": [study.base.digest],
        "mechanisms": [study.privacy.mechanism],
        "roster": study.secure_aggregation.roster,
        "min_cohort": study.smallest_cohort,
        "max_absent": len(study.sites) - study.smallest_cohort,
        "max_rounds": study.rounds,
        "max_steps_per_round": training.steps,
        "max_sampling_rate": training.sampling_rate,
        "max_tiles_per_patient": training.tiles_per_patient,
        "max_draws_per_tile": training.draws_per_tile,
        "max_clipping_norm": training.clipping_norm,
        "max_rank": study.adapter.rank,
        "min_noise_multiplier": training.noise_multiplier,
        "min_reply_slot": study.cohort.reply_slot,
    }
    if study.stage_two is not None and study.stage_two.encoder_digests:
        needs["encoders"] = sorted(study.stage_two.encoder_digests)
    if pooled is not None:
        needs |= {
            "min_noise_colluders": study.privacy.noise_colluders,
            "min_grid": pooled.grid,
            "max_spare_attempts": pooled.spare_attempts,
            "max_session_hours": pooled.session_hours,
            "max_parameters": pooled.parameters,
        }
    else:
        needs["max_attempts"] = study.privacy.attempts
        if training.learning_rate is not None:
            needs["max_learning_rate"] = training.learning_rate
    return needs


def _loosened(before: Policy, needs: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in needs.items():
        known = getattr(before, name)
        if isinstance(value, list):
            found[name] = list(known) if ANY in known else [*known, *(set(value) - set(known))]
        elif name.startswith("min_"):
            found[name] = min(known, value)
        elif name.startswith("max_") or name == "study_epsilon":
            found[name] = value if known is None else max(known, value)
        else:  # the roster is the newest study's
            found[name] = value
    return found


def _fits(events: list[Any], epsilon: float, delta: float) -> bool:
    return epsilon > 0.02 and GaussianFilter(epsilon, delta).epsilon(events) <= epsilon


def _up(epsilon: float) -> float:
    return math.ceil(epsilon * _ROUNDED - 1e-9) / _ROUNDED


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return "1 entry" if len(value) == 1 else f"{len(value)} entries"
    return f"{value:g}" if isinstance(value, float) else str(value)


_HEAD: Final = """\
# What this hospital allows, sized by `craftsfl site join` for what it needs and no more:
#     {study}
# The agent checks it at the start and before every round; what is not allowed here is forbidden.
# docs/hospital.md explains every key."""
_PARTS: Final = (
    (
        "The lifetime budget of this hospital's patients, over all studies, and each study's.",
        ("epsilon", "delta", "study_epsilon", "across_studies", "composition", "rdp_order"),
    ),
    (
        "Which studies, bases and encoders, by digest, and who adds the noise.",
        ("studies", "bases", "encoders", "mechanisms"),
    ),
    (
        "The others: the roster that was compared by phone, and how few may be in a sum.",
        ("secure_aggregation", "roster", "min_cohort", "max_absent", "min_noise_colluders"),
    ),
    (
        "No weaker terms, and no larger schedule, than those that were agreed to.",
        (
            *("min_noise_multiplier", "min_grid", "min_reply_slot", "max_rounds", "max_attempts"),
            *("max_spare_attempts", "max_session_hours", "max_steps_per_round"),
            *("max_sampling_rate", "max_tiles_per_patient", "max_draws_per_tile"),
            *("max_clipping_norm", "max_learning_rate", "max_rank", "max_parameters"),
        ),
    ),
)
