"""What dies is restarted, what rejects its settings is not."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from craftsfl.processes import restarts
from craftsfl.processes.supervisor import Command, Supervisor
from privacy.errors import DeploymentError


def ends_with(status: int, folder: Path, because: str = "because") -> Command:
    """A process that leaves a line in `folder`/starts and ends."""
    code = (
        f"import sys; open({str(folder / 'starts')!r}, 'a').write('x'); "
        f"print('because'); sys.exit({status})"
    ).replace("because", because)
    return Command("it", (sys.executable, "-c", code), dict(os.environ), folder / "log")


class Enough(Exception):
    """Ends the loop."""


def three_starts(folder: Path, status: int, *decisive: Callable[[Command], bool]) -> None:
    """Keep a process running that ends with `status`, until it has been started three times."""

    def tick() -> None:
        if (folder / "starts").exists() and len((folder / "starts").read_text()) == 3:
            raise Enough

    with Supervisor() as supervisor, pytest.raises(Enough):
        restarts.keep_running([ends_with(status, folder)], supervisor, tick, *decisive)


def test_what_dies_is_restarted_after_growing_pauses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(restarts, "DEFAULT_PAUSE_SECONDS", 0.4)
    monkeypatch.setattr(restarts, "_POLL_SECONDS", 0.01)

    three_starts(tmp_path, 3)
    said = [line for line in capsys.readouterr().err.splitlines() if "restarting" in line]
    assert said[:2] == [  # a third may follow: on a busy machine the third start is seen at its end
        "it ended with status 3; restarting it in 0 s.",
        "it ended with status 3; restarting it in 1 s.",
    ]


@pytest.mark.parametrize(
    ("name", "first", "longest"),
    [
        ("superlink", 2.0, 20.0),
        ("serverapp", 2.0, 20.0),
        ("north gateway", 0.2, 20.0),
        ("north agent", 0.2, 20.0),
        ("north supernode", 65.0, 65.0),  # Flower refuses it within 60 s
    ],
)
def test_pauses_double_up_to_the_longest(name: str, first: float, longest: float) -> None:
    pauses = [restarts.pause_before(name, failures) for failures in range(1, 20)]
    assert pauses[0] == first
    assert pauses == sorted(pauses)
    assert pauses[-1] == longest
    assert restarts.pause_before(name, 10**6) == longest


def test_what_lived_for_a_while_is_restarted_as_quickly_as_the_first_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Kills half a minute apart cost the same each: the pause does not grow to minutes."""
    monkeypatch.setattr(restarts, "DEFAULT_PAUSE_SECONDS", 0.4)
    monkeypatch.setattr(restarts, "SETTLED_SECONDS", 0.0)
    monkeypatch.setattr(restarts, "_POLL_SECONDS", 0.01)

    three_starts(tmp_path, 3)
    said = [line for line in capsys.readouterr().err.splitlines() if "restarting" in line]
    assert set(said) == {"it ended with status 3; restarting it in 0 s."}


def test_what_rejects_its_settings_ends_the_command_with_its_words(tmp_path: Path) -> None:
    with Supervisor() as supervisor, pytest.raises(DeploymentError, match="status 1:\nbecause"):
        restarts.keep_running([ends_with(1, tmp_path)], supervisor, lambda: None)
    assert (tmp_path / "starts").read_text() == "x"


def test_a_refusal_that_is_not_decisive_is_waited_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(restarts, "DEFAULT_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(restarts, "_POLL_SECONDS", 0.01)

    three_starts(tmp_path, 1, lambda command: False)
    assert "it ended with status 1; restarting it" in capsys.readouterr().err


def test_why_it_ended_is_said_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A stranger on the machine has taken the port between two starts, for instance."""
    monkeypatch.setattr(restarts, "_POLL_SECONDS", 0.01)
    error = "ERROR [uvicorn.error] [Errno 98] address already in use"
    command = ends_with(1, tmp_path, error + r"\nApplication shutdown complete.\x1b[2J")

    def tick() -> None:
        if "restarting" in told[0]:
            raise Enough
        told[0] += capsys.readouterr().err

    told = [""]
    with Supervisor() as supervisor, pytest.raises(Enough):
        restarts.keep_running([command], supervisor, tick, lambda command: False)
    assert (
        told[0].replace("\n", " ").startswith(f"it ended with status 1 ({error}); restarting it in")
    )
