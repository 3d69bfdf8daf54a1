"""Did it learn? The held-out denoising loss of the private adapter and of a noise-off reference.

Only for the demo's synthetic hospitals: their held-out tiles are public, so their losses may be
shown. A real hospital's losses never leave it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from client.data import load_site_data
from client.training import EncodedTiles, LocalTrainer, encode_site
from craftsfl.demo.tiles import held_out_folder
from craftsfl.demo.workspace import Workspace
from craftsfl.rounds.public_tiles import PublicTiles
from model.adapters import attach, load_adapter
from model.base import Pipeline, load_base
from model.cache import find_base
from model.devices import pick_device
from model.layout import initial_vector
from model.quality.denoising import LossChange
from privacy.dpsgd.release import CONTRIBUTION_BITS
from privacy.study.agreement import shares_of
from privacy.study.manifest import Study
from privacy.wire.codec import Vector
from server.settings import load_consortium
from strategies import make_strategy
from strategies.cohort import weighted_mean
from strategies.descent import Descent
from strategies.pooled import rule_of


@dataclass(frozen=True)
class Comparison:
    """The base's mean held-out denoising loss, and how two adapters changed it."""

    base_loss: float
    private: LossChange
    noise_off: LossChange


def without_noise(study: Study) -> Study:
    """The same study with a noise multiplier of 0: for public data only."""
    training = study.training.model_copy(update={"noise_multiplier": 0.0})
    return study.model_copy(update={"training": training})


def compare_with_noise_off(
    workspace: Workspace, adapter: Path, say: Callable[[str], None]
) -> Comparison:
    """Train the noise-off reference on the same tiles, then compare both on other patients."""
    study = workspace.study
    pipeline = load_base(find_base(study.base), pick_device("auto"))
    attach(pipeline.unet, study.adapter)
    # The agents' own caches of encoded tiles: the demo plays every role, and the data are public.
    sites = {
        hospital.name: _encode(pipeline, study, hospital.data, hospital.folder / "state" / "cache")
        for hospital in workspace.hospitals
    }
    say("training the noise-off reference on the same synthetic tiles")
    reference = train_without_noise(study, pipeline, sites)
    say("comparing denoising loss on held-out patients")
    folders = [held_out_folder(workspace.folder, item.name) for item in workspace.hospitals]
    cache = load_consortium(workspace.consortium).quality_cache()
    tiles = PublicTiles.read(pipeline, study, folders, cache=cache)
    return _compare(study, pipeline, tiles, private=load_adapter(adapter).vector, off=reference)


def train_without_noise(study: Study, pipeline: Pipeline, sites: dict[str, EncodedTiles]) -> Vector:
    """Train in this process: same sampling, clipping, steps and aggregation, no noise. [P]"""
    if study.pools_noise:
        return _steps_without_noise(study, pipeline, sites)
    quiet = without_noise(study)
    trainers = {name: LocalTrainer(quiet, name, pipeline, tiles) for name, tiles in sites.items()}
    layout = attach(pipeline.unet, study.adapter)
    vector = initial_vector(layout, study.digest())
    strategy = make_strategy(study.aggregation, layout.parameters)
    for _ in range(study.rounds):
        updates = {
            name: trainer.train(vector, progress=lambda done, of: None, should_stop=lambda: False)
            for name, trainer in trainers.items()
        }
        vector = strategy.aggregate(vector, weighted_mean(updates, shares_of(study)))
    return vector


def _steps_without_noise(
    study: Study, pipeline: Pipeline, sites: dict[str, EncodedTiles]
) -> Vector:
    """The study's steps on the exact sums of all patients' clipped gradients. [P]"""
    trainers = [LocalTrainer(study, name, pipeline, tiles) for name, tiles in sites.items()]
    start = initial_vector(attach(pipeline.unet, study.adapter), study.digest())
    descent = Descent.begin(rule_of(study), start)
    unit = 2.0**CONTRIBUTION_BITS * sum(site.declared_patients for site in study.sites)
    for step in range(study.rounds):
        sums = [
            trainer.clipped_sum(
                descent.adapter, step, progress=lambda done, of: None, should_stop=lambda: False
            )
            for trainer in trainers
        ]
        descent = descent.after(np.sum(sums, axis=0).astype(np.float64) / unit, 0.0)
    return descent.published


def _encode(pipeline: Pipeline, study: Study, folder: Path, cache: Path | None) -> EncodedTiles:
    data = load_site_data(folder)
    return encode_site(pipeline, data, base_digest=study.base.digest, cache=cache)


def _compare(
    study: Study, pipeline: Pipeline, tiles: PublicTiles, *, private: Vector, off: Vector
) -> Comparison:
    start = initial_vector(attach(pipeline.unet, study.adapter), study.digest())
    base, own, other = (tiles.losses(pipeline, study, vector) for vector in (start, private, off))
    return Comparison(
        base_loss=float(base.mean()),
        private=tiles.change(base, own),
        noise_off=tiles.change(base, other),
    )
