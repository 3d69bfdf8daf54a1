"""A coordinator's folder after runs that have finished: real round state, adapters and MLflow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tomli_w
from mlflow import MlflowClient

from craftsfl.rounds.tracking import track_runs
from model.adapter_file import save_adapter
from model.adapters import layout_of
from model.digest import folder_digest
from model.origin import origin_of
from privacy.study.manifest import Study, load_study
from privacy.wire.bodies import SiteFacts
from server.checkpoint import sha256_of
from server.clock import SystemClock
from server.runs import Runs
from server.settings import load_consortium
from server.status import QualityStatus, ReleaseStatus
from server.store import Store
from server.tables import RunState


class FinishedStudy:
    """The files; `tell` logs what MLflow lacks."""

    def __init__(
        self, folder: Path, base: Path, values: dict[str, Any], mlflow: bytes, **changes: Any
    ) -> None:
        self.folder, self.base = folder, base
        values = {**values, "base": {"digest": folder_digest(base), "source": str(base)}, **changes}
        (folder / "study.toml").write_text(tomli_w.dumps(values), "utf-8")
        self.file = folder / "consortium.toml"
        self.file.write_text(tomli_w.dumps({"study": "study.toml", "state": "state"}), "utf-8")
        self.settings = load_consortium(self.file)
        self.settings.adapters_folder().mkdir(parents=True)
        (folder / "state" / "mlflow.db").write_bytes(mlflow)
        self.study: Study = load_study(folder / "study.toml")
        self.layout = layout_of(base, self.study.adapter)

    @property
    def mlflow(self) -> MlflowClient:
        uri = self.settings.mlflow_uri()
        return MlflowClient(tracking_uri=uri, registry_uri=uri)

    def finish(
        self, *figures: QualityStatus, state: RunState = RunState.FINISHED, tell: bool = True
    ) -> Path:
        """Run all rounds of a new run; returns the file that it released."""
        study, url, clock = self.study, self.settings.database_url(), SystemClock()
        with Runs(url, clock) as runs:
            name = runs.begin(study)
        store = Store(url, name, clock)
        store.begin(study)
        for node, site in enumerate(study.sites, start=1):
            store.site_joined(self._facts(site.name, site.declared_patients), node)
        for round in range(1, study.rounds + 1):
            store.open_attempt(round, 1, [site.name for site in study.sites])
            for site in study.sites:
                store.update_received((round, 1), site.name, 0.1 * round)
            store.round_finished((round, 1), len(study.sites), 1.0, ("", "0" * 64))
        for figure in figures:
            store.keep_quality(figure)
        path = self._adapter(name.number)
        if state is RunState.FINISHED:
            samples = self.folder / "state" / "samples.png"
            samples.write_bytes(b"picture")
            files = (path, sha256_of(path)), (samples, sha256_of(samples))
            store.keep_release(ReleaseStatus(*(str(part) for pair in files for part in pair)))
        store.set_state(state)
        store.close()
        if tell:
            track_runs(self.file)
        return path

    def _adapter(self, run: int) -> Path:
        lora, layout = self.study.adapter, self.layout
        vector = np.random.default_rng(run).normal(size=layout.parameters).astype(np.float32)
        path = self.settings.adapters_folder() / f"{self.study.name}-{run}.safetensors"
        save_adapter(path, layout, 0.1 * vector, lora, origin_of(self.study, run))
        return path

    def _facts(self, name: str, patients: int) -> SiteFacts:
        study = self.study
        return SiteFacts(
            name=name,
            declared_patients=patients,
            study_digest=study.digest(),
            base_digest=bytes(32),
            layout_fingerprint=bytes(32),
            parameters=4,
            epsilon_spent=0.0,
            epsilon_budget=8.0,
            delta=study.privacy.delta,
            roster_digest=bytes(32),
            noise_multiplier=study.training.noise_multiplier,
            epsilon_schedule=1.0,
            newest_run=0,
            release=(0, 1, 0),
        )


def figure(metric: str, low: float, high: float, round: int = 2) -> QualityStatus:
    """A change since the base whose interval is `low` to `high`."""
    return QualityStatus(round, metric, 0.5, (low + high) / 2, low, high, 20, 60, 1.7e9)
