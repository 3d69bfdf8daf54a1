"""What a study costs a patient, before it begins: `python cost_of_a_study.py STUDY.toml`."""

from __future__ import annotations

import sys
from pathlib import Path

from craftsfl.api.accounting import (
    CraftsflError,
    calibrate_local_noise,
    epsilon,
    load_study,
    true_positive_rate,
    whole_schedule,
)


def main(path: Path) -> None:
    """Print epsilon of the whole schedule, and the noise that 8 would have taken."""
    study = load_study(path)
    events = whole_schedule(study)  # all rounds, with every attempt that is allowed
    delta = study.privacy.delta
    print(f"{study.name}: digest {study.digest().hex()}")
    print(f"epsilon = {epsilon(events, delta):.2f} at delta = {delta:g}")

    caught = true_positive_rate(events, 0.01)
    print(f"an attacker with 1 % false positives finds at most {caught:.0%} of the patients")

    sigma = calibrate_local_noise(
        epsilon=8.0,
        delta=delta,
        sampling_rate=study.training.sampling_rate,
        steps=study.rounds * study.training.steps,
        attempts=study.privacy.attempts,
    )
    print(f"for epsilon = 8: noise_multiplier = {sigma:.2f}, not {study.training.noise_multiplier}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    try:
        main(Path(sys.argv[1]))
    except CraftsflError as error:
        sys.exit(f"{error.message} {error.hint}")
