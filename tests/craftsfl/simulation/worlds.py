"""Small simulations on a random base: they learn nothing, and every part of them runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from craftsfl.simulation.config import SimulationConfig, SimulationResult
from craftsfl.simulation.samples import sample_study
from model.adapters import layout_of
from privacy.config import check
from privacy.study.manifest import Study

HELD_OUT = 3


class Killed(BaseException):
    """The process is gone."""


class Seen:
    """A `SimulationProgress` that remembers what was done, and can end the process."""

    def __init__(self, killed_at: tuple[str, int] | None = None) -> None:
        self.done: list[tuple[str, int, int]] = []
        self._killed_at = killed_at

    def __call__(self, what: str, done: int, total: int) -> None:
        self.done.append((what, done, total))
        if (what, done) == self._killed_at:
            raise Killed

    def trained(self, unit: str = "step") -> list[str]:
        """The steps that all sites trained for."""
        return [what for what, done, of in self.done if what.startswith(unit) and done == of > 0]


@dataclass(frozen=True)
class Finished:
    """A simulation that has ended, and what was seen of it."""

    config: SimulationConfig
    result: SimulationResult
    seen: Seen


def small_study(base: Path, mechanism: Any = "pooled", **sizes: Any) -> Study:
    """The sample study on `base`, for as many parameters as its adapter has there."""
    values = sample_study(mechanism, **{"patients": 2, "rounds": 2, **sizes}).model_dump(
        mode="json"
    )
    if mechanism == "pooled":
        own = sample_study(mechanism).adapter
        values["pooled"]["parameters"] = layout_of(base, own).parameters
    return check(values, Study, where="the small study")


def changed(study: Study, **tables: dict[str, Any] | Any) -> Study:
    """`study` with other keys: `changed(study, adapter={"rank": 2})`."""
    values = study.model_dump(mode="json")
    for name, change in tables.items():
        values[name] = {**values[name], **change} if isinstance(change, dict) else change
    return check(values, Study, where="the changed study")


def configured(folder: Path, base: Path, **options: Any) -> SimulationConfig:
    """A configuration on the small study, unless `options` has another one."""
    study = options.pop("study", None) or small_study(base)
    options = {"held_out": HELD_OUT, "base": str(base), **options}
    return SimulationConfig(study=study, folder=folder, **options)


Configure = Callable[..., SimulationConfig]


def again(config: SimulationConfig, folder: Path) -> SimulationConfig:
    """The same simulation in another folder."""
    return replace(config, folder=folder)
