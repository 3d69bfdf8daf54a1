"""The Flower runs that carry a run of ours: started, asked after and stopped at the SuperLink."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from craftsfl.processes.environment import keep_files_private
from craftsfl.processes.flower.commands import PROFILE, SuperLink, run_flwr
from craftsfl.rounds.fab import stage
from privacy.errors import DeploymentError


class SuperLinkSide:
    """The SuperLink `link`, to which ServerApps of `settings` (consortium.toml) belong.

    Every method raises `DeploymentError`.
    """

    def __init__(self, settings: Path, link: SuperLink) -> None:
        self._settings = settings.resolve()
        self._link = link

    def start(self, run: int) -> int:
        """Start a Flower run that carries our run `run`; returns Flower's id."""
        keep_files_private(self._link.folder)
        self._link.write_profile()
        with tempfile.TemporaryDirectory(prefix="craftsfl-") as folder:
            config = f"settings={json.dumps(str(self._settings))} run={run}"
            app = stage(Path(folder))
            answer = run_flwr(self._link.home, "run", str(app), PROFILE, "--run-config", config)
        return int(str(answer["run-id"]))

    def ended(self, flower_run: int) -> str | None:
        """How a Flower run ended, in words; None while it may still begin or go on."""
        answer = run_flwr(self._link.home, "ls", PROFILE, "--run-id", str(flower_run))
        found = answer.get("runs")
        if not isinstance(found, list) or not found:
            return "the SuperLink does not know it"
        status = str(found[0].get("status", ""))
        return status if status.startswith("finished") else None

    def stop(self, flower_run: int) -> None:
        """End a Flower run, if it has not ended."""
        try:
            run_flwr(self._link.home, "stop", str(flower_run), PROFILE)
        except DeploymentError:
            if self.ended(flower_run) is None:
                raise
