"""What can be known before a run starts: checked by `craftsfl rounds start`, and by the ServerApp.

Every site's own facts are checked later, at the first greeting (`server.attendance`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from privacy.error_ids import ErrorId
from privacy.errors import ConfigError
from privacy.secagg.chain import AgreedRoster
from privacy.secagg.roster import Roster
from privacy.study.agreement import roster_agreed, roster_in_force
from privacy.study.manifest import Study, load_study
from server.own_key import coordinator_key
from server.settings import ConsortiumSettings

_PLACEHOLDER: Final = "0" * 64  # of a digest or key in the samples


def check_ready(settings: ConsortiumSettings) -> Study:
    """The study, if its file, schedule, noise, roster and base are as they have to be.

    Raises `CraftsflError` with what to do.
    """
    study = check_study_file(settings)
    check_filled(study)
    agreed_roster(settings, study)
    coordinator_key(settings.coordinator_key, study)
    find_study_base(settings, study)
    return study


def check_study_file(settings: ConsortiumSettings) -> Study:
    """The study, if its file can be read and its epsilon be claimed at the end."""
    from privacy.study.schedule import check_schedule  # it imports scipy

    study = load_study(settings.study)
    check_schedule(study)
    return study


def check_filled(study: Study) -> None:
    """Raise `ConfigError` for the placeholders of a sample or of a study that is only planned."""
    key = "" if study.pooled is None else study.pooled.coordinator_key
    for name, value, cure in (
        ("base.digest", study.base.digest, "craftsfl model install FOLDER prints it."),
        (
            "secure_aggregation.roster",
            study.secure_aggregation.roster,
            "Add the hospitals, with all their cards: craftsfl rounds add consortium.toml "
            "NAME.card NAME.card ... (the long way: craftsfl rounds roster show prints it)",
        ),
        ("pooled.coordinator_key", key, "craftsfl rounds key FILE makes it, and prints the line."),
    ):
        if value.removeprefix("sha256:") == _PLACEHOLDER:
            raise ConfigError(
                f"The study {study.name} still has a placeholder as {name}.",
                cure,
                id=ErrorId.PLACEHOLDER,
            )


def load_roster(settings: ConsortiumSettings, study: Study) -> Roster:
    """The roster in force, verified up from the one that the study pins.

    Raises `ConfigError` or `SecAggError`.
    """
    return roster_in_force(study, roster_file(settings))


def agreed_roster(settings: ConsortiumSettings, study: Study) -> AgreedRoster:
    """The same, where the study's roster may still lack signatures, which sites then bring."""
    return roster_agreed(study, roster_file(settings))


def roster_file(settings: ConsortiumSettings) -> Path:
    """The file of rosters. Raises `ConfigError` where none is named, or none was made yet."""
    invitation = settings.invitation
    if settings.roster is not None and (invitation is None or settings.roster.exists()):
        return settings.roster
    cure = "Set `roster` in consortium.toml to the signed file: craftsfl rounds roster show"
    if invitation is not None:
        cure = (
            "Have every hospital of the study run craftsfl site init and send you its card; then: "
            "craftsfl rounds add consortium.toml NAME.card NAME.card ..."
        )
    raise ConfigError(
        "Secure aggregation needs the consortium's roster, and there is none yet.",
        cure,
        id=ErrorId.ROSTER_MISSING,
    )


def find_study_base(settings: ConsortiumSettings, study: Study) -> Path:
    """The folder of the study's base, every file compared. Raises `ModelError`."""
    from model.cache import find_base

    return find_base(study.base, root=settings.study.parent)
