"""One contract for every private file: who may have it, and what a crash leaves of it.

A row is a user of `privacy.files`; the tests hold for all rows.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from client import patients
from client.agent.cohorts import Cohorts
from client.agent.own_ledger import KeyedIdentity, identity_held, passphrase
from client.agent.state import state_folder
from client.agent.survivors import SignedSets
from client.agent.witness import WitnessFile
from client.data.imagefolder import Quarantined
from client.data.quarantine import write_quarantine
from client.patients.register import Register
from client.persons import Suspicions, write_list
from craftsfl.processes.flower.credentials import make_secret, make_supernode_key
from privacy import files, ledger
from privacy.errors import CraftsflError
from privacy.identity import Identity, load_identity, make_identity
from privacy.ledger.files import HeadFile, take_lock
from privacy.ledger.head import Head, sign_head
from privacy.ledger.key import public_bytes
from privacy.ledger.marker import Marker
from privacy.ledger.notes import Note
from privacy.wire.checkpoint import Checkpoint

KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
HEAD = Head(
    ledger=bytes(16),
    sequence=0,
    hash=bytes(32),
    public_key=public_bytes(KEY),
    signature=sign_head(KEY, bytes(16), 0, bytes(32)),
)
SUSPICIONS = Suspicions(1, 0, "", 0, 0, 0, 0, ())

Action = Callable[[Path], object]


@dataclass(frozen=True)
class Row:
    """How a file is made and read; `again` changes it where it is there, None: never."""

    make: Action
    read: Action | None = None
    again: Action | None = None


def witness(file: Path, sequence: int) -> None:
    WitnessFile(file).keep({bytes(32): Checkpoint(bytes(16), sequence, bytes(32))})


def words(file: Path) -> None:
    files.write_private(file, b"correct horse\n")


def register(file: Path) -> None:
    Register(file).close()


def marker(file: Path) -> Marker:
    return Marker(file.with_name(file.name.removesuffix(".ledger")))


SECRETS = {
    "site.key": Row(make_identity, load_identity),
    "passphrase": Row(words, passphrase),
    "ledger.key": Row(ledger.load_or_make_key, ledger.load_or_make_key),
    "patients.key": Row(patients.load_or_make_patient_key, patients.load_or_make_patient_key),
}
STATE = {
    "cohorts.json": Row(
        lambda file: Cohorts(file, bytes(32)).narrow(1, (1, 2)),
        lambda file: Cohorts(file, bytes(32)),
        lambda file: Cohorts(file, bytes(32)).narrow(2, (1, 2)),
    ),
    "survivors.json": Row(
        lambda file: SignedSets(file, bytes(32)).add((1, 2)),
        lambda file: SignedSets(file, bytes(32)),
        lambda file: SignedSets(file, bytes(32)).add((3, 4)),
    ),
    "peers.json": Row(
        lambda file: witness(file, 1),
        WitnessFile,
        lambda file: witness(file, 2),
    ),
    "site.key.ledger": Row(
        lambda file: marker(file).create(),
        lambda file: marker(file).read(),
        lambda file: marker(file).write(Note(HEAD, (), None)),
    ),
    "ledger.sqlite.head": Row(
        lambda file: HeadFile(file).write(HEAD),
        lambda file: HeadFile(file).read(),
    ),
}
WRITTEN = {
    **SECRETS,
    **STATE,
    "quarantine.csv": Row(
        lambda file: write_quarantine(file, [Quarantined("a.png", "broken")]),
        again=lambda file: write_quarantine(file, []),
    ),
    "supernode.key": Row(make_supernode_key, again=make_supernode_key),
    "superexec.secret": Row(make_secret, again=make_secret),
    "list.csv": Row(lambda file: write_list(file, SUSPICIONS)),
}
READ = {**SECRETS, **STATE}
KEPT = {name: row for name, row in WRITTEN.items() if row.again}
LOCKS: dict[str, Callable[[Path], AbstractContextManager[object]]] = {
    "agent.lock": lambda file: state_folder(file.parent),
    "site.key.lock": lambda file: identity_held(
        KeyedIdentity(Identity.generate(), file.with_name("site.key"))
    ),
    "ledger.sqlite.lock": lambda file: held(file),
}


def held(file: Path) -> AbstractContextManager[object]:
    return closing(os.fdopen(take_lock(file, file), "rb"))


@pytest.fixture(autouse=True)
def any_umask() -> Iterator[None]:
    """The worst one: nothing is private by itself."""
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.parametrize("name", WRITTEN)
def test_it_is_its_owners_alone_under_any_umask(tmp_path: Path, name: str) -> None:
    for umask in (0, 0o277):
        folder = tmp_path / oct(umask)
        folder.mkdir()
        os.umask(umask)
        WRITTEN[name].make(folder / name)
        os.umask(0)
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620, 0o666])
@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_that_others_can_open_is_refused(tmp_path: Path, name: str, mode: int) -> None:
    SECRETS[name].make(tmp_path / name)
    (tmp_path / name).chmod(mode)
    refuses(SECRETS[name], tmp_path / name, r"others can read or change it.*copied it.*chmod 600")


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
@pytest.mark.parametrize("name", STATE)
def test_a_state_that_others_can_change_is_refused(tmp_path: Path, name: str, mode: int) -> None:
    STATE[name].make(tmp_path / name)
    (tmp_path / name).chmod(mode)
    refuses(STATE[name], tmp_path / name, r"others can change it.*changed it.*chmod 600")


@pytest.mark.parametrize("name", STATE)
def test_a_state_that_came_back_from_a_backup_readable_is_taken(tmp_path: Path, name: str) -> None:
    STATE[name].make(tmp_path / name)
    (tmp_path / name).chmod(0o644)
    read(STATE[name], tmp_path / name)


@pytest.mark.parametrize("name", READ)
def test_what_belongs_to_another_user_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    READ[name].make(tmp_path / name)
    owner = (tmp_path / name).stat().st_uid
    if owner == 0:  # the tests run as root, whose files everybody takes
        owner = 12345
        os.chown(tmp_path / name, owner, -1)
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    refuses(READ[name], tmp_path / name, r"belongs to another user.*chown")
    monkeypatch.setattr(os, "geteuid", lambda: 0)  # root may work on anybody's
    read(READ[name], tmp_path / name)


@pytest.mark.parametrize("name", READ)
def test_a_link_is_refused(tmp_path: Path, name: str) -> None:
    other = tmp_path / "other"
    other.mkdir()
    READ[name].make(other / name)
    (tmp_path / name).symlink_to(other / name)
    refuses(READ[name], tmp_path / name, "symbolic link")


@pytest.mark.parametrize("name", READ)
def test_what_is_not_a_file_is_refused_and_not_waited_for(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name, 0o600)
    refuses(READ[name], tmp_path / name, "not a regular file")


@pytest.mark.parametrize("name", READ)
def test_what_is_too_large_is_refused_before_it_is_read(tmp_path: Path, name: str) -> None:
    READ[name].make(tmp_path / name)
    os.truncate(tmp_path / name, 1 << 40)  # sparse: to read it all would end in no memory
    refuses(READ[name], tmp_path / name, "more than")


@pytest.mark.parametrize("name", KEPT)
def test_a_crash_before_the_last_step_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    file = tmp_path / name
    KEPT[name].make(file)
    before = digests(tmp_path)

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", crash)
        with pytest.raises(KeyboardInterrupt):
            again(KEPT[name], file)
    assert digests(tmp_path) == before
    again(KEPT[name], file)
    assert digests(tmp_path) != before


@pytest.mark.parametrize("name", sorted(WRITTEN.keys() - KEPT.keys()))
def test_a_crash_before_the_last_step_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def crash(*names: Path) -> None:
        if names[-1] == tmp_path / name:
            raise KeyboardInterrupt
        link(*names)

    link = os.link
    step = "replace" if name == "passphrase" else "link"
    monkeypatch.setattr(os, step, crash)
    with pytest.raises(KeyboardInterrupt):
        WRITTEN[name].make(tmp_path / name)
    assert {file.name for file in tmp_path.iterdir()} <= {"site.key.ledger"}  # made first


@pytest.mark.parametrize("name", WRITTEN)
def test_contents_then_name_then_folder_are_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """What is synced when: the file before it has its name, the folder after."""
    synced: list[tuple[int, bool]] = []
    fsync = os.fsync

    def observed(descriptor: int) -> None:
        synced.append((os.fstat(descriptor).st_ino, (tmp_path / name).exists()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", observed)
    WRITTEN[name].make(tmp_path / name)
    assert ((tmp_path / name).stat().st_ino, False) in synced
    assert (tmp_path.stat().st_ino, True) in synced


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_is_taken_once_and_follows_no_link(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    with LOCKS[name](folder / name):
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600
        with pytest.raises(CraftsflError, match=r"[Aa]nother"), LOCKS[name](folder / name):
            pass
    with LOCKS[name](folder / name):
        pass
    (folder / name).unlink()
    (folder / name).symlink_to(tmp_path / "victim")
    with pytest.raises(CraftsflError, match="symbolic link"), LOCKS[name](folder / name):
        pass
    assert not (tmp_path / "victim").exists()


def test_a_register_is_made_private_and_not_through_a_link(tmp_path: Path) -> None:
    register(tmp_path / "patients.sqlite")
    assert stat.S_IMODE((tmp_path / "patients.sqlite").stat().st_mode) == 0o600
    register(tmp_path / "patients.sqlite")
    (tmp_path / "link").symlink_to(tmp_path / "patients.sqlite")
    with pytest.raises(CraftsflError, match="symbolic link"):
        register(tmp_path / "link")


def read(row: Row, file: Path) -> object:
    assert row.read is not None
    return row.read(file)


def again(row: Row, file: Path) -> object:
    assert row.again is not None
    return row.again(file)


def refuses(row: Row, file: Path, why: str) -> None:
    with pytest.raises(CraftsflError, match=why):
        read(row, file)


def digests(folder: Path) -> dict[str, str]:
    found = (file for file in folder.iterdir() if file.is_file())
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in found}
