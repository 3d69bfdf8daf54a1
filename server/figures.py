"""What MLflow is told of a run, as plain values: metrics, parameters, tags.

Public or accounted figures only: epsilons, numbers of updates, norms of released adapters, seconds;
no losses of sites, no counts of drawn patients. Everything follows from the round state, times too:
the same point logged twice is one point for MLflow's database.
"""

from __future__ import annotations

import getpass
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from privacy.study.manifest import Study
from server.model_card import describe_run
from server.status import RoundStatus, RunStatus
from server.tables import AttemptState

RUN_TAG = "craftsfl.run"
DIGEST_OF_STUDY = "craftsfl.study_digest"
COMPLETE_TAG = "craftsfl.logged"  # of a run, or a model version: nothing of it is missing
_LONGEST = 6000  # characters of a parameter's value that MLflow takes
_TABLES = ("base", "adapter", "training", "privacy", "aggregation", "cohort")


@dataclass(frozen=True, slots=True)
class FigurePoint:
    """A metric at a round, which is MLflow's step; `time` in ms since 1970."""

    name: str
    value: float
    time: int
    round: int


def round_points(status: RunStatus) -> Iterator[list[FigurePoint]]:
    """The public figures of each finished round."""
    for item in status.history:
        if item.state is AttemptState.FINISHED:
            yield _points(item, status.started)


def quality_points(status: RunStatus) -> Iterator[list[FigurePoint]]:
    """Each figure on public tiles, with its change since the base and that one's 95 % interval."""
    for item in status.quality:
        name = f"quality/{item.metric}"
        values = {
            name: item.value,
            f"{name}_change": item.change,
            f"{name}_change_low": item.low,
            f"{name}_change_high": item.high,
        }
        when = milliseconds(item.measured)
        yield [FigurePoint(key, value, when, item.round) for key, value in values.items()]


def study_parameters(study: Study) -> Mapping[str, str]:
    """The study's public settings, flat: "training.steps" and so on."""
    tables = study.model_dump(mode="json", include=set(_TABLES))
    flat = {
        f"{table}.{name}": str(value)[:_LONGEST]
        for table in _TABLES
        for name, value in tables[table].items()
    }
    patients = {f"patients.{site.name}": str(site.declared_patients) for site in study.sites}
    return {"rounds": str(study.rounds), **flat, **patients}


def run_tags(study: Study, status: RunStatus) -> Mapping[str, str]:
    """Tags that a run has from its beginning; the first two say which run it is."""
    tags = {
        RUN_TAG: str(status.run),
        DIGEST_OF_STUDY: study.digest().hex(),
        "mlflow.user": user_name(),
        "mlflow.source.name": "craftsfl rounds",
        "mlflow.note.content": describe_run(study, status),
    }
    if study.training.noise_multiplier == 0:
        tags["craftsfl.privacy"] = "none: the study adds no noise"
    return tags


def user_name() -> str:
    """Who runs the coordinator: the login name, or the number of a user without one."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def milliseconds(seconds: float) -> int:
    """MLflow's times, from Unix seconds."""
    return int(seconds * 1000)


def _points(item: RoundStatus, started: float) -> list[FigurePoint]:
    values = {"updates": float(item.updates), "attempts": float(item.attempt)}
    if item.adapter_norm is not None:
        values["adapter_norm"] = item.adapter_norm
    if item.seconds is not None:
        values["seconds"] = item.seconds
    for part in item.sites:
        # MLflow turns infinity into 1.8e308, so "no privacy" is a tag, never a number.
        if part.epsilon is not None and math.isfinite(part.epsilon):
            values[f"epsilon_used.{part.name}"] = part.epsilon
    when = milliseconds(started if item.finished is None else item.finished)
    return [FigurePoint(name, value, when, item.round) for name, value in values.items()]
