"""From epsilon to noise where every site adds all of it."""

from __future__ import annotations

from typing import Final

from privacy.accounting.bounds import check_epsilon, check_probability
from privacy.accounting.calibration import least_noise
from privacy.accounting.composition import epsilon as epsilon_of_events
from privacy.errors import AccountingError
from privacy.mechanisms.local.mechanism import local_event

_TOLERANCE: Final = 1e-3  # relative, of a calibrated noise multiplier


def calibrate_local_noise(
    *, epsilon: float, delta: float, sampling_rate: float, steps: int, attempts: int = 1
) -> float:
    """Least noise multiplier of "local", to 0.1 % and rounded up, that costs at most `epsilon`.

    As `calibrate_noise_multiplier`, with what it costs that the noise is drawn on integers. `steps`
    x `attempts` are all the steps that may ever be charged. Raises `AccountingError` if no noise
    multiplier up to 1e4 is enough.
    """
    check_epsilon(epsilon)
    check_probability(delta)
    if type(attempts) is not int or attempts < 1:
        raise AccountingError(f"{attempts!r} attempts; allow at least 1.")

    def enough(sigma: float) -> bool:
        one = local_event(sampling_rate, sigma, 1.0, steps)
        return epsilon_of_events([one] * attempts, delta) <= epsilon

    return least_noise(enough, _TOLERANCE)
