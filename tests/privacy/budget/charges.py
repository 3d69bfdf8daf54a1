"""Charges and limits for tests of budgets."""

from __future__ import annotations

import dataclasses

from privacy.budget import Limits
from privacy.ledger import AttemptKey, Charge, Entry, State
from privacy.mechanisms.local import PoissonGaussian

STUDY, OTHER = b"\1" * 32, b"\2" * 32
EVENT = PoissonGaussian(0.5, 4.0, 1.0, 4)
CHARGE = Charge(STUDY, EVENT, 1e-5)
ELSEWHERE = Charge(OTHER, dataclasses.replace(EVENT, noise_multiplier=8.0), 1e-5)
BARE = Charge(OTHER, dataclasses.replace(EVENT, noise_multiplier=0.0), 1e-5)
LIMITS = Limits(epsilon=20.0, delta=1e-4, study_epsilon=12.0)
FILTERED = dataclasses.replace(LIMITS, delta=1e-5, rdp_order=6)


def entries(*charges: Charge, state: State = State.COMMITTED) -> list[Entry]:
    """One entry for each charge."""
    return [
        Entry(AttemptKey(charge.study_digest, 1, number, 1), charge, state, number, 1.0, 2.0)
        for number, charge in enumerate(charges, start=1)
    ]
