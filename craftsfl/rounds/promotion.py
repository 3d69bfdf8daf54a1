"""`craftsfl rounds promote` and `rollback`: says what it would do, asks, does it."""

# Why: docs/adr/0053-champions-and-exports.md

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import typer

from craftsfl.terminal import output, say
from model.names import quoted_path
from model.origin import DIGEST_TAG
from privacy.audit.promotions import LoggedPromotion, PromotionRow
from privacy.audit.readers_demand import counting_readers
from privacy.audit.readers_result import SignedReaders
from privacy.audit.signoff import SignedVerdict, signed_off
from privacy.error_ids import ErrorId
from privacy.errors import AuditError, ConfigError, CraftsflError, DeploymentError
from privacy.study.manifest import Study, load_study
from server.champion import CHAMPION, Champions, Move
from server.clock import SystemClock
from server.demands import Candidate, DemandAnswer, demand_answers
from server.figures import DIGEST_OF_STUDY, RUN_TAG, user_name
from server.log_between_runs import bring_log_up_to_date
from server.model_card import AdapterFacts
from server.promotion_record import PromotionRecord
from server.registry import ALIAS, read_release
from server.settings import ConsortiumSettings, load_consortium
from server.status import RunStatus
from server.status_reader import read_ended

VERDICTS: Final = "verdicts"
READINGS: Final = "readers"
_LARGEST_VERDICT: Final = 1 << 16

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion


def promote(settings: Path, version: str | None, *, yes: bool) -> None:
    """Make a version the champion; `version` is a number, None for the newest.

    Raises `DeploymentError` where it does not meet a demand, and changes nothing then.
    """
    consortium = load_consortium(settings)
    study = load_study(consortium.study)
    check_begun(consortium, settings)
    champions = Champions(consortium.mlflow_uri(), study)
    candidate = candidate_of(consortium, study, champions.version(version or ALIAS))
    found = demand_answers(candidate)
    present = champions.present()
    _show(candidate, found)
    unmet = [answer for answer in found if not answer.met]
    if unmet:
        raise DeploymentError(
            f"Version {candidate.version} of {study.name} is not promoted: it does not show that "
            + "; nor that ".join(answer.what for answer in unmet)
            + ".",
            " ".join(dict.fromkeys(answer.cure for answer in unmet)),
            id=ErrorId.NOT_PROMOTED,
        )
    row = _row(study, candidate)
    newest = PromotionRecord(consortium.promotions_file()).newest(study.digest())
    if present == candidate.version and newest is not None and newest.version == present:
        _log_it(consortium, study)
        typer.echo(f"It is the champion already: {study.name}@{CHAMPION}.")
        return
    undo = _undo(settings, row, present)
    _move(champions, consortium, study, present, row, undo=undo, yes=yes)


def roll_back(settings: Path, *, yes: bool) -> None:
    """Make the version champion that was it before; it showed then what was demanded."""
    consortium = load_consortium(settings)
    study = load_study(consortium.study)
    check_begun(consortium, settings)
    champions = Champions(consortium.mlflow_uri(), study)
    present, before = champions.present(), champions.before()
    if before is None:
        raise DeploymentError(
            f"{study.name} has no champion."
            if present is None
            else f"{study.name} had no champion before version {present}.",
            f"Name one: craftsfl rounds promote {quoted_path(settings)} --version N. To have none, "
            "delete the alias in MLflow.",
            id=ErrorId.NOT_PROMOTED,
        )
    row = _row_back(consortium, study, champions.version(before), settings)
    undo = _undo(settings, row, present)
    _move(champions, consortium, study, present, row, undo=undo, yes=yes)


def candidate_of(consortium: ConsortiumSettings, study: Study, version: ModelVersion) -> Candidate:
    """The version with its run, from the round state; raises `DeploymentError` if it has none."""
    digest = study.digest().hex()
    if version.tags.get(DIGEST_OF_STUDY) != digest:
        raise DeploymentError(
            f"Version {version.version} of {study.name} is of another study file.",
            "Use the consortium.toml, with the study.toml, under which it was trained.",
            id=ErrorId.NOT_PROMOTED,
        )
    run = version.tags.get(RUN_TAG, "")
    ended = read_ended(consortium.database_url(), digest)
    status = next((status for status in ended if str(status.run) == run), None)
    if status is None:
        raise DeploymentError(
            f"The round state has no ended run {run or '?'} of {study.name}, of which version "
            f"{version.version} is.",
            "Use the consortium.toml of the coordinator that ran it: MLflow is a view, and proves "
            "nothing.",
            id=ErrorId.NO_RUN,
        )
    registered = version.tags.get(DIGEST_TAG, "").removeprefix("sha256:")
    verdicts = read_verdicts(consortium.state / VERDICTS)
    return Candidate(
        str(version.version),
        study,
        status,
        _adapter(status),
        registered,
        verdicts,
        read_readings(consortium.state / READINGS),
    )


def read_verdicts(folder: Path) -> tuple[SignedVerdict, ...]:
    """The auditors' signed verdicts in `folder`; files that are none are left aside, with a word.

    Whose they are, and of what, is looked at by the demand.
    """
    found = []
    for path in sorted(folder.glob("*.verdict")):
        try:
            with path.open("rb") as file:
                found.append(SignedVerdict.decode(file.read(_LARGEST_VERDICT)))
        except AuditError as error:
            say(f"{path}: {error.message}")
    return tuple(found)


def read_readings(folder: Path) -> tuple[SignedReaders, ...]:
    """The signed results of readers' studies in `folder`; others are left aside, with a word."""
    found = []
    for path in sorted(folder.glob("*.readers")):
        try:
            with path.open("rb") as file:
                found.append(SignedReaders.decode(file.read(_LARGEST_VERDICT + 1)))
        except AuditError as error:
            say(f"{path}: {error.message}")
    return tuple(found)


def _adapter(status: RunStatus) -> AdapterFacts | None:
    if status.release is None:
        return None
    try:
        return read_release(status.run, status.release)[1]
    except DeploymentError:
        return None


def _show(candidate: Candidate, found: list[DemandAnswer]) -> None:
    console = output()
    head = f"Version {candidate.version} of {candidate.study.name}, of run {candidate.status.run}:"
    console.print(head, highlight=False, markup=False)
    for answer in found:
        sign = "yes" if answer.met else "NO "
        console.print(f"  {sign}  {answer.what} ({answer.found})", highlight=False, markup=False)


def _row(study: Study, candidate: Candidate) -> PromotionRow:
    """What the log is to say, with the verdicts and readers' results that count.

    `add` gives it its number.
    """
    digest = study.digest().hex()
    names = signed_off(study, candidate.registered, candidate.verdicts)
    counted = {
        one.auditor: one
        for one in candidate.verdicts
        if one.auditor in names and signed_off(study, candidate.registered, [one])
    }
    run = candidate.status.run
    promotion = LoggedPromotion(digest, 1, run, candidate.version, candidate.registered, back=False)
    signoffs = tuple(counted[name] for name in sorted(counted))
    return PromotionRow(promotion, signoffs, _readings(study, candidate))


def _readings(study: Study, candidate: Candidate) -> tuple[SignedReaders, ...]:
    wanted = None if study.promotion is None else study.promotion.readers
    if wanted is None:
        return ()
    of = (candidate.registered, study.digest().hex())
    return counting_readers(wanted, of, candidate.readings)


def _row_back(
    consortium: ConsortiumSettings, study: Study, version: ModelVersion, settings: Path
) -> PromotionRow:
    """The same for a rollback, which must not fail where the round state is gone."""
    number, digest = str(version.version), study.digest()
    rows = PromotionRecord(consortium.promotions_file()).rows(digest)
    for row in reversed(rows):
        if row.promotion.version == number:
            return replace(row, promotion=replace(row.promotion, back=True))
    registered = version.tags.get(DIGEST_TAG, "").removeprefix("sha256:")
    run = version.tags.get(RUN_TAG, "")
    values = (digest.hex(), 1, int(run) if run.isdecimal() else 0, number, registered)
    try:
        return PromotionRow(LoggedPromotion.of_facts(LoggedPromotion(*values, back=True).facts()))
    except AuditError:
        raise DeploymentError(
            f"MLflow does not say of which run and file version {number} of {study.name} is.",
            "Promote a version that it knows: craftsfl rounds promote "
            f"{quoted_path(settings)} --version N",
            id=ErrorId.NOT_PROMOTED,
        ) from None


def _log_it(consortium: ConsortiumSettings, study: Study) -> None:
    """The entry is on disk already; where the log is in use or damaged, it goes in later."""
    try:
        if not bring_log_up_to_date(consortium, study):
            say("A run is under way: its ServerApp writes this into the log at its next step.")
    except CraftsflError as error:
        say(f"The log does not have it yet; the next run will write it there. {error.message}")


def _move(
    champions: Champions,
    consortium: ConsortiumSettings,
    study: Study,
    present: str | None,
    row: PromotionRow,
    *,
    undo: str,
    yes: bool,
) -> None:
    version, back = row.promotion.version, row.promotion.back
    before = "nobody" if present is None else f"version {present}"
    typer.echo(
        f"{study.name}@{CHAMPION} goes from {before} to version {version}. Whoever draws with "
        f"models:/{study.name}@{CHAMPION} gets version {version} from then on; no file is changed "
        "or removed."
    )
    if not yes and not _agreed():
        typer.echo("Nothing was changed.")
        return
    # On disk first: a champion of which the log will never know cannot come about.
    PromotionRecord(consortium.promotions_file()).add(row)
    champions.move(Move(version, back, int(SystemClock().time()), user_name()))
    _log_it(consortium, study)
    typer.echo(f"Done: version {version} is the champion. Undo: {undo}")


def _undo(settings: Path, row: PromotionRow, present: str | None) -> str:
    if row.promotion.back:
        return f"craftsfl rounds promote {quoted_path(settings)} --version {present}"
    if present is None:
        return "delete the alias in MLflow"
    return f"craftsfl rounds rollback {quoted_path(settings)}"


def _agreed() -> bool:
    if not sys.stdin.isatty():
        raise ConfigError(
            "Nobody can be asked here: this is no terminal.", "Read the above, then add --yes."
        )
    return typer.confirm("Do it?", default=False)


def check_begun(consortium: ConsortiumSettings, settings: Path) -> None:
    """Raise `DeploymentError` where no run has left anything; `settings`: consortium.toml."""
    if not consortium.state.exists():
        raise DeploymentError(
            "No run has started yet, so there is no version.",
            f"Start one: craftsfl rounds start {quoted_path(settings)}",
            id=ErrorId.NO_RUN,
        )
