"""The Flower runs that carry a run of ours: started, asked after and stopped at the SuperLink."""

from __future__ import annotations

import tempfile
from functools import lru_cache
from pathlib import Path

from craftsfl.processes.flower.commands import SuperLink
from craftsfl.processes.flower.control import flower_run_state, start_flower_run, stop_flower_run
from craftsfl.rounds.fab import build, stage


@lru_cache(maxsize=1)  # the installed code does not change under a process
def installed_bundle() -> bytes:
    """The app bundle of the installed code; takes a second. Raises `DeploymentError`."""
    with tempfile.TemporaryDirectory(prefix="craftsfl-") as folder:
        return build(stage(Path(folder)))


class SuperLinkSide:
    """The SuperLink `link`, to which ServerApps of `settings` (consortium.toml) belong.

    Every method raises `DeploymentError`.
    """

    def __init__(self, settings: Path, link: SuperLink) -> None:
        self._settings = settings.resolve()
        self._link = link

    def start(self, run: int) -> int:
        """Start a Flower run that carries our run `run`; returns Flower's id."""
        config: dict[str, str | int] = {"settings": str(self._settings), "run": run}
        return start_flower_run(self._link, installed_bundle(), config)

    def ended(self, flower_run: int) -> str | None:
        """How a Flower run ended, in words; None while it may still begin or go on."""
        found = flower_run_state(self._link, flower_run)
        if found is None:
            return "the SuperLink does not know it"
        return f"{found.sub_status}: {found.details}".strip(": ") if found.ended else None

    def stop(self, flower_run: int) -> None:
        """End a Flower run, if it has not ended."""
        stop_flower_run(self._link, flower_run)
