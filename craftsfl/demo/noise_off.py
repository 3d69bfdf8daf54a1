"""`craftsfl demo --noise-off`: the reference without noise, trained after the run on its own tiles.

The figures that ship with the demo need no such wait (`craftsfl.demo.figures`); this one is for
those who would rather see it trained, and for demos that have no such figures.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from client.data import load_site_data
from client.training import EncodedTiles, LocalTrainer, encode_site
from craftsfl.demo.figures import MEASURED_TILES, PublicFigure
from craftsfl.demo.tiles import held_out_folder
from craftsfl.demo.workspace import Workspace
from craftsfl.rounds.public_tiles import PublicTiles
from model.adapters import attach
from model.base import Pipeline, load_base
from model.cache import find_base
from model.devices import pick_device
from model.layout import initial_vector
from privacy.dpsgd.release import CONTRIBUTION_BITS
from privacy.study.agreement import shares_of
from privacy.study.manifest import Study
from privacy.wire.codec import Vector
from server.settings import load_consortium
from strategies import make_strategy
from strategies.descent import Descent
from strategies.mean import weighted_mean
from strategies.pooled import rule_of


def without_noise(study: Study) -> Study:
    """The same study with a noise multiplier of 0: for public data only."""
    training = study.training.model_copy(update={"noise_multiplier": 0.0})
    return study.model_copy(update={"training": training})


def noise_off_figure(workspace: Workspace, say: Callable[[str], None]) -> PublicFigure:
    """Train without noise on the same tiles, then measure as the run was measured."""
    study = workspace.study
    pipeline = load_base(find_base(study.base), pick_device("auto"))
    layout = attach(pipeline.unet, study.adapter)
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
    tiles = PublicTiles.read(pipeline, study, folders, cache=cache, most=MEASURED_TILES)
    start = initial_vector(layout, study.digest())
    before, after = (tiles.losses(pipeline, study, vector) for vector in (start, reference))
    change = tiles.change(before, after)
    return PublicFigure(float(before.mean()), change.mean, change.low, change.high, change.patients)


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
