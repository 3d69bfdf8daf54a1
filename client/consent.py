"""A patient withdraws or is restored: one patient out of the next draw, or back into it.

Both work whether or not the site's agent is running. Neither prints the patient's id: the answer
names the line as the site's logs do.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from client.agent.own_ledger import read_own_ledger
from client.agent.state import StateFolder
from client.agent.withdrawals import purge
from client.data import patient_key
from client.patients import Patients, open_patients, sharing_with
from client.patients.figures import charges_during
from client.policy import limits_of
from client.settings import SiteSettings, load_policy, load_site
from privacy.budget import Book
from privacy.errors import ConfigError, CraftsflError, DeploymentError

_Result = TypeVar("_Result")

_AHEAD_HINT = (
    "Check the spelling: it has to be the patient_id of metadata.csv. If no agent has read this "
    "patient's tiles yet, say so with --ahead: the patient is then left out from the beginning."
)


@dataclass(frozen=True)
class Withdrawn:
    """What `withdraw` did."""

    name: str  # the line's, in this site's logs
    already: bool
    files: int  # of encoded tiles that were deleted
    epsilon: float | None  # used of this patient's budget, permanently; None: see `unsaid`
    sharing: tuple[str, ...] = ()  # others with this patient's pictures who still take part
    unsaid: str = ""  # why steps beyond the register are incomplete; names no patient


def withdraw(settings: Path, patient: str, *, ahead: bool = False) -> Withdrawn:
    """Take `patient`, an id as in the metadata, out of every draw from the next one on.

    Deletes the encoded tiles of all patients (the next start encodes the others again). Changes
    neither the ledger nor the declared N. Raises `ConfigError` for an id that was never seen here,
    unless `ahead`; raises nothing once the patient is out: what else went wrong is in `unsaid`.
    """
    site = load_site(settings)
    with ExitStack() as stack:
        state = _state_folder(site, make=ahead)
        patients = stack.enter_context(open_patients(state.path))
        line = patients.find(patient_key(patient))
        if line is None:
            if not ahead:
                raise _unknown()
            line = _line_of(patients, patient)
        new = patients.register.withdraw(line)
        faults: list[CraftsflError] = []
        files = _tried(lambda: purge(state.cache), faults)
        epsilon = _tried(lambda: _epsilon(site, state, patients, line), faults)
        return Withdrawn(
            name=patients.key.short(line),
            already=not new,
            files=files or 0,
            epsilon=epsilon,
            sharing=_tried(lambda: _sharing(patients, line), faults) or (),
            unsaid="\n".join(map(str, faults)),
        )


def _sharing(patients: Patients, line: bytes) -> tuple[str, ...]:
    """The log names of all who share a picture with `line` and have not withdrawn."""
    register = patients.register
    found = sharing_with(register.find(line) or line, register.shared()) - register.withdrawn()
    return tuple(sorted(map(patients.key.short, found)))


def restore(settings: Path, patient: str) -> tuple[str, bool]:
    """Let `patient` be drawn again after the agent's next start; (the line's name, changed).

    Raises `ConfigError` for an id that was never seen here.
    """
    state = _state_folder(load_site(settings), make=False)
    with open_patients(state.path) as patients:
        line = patients.find(patient_key(patient))
        if line is None:
            raise _unknown()
        return patients.key.short(line), patients.register.restore(line)


def _tried(action: Callable[[], _Result], faults: list[CraftsflError]) -> _Result | None:
    """`action()`; None if it fails, and its error is added to `faults`."""
    try:
        return action()
    except CraftsflError as error:
        faults.append(error)
        return None


def _line_of(patients: Patients, patient: str) -> bytes:
    plain = patient_key(patient)
    if not plain:
        raise ConfigError("The patient's id is empty.", "Give the patient_id of metadata.csv.")
    return patients.key.line(plain)


def _epsilon(site: SiteSettings, state: StateFolder, patients: Patients, line: bytes) -> float:
    """Of all charges in which the line could be drawn; 0 if nothing was ever charged."""
    view = read_own_ledger(state, site)
    if view is None:
        return 0.0
    paid = charges_during(patients.register.stays(line), view.entries())
    return Book(tuple(paid)).lifetime_epsilon(limits_of(load_policy(site.policy)))


def _state_folder(site: SiteSettings, *, make: bool) -> StateFolder:
    path = site.agent.state
    if make:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not path.is_dir():
        raise DeploymentError(
            f"The state folder {path} does not exist: no agent has run here.",
            "Check agent.state in site.toml.",
        )
    return StateFolder(path)


def _unknown() -> ConfigError:
    return ConfigError("No patient with this id is known at this site.", _AHEAD_HINT)
