"""What `bench.pooled` trains: sizes, what is promised to patients, and the constants of a run."""

# Why: docs/adr/0043-what-makes-private-training-learn.md

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Any, Final

from privacy.accounting import calibrate_noise_multiplier
from privacy.study.manifest import Adapter
from strategies.rule import UpdateRule

EVERY_ATTENTION: Final = ("to_v", "to_out.0")  # value and output projections: P = 1,536 at rank 1
# The same of the tiny base's last self-attention alone: P = 192.
_LAST: Final = "up_blocks.0.attentions.1.transformer_blocks.0.attn1"
LAST_SELF_ATTENTION: Final = (f"{_LAST}.to_v", f"{_LAST}.to_out.0")

ARMS: Final = ("noise-off", "pooled", "coupled", "central", "local", "alone", "calibrated")
# Their noise is that of the pooled run, as near as may be and times a constant.
SAME_NOISE: Final = ("coupled", "local", "alone", "calibrated")


@dataclass(frozen=True)
class RunConstants:
    """Of a run; privacy depends on none of them. `draws` is m: (t, noise) of a tile in a step."""

    rule: UpdateRule
    clipping_norm: float = 0.0005  # nearly every patient is clipped: see docs/adr/0043
    draws: int = 1


_CONSTANTS: Final = {"noise-off": "reference", "local": "local", "alone": "alone"}


@dataclass(frozen=True)
class PooledSetting:
    """The sizes of a study, the same for every arm. `patients` and `held_out` are of each site.

    `private` are the constants of the arms with the noise that three sites open, or less;
    `reference`, `local` and `alone` those of the arms "noise-off", "local" and "alone", each tuned
    by itself, so that none is measured against a weak one. `drawn`: how many held-out captions an
    image is drawn for, in `sampling_steps` steps.
    """

    private: RunConstants
    reference: RunConstants
    local: RunConstants
    alone: RunConstants
    patients: int = 160
    held_out: int = 40
    sites: tuple[str, ...] = ("north", "harbour", "hillside")
    targets: tuple[str, ...] = LAST_SELF_ATTENTION
    rank: int = 1
    steps: int = 40
    sampling_rate: float = 1.0  # q: below 1 for one place that adds the noise ("central") alone
    epsilon: float = 8.0
    delta: float = 1e-5
    colluders: int = 1
    grid: float = 8.0
    evaluation_draws: int = 8
    drawn: int = 48
    sampling_steps: int = 8

    @property
    def everybody(self) -> int:
        """N: patients of all sites."""
        return self.patients * len(self.sites)

    @property
    def adapter(self) -> Adapter:
        """What is trained: the factors B alone, over public Gaussian factors A."""
        return Adapter(targets=self.targets, rank=self.rank, alpha=float(self.rank), frozen_a=True)

    @property
    def sigma(self) -> float:
        """Noise multiplier that keeps the promise for `steps` releases."""
        return _sigma(self.epsilon, self.delta, self.sampling_rate, self.steps)

    @property
    def noise_to_clip(self) -> float:
        """rho: root mean square length of the noise in the mean of all opened means, in units of C.

        The coherence of clipped gradients over it is the signal-to-noise ratio of the whole run; P
        is left out: times its root.
        """
        drawn = self.sampling_rate * self.everybody
        return self.noise("central") / drawn / math.sqrt(self.steps)

    def constants(self, arm: str) -> RunConstants:
        """Those of one of ARMS."""
        found: RunConstants = getattr(self, _CONSTANTS.get(arm, "private"))
        return found

    def at_rate(self, arm: str, learning_rate: float) -> PooledSetting:
        """The setting in which one of ARMS has another learning rate."""
        own = self.constants(arm)
        other = replace(own, rule=replace(own.rule, learning_rate=learning_rate))
        changed: dict[str, Any] = {_CONSTANTS.get(arm, "private"): other}
        return replace(self, **changed)

    def noise(self, arm: str) -> float:
        """Noise of the sum over an arm's patients, per number, in units of C.

        Sites whose shares n_c others know add sigma / sqrt(n - n_c) each ("pooled", and "coupled"
        and "central", where one place adds as much); "local" sites sigma each; a site "alone" and a
        "calibrated" data centre, whom everybody trusts, sigma in all.
        """
        sites = len(self.sites)
        shares = {
            "noise-off": 0.0,
            "central": sites / (sites - self.colluders),
            "coupled": sites / (sites - self.colluders),
            "pooled": sites / (sites - self.colluders),
            "local": sites,
            "alone": 1,
            "calibrated": 1,
        }
        return self.sigma * math.sqrt(shares[arm])

    def digest(self, arm: str) -> str:
        """Identifies, in the file of finished runs, what a run of `arm` depends on but its seed."""
        values = asdict(self)
        for constants in ("private", *_CONSTANTS.values()):
            del values[constants]
        if arm in SAME_NOISE:
            values["noise of"] = asdict(self.private)
        text = json.dumps([arm, asdict(self.constants(arm)), values], sort_keys=True)
        return hashlib.sha256(text.encode("ascii")).hexdigest()[:16]


@lru_cache
def _sigma(epsilon: float, delta: float, sampling_rate: float, steps: int) -> float:
    return calibrate_noise_multiplier(
        epsilon=epsilon, delta=delta, sampling_rate=sampling_rate, steps=steps
    )


# Chosen on tuning seeds 100 and above, never on those that the bench prints.
POOLED: Final = PooledSetting(
    private=RunConstants(UpdateRule("adam", 0.02)),
    reference=RunConstants(UpdateRule("adam", 0.05)),
    local=RunConstants(UpdateRule("adam", 0.02)),
    alone=RunConstants(UpdateRule("adam", 0.0025)),
)
# More patients in fewer steps, as in the demo: enough for the attentions' adapter. The rates of
# "local" and "alone" are those of "pooled", less by as much as on the base before this one.
LARGER_POOLED: Final = replace(
    POOLED,
    private=RunConstants(UpdateRule("adam", 0.06)),
    reference=RunConstants(UpdateRule("adam", 0.06)),
    local=RunConstants(UpdateRule("adam", 0.042)),
    alone=RunConstants(UpdateRule("adam", 0.0105)),
    patients=500,
    targets=EVERY_ATTENTION,
    steps=12,
)
# Too little to learn anything: every part runs, and the tables are complete.
QUICK_POOLED: Final = replace(POOLED, patients=4, held_out=2, steps=2, evaluation_draws=1, drawn=3)


# Alike but for how patients enter steps: all of them in few steps, or some in many. As often each,
# and the rate such that a run moves as far: Adam divides by a step's noise, which grows with T.
_EPOCHS: Final = 50


def schedule(setting: PooledSetting, sampling_rate: float) -> PooledSetting:
    """`setting` with `sampling_rate` q and T = 50 / q steps, with a learning rate to match."""
    rule = setting.private.rule
    few = replace(setting, steps=_EPOCHS)
    many = replace(setting, steps=round(_EPOCHS / sampling_rate), sampling_rate=sampling_rate)
    wider = many.noise_to_clip / few.noise_to_clip * math.sqrt(few.steps / many.steps)
    fitted = replace(rule, learning_rate=rule.learning_rate * wider)
    return replace(many, private=replace(setting.private, rule=fitted))
