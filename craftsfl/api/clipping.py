"""Per-patient gradients, each clipped on its own, summed and noised. Imports torch.

A batch says whose rows it holds and how to get their losses:

>>> import torch
>>> from craftsfl.api.clipping import BLANK, PhysicalBatch, Release, SystemNoise
>>> from craftsfl.api.clipping import choose_engine, private_gradient
>>> layer = torch.nn.Linear(3, 1, bias=False)
>>> rows = torch.eye(4, 3)  # two places of two rows each; nobody stands in the second
>>> batch = PhysicalBatch(
...     patients=torch.tensor([7, BLANK]),
...     losses=lambda: layer(rows).flatten().square(),
...     rows_each=2,
... )
>>> with choose_engine(layer, list(layer.parameters())) as engine:
...     clipped = engine.clipped_sum([batch], clipping_norm=0.5)
>>> clipped.patients, bool(clipped.total.norm() <= 0.5 * (1 + 1e-6))
(1, True)

`private_gradient` draws integers around the sum, exactly, and divides by a public number. Its
secret numbers come from `SystemNoise`, a cryptographic stream; what its steps cost is
`craftsfl.api.accounting.epsilon` of a `local_event`.

>>> release = Release(clipping_norm=0.5, noise_multiplier=1.0, denominator=0.25 * 100)
>>> with choose_engine(layer, list(layer.parameters())) as engine:
...     private_gradient(engine, [batch], release, SystemNoise()).shape
torch.Size([3])
"""

from __future__ import annotations

from privacy.dpsgd.choice import choose_engine
from privacy.dpsgd.engine import (
    BLANK,
    ClippedSum,
    ClippingEngine,
    PatientGradients,
    PhysicalBatch,
)
from privacy.dpsgd.noise import NoiseSource, SystemNoise
from privacy.dpsgd.release import Release
from privacy.errors import AccountingError, CraftsflError, ModelError
from privacy.mechanisms.local.gradient import private_gradient

__all__ = [
    "BLANK",
    "AccountingError",
    "ClippedSum",
    "ClippingEngine",
    "CraftsflError",
    "ModelError",
    "NoiseSource",
    "PatientGradients",
    "PhysicalBatch",
    "Release",
    "SystemNoise",
    "choose_engine",
    "private_gradient",
]
