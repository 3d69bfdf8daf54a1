"""The arms of `bench.pooled`: how each gets from the patients' gradients to an adapter."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from bench.pooled_coupling import coupled_noise
from bench.pooled_gradients import GradientsAt
from bench.pooled_setting import PooledSetting
from model.arrays import Doubles
from privacy.mechanisms.pooled.grid import PooledGrid
from privacy.mechanisms.pooled.share import centres_of, noised, opened
from privacy.mechanisms.pooled.terms import PooledTerms
from strategies.chain import AdapterChain, ChainLink
from strategies.descent import Descent
from strategies.scale import LinkScale

_NOISE: Final = 55_000
_DRAWS: Final = 56_000
_FINE: Final = 1 << 30  # clipped sums are integers in units of 2^-30 C
_COUPLING_BITS: Final = 20  # of a fraction of a grid unit, in which coupled noise is rotated back

PatientGroup = tuple[int, ...]  # whose clipped gradients are summed up


class PatientGroups(Protocol):
    """Whose gradients there are: the part of `SharedRows` that an arm looks at."""

    @property
    def sites(self) -> tuple[range, ...]:
        """The numbers of each site's patients."""

    @property
    def parameters(self) -> int:
        """P."""


class ArmSteps(Protocol):
    """A run between two steps."""

    @property
    def at(self) -> GradientsAt:
        """Where the next step takes its gradients."""

    @property
    def published(self) -> NDArray[np.float32]:
        """The adapter [P], if the run ended here."""

    def groups(self, number: int) -> list[PatientGroup]:
        """Whose gradients the step `number` sums up, each group apart."""

    def advance(self, number: int, totals: Sequence[Doubles]) -> None:
        """Take the step, with the clipped sums of its groups."""


def begun(arm: str, setting: PooledSetting, rows: PatientGroups, seed: int) -> ArmSteps:
    """A run of one of ARMS whose noise, if any, is its own."""
    kind = PooledArm if arm == "pooled" else OnePlaceArm
    return kind(arm, setting, rows, seed)


class OnePlaceArm:
    """All noise is added in one place, to the mean of the clipped gradients."""

    def __init__(self, arm: str, setting: PooledSetting, rows: PatientGroups, seed: int) -> None:
        self._setting, self._seed, self._rows = setting, seed, rows
        self._constants = setting.constants(arm)
        self._sites = _sites_of(arm, rows, seed)
        # Of as many patients as the setting plans: there are few real ones.
        planned = setting.patients if arm == "alone" else setting.everybody
        self._deviation = setting.noise(arm) / (setting.sampling_rate * planned)
        self._random = np.random.default_rng([_NOISE, seed])
        start = np.zeros(rows.parameters, np.float32)
        self._state = Descent.begin(self._constants.rule, start)

    @property
    def at(self) -> GradientsAt:
        """See `ArmSteps`."""
        return GradientsAt(self._state.adapter, self._constants.clipping_norm)

    @property
    def published(self) -> NDArray[np.float32]:
        """See `ArmSteps`."""
        return self._state.published

    def groups(self, number: int) -> list[PatientGroup]:
        """See `ArmSteps`: each site's patients, or, at q < 1, those who enter, together."""
        if self._setting.sampling_rate == 1:
            return [tuple(site) for site in self._sites]
        patients = range(self._sites[0].start, self._sites[-1].stop)
        chances = np.random.default_rng([_DRAWS, self._seed, number]).random(len(patients))
        entering = np.flatnonzero(chances < self._setting.sampling_rate)
        return [tuple(patients[i] for i in entering)]

    def advance(self, number: int, totals: Sequence[Doubles]) -> None:
        """See `ArmSteps`."""
        patients = self._setting.sampling_rate * sum(map(len, self._sites))
        mean = sum(totals, start=np.zeros(self._rows.parameters)) / patients
        self._state = self._state.after(mean + self._noise(), self._deviation**2)

    def _noise(self) -> Doubles:
        return self._deviation * self._random.standard_normal(self._rows.parameters)


class PooledArm:
    """Sites draw their shares on the grid, and the chain opens the sum: all but the masks."""

    def __init__(self, arm: str, setting: PooledSetting, rows: PatientGroups, seed: int) -> None:
        self._setting, self._rows, self._seed = setting, rows, seed
        self._constants = setting.constants(arm)
        self._terms = PooledTerms(
            sites=len(setting.sites),
            smallest_cohort=len(setting.sites),
            noise_colluders=setting.colluders,
            noise_multiplier=setting.sigma,
            clipping_norm=self._constants.clipping_norm,
            parameters=rows.parameters,
            steps=setting.steps,
            spare_attempts=0,
            patients=setting.everybody,
            grid=setting.grid,
        )
        self._chain = AdapterChain.begin(
            _digest("study", seed), self._constants.rule, np.zeros(rows.parameters, np.float32)
        )
        self._coupled = np.zeros(rows.parameters)

    @property
    def at(self) -> GradientsAt:
        """See `ArmSteps`."""
        return GradientsAt(self._chain.adapter, self._constants.clipping_norm)

    @property
    def published(self) -> NDArray[np.float32]:
        """See `ArmSteps`."""
        return self._chain.published

    @property
    def coupled(self) -> Doubles:
        """Gaussian noise [P] of a mean, as near as may be to that of the newest opened one."""
        return self._coupled

    def groups(self, number: int) -> list[PatientGroup]:
        """See `ArmSteps`: each site's patients."""
        return [tuple(site) for site in self._rows.sites]

    def advance(self, number: int, totals: Sequence[Doubles]) -> None:
        """See `ArmSteps`."""
        setting, members = self._setting, tuple(range(len(self._setting.sites)))
        label = _digest("label", self._seed, number)
        grid = PooledGrid.of(self._terms, len(members), label)
        centres = [centres_of(np.trunc(own * _FINE).astype(np.int64), grid) for own in totals]
        # These patients are synthetic, so a seed may be known; a site takes it from its keys.
        seeds = [_digest("noise", self._seed, number, site) for site in members]
        fields = sum(
            (noised(own, grid, seed) for own, seed in zip(centres, seeds, strict=True)),
            start=np.zeros(grid.padded, np.int64),
        )
        link = ChainLink(number + 1, 0, label, members, fields)
        scale = LinkScale.of(grid, members=len(members), patients=setting.everybody)
        self._chain = self._chain.after(link, scale)
        random = np.random.default_rng([_NOISE, self._seed, number])
        centre = sum(centres, start=np.zeros_like(fields))
        noise = coupled_noise(fields, centre, grid, len(members), random)
        turned_back = opened(np.rint(noise * 2**_COUPLING_BITS).astype(np.int64), grid)
        self._coupled = turned_back / 2**_COUPLING_BITS / setting.everybody


class SameNoiseArm(OnePlaceArm):
    """Noise of the same law as ever, but as near as may be, up to its size, to that of `pooled`."""

    def __init__(
        self, arm: str, pooled: PooledArm, setting: PooledSetting, rows: PatientGroups, seed: int
    ) -> None:
        super().__init__(arm, setting, rows, seed)
        self._pooled = pooled
        self._larger = self._deviation * setting.everybody / setting.noise("pooled")

    def _noise(self) -> Doubles:
        return self._larger * self._pooled.coupled  # which has taken this step already


def _sites_of(arm: str, rows: PatientGroups, seed: int) -> Sequence[range]:
    """Whose patients an arm trains on: all sites', or those of a single one, the sites in turn."""
    return rows.sites if arm != "alone" else [rows.sites[seed % len(rows.sites)]]


@cache
def _digest(*parts: object) -> bytes:
    return hashlib.sha256(repr(("bench.pooled", *parts)).encode("ascii")).digest()
