"""How a run failed reaches whoever started it: what is wrong, what to do next, and the id."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from craftsfl import cli
from craftsfl.rounds.watching import show_status, watch_run
from privacy.errors import FederationError
from privacy.study.manifest import load_study
from server.clock import SystemClock
from server.run_name import RunName
from server.settings import load_consortium
from server.status import RunFailure
from server.store import Store
from server.tables import FailureRow

EXAMPLE = Path(__file__).parents[3] / "docs" / "examples" / "study.toml"
FAILURE = RunFailure("1 site(s) of the 3 that are needed.", "Fix these sites.", "too-few-sites")


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    file = tmp_path / "consortium.toml"
    file.write_text('study = "study.toml"\nstate = "state"\n', "utf-8")
    fail(file, 7, FAILURE)
    return file


def fail(settings: Path, number: int, failure: RunFailure) -> None:
    """A run of this number, which has failed."""
    study = load_study(EXAMPLE)
    name = RunName(study.digest(), number)
    store = Store(load_consortium(settings).database_url(), name, SystemClock())
    store.begin(study)
    store.fail(failure)
    store.close()


def test_the_next_step_and_the_id_arrive(settings: Path) -> None:
    with pytest.raises(FederationError) as caught:
        watch_run(settings, 7)
    assert caught.value.message == f"Run 7 failed: {FAILURE.message}"
    assert (caught.value.hint, caught.value.id) == (FAILURE.hint, FAILURE.error)


def test_of_a_run_under_an_older_coordinator_the_text_arrives(settings: Path) -> None:
    from sqlalchemy import create_engine, delete

    engine = create_engine(load_consortium(settings).database_url())
    with engine.begin() as connection:
        connection.execute(delete(FailureRow))
    engine.dispose()
    with pytest.raises(FederationError, match=r"are needed\. Fix these sites\.") as caught:
        watch_run(settings, 7)
    assert (caught.value.hint, caught.value.id) == ("", "run-failed")


def test_the_status_in_json_has_the_failure_in_its_parts(
    settings: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    show_status(settings, 7, as_json=True)
    status = json.loads(capsys.readouterr().out)
    assert status["message"] == f"{FAILURE.message} {FAILURE.hint}"
    assert status["failure"] == {
        "message": FAILURE.message,
        "hint": FAILURE.hint,
        "error": FAILURE.error,
    }


def test_words_in_square_brackets_are_shown(
    settings: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fail(settings, 8, RunFailure("study.toml has no [cohort] table.", "Add it.", "config"))
    show_status(settings, 8, as_json=False)
    assert "has no [cohort] table. Add it." in capsys.readouterr().out


def test_the_command_line_shows_text_next_step_and_id(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def failing() -> None:
        raise FederationError(FAILURE.message, FAILURE.hint, id=FAILURE.error)

    monkeypatch.setattr(cli, "app", failing)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1
    assert capsys.readouterr().err.splitlines() == [
        f"Error: {FAILURE.message}",
        f"Next: {FAILURE.hint}",
        "Id: too-few-sites (docs/errors.md)",
    ]
