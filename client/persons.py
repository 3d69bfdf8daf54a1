"""Suspicions, merging and separating: a person decides which ids are one person.

Data cannot tell one person with two ids from two who share a picture, and anyone able to merge ids
by means of a picture could take others out of a study. So data only raise suspicions, at the site.
"""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from client.agent.state import StateFolder
from client.agent.withdrawals import purge
from client.data import load_site_data, patient_key
from client.data.metadata import read_rows
from client.patients import Patients, Shared, open_patients, shared_by
from client.settings import SiteSettings, load_site
from privacy.errors import ConfigError, DeploymentError
from privacy.files import told_if_unwritable, write_private_once

LISTED_COLUMNS = ("group", "pictures", "patient_id", "name_in_logs", "withdrawn")


@dataclass(frozen=True)
class Suspicions:
    """What a person should review before confirming the ids; only `listed` names any."""

    patients: int
    left_out: int  # entries of the table
    doubt: str  # why the ids may not be patients'; "" for no reason
    groups: int  # sets of patients that share pictures
    sharing: int  # patients in them
    withdrawn: int  # of those, who withdrew
    automatic: int  # merged by an earlier version, because of a shared picture
    listed: tuple[tuple[str, ...], ...] = field(repr=False)  # under `LISTED_COLUMNS`


@dataclass(frozen=True)
class _Table:
    """The data folder: ids with the digests of their pictures."""

    seen: Sequence[tuple[str, bytes]] = field(repr=False)
    left_out: int
    doubt: str

    @property
    def ids(self) -> list[str]:
        return sorted({name for name, _ in self.seen})


def suspicions(settings: Path) -> Suspicions:
    """Compare the data folder with what the register remembers; changes nothing.

    Raises `ConfigError`, `DataError` and `LedgerError`.
    """
    site = load_site(settings)
    table = _read(site.data.folder)
    state = StateFolder(site.agent.state)
    if not state.patients.exists():  # no agent has run: ids stand for themselves
        names = {name.encode(): [name] for name in table.ids}
        return _report(table, names, shared_by((n.encode(), d) for n, d in table.seen), None)
    with open_patients(state.path) as patients:
        lines = {name: patients.standing(name) for name in table.ids}
        by_line: dict[bytes, list[str]] = defaultdict(list)
        for name, line in lines.items():
            by_line[line].append(name)
        now = [(lines[name], patients.key.content(digest)) for name, digest in table.seen]
        shared = shared_by([*patients.register.sightings(), *now])
        return _report(table, by_line, shared, patients)


def write_list(path: Path, found: Suspicions) -> None:
    """Write the ids to a new file that only its owner can read. Raises `DeploymentError`."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows([LISTED_COLUMNS, *found.listed])
    with told_if_unwritable(path, "Name a new file with --list.", DeploymentError):
        write_private_once(path, text.getvalue().encode("utf-8"))


def merge_ids(settings: Path, pairs: Sequence[tuple[str, str]]) -> tuple[int, int]:
    """Make the two ids of each pair one person from the agent's next start on.

    Returns how many pairs were merged, and how many of those are out because one of the two had
    withdrawn: these at once. Raises `ConfigError`, before anything is changed, for an id that is
    neither known nor in the table.
    """
    site = load_site(settings)
    state = _state(site)
    with open_patients(state.path) as patients:
        lines = [_known(site, patients, pair) for pair in pairs]
        made = [pair for pair in lines if patients.register.merge(*pair)]
        out = [first for first, _ in made if first in patients.register.withdrawn()]
    if out:
        purge(state.cache)
    return len(made), len(out)


def separate(settings: Path, patient: str) -> int:
    """Undo every merging of this id; returns how many ids represent themselves as a result."""
    site = load_site(settings)
    with open_patients(_state(site).path) as patients:
        ((line, _),) = [_known(site, patients, (patient, patient))]
        return patients.register.separate(line)


def read_id_pairs(path: Path) -> list[tuple[str, str]]:
    """Pairs of ids, two cells per line and no header; raises `ConfigError`."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = [row for row in csv.reader(file) if row]
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.", "Check the path.") from None
    except (ValueError, csv.Error):
        raise ConfigError(f"{path} cannot be read as CSV.", "Write two ids per line.") from None
    if not rows or any(len(row) != 2 for row in rows):
        raise ConfigError(
            f"{path} is not a list of pairs.", "Write two ids per line, with a comma."
        )
    return [(first, second) for first, second in rows]


def _read(folder: Path) -> _Table:
    seen: list[tuple[str, bytes]] = []

    def lines_of(tiles: Sequence[tuple[str, bytes]]) -> Sequence[bytes]:
        seen.extend(tiles)
        return [name.encode() for name, _ in tiles]

    data = load_site_data(folder, lines_of=lines_of)
    return _Table(seen, len(data.quarantined), data.doubt)


def _report(
    table: _Table,
    names: Mapping[bytes, Sequence[str]],
    shared: Sequence[Shared],
    patients: Patients | None,
) -> Suspicions:
    out = frozenset[bytes]() if patients is None else patients.register.withdrawn()
    decisions = () if patients is None else patients.register.decisions()
    sharing = {line for each in shared for line in each.patients}
    groups = [(str(n), str(each.pictures), each.patients) for n, each in enumerate(shared, start=1)]
    merged = frozenset(line for line, ids in names.items() if len(ids) > 1)
    return Suspicions(
        patients=len(names),
        left_out=table.left_out,
        doubt=table.doubt,
        groups=len(shared),
        sharing=len(sharing),
        withdrawn=len(sharing & out),
        automatic=sum(decision.kind == "automatic" for decision in decisions),
        listed=tuple(_rows([*groups, ("merged", "", merged)], names, out, patients)),
    )


def _rows(
    groups: Sequence[tuple[str, str, frozenset[bytes]]],
    names: Mapping[bytes, Sequence[str]],
    out: frozenset[bytes],
    patients: Patients | None,
) -> Iterator[tuple[str, ...]]:
    for group, pictures, lines in groups:
        for line in sorted(lines):
            short = "" if patients is None else patients.key.short(line)
            for name in names.get(line, ("(not in the table)",)):
                yield (group, pictures, name, short, "yes" if line in out else "no")


def _known(site: SiteSettings, patients: Patients, pair: tuple[str, str]) -> tuple[bytes, bytes]:
    """The two ids' own lines."""
    keys = patient_key(pair[0]), patient_key(pair[1])
    strange = [key for key in keys if patients.find(key) is None]
    if strange:
        table = {row.values.get("patient_id") for row in read_rows(site.data.folder)} - {""}
        if not table.issuperset(strange):
            raise ConfigError(
                "No patient with this id is known at this site, nor in the table.",
                "Check the spelling: it is the patient_id of the metadata. Nothing was changed.",
            )
    return patients.key.line(keys[0]), patients.key.line(keys[1])


def _state(site: SiteSettings) -> StateFolder:
    state = StateFolder(site.agent.state)
    if not state.patients.exists():
        raise DeploymentError(
            f"There is no patients' register in {state.path}: no agent has run here.",
            "Check agent.state in site.toml; before the first start, correct the table instead.",
        )
    return state
