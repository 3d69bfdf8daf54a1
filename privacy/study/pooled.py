"""The tables of a study whose sites add shares of the noise, and what they ask of the others.

In pooled mode each round is one step over all patients, and sites work the next adapter out
themselves. So the whole schedule of the optimiser is `[aggregation]`'s, and `[training]` has none.
"""

# Why: docs/adr/0044-sealed-agents.md

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Final

from pydantic import Field

from privacy.config import Count, Strict

if TYPE_CHECKING:
    from privacy.study.manifest import Study

LEAST_GRID: Final = 4.0  # below it, the gap to the continuous figure is of per cents
POOLED_STRATEGIES: Final = ("momentum", "adam")
_GROUNDS: Final = r"^(public data|rehearsal|charged study [0-9a-f]{64})(: [^\x00-\x1f]{1,300})?$"

Grounds = Annotated[str, Field(pattern=_GROUNDS)]


class PooledSettings(Strict):
    """`[pooled]`: what all sites of a pooled study agree on besides its schedule.

    Every number is a term of the study: a site never sizes its own share after anything else.
    """

    parameters: Count  # P: numbers of the adapter, for the accountant; sites compare their layout
    # s: standard deviation of one site's share in grid units, where all sites take part.
    grid: Annotated[float, Field(ge=LEAST_GRID, le=4096)] = 8.0
    # A: how many attempts of the whole study may be lost; each is charged like a step.
    spare_attempts: Annotated[int, Field(ge=0, le=100_000)]
    # A session's keys are in memory only, and whoever steals them opens the rest of the session.
    session_hours: Annotated[float, Field(gt=0, le=12)] = 12.0
    coordinator_key: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]  # Ed25519; it signs steps


class Chosen(Strict):
    """`[chosen]`: on what each public constant was chosen, so that none came from private norms.

    Each is "public data", "rehearsal" or "charged study DIGEST", and may go on with ": words".
    """

    clipping_norm: Grounds
    learning_rate: Grounds
    adapter: Grounds  # its layers and rank, so P
    rounds: Grounds
    reply_slot: Grounds


def check_mechanism(study: Study) -> None:
    """Raise `ValueError` where a study's keys do not go with its mechanism."""
    faults = _pooled_faults(study) if study.pools_noise else _local_faults(study)
    first = next(faults, "")
    if first:
        raise ValueError(first)


def _local_faults(study: Study) -> Iterator[str]:
    pooled = '; it belongs to studies with privacy.mechanism = "pooled"'
    if study.pooled is not None:
        yield f"the table [pooled] is given{pooled}"
    if study.aggregation.strategy in POOLED_STRATEGIES:
        yield f'aggregation.strategy is "{study.aggregation.strategy}"{pooled}'
    for name in ("floor", "averaging"):
        if getattr(study.aggregation, name) is not None:
            yield f"aggregation.{name} is given{pooled}"
    if study.training.optimizer is None or study.training.learning_rate is None:
        yield "training.optimizer and training.learning_rate are missing"
    if study.secure_aggregation.bound is None:
        yield "secure_aggregation.bound is missing"


def _pooled_faults(study: Study) -> Iterator[str]:
    where = 'with privacy.mechanism = "pooled"'
    if study.pooled is None:
        yield f"the table [pooled] is missing {where}"
    if study.chosen is None:
        yield f"the table [chosen] is missing {where}: it says on what each constant was chosen"
    yield from _schedule_faults(study, where)
    yield from _optimiser_faults(study, where)


def _schedule_faults(study: Study, where: str) -> Iterator[str]:
    training = study.training
    if training.sampling_rate != 1:
        yield (
            f"training.sampling_rate is {training.sampling_rate:g} {where}: it has to be 1, all "
            "patients in every step, because the accountant knows no other"
        )
    if training.steps != 1:
        yield f"training.steps is {training.steps} {where}: a round is one step; raise rounds"
    if training.noise_multiplier == 0:
        yield f"training.noise_multiplier is 0 {where}: without noise there is nothing to share"
    if not study.adapter.frozen_a:
        yield f"adapter.frozen_a has to be true {where}: it halves what has to be noised"
    if study.privacy.attempts != 1:
        yield (
            f"privacy.attempts is {study.privacy.attempts} {where}: attempts are counted over the "
            "whole study; set pooled.spare_attempts"
        )
    if study.secure_aggregation.bound is not None:
        yield f"secure_aggregation.bound is given {where}, where nothing is clipped after the noise"


def _optimiser_faults(study: Study, where: str) -> Iterator[str]:
    training, aggregation = study.training, study.aggregation
    for name in ("optimizer", "learning_rate"):
        if getattr(training, name) is not None:
            yield f"training.{name} is given {where}: the optimiser is [aggregation]'s"
    if aggregation.strategy not in POOLED_STRATEGIES:
        yield (
            f'aggregation.strategy is "{aggregation.strategy}" {where}: use '
            f"{' or '.join(POOLED_STRATEGIES)}"
        )
    if aggregation.strategy == "momentum" and aggregation.floor is not None:
        yield 'aggregation.floor is given, and only strategy = "adam" has one'
    missing = sorted({"learning_rate"} - aggregation.model_fields_set)
    if missing:
        yield f"aggregation.{missing[0]} is missing {where}: it has no default there"
