"""The arms of `bench.pooled`: how each gets from the patients' gradients to an adapter."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from bench.pooled_setting import PooledSetting
from craftsfl.planning.gradients import PatientRows, StepOf
from model.arrays import Doubles
from privacy.mechanisms.pooled import PooledTerms
from privacy.mechanisms.pooled.grid import PooledGrid
from privacy.mechanisms.pooled.share import centres_of, noised
from strategies.chain import AdapterChain, ChainLink
from strategies.descent import Descent
from strategies.scale import LinkScale

OnPooledStep = Callable[[int, int], None]

_NOISE: Final = 55_000
_DRAWS: Final = 56_000
_FINE: Final = 1 << 30  # clipped sums are integers in units of 2^-30 C


class _Adapter(Protocol):
    """What a run moves: a `Descent`, or the chain around one."""

    @property
    def adapter(self) -> NDArray[np.float32]: ...

    @property
    def published(self) -> NDArray[np.float32]: ...


def trained(
    arm: str, setting: PooledSetting, rows: PatientRows, seed: int, on_step: OnPooledStep
) -> NDArray[np.float32]:
    """The adapter [P] that one of ARMS publishes after all its steps."""
    if arm == "pooled":
        return _PooledSteps(setting, rows, seed).run(on_step)
    patients = _patients_of(arm, rows, seed)
    # Of as many patients as the setting plans: there are few real ones.
    planned = setting.patients if arm == "alone" else setting.everybody
    constants, rate = setting.constants(arm), setting.sampling_rate
    noise = setting.noise(arm) / (rate * planned)
    random = np.random.default_rng([_NOISE, seed])
    state = Descent.begin(constants.rule, np.zeros(rows.parameters, np.float32))
    for number in range(setting.steps):
        step, drawn = StepOf(seed, number), _entering(patients, rate, seed, number)
        total = rows.clipped_sum(state.adapter, step, constants.clipping_norm, drawn)
        mean = total / (rate * len(patients)) + noise * random.standard_normal(rows.parameters)
        state = state.after(mean, noise**2)
        on_step(number + 1, setting.steps)
    return state.published


def _patients_of(arm: str, rows: PatientRows, seed: int) -> range:
    """Whom an arm trains on: everybody, or one site's patients, the sites in turn."""
    if arm != "alone":
        return range(rows.sites[-1].stop)
    return rows.sites[seed % len(rows.sites)]


def _entering(patients: range, rate: float, seed: int, number: int) -> Sequence[int]:
    """Who enters a step: each of `patients` with probability `rate`; at 1 everybody."""
    chances = np.random.default_rng([_DRAWS, seed, number]).random(len(patients))
    return [patients[i] for i in np.flatnonzero(chances < rate)]


class _PooledSteps:
    """Sites draw their shares on the grid, and the chain opens the sum: all but the masks."""

    def __init__(self, setting: PooledSetting, rows: PatientRows, seed: int) -> None:
        self._setting, self._rows, self._seed = setting, rows, seed
        self._terms = PooledTerms(
            sites=len(setting.sites),
            smallest_cohort=len(setting.sites),
            noise_colluders=setting.colluders,
            noise_multiplier=setting.sigma,
            clipping_norm=setting.private.clipping_norm,
            parameters=rows.parameters,
            steps=setting.steps,
            spare_attempts=0,
            patients=setting.everybody,
            grid=setting.grid,
        )

    def run(self, on_step: OnPooledStep) -> NDArray[np.float32]:
        setting, members = self._setting, tuple(range(len(self._setting.sites)))
        chain = AdapterChain.begin(
            _digest("study", self._seed),
            setting.private.rule,
            np.zeros(self._rows.parameters, np.float32),
        )
        for number in range(setting.steps):
            label = _digest("label", self._seed, number)
            grid = PooledGrid.of(self._terms, len(members), label)
            fields = sum(
                (self._share(chain.adapter, number, site, grid) for site in members),
                start=np.zeros(grid.padded, np.int64),
            )
            link = ChainLink(number + 1, 0, label, members, fields)
            scale = LinkScale.of(grid, members=len(members), patients=setting.everybody)
            chain = chain.after(link, scale)
            on_step(number + 1, setting.steps)
        return chain.published

    def _share(
        self, adapter: NDArray[np.float32], number: int, site: int, grid: PooledGrid
    ) -> NDArray[np.int64]:
        total: Doubles = self._rows.clipped_sum(
            adapter,
            StepOf(self._seed, number),
            self._setting.private.clipping_norm,
            self._rows.sites[site],
        )
        # These patients are synthetic, so a seed may be known; a site takes it from its keys.
        seed = _digest("noise", self._seed, number, site)
        return noised(centres_of(np.trunc(total * _FINE).astype(np.int64), grid), grid, seed)


def _digest(*parts: object) -> bytes:
    return hashlib.sha256(repr(("bench.pooled", *parts)).encode("ascii")).digest()
