"""`craftsfl site suspicions`, `merge`, `separate`: pictures raise suspicions, a person decides."""

from __future__ import annotations

import csv
import shutil
import stat
from pathlib import Path

import pytest
from typer.testing import CliRunner

from client.agent.own_ledger import open_ledger
from client.agent.startup import load
from client.agent.state import StateFolder
from client.consent import withdraw
from client.data import SiteData
from client.patients import open_patients
from client.persons import LISTED_COLUMNS, merge_ids, read_id_pairs, separate, suspicions
from client.trainer.loading import load_data
from craftsfl.cli import app
from privacy.errors import ConfigError, DeploymentError
from tests.client.hospital import write_hospital
from tests.client.studies import make_study


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    """Ten patients whom an agent knows; 0 and 1 share a picture, 2 and 3 share two."""
    path = write_hospital(tmp_path, study=make_study())
    tiles = tmp_path / "tiles"
    with (tiles / "metadata.csv").open("a") as table:
        for source, owner in (("0-0", 1), ("2-0", 3), ("2-1", 3)):
            shutil.copyfile(tiles / f"canary-file-{source}.png", tiles / f"copy-{source}.png")
            table.write(f"copy-{source}.png,x,canary-patient-{owner}\n")
    (tmp_path / "state").mkdir()
    start(path)
    return path


def start(settings: Path) -> SiteData:
    state, site = StateFolder(settings.parent / "state"), load(settings)
    with (
        open_ledger(state, site.rules.name, site.own, site.charge),
        open_patients(state.path) as patients,
    ):
        return load_data(site, state, patients)


def patient(number: int) -> str:
    return f"canary-patient-{number}"


def run(*arguments: object, typed: str | None = None) -> str:
    done = CliRunner().invoke(app, ["site", *map(str, arguments)], input=typed)
    assert done.exit_code == 0, done.output
    return " ".join(done.output.split())


def test_suspicions_are_told_and_listed_for_the_owner_alone(settings: Path, tmp_path: Path) -> None:
    file = tmp_path / "ids.csv"
    told = run("suspicions", settings, "--list", file)
    assert "10 patients in the table; 0 entries cannot be used." in told
    assert "2 sets of patients, 4 patients in them, 0 of whom have withdrawn" in told
    assert "canary" not in told
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    rows = list(csv.reader(file.open()))
    assert tuple(rows[0]) == LISTED_COLUMNS
    assert [row[:3] for row in sorted(rows[1:])] == [
        ["1", "2", patient(2)],
        ["1", "2", patient(3)],
        ["2", "1", patient(0)],
        ["2", "1", patient(1)],
    ]
    again = CliRunner().invoke(app, ["site", "suspicions", str(settings), "--list", str(file)])
    assert again.exit_code == 1  # an older list is not replaced unasked


def test_suspicions_are_told_before_the_first_start_and_change_nothing(settings: Path) -> None:
    state = settings.parent / "state"
    known = {path.name: path.read_bytes() for path in state.iterdir()}
    before = suspicions(settings)
    assert {path.name: path.read_bytes() for path in state.iterdir()} == known
    shutil.rmtree(state)
    first = suspicions(settings)
    assert not state.exists()
    assert (first.patients, first.groups, first.sharing) == (10, 2, 4)
    assert (before.patients, before.groups, before.sharing) == (10, 2, 4)
    assert [row[2] for row in first.listed] == [patient(n) for n in (2, 3, 0, 1)]


def test_doubtful_ids_are_told_whether_confirmed_or_not(settings: Path) -> None:
    table = settings.parent / "tiles" / "metadata.csv"
    table.write_text(table.read_text().replace("canary-patient-", "S21-1234"))
    settings.write_text(settings.read_text().replace("patient_ids_confirmed = true\n", ""))
    assert "10 of 10 ids look like accession numbers" in run("suspicions", settings)


def test_merging_is_a_persons_decision_that_takes_effect_at_the_next_start(
    settings: Path,
) -> None:
    assert start(settings).patients == 10
    told = run("merge", settings, patient(3), typed=f"{patient(2)}\n")
    assert "1 of 1 pairs newly count as one person each" in told
    assert "canary" not in told
    assert start(settings).patients == 9
    assert "0 of 1 pairs" in run("merge", settings, patient(2), patient(3))
    found = suspicions(settings)
    assert (found.groups, found.automatic) == (1, 0)
    assert [row[2] for row in found.listed if row[0] == "merged"] == [patient(2), patient(3)]
    assert "2 ids stand for themselves" in run("separate", settings, patient(3))
    assert "nothing was changed" in run("separate", settings, typed=f"{patient(3)}\n")
    assert start(settings).patients == 10
    with open_patients(settings.parent / "state") as patients:
        assert [done.kind for done in patients.register.decisions()] == ["merge", "separate"]


def test_a_renamed_export_is_merged_with_the_old_one_by_a_file(settings: Path) -> None:
    """So that those who withdrew stay out under their new ids, which a person has looked up."""
    withdraw(settings, patient(4))
    table = settings.parent / "tiles" / "metadata.csv"
    table.write_text(table.read_text().replace("canary-patient-", "renamed-"))
    pairs = settings.parent / "pairs.csv"
    pairs.write_text("".join(f"{patient(n)},renamed-{n}\n" for n in range(10)))
    told = run("merge", settings, "--pairs", pairs)
    assert "10 of 10 pairs" in told
    assert "In 1 of them, one of the two had withdrawn: both are out" in told
    data = start(settings)
    assert data.patients == 10
    assert len({tile.patient for tile in data.tiles}) == 9


def test_pictures_of_who_withdrew_under_other_ids_are_told_and_stay(
    settings: Path, caplog: pytest.LogCaptureFixture
) -> None:
    told = run("withdraw", settings, patient(2))
    with open_patients(settings.parent / "state") as patients:
        name = patients.key.short(patients.key.line(patient(3)))
    assert f"also appear under 1 other ids, which still take part: {name}." in told
    assert "canary" not in told
    assert "stand under" not in run("withdraw", settings, patient(9))
    data = start(settings)
    assert {tile.patient for tile in data.tiles} == {0, 1, 3, 4, 5, 6, 7, 8}
    assert (
        "3 patients stand under other ids too, those of 1 under ids of patients who WITHDREW"
        in (caplog.text)
    )
    assert suspicions(settings).withdrawn == 1


def test_withdrawing_one_id_withdraws_the_person(settings: Path) -> None:
    merge_ids(settings, [(patient(5), patient(6)), (patient(7), patient(6))])
    withdraw(settings, patient(7))
    data = start(settings)
    assert data.patients == 8
    assert len({tile.patient for tile in data.tiles}) == 7
    assert not {f"canary-file-{n}-0.png" for n in (5, 6, 7)} & {t.path.name for t in data.tiles}
    separate(settings, patient(5))
    assert len({tile.patient for tile in start(settings).tiles}) == 7  # brings nobody back


def test_a_typing_error_merges_nobody(settings: Path) -> None:
    with pytest.raises(ConfigError, match=r"No patient with this id.*spelling") as caught:
        merge_ids(settings, [(patient(0), patient(1)), (patient(0), "canary-patient-44")])
    assert "canary" not in str(caught.value)
    assert start(settings).patients == 10
    with pytest.raises(ConfigError, match="No patient with this id"):
        separate(settings, "canary-patient-44")


@pytest.mark.parametrize("text", ["", "one\n", "a,b,c\n"])
def test_a_file_that_holds_no_pairs_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "pairs.csv").write_text(text)
    with pytest.raises(ConfigError, match="not a list of pairs"):
        read_id_pairs(tmp_path / "pairs.csv")
    with pytest.raises(ConfigError, match="No such file"):
        read_id_pairs(tmp_path / "nothing.csv")


def test_without_an_agents_register_there_is_nobody_to_merge(tmp_path: Path) -> None:
    settings = write_hospital(tmp_path, study=make_study())
    with pytest.raises(DeploymentError, match="no agent has run here"):
        merge_ids(settings, [(patient(0), patient(1))])
    assert not (tmp_path / "state").exists()
