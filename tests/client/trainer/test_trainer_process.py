"""Agent and trainer as the two processes that they are, and how one gets over the other's death.

The model is a fake, everything else is real. Times are printed; machines of tests are shared, so
what is asserted about them is generous.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from privacy.ledger import State, read_ledger
from privacy.secagg.server import Stage
from privacy.wire.bodies import Refusal, Running, SignedFacts
from privacy.wire.reasons import Reason
from privacy.wire.secagg import Advertise
from scripts.other_users import command_as
from tests.users import AGENT, attempt, give, needs_users, open_folder

from ..fakes import hello, message
from ..hospital import Hospital
from ..masked import MaskedAttempt
from ..studies import make_study

HELLO = message(hello(make_study()))
PIDFD_OPEN, PIDFD_GETFD = 434, 438
PTRACE_ATTACH = 16


@pytest.fixture
def hospital(tmp_path: Path) -> Iterator[Hospital]:
    hospital = Hospital(tmp_path)
    yield hospital
    end(hospital)


def end(hospital: Hospital) -> None:
    if hospital.process is not None and hospital.process.poll() is None:
        hospital.process.kill()
        hospital.process.wait()


def trainer_of(hospital: Hospital) -> psutil.Process:
    """The trainer: the child of the agent's only child."""
    assert hospital.process is not None
    (nursery,) = psutil.Process(hospital.process.pid).children()
    (trainer,) = nursery.children()
    return trainer


def has_trainer(hospital: Hospital) -> bool:
    try:
        return trainer_of(hospital).is_running()
    except (ValueError, psutil.Error):
        return False


def wait_for_the_end(process: psutil.Process) -> None:
    """Until it runs no more; whoever inherited it may take its time to notice."""
    deadline = time.monotonic() + 20
    with contextlib.suppress(psutil.NoSuchProcess):
        while process.status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < deadline
            time.sleep(0.005)


def training(hospital: Hospital) -> MaskedAttempt:
    """A hospital that trains, and the attempt for which it does."""
    (hospital.state / "HOLD-TRAINING").touch()
    hospital.start()
    hospital.wait_for(hospital.is_serving)
    found = MaskedAttempt()
    found.to(Stage.INPUT, hospital)
    assert found.ask(hospital) == Running()
    return found


def no_update(found: MaskedAttempt, hospital: Hospital) -> bytes:
    """The answer at the attempt's slot, as it leaves."""
    deadline = time.monotonic() + 30
    while True:
        reply = hospital.handle(found.envelope(found.request()))
        if found.opened(reply) != Running():
            return reply
        assert time.monotonic() < deadline, hospital.log
        time.sleep(0.05)


def test_a_trainer_that_is_killed_is_a_failed_attempt_and_the_next_one_trains(
    hospital: Hospital,
) -> None:
    found = training(hospital)
    killed = trainer_of(hospital)
    killed.kill()
    hospital.wait_for(lambda: "signal 9 (SIGKILL): out of memory?" in hospital.log)
    # Nobody outside may know before the attempt is charged: an attempt would still be taken.
    assert hospital.is_serving()
    answer = no_update(found, hospital)
    assert found.opened(answer) == Refusal(Reason.NO_UPDATE)
    (hospital.state / "HOLD-TRAINING").unlink()
    hospital.wait_for(lambda: has_trainer(hospital) and hospital.is_serving())
    assert trainer_of(hospital).pid != killed.pid
    second = MaskedAttempt(attempt=2)
    second.to(Stage.DONE, hospital)
    assert np.allclose(second.total(), (1 + 2 * 2 + 3 * 3) / 6, atol=5e-3)
    assert hospital.terminate() == 0
    ledger = read_ledger(hospital.state / "ledger.sqlite")
    assert [entry.state for entry in ledger.entries()] == [State.COMMITTED] * 2
    assert "canary" not in hospital.log


def test_without_a_trainer_nothing_begins_and_nothing_is_charged(hospital: Hospital) -> None:
    """After the answer to its attempt, the death of a trainer may be known."""
    found = training(hospital)
    (hospital.state / "HOLD-LOADING").touch()
    trainer_of(hospital).kill()
    no_update(found, hospital)
    hospital.wait_for(lambda: not hospital.is_serving())
    assert MaskedAttempt(attempt=2).ask(hospital) == Refusal(Reason.NOT_READY)
    assert isinstance(hospital.ask(HELLO), SignedFacts)
    assert len(read_ledger(hospital.state / "ledger.sqlite").entries()) == 1
    for hold in ("HOLD-LOADING", "HOLD-TRAINING"):
        (hospital.state / hold).unlink()
    hospital.wait_for(hospital.is_serving)
    assert isinstance(MaskedAttempt(attempt=2).ask(hospital), Advertise)


def test_an_agent_that_is_killed_takes_its_trainer_along_and_is_back_at_once(
    hospital: Hospital, capsys: pytest.CaptureFixture[str]
) -> None:
    training(hospital)
    trainer, agent = trainer_of(hospital), hospital.process
    assert agent is not None
    begun = time.monotonic()
    agent.kill()
    wait_for_the_end(trainer)
    gone = time.monotonic() - begun
    agent.wait()
    begun = time.monotonic()
    (hospital.state / "HOLD-LOADING").touch()  # whatever the trainer does
    hospital.start()
    while not isinstance(hospital.ask(HELLO), SignedFacts):
        assert time.monotonic() - begun < 30, hospital.log
        time.sleep(0.02)
    back = time.monotonic() - begun
    assert MaskedAttempt(attempt=2).ask(hospital) == Refusal(Reason.NOT_READY)
    with capsys.disabled():
        print(f"\ntrainer gone after {gone:.3f} s; agent answers after {back:.2f} s")
    assert gone < 5
    (hospital.state / "HOLD-LOADING").unlink()
    hospital.wait_for(hospital.is_serving)


def test_an_agent_without_its_nursery_ends_and_takes_everything_along(hospital: Hospital) -> None:
    """`site serve` starts it again; it could only start a trainer that others can trace."""
    training(hospital)
    assert hospital.process is not None
    trainer = trainer_of(hospital)
    (nursery,) = psutil.Process(hospital.process.pid).children()
    nursery.kill()
    wait_for_the_end(trainer)
    assert hospital.process.wait(20) == 3
    assert "The trainer and the process that starts it were ended." in hospital.log
    (hospital.state / "HOLD-TRAINING").unlink()
    hospital.start()
    hospital.wait_for(hospital.is_serving)
    MaskedAttempt(attempt=2).to(Stage.DONE, hospital)


def test_a_trainer_out_of_memory_is_told_in_words_and_the_next_attempt_trains(
    hospital: Hospital,
) -> None:
    (hospital.state / "GREEDY").touch()
    hospital.start()
    hospital.wait_for(hospital.is_serving)
    found = MaskedAttempt()
    found.to(Stage.INPUT, hospital)
    hospital.wait_for(lambda: "The trainer ran out of memory." in hospital.log)
    assert "out of memory, MemoryError at trainer_process.py" in hospital.log
    assert found.opened(no_update(found, hospital)) == Refusal(Reason.NO_UPDATE)
    hospital.wait_for(lambda: has_trainer(hospital) and hospital.is_serving())
    MaskedAttempt(attempt=2).to(Stage.DONE, hospital)


def test_a_trainer_that_is_killed_and_one_that_is_late_get_the_same_answer(
    hospital: Hospital,
) -> None:
    late = training(hospital)
    trainer_of(hospital).kill()
    killed = no_update(late, hospital)
    body = late.opened(killed)
    assert body == Refusal(Reason.NO_UPDATE)
    assert killed == late.envelope(body)  # of the same key: nothing else is in it


def test_the_agent_has_no_model_library_and_the_trainer_no_key(hospital: Hospital) -> None:
    training(hospital)
    trainer = trainer_of(hospital)
    open_files = {Path(file.path).name for file in trainer.open_files()}
    assert not {"site.key", "ledger.key", "ledger.sqlite"} & open_files
    secret = (hospital.folder / "site.key").read_bytes().splitlines()[1]
    ledger_key = (hospital.state / "ledger.key").read_bytes()
    patients_key = (hospital.state / "patients.key").read_bytes()
    held = memory_of(trainer.pid)
    assert patients_key in held  # it is found where it is
    assert secret not in held
    assert ledger_key not in held
    assert hospital.terminate() == 0
    modules = (hospital.state / "modules.txt").read_text().split()
    assert "client.agent.site_agent" in modules
    heavy = {"torch", "diffusers", "transformers", "peft", "opacus", "flwr", "safetensors"}
    assert heavy & set(modules) == set()


def memory_of(pid: int) -> bytes:
    """All that a process can write to; empty for whoever may not look."""
    parts = []
    with Path(f"/proc/{pid}/mem").open("rb", 0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            where, modes = line.split()[:2]
            if modes.startswith("rw"):
                first, last = (int(number, 16) for number in where.split("-"))
                memory.seek(first)
                try:
                    parts.append(memory.read(last - first))
                except OSError:  # the kernel's own pages
                    continue
    return b"".join(parts)


def stranger(pid: int) -> Callable[[], dict[str, str]]:
    """What another process of the trainer's own user achieves; nothing, if all is well."""

    def tries() -> dict[str, str]:
        libc = ctypes.CDLL(None, use_errno=True)
        done = {}
        if libc.ptrace(PTRACE_ATTACH, pid, 0, 0) == 0:
            done["traced"] = str(pid)
        handle = libc.syscall(PIDFD_OPEN, pid, 0)
        for number in range(64):
            if libc.syscall(PIDFD_GETFD, handle, number, 0) >= 0:
                done[f"took {number}"] = "with pidfd_getfd"
        for name in ("mem", "environ", "fd", "maps"):
            try:
                path = Path(f"/proc/{pid}/{name}")
                _ = list(path.iterdir()) if name == "fd" else path.open("rb").read(1)
                done[name] = "read"
            except OSError:
                continue
        return done

    return tries


@needs_users
def test_a_stranger_of_the_same_user_cannot_speak_to_the_trainer() -> None:
    with open_folder() as folder:
        hospital = Hospital(folder)
        give(folder, AGENT)
        hospital.become = lambda argv: command_as(AGENT, argv)
        hospital.start()
        try:
            hospital.wait_for(hospital.is_serving)
            trainer = trainer_of(hospital)
            assert trainer.uids().real == AGENT
            assert trainer.parent() is not None
            for process in (trainer, trainer.parent()):
                assert process is not None
                assert attempt(AGENT, stranger(process.pid)) == {}
                interfaces = Path(f"/proc/{process.pid}/net/dev").read_text().splitlines()[2:]
                assert [line.split(":")[0].strip() for line in interfaces] == ["lo"]
            # Ending it is all that is left; the site's desk says so, and another one is started.
            attempt(AGENT, lambda: os.kill(trainer.pid, signal.SIGTERM))
            hospital.wait_for(lambda: "ended by signal 15 (SIGTERM)" in hospital.log)
            hospital.wait_for(lambda: has_trainer(hospital))
        finally:
            end(hospital)


def test_a_study_that_was_edited_under_way_is_not_trained(hospital: Hospital) -> None:
    hospital.start()
    hospital.wait_for(hospital.is_serving)
    study = hospital.folder / "study.toml"
    study.write_text(study.read_text().replace("rounds = 3", "rounds = 2"))
    trainer_of(hospital).kill()
    hospital.wait_for(lambda: "was changed while the agent ran" in hospital.log)
    assert isinstance(hospital.ask(HELLO), SignedFacts)
    assert MaskedAttempt().ask(hospital) == Refusal(Reason.NOT_READY)
