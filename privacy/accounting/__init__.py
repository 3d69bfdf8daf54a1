"""Exact accounting: events in, epsilon out and never too low; a release takes two accountants."""

from privacy.accounting.across import (
    Composition,
    GaussianFilter,
    RenyiFilter,
    StudyFilter,
    Total,
    suggested_order,
    total_sum,
)
from privacy.accounting.bounds import check_delta, largest_delta
from privacy.accounting.calibration import calibrate_noise_multiplier
from privacy.accounting.capacity import capacity_for, overflow_probability, public_capacity
from privacy.accounting.composition import RELEASE, RUNNING, epsilon
from privacy.accounting.fitting import rounds_that_fit
from privacy.accounting.known_to_sites import Mode, epsilon_known_to
from privacy.accounting.observers import Shares, epsilon_for, worst_of
from privacy.accounting.release import Released, check_releasable, released_epsilon
from privacy.accounting.schedule import check_claimable
from privacy.accounting.second import prv_epsilon
from privacy.accounting.tradeoff import Attack, tradeoff, tradeoff_at, true_positive_rate
from privacy.events import Observer

__all__ = [
    "RELEASE",
    "RUNNING",
    "Attack",
    "Composition",
    "GaussianFilter",
    "Mode",
    "Observer",
    "Released",
    "RenyiFilter",
    "Shares",
    "StudyFilter",
    "Total",
    "calibrate_noise_multiplier",
    "capacity_for",
    "check_claimable",
    "check_delta",
    "check_releasable",
    "epsilon",
    "epsilon_for",
    "epsilon_known_to",
    "largest_delta",
    "overflow_probability",
    "prv_epsilon",
    "public_capacity",
    "released_epsilon",
    "rounds_that_fit",
    "suggested_order",
    "total_sum",
    "tradeoff",
    "tradeoff_at",
    "true_positive_rate",
    "worst_of",
]
