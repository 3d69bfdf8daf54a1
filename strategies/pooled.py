"""From a study to the chain of its adapters: the same at the coordinator and at every site."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Final, TypeAlias

from model.layout import Layout, initial_vector
from privacy.errors import ConfigError, FederationError
from privacy.mechanisms.pooled.grid import PooledGrid
from privacy.mechanisms.pooled.packing import unpack_signed
from privacy.mechanisms.pooled.share import opened
from privacy.secagg.roster import Roster
from privacy.secagg.sealed.closing import FinalDigests
from privacy.secagg.sealed.label import ChainDigests
from privacy.study.manifest import Study
from privacy.study.pooling import grid_of, pooled_settings, pooled_terms
from privacy.wire.sealed import OpenedSum
from strategies.chain import AdapterChain, ChainLink
from strategies.rule import UpdateRule
from strategies.scale import LinkScale

Grids: TypeAlias = Callable[[int], PooledGrid]
_FLOOR: Final = 0.1


def rule_of(study: Study) -> UpdateRule:
    """The optimiser of a pooled study; raises `ConfigError` for any other."""
    own = study.aggregation
    if own.strategy not in ("momentum", "adam"):
        raise ConfigError(
            f'The strategy "{own.strategy}" is not one of a pooled study.', "Use momentum or adam."
        )
    return UpdateRule(
        kind=own.strategy,
        learning_rate=own.learning_rate,
        beta1=own.beta1,
        beta2=own.beta2,
        floor=_FLOOR if own.floor is None else own.floor,
        averaging=own.averaging,
    )


def begin_chain(study: Study, layout: Layout) -> AdapterChain:
    """The chain before the first step, from the adapter that the study fixes.

    Raises `ConfigError` where the study counts on another number of parameters.
    """
    wanted = pooled_settings(study).parameters
    if wanted != layout.parameters:
        raise ConfigError(
            f"The study's adapter has {layout.parameters} parameters, and pooled.parameters is "
            f"{wanted}.",
            f"Write pooled.parameters = {layout.parameters} into study.toml before anybody takes "
            "part in it: epsilon depends on it.",
        )
    start = initial_vector(layout, study.digest())
    return AdapterChain.begin(study.digest(), rule_of(study), start)


def digests_of(chain: AdapterChain) -> ChainDigests:
    """What the next step's label holds of the chain."""
    return ChainDigests(chain.adapter_digest, chain.state_digest, chain.sums_digest)


def final_of(chain: AdapterChain) -> FinalDigests:
    """What a run that ends here says that it has come to."""
    return FinalDigests(digests_of(chain), chain.published_digest)


def following(
    chain: AdapterChain,
    sums: Iterable[OpenedSum],
    study: Study,
    roster: Roster,
    grids: Grids | None = None,
) -> AdapterChain:
    """The chain after those of `sums` that it does not hold yet, in ascending order of steps.

    `grids`: the study's by the size of a cohort, for whoever has worked them out before. Raises
    `FederationError` for a gap, or for what is not an opened sum of the study.
    """
    for found in sums:
        if found.step > chain.steps:
            size = len(found.cohort)
            grid = grid_of(study, size) if grids is None else grids(size)
            chain = chain.after(_link(found, grid), _scale(study, roster, found.cohort, grid))
    return chain


def link_of(found: OpenedSum, study: Study) -> ChainLink:
    """An opened sum as the chain takes it."""
    return _link(found, grid_of(study, len(found.cohort)))


def _link(found: OpenedSum, grid: PooledGrid) -> ChainLink:
    if len(found.packed) != grid.lanes:
        raise FederationError(
            f"An opened sum of step {found.step} has {len(found.packed)} lanes, not {grid.lanes}.",
            "Fetch the opened sums from the coordinator again.",
        )
    fields = unpack_signed(found.packed, grid.padded, grid.bits)
    return ChainLink(found.step, found.attempt, found.label, found.cohort, fields)


def scale_of(study: Study, roster: Roster, cohort: tuple[int, ...]) -> LinkScale:
    """What is public about a sum of `cohort` (ids of the roster)."""
    return _scale(study, roster, cohort, grid_of(study, len(cohort)))


def _scale(study: Study, roster: Roster, cohort: tuple[int, ...], grid: PooledGrid) -> LinkScale:
    terms = pooled_terms(study)
    return LinkScale(
        members=len(cohort),
        patients=sum(_patients(study, roster, site) for site in cohort),
        centre_scale=terms.centre_scale,
        deviation=grid.deviation,
        open=partial(opened, grid=grid),
        centre_bits=terms.centre_bits,
    )


def _patients(study: Study, roster: Roster, site: int) -> int:
    member = roster.member(site)
    found = None if member is None else study.site(member.name)
    if found is None:
        raise FederationError(
            f"Site {site} of an opened sum is not one of the study's.",
            "Fetch the opened sums from the coordinator again.",
        )
    return found.declared_patients
