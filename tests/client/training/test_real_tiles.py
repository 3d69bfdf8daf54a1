"""Real tiles of eight patients: from the folder to a private update."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.data import load_site_data
from client.training import LocalTrainer, encode_site
from model.adapters import initial_vector
from privacy.dpsgd.release import noise_to_clip
from privacy.study.manifest import Study
from privacy.study.terms import mechanism_of
from tests.client.training.tiles import changed

SITE = Path(__file__).parents[4] / "shared" / "data" / "sites" / "site-1"


@pytest.mark.skipif(not SITE.is_dir(), reason="the real tiles are not next to this checkout")
def test_a_small_real_hospital_trains_under_noise(
    tiny_pipeline: Any, quiet_study: Study, tmp_path: Path
) -> None:
    settings = {"noise_multiplier": 1.5, "sampling_rate": 0.5, "steps": 2, "draws_per_tile": 1}
    study = changed(quiet_study, **settings)
    data = load_site_data(SITE)
    tiles = encode_site(
        tiny_pipeline, data, base_digest=study.base.digest, cache=tmp_path / "cache"
    )
    assert len(tiles) == len(data.tiles) > 100
    assert len(tiles.by_patient()) == data.patients == 8
    trainer = LocalTrainer(study, "north", tiny_pipeline, tiles)
    start = initial_vector(trainer.layout, study.digest())
    delta = trainer.train(start, progress=lambda *_: None, should_stop=lambda: False)
    assert np.isfinite(delta).all()
    # As few patients as these learn nothing under noise, and the figure says so beforehand.
    assert noise_to_clip(mechanism_of(study).constants(8), trainer.layout.parameters) > 5
