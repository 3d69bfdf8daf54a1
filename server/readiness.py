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
from server.context import require_roster
from server.own_key import coordinator_key
from server.settings import ConsortiumSettings


def check_ready(settings: ConsortiumSettings, *, plain: bool = False) -> Study:
    """The study, if its file, schedule, noise, roster and base are as they have to be.

    `plain` allows a study without masks. Raises `CraftsflError` with what to do.
    """
    study = check_study_file(settings, plain=plain)
    load_roster(settings, study)
    coordinator_key(settings.coordinator_key, study)
    find_study_base(settings, study)
    return study


def check_study_file(settings: ConsortiumSettings, *, plain: bool = False) -> Study:
    """The study, if its file can be read and its epsilon be claimed at the end."""
    from privacy.study.schedule import check_schedule  # it imports scipy

    study = load_study(settings.study)
    check_schedule(study)
    if not (study.masked or plain):
        raise ConfigError(
            f"The study {study.name} does not use secure aggregation.",
            'Set aggregation.secure_aggregation = "required" in study.toml: in a plain '
            "study the coordinator would see every site's own update.",
            id=ErrorId.PLAIN_STUDY,
        )
    return study


def load_roster(settings: ConsortiumSettings, study: Study) -> Roster | None:
    """The roster in force, verified up from the one that the study pins; None for a plain study.

    Raises `ConfigError` or `SecAggError`.
    """
    if not study.masked:
        return None
    if settings.roster is None:
        return require_roster(None)
    return roster_in_force(study, settings.roster)


def find_study_base(settings: ConsortiumSettings, study: Study) -> Path:
    """The folder of the study's base, every file compared. Raises `ModelError`."""
    from model.cache import find_base

    return find_base(study.base, root=settings.study.parent)
