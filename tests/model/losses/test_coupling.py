"""No loss couples patients, with either engine; planted ones that do are caught."""

from __future__ import annotations

import pytest
import torch

from model.losses import NoiseSchedule, Rows, denoising, squared_error
from model.losses.passes import predicted
from tests.model.losses.coupling import coupling
from tests.model.losses.worlds import ENGINES, LOSSES, World

pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook is firing:UserWarning")

WITHIN = 1e-5  # of float32 over batches of other sizes; of the same size the rest is exact


# Each term alone with the slower engine too: `stage-two` has them all.
PAIRS = [
    pytest.param(
        name,
        engine,
        marks=[pytest.mark.slow] * (engine == "opacus" and name not in ("denoising", "stage-two")),
    )
    for name in LOSSES
    for engine in ENGINES
]


@pytest.mark.parametrize(("name", "engine"), PAIRS)
def test_the_gradient_is_the_sum_over_patients(world: World, name: str, engine: str) -> None:
    found = coupling(world, LOSSES[name], ENGINES[engine])
    assert found.sum <= WITHIN
    assert found.replaced <= 1e-6


def infonce(unet: object, rows: Rows, schedule: NoiseSchedule) -> torch.Tensor:
    """SoftREPA as published: the negatives are the other rows' captions."""
    noised, target = schedule.noised(rows), schedule.target(rows)
    errors = [
        squared_error(predicted(unet, noised, rows, rows.text.roll(shift, 0)), target)
        for shift in range(2)
    ]
    return -(-torch.stack(errors, dim=1) / 0.05).log_softmax(dim=1)[:, 0]


def normalised(unet: object, rows: Rows, schedule: NoiseSchedule) -> torch.Tensor:
    """Weights that follow the batch: every row over the batch's mean loss."""
    losses = denoising(unet, rows, schedule)
    return losses / losses.mean()


def centred(unet: object, rows: Rows, schedule: NoiseSchedule) -> torch.Tensor:
    """A statistic over the batch, as Barlow Twins and batch CKA have."""
    said = predicted(unet, schedule.noised(rows), rows, rows.text)
    return squared_error(said - said.mean(dim=0), schedule.target(rows))


@pytest.mark.parametrize(
    ("planted", "engine"),
    [(infonce, "lora"), (infonce, "opacus"), (normalised, "lora"), (centred, "opacus")],
)
def test_a_coupled_loss_is_caught(world: World, planted: object, engine: str) -> None:
    found = coupling(world, planted, ENGINES[engine])  # type: ignore[arg-type]
    assert found.sum > 0.05
    assert found.replaced > 0.01
