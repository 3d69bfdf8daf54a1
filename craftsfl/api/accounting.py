"""Epsilon of a study, before it begins: exact, never too low. Works without torch.

A schedule is a list of events. One event is a number of Poisson-subsampled Gaussian steps:

>>> from craftsfl.api.accounting import PoissonGaussian, epsilon
>>> round_of_five = PoissonGaussian(
...     sampling_rate=0.25, noise_multiplier=4.0, clipping_norm=1.0, steps=5
... )
>>> round(epsilon([round_of_five], delta=1e-5), 2)
0.58

Rounds of one study compose; epsilon is less than the sum of theirs:

>>> round(epsilon([round_of_five] * 12, delta=1e-5), 2)
2.04

The other way round, the noise for a given budget:

>>> from craftsfl.api.accounting import calibrate_noise_multiplier
>>> sigma = calibrate_noise_multiplier(
...     epsilon=8.0, delta=1e-5, sampling_rate=0.25, steps=60
... )
>>> round(sigma, 2)
1.42

`PoissonGaussian` is noise of real numbers. What `private_gradient` and the sites of a study add is
drawn on integers, and costs a little more:

>>> from craftsfl.api.accounting import calibrate_local_noise, local_event
>>> round(epsilon([local_event(0.25, 4.0, 1.0, 5)] * 12, delta=1e-5), 2)
2.04
>>> calibrate_local_noise(epsilon=8.0, delta=1e-5, sampling_rate=0.25, steps=60) >= sigma
True

Where sites add shares of one noise, the terms of the study have an event for each step:

>>> from craftsfl.api.accounting import PooledTerms, calibrated
>>> terms = PooledTerms(
...     sites=3, smallest_cohort=3, noise_colluders=1, noise_multiplier=1.0, clipping_norm=0.002,
...     parameters=1536, steps=40, spare_attempts=2, patients=480,
... )
>>> round(calibrated(terms, epsilon=8.0, delta=1e-5).noise_multiplier, 2)
3.91

A study file is read with `load_study`; `whole_schedule` lists the events of all its rounds and
attempts. Errors are `AccountingError` and `ConfigError`, with a message and a hint.
"""

from __future__ import annotations

from privacy.accounting import (
    Attack,
    Released,
    calibrate_noise_multiplier,
    epsilon,
    epsilon_known_to,
    largest_delta,
    released_epsilon,
    tradeoff,
    true_positive_rate,
)
from privacy.errors import AccountingError, ConfigError, CraftsflError
from privacy.mechanisms.local import PoissonGaussian, local_event
from privacy.mechanisms.local.calibration import calibrate_local_noise
from privacy.mechanisms.pooled import PooledTerms
from privacy.mechanisms.pooled.calibration import calibrated
from privacy.study.manifest import Study, load_study
from privacy.study.terms import whole_schedule

__all__ = [
    "AccountingError",
    "Attack",
    "ConfigError",
    "CraftsflError",
    "PoissonGaussian",
    "PooledTerms",
    "Released",
    "Study",
    "calibrate_local_noise",
    "calibrate_noise_multiplier",
    "calibrated",
    "epsilon",
    "epsilon_known_to",
    "largest_delta",
    "load_study",
    "local_event",
    "released_epsilon",
    "tradeoff",
    "true_positive_rate",
    "whole_schedule",
]
