"""The one way to open a site's ledger, for the agent, `site budget` and `site withdraw` alike.

What must agree, whoever asks: the ledger, its key and its head file; the site's name and identity;
the marker next to the identity; the note in the patients' register. Each is written after the
ledger, never before, so that a start after a crash at any point finds them behind or equal:

    ledger.key -> ledger -> its head file -> marker -> register      a first start
    ledger -> its head file -> marker                                 every append
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from client.agent.state import StateFolder
from client.patients.ledger_note import read_note, write_note
from client.settings import SiteSettings
from privacy.error_ids import ErrorId
from privacy.errors import ConfigError, LedgerError
from privacy.files import read_private
from privacy.identity import Identity, load_identity, read_key_file
from privacy.ledger import Charge, LedgerView, SqliteLedger, load_or_make_key, read_ledger
from privacy.ledger.anchors import Anchors
from privacy.ledger.database import holds_nothing
from privacy.ledger.files import locked
from privacy.ledger.head import Head
from privacy.ledger.key import public_bytes
from privacy.ledger.marker import Marked, Marker
from privacy.ledger.notes import Note
from privacy.ledger.owner import Owner
from privacy.ledger.records import GeneratorTried
from privacy.log.lines import check_identities
from privacy.secagg.chain import read_rosters
from privacy.study.agreement import roster_agreed
from privacy.study.manifest import Study

CREDENTIAL: Final = "craftsfl-passphrase"  # its name in the agent's unit
_LARGEST_PASSPHRASE: Final = 4096  # bytes
_read_ahead: dict[Path, bytes] = {}


@dataclass(frozen=True, slots=True)
class KeyedIdentity:
    """A site's identity, and the file of its key."""

    identity: Identity
    key: Path

    @property
    def marker(self) -> Marker:
        """Which ledger the identity has."""
        return Marker(self.key)


def identity_of(settings: SiteSettings) -> KeyedIdentity | None:
    """The identity that `site.toml` names, if any. Raises `ConfigError`."""
    own = settings.identity
    if own is None:
        return None
    return KeyedIdentity(load_identity(own.key, passphrase(own.passphrase_file)), own.key)


def passphrase(file: Path | None) -> bytes | None:
    """The first line of `file`, if a file is given; or of the credential that systemd passes.

    A credential lies in a folder of the service's own, and comes from a file that may be root's
    alone. Raises `ConfigError`.
    """
    if file is None:
        return None
    if file in _read_ahead:
        return _read_ahead[file]
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    credential = None if folder is None else Path(folder) / CREDENTIAL
    data = _loaded(credential) if credential is not None and credential.exists() else None
    return (data or read_key_file(file)).split(b"\n", 1)[0].rstrip(b"\r")


def read_passphrase_ahead(file: Path | None) -> None:
    """Read it now, for when this process is a user who may not: a unit's file may be root's alone.

    Raises `ConfigError`.
    """
    words = passphrase(file)
    if file is not None and words is not None:
        _read_ahead[file] = words


def _loaded(credential: Path) -> bytes:
    try:
        return read_private(credential, _LARGEST_PASSPHRASE)
    except OSError as error:
        raise ConfigError(
            f"The credential {credential} cannot be used: {error.strerror}.",
            "Check LoadCredential in the agent's unit, or remove it and its passphrase there.",
        ) from None


def open_ledger(
    state: StateFolder,
    site: str,
    own: KeyedIdentity | None = None,
    running: Charge | None = None,
    tried: GeneratorTried | None = None,
) -> SqliteLedger:
    """The ledger of `site`, to write, until it is closed; a new one only at a first start.

    `own` None: the ledger is not bound to anyone. `running` is the charge of the study under way;
    `tried`, what the generator's trial has found at this start, is recorded.
    Raises `LedgerError`, also if there has been a ledger and it, its key or the marker is gone or
    an older copy: starting over would spend the patients' budget a second time.
    """
    held = ExitStack()
    with ExitStack() as undo:
        undo.callback(held.close)
        if own is not None:
            held.enter_context(identity_held(own))
        kept = kept_of(state, own)
        if is_lost(state):
            kept.refuse_a_new_one(state)
        elif own is not None and kept.marked.head is None:
            # Before anything is written: opening updates the marker from the ledger.
            kept.refuse_an_empty_marker(read_ledger(state.ledger), own.marker)
        key = load_or_make_key(state.ledger_key, ledger=state.ledger)
        anchors = Anchors()
        if own is not None:
            marks = (own.marker.heads,)
            anchors = Anchors(own.identity, kept.heads(), marks, release=held.close)
        ledger = SqliteLedger(state.ledger, key, site=site, anchors=anchors)
        undo.callback(ledger.close)
        if tried is not None:
            ledger.generator_tried(tried)
        if own is not None:
            own.marker.write(Note.of(ledger.head(), ledger.entries(), running))
        undo.pop_all()
        return ledger


def note_in_register(state: StateFolder, note: Note) -> None:
    """Note the ledger in the patients' register too, if there is one. Raises `LedgerError`."""
    if state.patients.is_file() and state.patients.stat().st_size > 0:
        write_note(state.patients, note)


def read_own_ledger(state: StateFolder, settings: SiteSettings) -> LedgerView | None:
    """The same ledger, to read, while an agent may write it; None before the first start."""
    own = identity_of(settings)
    kept = kept_of(state, own)  # before the ledger, which may grow in between
    if is_lost(state):
        kept.refuse_a_new_one(state)
        return None
    owner = Owner(
        settings.name,
        ledger_key(state),
        None if own is None else own.identity.public,
        kept.heads(),
    )
    view = read_ledger(state.ledger, owner)
    if own is not None:
        kept.refuse_an_empty_marker(view, own.marker)
    return view


def read_named_ledger(
    state: StateFolder, settings: SiteSettings, study: Study
) -> LedgerView | None:
    """The ledger, to read, if it is the one of the site that the roster names; None without one.

    For whoever wants to rely on it, and may have a copy only: where the site's key is not there,
    the roster's public half of it says whose the ledger has to be. Raises `LedgerError` for one
    that anybody could have written, `ConfigError` or `SecAggError` for a roster that says nothing.
    """
    named = settings.identity
    if named is None:
        raise ConfigError(
            "site.toml names no roster, so nobody can tell whose ledger this is.",
            "Name key and roster in the [identity] table of site.toml.",
        )
    roster = roster_agreed(study, named.roster).roster
    member = roster.member_named(settings.name)
    if named.key.exists():
        view = read_own_ledger(state, settings)
    elif is_lost(state):
        return None
    else:
        kept, key = kept_of(state, None), ledger_key(state)
        public = None if member is None else member.public_key
        view = read_ledger(state.ledger, Owner(settings.name, key, public, kept.heads()))
    if view is not None:
        rosters = [one.roster for one in read_rosters(named.roster)]
        check_identities(settings.name, view.bindings, rosters)
        if member is None or view.bindings[-1].identity != member.public_key:
            raise LedgerError(
                f"The ledger is bound to another key than the newest roster gives to "
                f"{settings.name}.",
                "After a change of keys: craftsfl site migrate-ledger site.toml. Else restore the "
                "ledger that belongs to the key.",
                id=ErrorId.LEDGER_FOREIGN,
            )
    return view


@dataclass(frozen=True, slots=True)
class Kept:
    """What other files know about the ledger."""

    marker: Marker | None
    marked: Marked
    register: Path
    noted: Note | None

    def heads(self) -> dict[str, Head]:
        """The heads, by where each is kept."""
        heads = {}
        if self.marker is not None and self.marked.head is not None:
            heads[f"is kept in {self.marker.path}"] = self.marked.head
        if self.noted is not None:
            heads[f"is kept in {self.register}"] = self.noted.head
        return heads

    def refuse_a_new_one(self, state: StateFolder) -> None:
        """Raise `LedgerError` if there has been a ledger, which is missing now."""
        heads = [f"{head} {origin}" for origin, head in self.heads().items()]
        worked = state.quarantine.exists() or state.cache.exists()
        if not heads and not worked:
            return
        why = "an agent has worked with this state folder"
        if heads:
            why = f"this site has one: {'; '.join(heads)}"
        raise LedgerError(
            f"The ledger {state.ledger} is missing, but {why}.",
            "Restore it from the newest backup of the whole state folder, or point agent.state at "
            "the right one: the budget that it records is spent. Only if no copy is left: "
            "craftsfl site recover-ledger site.toml, which counts what is known to be spent.",
            id=ErrorId.LEDGER_MISSING,
        )

    def refuse_an_empty_marker(self, view: LedgerView, marker: Marker) -> None:
        """Raise `LedgerError` if the marker knows no ledger although this one was used."""
        if view.entries() and self.marked.head is None:
            raise LedgerError(
                f"{marker.path} names no ledger, but this site's ledger has been used: an older "
                "copy of the marker was put there, or the key's folder was restored.",
                "Put the newest marker back. If this ledger is the one that this identity last "
                "used, say so: craftsfl site migrate-ledger site.toml.",
            )


def kept_of(
    state: StateFolder, own: KeyedIdentity | None, *, marker_may_be_missing: bool = False
) -> Kept:
    """What marker and register say; raises `LedgerError` if one is missing or damaged."""
    marker = None if own is None else own.marker
    marked = Marked()
    if marker is not None and not (marker_may_be_missing and not marker.exists()):
        marked = marker.read()
    return Kept(marker, marked, state.patients, read_note(state.patients))


def is_lost(state: StateFolder) -> bool:
    """Whether the state folder has no ledger, or one that was never begun."""
    return not state.ledger.exists() or holds_nothing(state.ledger)


@contextmanager
def identity_held(own: KeyedIdentity) -> Iterator[None]:
    """Hold the identity for one agent; `LedgerError` if another one holds it."""
    lock = own.key.with_name(f"{own.key.name}.lock")
    with locked(
        lock,
        f"Another agent, or a command on its ledger, uses the identity {own.key}.",
        "Stop it first: two state folders on one identity would spend one budget twice.",
    ):
        yield


def ledger_key(state: StateFolder) -> bytes | None:
    """The ledger key's public half; None if the key is lost, so that no one can tell."""
    if not state.ledger_key.exists():
        return None
    return public_bytes(load_or_make_key(state.ledger_key, ledger=state.ledger))
