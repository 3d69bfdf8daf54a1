"""Did it learn? Held-out denoising loss of the private adapter and of a noise-off reference.

Only for the demo's synthetic hospitals: their held-out tiles are public, so their losses may be
shown. A real hospital's losses never leave it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from client.training import EncodedTiles, LocalTrainer, encode_site, held_out_loss
from numpy.typing import NDArray

from client.data import load_site_data
from craftsfl.demo.hospitals import held_out_folder
from craftsfl.demo.workspace import Hospital, Workspace
from model.adapters import attach, load_adapter
from model.base import find_base, load_base
from model.devices import pick_device
from model.layout import initial_vector
from privacy.manifest import Study
from strategies.base import make_strategy
from strategies.cohort import weights

EVALUATION_SEED = 7
RESAMPLES = 2000
INTERVAL_PERCENT = (2.5, 97.5)


@dataclass(frozen=True)
class Change:
    """Mean change of held-out denoising loss against the base, relative, with a 95 % interval.

    Negative is better. `patients` were resampled with replacement (bootstrap).
    """

    name: str
    relative: float
    low: float
    high: float
    patients: int


def without_noise(study: Study) -> Study:
    """The same study with noise multiplier 0: for public data only."""
    training = study.training.model_copy(update={"noise_multiplier": 0.0})
    return study.model_copy(update={"training": training})


def compare(
    workspace: Workspace, adapter: Path, say: Callable[[str], None]
) -> tuple[Change, Change]:
    """The private adapter's and the noise-off reference's change on held-out patients."""
    study = workspace.study
    path = find_base(study.base)
    pipeline = load_base(path, device=pick_device("auto"))
    layout = attach(pipeline.unet, study.adapter)

    def encode(folder: Path, cache: Path | None) -> EncodedTiles:
        data = load_site_data(folder)
        return encode_site(pipeline, data, base_digest=study.base.digest, cache=cache)

    say("training the noise-off reference on the same synthetic tiles")
    tiles = {h.name: encode(h.data, _cache(h)) for h in workspace.hospitals}
    trainers = {
        name: LocalTrainer(without_noise(study), name, pipeline, encoded)
        for name, encoded in tiles.items()
    }
    vector = initial_vector(layout, study.digest())
    strategy = make_strategy(study.aggregation, layout.parameters)
    for _ in range(study.rounds):
        updates = {
            name: trainer.train(
                vector, progress=lambda done, total: None, should_stop=lambda: False
            )
            for name, trainer in trainers.items()
        }
        vector = strategy.aggregate(vector, updates, weights(study, list(updates)))

    say("comparing held-out denoising loss")
    held_out = [
        encode(held_out_folder(workspace.folder, h.name), None) for h in workspace.hospitals
    ]

    def losses(adapter_vector: NDArray[np.float32] | None) -> NDArray[np.float64]:
        per_site = [
            held_out_loss(pipeline, adapter_vector, encoded, seed=EVALUATION_SEED)
            for encoded in held_out
        ]
        return np.concatenate(per_site)

    base = losses(None)
    patients = _patients(held_out)
    private = change("private", base, losses(load_adapter(adapter).vector), patients)
    return private, change("noise off", base, losses(vector), patients)


def _cache(hospital: Hospital) -> Path:
    """The agent's own cache of encoded tiles: the demo plays all roles on public data."""
    return hospital.folder / "state" / "cache"


def _patients(parts: Sequence[EncodedTiles]) -> list[NDArray[np.int64]]:
    """Positions of every patient's tiles in the concatenation of `parts`."""
    groups: list[NDArray[np.int64]] = []
    offset = 0
    for part in parts:
        groups += [np.asarray(rows, dtype=np.int64) + offset for rows in part.rows_of]
        offset += part.tiles
    return groups


def change(
    name: str,
    base: NDArray[np.float64],
    tuned: NDArray[np.float64],
    patients: Sequence[NDArray[np.int64]],
) -> Change:
    """Relative change of the mean loss, paired by tile, resampled by patient.

    base, tuned: loss per tile [n]. patients: row numbers of each patient's tiles.
    """
    before = np.array([base[rows].mean() for rows in patients])
    difference = np.array([(tuned[rows] - base[rows]).mean() for rows in patients])
    rng = np.random.default_rng(0)  # an interval on public data: reproducible on purpose
    draws = rng.integers(len(patients), size=(RESAMPLES, len(patients)))
    ratios = difference[draws].mean(axis=1) / before[draws].mean(axis=1)
    low, high = np.percentile(ratios, INTERVAL_PERCENT)
    relative = float(difference.mean() / before.mean())
    return Change(name, relative, float(low), float(high), len(patients))
