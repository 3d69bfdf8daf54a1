"""Ledgers of a hospital with a budget, as agents write them."""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from typer.testing import CliRunner

from client.agent.own_ledger import open_ledger
from client.agent.state import StateFolder
from client.policy import SiteRules
from client.settings import load_policy, load_site
from craftsfl.cli import app
from privacy.ledger import AttemptKey, Charge, Entry, State
from privacy.study.manifest import Study, load_study
from privacy.study.terms import event_of
from tests.client.hospital import write_hospital
from tests.client.masked import keyed
from tests.client.studies import ROSTER, make_study

STUDY = make_study(rounds=6, training={"noise_multiplier": 2.0, "sampling_rate": 0.25})
OTHER = bytes(range(32))
DAY = 86_400.0
POLICY = {
    "epsilon": 20.0,
    "study_epsilon": 12.0,
    "delta": 1e-4,
    "studies": ["any"],
    "bases": ["any"],
    "mechanisms": ["local"],
    "roster": ROSTER.digest().hex(),
}


def rules_of(folder: Path, study: Study = STUDY, **policy: float | str | bool) -> SiteRules:
    """The rules of a hospital with `policy` as further or other lines of its policy.toml."""
    site = load_site(write_hospital(folder, study=study))
    lines = (f"{name} = {json.dumps(value)}\n" for name, value in (POLICY | policy).items())
    site.policy.write_text("".join(lines))
    return SiteRules(site.name, load_study(site.study), load_policy(site.policy))


def charge(study: Study = STUDY, digest: bytes | None = None) -> Charge:
    return Charge(digest or study.digest(), event_of(study), 1e-5)


def entries(*charges: Charge, states: Sequence[State] = (State.COMMITTED,)) -> list[Entry]:
    """One entry a day, a minute each; `states` in turn."""
    rows = zip(range(len(charges)), charges, itertools.cycle(states), strict=False)
    return [
        Entry(
            key=AttemptKey(each.study_digest, 7, number + 1, 1),
            charge=each,
            state=state,
            sequence=number + 1,
            intent_time=1.8e9 + number * DAY,
            charge_time=1.8e9 + number * DAY + 60 if state is State.COMMITTED else None,
        )
        for number, each, state in rows
    ]


def printed(show: Callable[[Console], None], width: int = 100) -> str:
    stream = io.StringIO()
    show(Console(file=stream, width=width))
    return stream.getvalue()


class BudgetedHospital:
    """A hospital's folder with a ledger that an agent has open."""

    def __init__(self, folder: Path) -> None:
        self.rules = rules_of(folder)
        self.settings = folder / "site.toml"
        self.state = StateFolder(folder / "state")
        self.state.path.mkdir(mode=0o700)

    def spend(self, rounds: int) -> Any:
        """The open ledger, with that many charged rounds and one that is under way."""
        ledger = open_ledger(self.state, self.rules.name, keyed(self.settings.parent))
        for number in range(1, rounds + 2):
            ledger.intent(AttemptKey(charge().study_digest, 7, number, 1), charge())
            if number <= rounds:
                ledger.commit(AttemptKey(charge().study_digest, 7, number, 1))
        return ledger

    def budget(self, *options: str) -> Any:
        done = CliRunner().invoke(app, ["site", "budget", str(self.settings), *options])
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done.output
