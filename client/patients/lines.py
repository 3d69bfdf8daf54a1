"""The register together with its key: what agent and command line ask about patients."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from client.patients.key import PatientKey, load_or_make_patient_key
from client.patients.register import Register
from client.patients.spellings import former_spellings
from privacy.errors import LedgerError

REGISTER = "patients.sqlite"
KEY = "patients.key"
_NAMED = 10  # at most this many in one line of a log
_log = logging.getLogger("craftsfl.agent")


@dataclass(frozen=True, slots=True)
class Patients:
    """A site's patients, by the ids of its own tables. Nothing that it returns identifies one."""

    key: PatientKey
    register: Register

    def lines_of(self, tiles: Sequence[tuple[str, bytes]]) -> list[bytes]:
        """The line of every usable tile, given as (patient's id, SHA-256 of its file).

        Each depends on its own id and on what a person has merged, never on the other tiles. Ids
        are in the form of `client.data.patient_key`.
        """
        own = {patient: self.key.line(patient) for patient, _ in tiles}
        self._join_former_spellings(own)
        sightings = [(own[patient], self.key.content(digest)) for patient, digest in tiles]
        standing = self.register.observe(sightings)
        self._tell([line for line in dict.fromkeys(own.values()) if standing[line] != line])
        return [standing[line] for line, _ in sightings]

    def _tell(self, merged: Sequence[bytes]) -> None:
        if merged:
            names = ", ".join(self.key.short(line) for line in merged[:_NAMED])
            more = f" and {len(merged) - _NAMED} more" if len(merged) > _NAMED else ""
            _log.info("Merged with another id of the same person: %s%s.", names, more)

    def standing(self, patient: str) -> bytes:
        """The line that represents this id, or would if it were seen now."""
        return self.find(patient) or self.key.line(patient)

    def find(self, patient: str) -> bytes | None:
        """The line that represents this id; None for an id that was never seen here."""
        lines = map(self.key.line, chain([patient], former_spellings(patient)))
        return next(filter(None, map(self.register.find, lines)), None)

    def _join_former_spellings(self, own: Mapping[str, bytes]) -> None:
        """Merge what an earlier version knew under a spreadsheet's spelling of one of these ids."""
        strangers = self.register.lines() - set(own.values())
        if not strangers:
            return
        for patient, line in own.items():
            for former in set(map(self.key.line, former_spellings(patient))) & strangers:
                self.register.join_spelling(former, line)


@contextmanager
def open_patients(state: Path) -> Iterator[Patients]:
    """Register and key in the state folder `state`; both are made if the folder has neither.

    Raises `LedgerError` if just one of the two is missing: without the register, those who withdrew
    would come back; without the key, no one in it could be found.
    """
    key, register = state / KEY, state / REGISTER
    if key.exists() and (not register.exists() or register.stat().st_size == 0):
        raise _missing(register, "Those who withdrew would come back.")
    with Register(register) as opened:
        if opened.is_claimed() and not key.exists():
            raise _missing(key, "Without it, no one in the register can be found.")
        # After the register: a crash in between leaves no orphan.
        secret = load_or_make_patient_key(key)
        opened.claim(secret.check())
        yield Patients(secret, opened)


def _missing(path: Path, why: str) -> LedgerError:
    return LedgerError(
        f"{path} is missing, but this state folder has known patients. {why}",
        f"Restore {KEY} and {REGISTER} together, from the newest backup.",
    )
