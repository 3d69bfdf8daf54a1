"""`craftsfl rounds status`: a picture of rounds by sites."""

from __future__ import annotations

from pathlib import Path

import pytest

from craftsfl.rounds.status_picture import failed_lines, figures_text, picture_lines
from craftsfl.rounds.watching import show_status
from craftsfl.simulation.clock import SteppedClock
from privacy.study.manifest import Study
from server.participants import AttemptOutcome
from server.run_name import RunName
from server.status import RunStatus
from server.status_reader import read_status
from server.store import Store
from server.tables import PartState
from server.update_rounds import _why
from tests.client.hospital import write_study
from tests.client.studies import make_study

NAMES = ("north", "south", "east")


def status_of(folder: Path, study: Study) -> RunStatus:
    """Three rounds: all; east dropped out; one attempt failed, and one without east is open."""
    (folder / "state").mkdir()
    url = f"sqlite:///{folder / 'state' / 'rounds.db'}"
    store = Store(url, RunName(study.digest(), 1), SteppedClock())
    store.begin(study)
    for round in (1, 2):
        store.open_attempt(round, 1, list(NAMES))
        for name in NAMES:
            late = round == 2 and name == "east"
            state = PartState.DROPPED if late else PartState.FINISHED
            store.part((round, 1), name, state, "It was late." if late else "", "masked input")
        store.round_finished((round, 1), 3, 1.0, ("adapter", "0" * 64))
    store.open_attempt(3, 1, list(NAMES))
    store.attempt_failed((3, 1), "2 sites of the 3 that are needed.")
    store.open_attempt(3, 2, ["north", "south"])
    store.close()
    return read_status(url)


def test_each_site_is_a_line_and_each_round_a_mark(tmp_path: Path) -> None:
    lines = [line.plain for line in picture_lines(status_of(tmp_path, make_study(rounds=5)), 80)]
    assert lines[1:4] == ["east   ●○-··", "north  ●●…··", "south  ●●…··"]
    assert lines[0].strip() == "1"
    assert lines[4] == ("● in the sum, ○ dropped out, … under way, - not asked, · to come")


def test_every_mark_is_told_apart_where_there_is_only_ascii(tmp_path: Path) -> None:
    status = status_of(tmp_path, make_study(rounds=5))
    lines = [line.plain for line in picture_lines(status, 80, plain=True)]
    assert lines[1:4] == ["east   #o-..", "north  ##~..", "south  ##~.."]
    assert lines[4] == "# in the sum, o dropped out, ~ under way, - not asked, . to come"


@pytest.mark.parametrize("width", [40, 80, 120])
def test_a_long_run_fits_the_width(tmp_path: Path, width: int) -> None:
    status = status_of(tmp_path, make_study(rounds=400))
    lines = [line.plain for line in picture_lines(status, width)]
    assert max(map(len, lines[:4])) <= width
    assert "each column is" in lines[-1]
    assert lines[1].startswith("east   ◐·")
    assert len(lines) == 5


def test_the_newest_trouble_is_told_in_words(tmp_path: Path) -> None:
    status = status_of(tmp_path, make_study(rounds=5))
    assert list(failed_lines(status)) == [
        "round 3, attempt 1 failed: 2 sites of the 3 that are needed.",
        "round 2, attempt 1 finished without: east at masked input (It was late.)",
    ]
    assert "A round took" in figures_text(status)


def test_cells_that_nobody_filled_say_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    write_study(tmp_path / "study.toml", make_study())
    (tmp_path / "consortium.toml").write_text('study = "study.toml"\nstate = "state"\n')
    status_of(tmp_path, make_study())
    show_status(tmp_path / "consortium.toml", None, as_json=False)
    text = capsys.readouterr().out
    row = next(line for line in text.splitlines() if "north" in line and "expected" in line)
    assert [cell.strip() for cell in row.split("│")[-4:-1]] == ["-", "-", "-"]
    assert "nan" not in text
    assert "attempt" in text
    show_status(tmp_path / "consortium.toml", None, as_json=False, every=True)
    assert len(capsys.readouterr().out) > len(text)


@pytest.mark.parametrize(
    ("finished", "dropped", "words"),
    [
        ((), {"east": "late."}, "2 sites of the 3 that are needed. east: late."),
        (("north",), {"east": "a.", "south": "b."}, "1 site of the 3 that are needed."),
        ((), {"east": "a.", "south": "b.", "north": "c."}, "0 sites of the 3"),
    ],
)
def test_sites_that_were_there_are_counted_whether_or_not_they_had_sent(
    finished: tuple[str, ...], dropped: dict[str, str], words: str
) -> None:
    assert words in _why(AttemptOutcome(None, finished, dropped), 3, 3)


def test_a_reason_is_said_once(tmp_path: Path) -> None:
    """Where one site alone is the cause, the attempt's reason is that site's."""
    (tmp_path / "state").mkdir()
    study, url = make_study(), f"sqlite:///{tmp_path / 'state' / 'rounds.db'}"
    store = Store(url, RunName(study.digest(), 1), SteppedClock())
    store.begin(study)
    store.open_attempt(1, 1, list(NAMES))
    store.part((1, 1), "east", PartState.DROPPED, "It was late.", "start")
    store.part((1, 1), "south", PartState.DROPPED, "It refused.", "start")
    store.attempt_failed((1, 1), "east: It was late.")
    (line,) = failed_lines(read_status(url))
    assert line == "round 1, attempt 1 failed: east: It was late. south at start (It refused.)"
