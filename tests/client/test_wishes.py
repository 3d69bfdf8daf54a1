"""Pause, resume, leave: what would begin is refused and costs nothing; what is open goes on."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from client.agent.site_agent import AgentParts
from client.agent.wishes import SiteWish, WishFile
from privacy.errors import DeploymentError
from privacy.ledger import Ledger
from privacy.secagg.server import Stage
from privacy.wire.bodies import Refusal, SiteFacts
from privacy.wire.reasons import Reason
from privacy.wire.secagg import Advertise

from .fakes import FakeTrainer, PausingClock, greeted, make_rules
from .masked import MaskedAttempt
from .studies import MEMBERS


def test_a_wish_is_kept_and_nobody_has_to_have_one(tmp_path: Path) -> None:
    file = WishFile(tmp_path / "wish.json")
    assert file.read() is SiteWish.RUN
    for wish in SiteWish:
        file.write(wish)
        assert file.read() is wish
        assert file.path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(DeploymentError, match="cannot be written"):
        WishFile(tmp_path / "nowhere" / "wish.json").write(SiteWish.PAUSE)


@pytest.mark.parametrize("data", [b"", b"{}", b'{"wish": "fly"}', b"\xff", b"[1]", b"x" * 9999])
def test_a_wish_that_cannot_be_read_is_a_pause(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "wish.json").write_bytes(data)
    assert WishFile(tmp_path / "wish.json").read() is SiteWish.PAUSE


def test_a_wish_file_of_others_is_a_pause(tmp_path: Path) -> None:
    file = WishFile(tmp_path / "wish.json")
    file.write(SiteWish.RUN)
    file.path.chmod(0o666)
    assert file.read() is SiteWish.PAUSE


@pytest.mark.parametrize(
    ("wish", "reason"), [(SiteWish.PAUSE, Reason.PAUSED), (SiteWish.LEAVE, Reason.LEFT)]
)
def test_what_is_open_goes_on_and_nothing_new_begins(
    wish: SiteWish,
    reason: Reason,
    ledger: Ledger,
    trainer: FakeTrainer,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    file = WishFile(tmp_path / "wish.json")
    parts = AgentParts(make_rules(), ledger, trainer, clock=PausingClock(), wish=file.read)
    agent = MEMBERS.agent("north", parts)
    attempt = MaskedAttempt()
    assert isinstance(attempt.ask(agent), Advertise)
    assert not agent.retire()  # something may still leave
    file.write(wish)
    assert greeted(agent) == Refusal(reason)
    attempt.to(Stage.DONE, agent)  # the open attempt ends as ever
    charged = ledger.entries()
    assert MaskedAttempt(round=2).ask(agent) == Refusal(reason)
    assert ledger.entries() == charged
    assert caplog.text.count("The hospital has") == 1
    file.write(SiteWish.RUN)
    facts = greeted(agent)
    assert isinstance(facts, SiteFacts)
    assert math.isfinite(facts.epsilon_spent)
    assert agent.retire()
    assert greeted(agent) == Refusal(Reason.STOPPED)
    assert agent.stop(10)
