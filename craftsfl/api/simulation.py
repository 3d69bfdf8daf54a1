"""A study with any number of sites in one process: same agents, same messages. Imports torch.

>>> from pathlib import Path
>>> from tempfile import TemporaryDirectory
>>> from craftsfl.api.simulation import SimulationConfig, sample_study, simulate
>>> study = sample_study(sites=3, patients=2, rounds=1)
>>> with TemporaryDirectory() as folder:
...     config = SimulationConfig(study=study, folder=Path(folder), held_out=6)
...     result = simulate(config)
>>> result.arm, result.sites, result.patients, result.steps, result.gain.patients
('pooled', 3, 6, 1, 6)
>>> result.epsilon is not None and result.gain.low <= result.gain.mean <= result.gain.high
True

`study` may also be the path of a study.toml. With a folder that stays, a simulation that was killed
goes on there, and an arm that has finished is not repeated; `arm="noise-off"` and the others share
its tissue. **A simulation protects nobody**: all keys are in one process.

What takes the place of the study's own: `loss`, a `Loss`; `encoder`, an
`craftsfl.api.encoders.ImageEncoder`, where the study's loss compares with one; `strategy`, what
makes a `Strategy` for P parameters, in studies of updates. A loss that couples rows is refused:
each patient's gradient would no longer be its own.

>>> from craftsfl.api.simulation import ConfigError
>>> try:
...     SimulationConfig(study=study, folder=Path("x"), arm="noisy")
... except ConfigError as error:
...     print(error.hint)
The arms are pooled, local, central, alone, noise-off.
"""

from __future__ import annotations

from craftsfl.simulation.config import (
    Arm,
    Gain,
    SimulationConfig,
    SimulationProgress,
    SimulationResult,
)
from craftsfl.simulation.run import simulate
from craftsfl.simulation.samples import sample_study
from model.losses import Loss, NoiseSchedule, Rows, denoising
from privacy.errors import ConfigError, CraftsflError
from strategies.base import Strategy

__all__ = [
    "Arm",
    "ConfigError",
    "CraftsflError",
    "Gain",
    "Loss",
    "NoiseSchedule",
    "Rows",
    "SimulationConfig",
    "SimulationProgress",
    "SimulationResult",
    "Strategy",
    "denoising",
    "sample_study",
    "simulate",
]
