"""What a person decides about a site's ledger: to bind it to the identity, or replace a lost one.

Both require the agent to be stopped, and may be repeated after a crash at any point: until their
last step the agent refuses as before, and a second call continues.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from client.agent.own_ledger import (
    KeyedIdentity,
    identity_held,
    identity_of,
    is_lost,
    kept_of,
    ledger_key,
    note_in_register,
    read_own_ledger,
)
from client.agent.state import StateFolder, state_folder
from client.settings import SiteSettings
from privacy.errors import ConfigError, CraftsflError, LedgerError
from privacy.files import told_if_unwritable, write_private
from privacy.ledger import Charge, LedgerView, SqliteLedger, load_or_make_key, read_ledger
from privacy.ledger.anchors import INHERITED_RUN, Anchors
from privacy.ledger.database import clear_errors
from privacy.ledger.files import slots_of
from privacy.ledger.head import Head
from privacy.ledger.marker import Marked
from privacy.ledger.notes import Note
from privacy.ledger.owner import Owner
from privacy.ledger.view import head_path

_LEDGER_FILES: Final = ("", "-wal", "-shm", ".head")


@dataclass(frozen=True, slots=True)
class MigratedLedger:
    """The head of the ledger, which is now bound, and the copy of the file as it was."""

    head: Head | None  # None: there is no ledger yet, and the marker says so
    backup: Path | None  # None: it was already bound


@dataclass(frozen=True, slots=True)
class RecoveredLedger:
    """The new ledger; `inherited` is what it counts as spent by the lost one."""

    head: Head
    inherited: tuple[Charge, ...]


@dataclass(frozen=True, slots=True)
class SeenByOthers:
    """Where the newest copy is older than what others have seen: how many `records` that was.

    Each later charge counts as `dearest`: no study since the copy was made may have charged more.
    """

    records: int
    dearest: Charge


def migrate_ledger(settings: SiteSettings, *, first: bool = False) -> MigratedLedger:
    """Bind the ledger in the state folder to the site's identity, and mark it next to the key.

    For a ledger from before bindings existed, for a new identity, and for a lost marker. `first`:
    this identity never had a ledger anywhere. Raises `LedgerError` if marker or register name
    another ledger, or a newer state of this one.
    """
    with _alone(settings) as (state, own):
        missing = not own.marker.exists()
        kept = kept_of(state, own, marker_may_be_missing=True)
        if not is_lost(state):
            return _bound(state, settings.name, own, kept.heads())
        kept.refuse_a_new_one(state)
        if missing and not first:
            raise LedgerError(
                f"There is no ledger in {state.path}, and {own.marker.path} is missing.",
                "Put both back where they were. Only if this identity never had a ledger "
                "anywhere: repeat the command with --first.",
            )
        if missing:
            own.marker.create()
        return MigratedLedger(None, None)


def recover_ledger(settings: SiteSettings, seen: SeenByOthers | None = None) -> RecoveredLedger:
    """Begin a ledger in place of a lost one, with everything that is known to be spent.

    The new ledger charges what marker and patients' register say that the lost one had charged, and
    counts every later record as a charge too, also those that only others have `seen`. The old
    files are kept in a folder `lost-N`. Raises `LedgerError` if the ledger is whole and nobody has
    seen more of it, and if nothing is known.
    """
    with _alone(settings) as (state, own):
        kept = kept_of(state, own, marker_may_be_missing=True)
        readable = _readable(state, settings, seen)
        view = _begun_before(state, settings.name, own, kept.marked)
        if view is None:
            notes = [note for note in (kept.marked.note, kept.noted, readable) if note]
            if seen is not None:
                newer = [readable] if readable else notes
                notes = [replace(note, running=seen.dearest) for note in newer]
            heads = [*kept.heads().values(), *(note.head for note in notes)]
            newest = _newest(heads)
            inherited = _known_to_be_spent(notes, [*heads, *_beyond(newest, seen)])
            _set_aside(state)
            key = load_or_make_key(state.ledger_key, ledger=state.ledger)
            anchors = Anchors(own.identity, replaced=newest.checkpoint, inherited=inherited)
            SqliteLedger(state.ledger, key, site=settings.name, anchors=anchors).close()
            view = read_ledger(state.ledger)
        note = Note.of(view.head(), view.entries(), None)
        note_in_register(state, note)  # before the marker, whose head says that all is done
        own.marker.write(note)
        return RecoveredLedger(view.head(), tuple(entry.charge for entry in view.entries()))


@contextmanager
def _alone(settings: SiteSettings) -> Iterator[tuple[StateFolder, KeyedIdentity]]:
    own = identity_of(settings)
    if own is None:
        raise ConfigError(
            "site.toml has no [identity] table: the ledger is not bound to anyone.",
            "Make a key with craftsfl site init, and name it and the signed roster there.",
        )
    with ExitStack() as stack:
        state = stack.enter_context(state_folder(settings.agent.state))
        stack.enter_context(identity_held(own))
        yield state, own


def _bound(
    state: StateFolder, site: str, own: KeyedIdentity, heads: dict[str, Head]
) -> MigratedLedger:
    key = load_or_make_key(state.ledger_key, ledger=state.ledger)
    owner = Owner(site, ledger_key(state), own.identity.public, heads)
    view = read_ledger(state.ledger, owner, may_be_unbound=True)
    backup = None
    if view.bound is None or view.bound.identity != own.identity.public:
        backup = state.ledger.with_name(f"{state.ledger.name}.unbound-{view.head().sequence}")
        _copy(state.ledger, backup, view.head())
    # Before the ledger is bound: from then on, the agent requires a marker.
    own.marker.write(Note.of(view.head(), view.entries(), None))
    anchors = Anchors(own.identity, heads, rebind=True)
    with SqliteLedger(state.ledger, key, site=site, anchors=anchors) as ledger:
        note = Note.of(ledger.head(), ledger.entries(), None)
    own.marker.write(note)
    note_in_register(state, note)
    return MigratedLedger(note.head, backup)


def _copy(ledger: Path, backup: Path, head: Head) -> None:
    """A copy of ledger, write-ahead log and head file, on disk when this returns."""
    with clear_errors(ledger), closing(sqlite3.connect(ledger)) as database:
        data = database.serialize()
    with told_if_unwritable(backup, "Free some space; nothing was changed.", LedgerError):
        write_private(head_path(backup), slots_of(head))
        write_private(backup, data)


def _beyond(newest: Head, seen: SeenByOthers | None) -> Iterator[Head]:
    """How far the ledger had come for the others; of this head nothing counts but its number."""
    if seen is not None and seen.records - 1 > newest.sequence:
        yield replace(newest, sequence=seen.records - 1)


def _readable(state: StateFolder, settings: SiteSettings, seen: SeenByOthers | None) -> Note | None:
    """A note on a ledger that is whole but cannot be continued; None for one that is not whole.

    Raises `LedgerError` if there is nothing to recover.
    """
    try:
        view = read_own_ledger(state, settings)
    except CraftsflError:
        return None  # that is why recovery was asked for
    if view is not None and not state.ledger_key.exists():
        return Note.of(view.head(), view.entries(), None)
    if view is not None and seen is not None and view.head().sequence + 1 < seen.records:
        # An agent that was started with the copy has added records of its own: others may hold
        # charges under their numbers. So from the newest attempt on, nothing is taken for known.
        last = max((entry.sequence for entry in view.entries()), default=0)
        return Note.of(replace(view.head(), sequence=last), view.entries(), seen.dearest)
    raise LedgerError(
        f"There is nothing to recover: {'no ledger was lost' if view is None else view.head()}.",
        "Start the agent; what the ledger says is spent stays spent.",
    )


def _begun_before(
    state: StateFolder, site: str, own: KeyedIdentity, marked: Marked
) -> LedgerView | None:
    """The new ledger, if an interrupted call has already made it."""
    if is_lost(state) or marked.head is None:
        return None
    try:
        owner = Owner(site, ledger_key(state), own.identity.public)
        view = read_ledger(state.ledger, owner)
    except LedgerError:
        return None
    replaced = None if view.bound is None else view.bound.replaced
    mine = all(entry.key.run == INHERITED_RUN for entry in view.entries())
    return view if mine and replaced == marked.head.checkpoint else None


def _known_to_be_spent(notes: Iterable[Note], heads: Iterable[Head]) -> tuple[Charge, ...]:
    """Everything that the ledgers with these heads may have charged, by the newest note of each."""
    best: dict[bytes, Note] = {}
    for note in notes:
        known = best.get(note.head.ledger)
        if known is None or known.head.sequence < note.head.sequence:
            best[note.head.ledger] = note
    ends: dict[bytes, Head] = {}
    for head in heads:
        ends[head.ledger] = _newest([head, *filter(None, [ends.get(head.ledger)])])
    charges: list[Charge] = []
    for ledger, head in ends.items():
        if ledger not in best:
            raise LedgerError(
                f"Nothing is known about what the ledger {ledger.hex()} has charged.",
                "Restore the newest backup of the whole state folder, or of the marker's folder.",
            )
        charges += best[ledger].charges_until(head)
    return tuple(charges)


def _newest(heads: Iterable[Head]) -> Head:
    found = max(heads, key=lambda head: head.sequence, default=None)
    if found is None:
        raise LedgerError(
            "Neither the identity's marker nor the patients' register knows a lost ledger.",
            "Restore the newest backup of the whole state folder; an identity that never had a "
            "ledger needs craftsfl site migrate-ledger --first.",
        )
    return found


def _set_aside(state: StateFolder) -> None:
    """Move what remains of the lost ledger into a folder of its own."""
    try:
        numbers = (number for number in range(1, 1_000_000))
        folder = next(
            aside for number in numbers if not (aside := state.path / f"lost-{number}").exists()
        )
        folder.mkdir(mode=0o700)
        files = [state.ledger.with_name(state.ledger.name + end) for end in _LEDGER_FILES]
        for file in (*files, state.ledger_key, state.requests):  # the old key has signed that too
            if file.exists():
                file.rename(folder / file.name)
    except OSError as error:
        raise LedgerError(
            f"The files of the lost ledger in {state.path} cannot be moved: {error.strerror}.",
            "Check the folder's owner and the free space, then repeat the command.",
        ) from None
