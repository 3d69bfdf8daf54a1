"""A real agent with a trainer of its own in a pooled study, killed between its records."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from privacy.ledger import State, read_ledger
from privacy.study.manifest import Study
from privacy.wire.bodies import Body, Running, SignedFacts
from privacy.wire.checks import Check
from privacy.wire.reasons import Reason
from privacy.wire.sealed import Sealed

from ..pooled_study import pooled_values
from .fakes import LAYOUT, refused
from .hospital import Hospital
from .sealed import SealedSites, TinyCoordinator, check_of
from .studies import MEMBERS

SLOT: Final = 1.0  # seconds


class RealClock:
    """`SteppedClock`, but real."""

    @staticmethod
    def time() -> float:
        return time.time()

    @staticmethod
    def monotonic() -> float:
        return time.monotonic()

    @staticmethod
    def sleep(seconds: float) -> None:
        time.sleep(seconds)


class RealSite:
    """What `SealedSites` has of an agent, of a process."""

    _attempt = None

    def __init__(self, hospital: Hospital) -> None:
        self.handle = hospital.handle

    def stop(self, timeout: float) -> bool:
        return True


def study() -> Study:
    values = pooled_values(
        parameters=LAYOUT.parameters, roster=MEMBERS.roster.digest().hex(), rounds=4
    )
    values["sites"] = [
        {"name": name, "declared_patients": 500} for name in ("north", "south", "east")
    ]
    values["cohort"] = {"min_sites": 3, "round_deadline": 30, "reply_slot": SLOT}
    return Study.model_validate(values)


@pytest.fixture
def hospital(tmp_path: Path) -> Iterator[Hospital]:
    policy = {"mechanisms": ["pooled"], "min_reply_slot": 0.5}
    hospital = Hospital(tmp_path, study=study(), policy=policy)
    yield hospital
    if hospital.process is not None and hospital.process.poll() is None:
        hospital.process.kill()
        hospital.process.wait()


@pytest.fixture
def coordinator(hospital: Hospital, tmp_path: Path) -> Iterator[TinyCoordinator]:
    """Of two sites in this process, and of the hospital in its own."""
    clock: Any = RealClock()
    (tmp_path / "others").mkdir()
    made = SealedSites(
        tmp_path / "others", study(), MEMBERS, unix=clock, elapsed=clock, layout=LAYOUT
    )
    made.agents[1].stop(1)
    real: Any = RealSite(hospital)
    made.agents[1] = real
    yield TinyCoordinator(made)
    made.close()


def patiently(coordinator: TinyCoordinator, step: Any, site: int) -> Body:
    """The answer once it is not `Running` any more."""
    deadline = time.monotonic() + 20
    while (answer := coordinator.send(step, site)) == Running() and time.monotonic() < deadline:
        time.sleep(0.05)
    return answer


def opened(coordinator: TinyCoordinator, attempt: int = 1) -> Sealed:
    """A whole step; the hospital's answer."""
    step = coordinator.begun(attempt)
    answers = {site: patiently(coordinator, step, site) for site in step.cohort}
    found = coordinator.added(step, answers)
    assert found.lanes[coordinator.sealed.lanes] == 0
    coordinator.take(found)
    assert isinstance(answers[1], Sealed)
    return answers[1]


def test_a_killed_agent_loses_one_step_and_sends_nothing_twice(
    hospital: Hospital, coordinator: TinyCoordinator
) -> None:
    hospital.start()
    hospital.wait_for(hospital.is_serving)
    assert isinstance(coordinator.hello(1), SignedFacts)
    coordinator.open()
    first = opened(coordinator)
    under_way = coordinator.begun()
    assert hospital.process is not None
    hospital.process.kill()
    hospital.process.wait()
    hospital.start()
    hospital.wait_for(hospital.is_serving)
    assert refused(coordinator.send(under_way, 1)) is Reason.NOT_NEWER  # charged at the start
    assert check_of(coordinator.send(coordinator.step(2), 1)) is Check.NO_SESSION
    coordinator.open()
    opened(coordinator, 2)  # with the one sum that it missed
    last = opened(coordinator)
    assert first.label != last.label
    assert hospital.terminate() == 0
    entries = read_ledger(hospital.state / "ledger.sqlite").entries()
    assert [entry.state for entry in entries] == [State.COMMITTED] * 4
    assert [bool(entry.sent) for entry in entries] == [True, False, True, True]
    assert len({entry.mark.label for entry in entries if entry.mark}) == 4
    assert "canary" not in hospital.log


def test_a_study_with_another_number_of_parameters_is_told_at_the_start(
    hospital: Hospital,
) -> None:
    text = (hospital.folder / "study.toml").read_text()
    wrong = f"parameters = {LAYOUT.parameters + 1}"
    (hospital.folder / "study.toml").write_text(
        text.replace(f"parameters = {LAYOUT.parameters}", wrong)
    )
    hospital.start()
    assert hospital.process is not None
    assert hospital.process.wait(60) == 1
    assert f"pooled.parameters is {LAYOUT.parameters + 1}" in hospital.log
