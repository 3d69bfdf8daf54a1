"""What can be known before a run starts: checked by `craftsfl rounds start`, and by the ServerApp.

Every site's own facts are checked later, at the first greeting (`server.attendance`).
"""

from __future__ import annotations

from pathlib import Path

from privacy.error_ids import ErrorId
from privacy.errors import ConfigError
from privacy.secagg.roster import Roster
from privacy.study.agreement import roster_in_force
from privacy.study.manifest import Study, load_study
from server.own_key import coordinator_key
from server.settings import ConsortiumSettings


def check_ready(settings: ConsortiumSettings) -> Study:
    """The study, if its file, schedule, noise, roster and base are as they have to be.

    Raises `CraftsflError` with what to do.
    """
    study = check_study_file(settings)
    load_roster(settings, study)
    coordinator_key(settings.coordinator_key, study)
    find_study_base(settings, study)
    return study


def check_study_file(settings: ConsortiumSettings) -> Study:
    """The study, if its file can be read and its epsilon be claimed at the end."""
    from privacy.study.schedule import check_schedule  # it imports scipy

    study = load_study(settings.study)
    check_schedule(study)
    return study


def load_roster(settings: ConsortiumSettings, study: Study) -> Roster:
    """The roster in force, verified up from the one that the study pins.

    Raises `ConfigError` or `SecAggError`.
    """
    if settings.roster is None:
        raise ConfigError(
            "Secure aggregation needs the consortium's roster.",
            "Set `roster` in consortium.toml to the signed file: craftsfl rounds roster show",
            id=ErrorId.ROSTER_MISSING,
        )
    return roster_in_force(study, settings.roster)


def find_study_base(settings: ConsortiumSettings, study: Study) -> Path:
    """The folder of the study's base, every file compared. Raises `ModelError`."""
    from model.cache import find_base

    return find_base(study.base, root=settings.study.parent)
