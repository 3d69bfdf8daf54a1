"""Exact accounting: events in, epsilon out, never too low; two accountants before a release."""

from privacy.accounting.bounds import check_delta, largest_delta
from privacy.accounting.calibration import calibrate_noise_multiplier
from privacy.accounting.composition import RELEASE, RUNNING, epsilon
from privacy.accounting.fitting import rounds_that_fit
from privacy.accounting.tradeoff import Attack, tradeoff, tradeoff_at, true_positive_rate

__all__ = [
    "RELEASE",
    "RUNNING",
    "Attack",
    "calibrate_noise_multiplier",
    "check_delta",
    "epsilon",
    "largest_delta",
    "rounds_that_fit",
    "tradeoff",
    "tradeoff_at",
    "true_positive_rate",
]
