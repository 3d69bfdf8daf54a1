"""A changed byte anywhere in what a ledger consists of is told as damage, or changes nothing."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from client.agent.own_ledger import read_own_ledger
from client.patients import open_patients
from client.settings import load_site
from privacy.errors import LedgerError
from tests.client.hospital_folder import LEDGER, MARKER, REGISTER, HospitalFolder

KEY = "state/ledger.key"
FILES = (*LEDGER, MARKER, REGISTER, KEY)
TRIALS = {LEDGER[0]: 60, LEDGER[1]: 20, MARKER: 30, REGISTER: 40, KEY: 10}


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> HospitalFolder:
    hospital = HospitalFolder(tmp_path_factory.mktemp("damage") / "north")
    hospital.spend(1, 2)
    hospital.spend(3)
    return hospital


@pytest.mark.parametrize("name", FILES)
def test_a_changed_byte_is_damage_or_nothing(original: HospitalFolder, name: str) -> None:
    """Every region of the file, at three or more places each, with values that are no UTF-8 too."""
    rng = random.Random(name)
    file = original.folder / name
    whole = file.read_bytes()
    used = [at for at, byte in enumerate(whole) if byte]  # the rest is mostly empty pages
    settings = load_site(original.settings)
    sound = read_own_ledger(original.state, settings)
    assert sound is not None
    found = 0
    for trial in range(TRIALS[name]):
        start = len(used) * trial // TRIALS[name]
        at = used[start + rng.randrange(max(1, len(used) // TRIALS[name]))]
        value = rng.choice([0xFF, 0x80, 0xC3, whole[at] ^ 1, rng.randrange(256)])
        if value == whole[at]:
            continue
        file.write_bytes(whole[:at] + bytes([value]) + whole[at + 1 :])
        try:
            view = read_own_ledger(original.state, settings)
            with open_patients(original.state.path) as patients:
                patients.register.withdrawn()
        except LedgerError as error:
            found += 1
            assert error.hint, (at, value)
        else:
            assert view == sound, (at, value)
        finally:
            file.write_bytes(whole)
            for end in ("-wal", "-shm", "-journal"):
                file.with_name(file.name + end).unlink(missing_ok=True)
    # Of the head file, one of the two slots is whole, and that is enough.
    assert found > 0 or name == LEDGER[1]
    assert read_own_ledger(original.state, settings) == sound


def test_the_agent_tells_a_changed_byte_as_the_reader_does(
    original: HospitalFolder, tmp_path: Path
) -> None:
    """The schema's text in page 1, which SQLite quotes in its own error message."""
    whole = (original.folder / LEDGER[0]).read_bytes()
    for word in (b"TABLE entry", b"never_changed BEFORE", b"UPDATE ON entry"):
        at = whole.index(word) + 2
        for value in (0xFF, 0x80, 0x01):
            folder = tmp_path / f"{at}-{value}"
            shutil.copytree(original.folder, folder, ignore=shutil.ignore_patterns("tiles"))
            damaged = whole[:at] + bytes([value]) + whole[at + 1 :]
            (folder / LEDGER[0]).write_bytes(damaged)
            hospital = HospitalFolder(folder, made=True)
            hint = hospital.refused("damaged", unchanged=False)
            assert hint.startswith("Restore")
