"""The trial of a device: it passes what is sound, and sees rows that touch each other."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from privacy.dpsgd.engine import PatientGradients, PhysicalBatch
from privacy.dpsgd.isolation import (
    Filler,
    Isolation,
    card_bits,
    finite_share,
    isolation_of,
)

PLACES = 6
CONTENT = {
    Filler.BLANK: 0.0,
    Filler.NOISE: 0.7,
    Filler.NOT_FINITE: float("nan"),
    Filler.HUGE: 1e38,
    Filler.DENORMAL: 1e-40,
}
Kernel = Callable[[torch.Tensor], torch.Tensor]


class Device:
    """An engine whose gradients are what `kernel` makes of what the places hold: [places, 1]."""

    size = 1

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.batches = 0

    def gradients(self, batch: PhysicalBatch) -> PatientGradients:
        self.batches += 1
        held = batch.losses()
        return PatientGradients(self.kernel(held)[:, None], held.isfinite())

    def clipped_sum(self, *arguments: Any) -> Any:
        raise AssertionError("the trial looks at gradients")


def deal(standing: np.ndarray) -> PhysicalBatch:
    held = [CONTENT[Filler(n)] if n < 0 else 1.0 + n / 7 for n in standing.tolist()]
    values = torch.tensor(held)
    return PhysicalBatch(torch.arange(len(values)), lambda: values)


def last_bit(values: torch.Tensor) -> torch.Tensor:
    return values * (1 + 2.0**-23)


@pytest.mark.parametrize(
    ("kernel", "in_place", "permuted"),
    [
        (lambda x: x.square(), True, True),
        (lambda x: x * (1 + torch.arange(len(x)) * 2.0**-23), True, False),
        (lambda x: x + 1e-7 * x.mean(), False, False),
        (lambda x: x + 0.0 * x.sum(), False, False),  # nothing but the NaN of another place
        (lambda x: last_bit(x) if (x == 0).any() else x, False, False),
        (lambda x: last_bit(x) if (x[1:] == 0).all() else x, False, False),
        (lambda x: last_bit(x) if ((x > 0) & (x < 1e-38)).any() else x, False, False),
        (lambda x: last_bit(x) if (x > 1e30).any() else x, False, False),
    ],
    ids=[
        "sound",
        "by-place",
        "mean",
        "zero-times-nan",
        "blanks",
        "alone",
        "denormals",
        "dynamic-scale",
    ],
)
def test_what_touches_is_seen(kernel: Kernel, in_place: bool, permuted: bool) -> None:
    assert isolation_of(Device(kernel), deal, PLACES) == Isolation(in_place, permuted)


def test_a_place_that_another_one_makes_unusable_is_seen() -> None:
    class Poisoned(Device):
        def gradients(self, batch: PhysicalBatch) -> PatientGradients:
            found = super().gradients(batch)
            return PatientGradients(found.values, found.usable & found.usable.all())

    assert not isolation_of(Poisoned(torch.square), deal, PLACES).in_place


def test_one_place_has_no_others() -> None:
    device = Device(torch.square)
    assert isolation_of(device, deal, 1) == Isolation(True, True)
    assert device.batches <= 9


def test_the_bits_are_those_of_every_other_card_among_fillers() -> None:
    made = torch.tensor([(1.0 + card / 7) for card in (0, 2, 4)]).square()
    rows = torch.stack([made.view(torch.int32), torch.ones(3, dtype=torch.int32)], dim=1)
    wanted = hashlib.sha256(rows.numpy().tobytes()).hexdigest()
    device = Device(torch.square)
    assert card_bits(device, deal, PLACES) == wanted
    assert device.batches == 1


@pytest.mark.parametrize(
    "kernel",
    [
        lambda x: last_bit(x.square()),  # another arithmetic
        lambda x: x.square() + 0.0 * x.sum(),  # the worst filler reaches all cards
        lambda x: x.square() + 0.0 * x.roll(1),  # or its neighbour
    ],
    ids=["another arithmetic", "all", "neighbour"],
)
def test_the_bits_change_where_a_filler_reaches_a_card(kernel: Kernel) -> None:
    sound = card_bits(Device(torch.square), deal, PLACES)
    assert card_bits(Device(kernel), deal, PLACES) != sound


def test_a_share_of_the_cards_is_finite() -> None:
    """A gradient that is not finite says nothing about its neighbours."""
    device = Device(lambda x: torch.where(x > 1.5, torch.inf, x))  # 1 + 4/7 and 1 + 5/7
    assert finite_share(device, deal, PLACES) == pytest.approx(4 / 6)
