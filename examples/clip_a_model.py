"""DP-SGD on a model and a loss of your own: linear regression over invented patients."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from craftsfl.api.accounting import epsilon, local_event
from craftsfl.api.clipping import (
    BLANK,
    PhysicalBatch,
    Release,
    SystemNoise,
    choose_engine,
    private_gradient,
)

PATIENTS, ROWS_EACH, PLACES = 400, 2, 50
SAMPLING_RATE, STEPS = 0.5, 60
RELEASE = Release(
    clipping_norm=1.0, noise_multiplier=2.0, denominator=SAMPLING_RATE * PATIENTS
)  # the denominator is public: never the number that was really drawn
TRUTH = torch.tensor([[2.0, -1.0, 0.5]])


def rows_of(drawn: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs [n, 3] and targets [n, 1] of the patients `drawn`; made up here."""
    seeds = torch.Generator().manual_seed(1)
    inputs = torch.randn(PATIENTS, ROWS_EACH, 3, generator=seeds)[drawn].reshape(-1, 3)
    return inputs, inputs @ TRUTH.T


def batches(model: torch.nn.Module, noise: SystemNoise) -> Iterator[PhysicalBatch]:
    """One Poisson draw, in batches of one shape: places that nobody fills are blank."""
    drawn = torch.from_numpy(noise.uniform(PATIENTS) < SAMPLING_RATE).nonzero().flatten()
    for start in range(0, len(drawn), PLACES):
        part = drawn[start : start + PLACES]
        patients = torch.cat([part, torch.full((PLACES - len(part),), BLANK)])
        inputs, targets = rows_of(patients.clamp(min=0))  # a blank place may hold anything

        def losses(inputs: torch.Tensor = inputs, targets: torch.Tensor = targets) -> torch.Tensor:
            errors: torch.Tensor = model(inputs) - targets
            return errors.square().flatten()

        yield PhysicalBatch(patients, losses, ROWS_EACH)


def main() -> None:
    """Train, and say what it cost a patient."""
    model, noise = torch.nn.Linear(3, 1, bias=False), SystemNoise()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    with choose_engine(model, list(model.parameters())) as engine:
        for _ in range(STEPS):
            gradient = private_gradient(engine, batches(model, noise), RELEASE, noise)
            model.weight.grad = gradient.view_as(model.weight)
            optimizer.step()
    event = local_event(SAMPLING_RATE, RELEASE.noise_multiplier, RELEASE.clipping_norm, STEPS)
    error = float((model.weight.detach() - TRUTH).norm())
    print(f"distance to the truth {error:.2f} at epsilon = {epsilon([event], 1e-5):.2f}")


if __name__ == "__main__":
    main()
