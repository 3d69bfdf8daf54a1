"""Epsilon of an exported adapter: against each observer, and what each site's ledger publishes.

Never what was used of a budget. What everybody can work out again stands for all sites; a site's
own figure, from its ledger, confirms it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from privacy.accounting.observers import epsilon_for
from privacy.accounting.release import ABSOLUTE_TOLERANCE, RELATIVE_TOLERANCE
from privacy.errors import ConfigError
from privacy.events import ALWAYS_CHARGED, Observer
from privacy.strict_json import read_json
from privacy.study.manifest import Study
from privacy.study.terms import whole_schedule

_MAKE: Final = "At the site: craftsfl site budget site.toml --publish --json > FILE"
_LARGEST: Final = 10_000_000  # bytes


@dataclass(frozen=True, slots=True)
class SiteFigure:
    """What a site's ledger publishes: `epsilon` at the study's delta, by two accountants."""

    site: str
    epsilon: float
    second: float
    tolerance: float
    masks_broken: float | None  # None: the same as `epsilon`


@dataclass(frozen=True, slots=True)
class ExportFigures:
    """Epsilon of the whole schedule by observer, at `delta`; infinite without noise.

    `sites`: of those that gave theirs.
    """

    delta: float
    attempts: int
    against: Mapping[Observer, float]
    sites: Mapping[str, SiteFigure]

    @property
    def claim(self) -> float:
        """Against the worst of those whom every study charges."""
        return max(self.against[observer] for observer in ALWAYS_CHARGED)


def figures_of(study: Study, published: Iterable[Path]) -> ExportFigures:
    """The figures of `study`; `published` are files of sites.

    Raises `ConfigError` for a file that is not of this study, twice of one site, or does not agree.
    """
    events, delta = whole_schedule(study), study.privacy.delta
    against = {
        who: math.inf
        if any(event.no_privacy for event in events)
        else epsilon_for(who, events, delta)
        for who in Observer
    }
    found = ExportFigures(delta, len(events), against, {})
    sites: dict[str, SiteFigure] = {}
    for path in published:
        figure = _read(path, study)
        if figure.site in sites:
            raise ConfigError(f"{path} is a second file of {figure.site}.", "Give one for a site.")
        _check_agrees(path, figure, found.claim)
        sites[figure.site] = figure
    return ExportFigures(delta, len(events), against, dict(sorted(sites.items())))


def as_json(study: Study, figures: ExportFigures) -> bytes:
    """`privacy.json`; infinite epsilons are null, which promises nothing."""
    values = {
        "unit": "patient of one site, added or removed (zero-out)",
        "delta": figures.delta,
        "attempts": figures.attempts,
        "mechanism": study.privacy.mechanism,
        "noise_multiplier": study.training.noise_multiplier,
        "epsilon": _finite(figures.claim),
        "against": {who.value: _finite(value) for who, value in figures.against.items()},
        "sites": [
            {
                "name": site.name,
                "declared_patients": site.declared_patients,
                "published": _published(figures.sites.get(site.name)),
            }
            for site in study.sites
        ],
    }
    return (json.dumps(values, indent=2, allow_nan=False) + "\n").encode()


def _published(figure: SiteFigure | None) -> dict[str, object] | None:
    if figure is None:
        return None
    more = {} if figure.masks_broken is None else {"masks_broken": figure.masks_broken}
    return {
        "epsilon": figure.epsilon,
        "second_accountant": figure.second,
        "tolerance": figure.tolerance,
        **more,
    }


def _read(path: Path, study: Study) -> SiteFigure:
    try:
        with path.open("rb") as file:
            values: Any = read_json(file.read(_LARGEST).decode())
        site, digest = values["site"], values["studies"][0]["digest"]
        own = next(item for item in values["published"] if item["study"] == study.name)
        spent, second, tolerance = (float(own[key]) for key in ("epsilon", "second", "tolerance"))
        broken = None if own.get("masks_broken") is None else float(own["masks_broken"])
        of = (digest, float(own["delta"]), int(own["attempts"]))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.", _MAKE) from None
    except (ValueError, KeyError, TypeError, IndexError, StopIteration):
        raise ConfigError(f"{path} publishes no figure of {study.name}.", _MAKE) from None
    if of != (study.digest().hex(), study.privacy.delta, study.most_attempts):
        raise ConfigError(f"{path} is of another study file than study.toml.", _MAKE)
    if not isinstance(site, str) or study.site(site) is None:
        raise ConfigError(f"{path} is of no site of {study.name}.", "Give its sites' files only.")
    if not all(map(math.isfinite, (spent, second, tolerance, broken or 0.0))):
        raise ConfigError(f"{path} holds figures that are not finite.", _MAKE)
    return SiteFigure(site, spent, second, tolerance, broken)


def _check_agrees(path: Path, figure: SiteFigure, claim: float) -> None:
    within = figure.tolerance + ABSOLUTE_TOLERANCE + RELATIVE_TOLERANCE * claim
    if not abs(figure.epsilon - claim) <= within:
        raise ConfigError(
            f"{path}: {figure.site} publishes epsilon {figure.epsilon:.4f}, but this study's whole "
            f"schedule is {claim:.4f}.",
            "Nothing is exported until they agree: compare the versions of craftsfl, and ask the "
            "site what its ledger holds.",
        )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
