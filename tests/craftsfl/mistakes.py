"""A coordinator and three hospitals that have joined, and what new users do with their files."""

from __future__ import annotations

import re
import shutil
import socket
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from client.agent.startup import load
from client.policy import SiteRules
from client.settings import load_policy
from craftsfl.rounds.operator import start_run
from craftsfl.rounds.serving import serve_consortium
from model.cache import find_base
from privacy.identity import make_identity
from privacy.ledger import AttemptKey, Entry, State
from privacy.study.invitation import read_invitation
from privacy.study.manifest import Base, load_study
from server.clock import SystemClock
from server.runs import Runs
from server.settings import load_consortium
from tests.craftsfl.founded import NAMES, type_in

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Four:
    """A coordinator and three hospitals that have joined, none of whom serves yet."""

    folder: Path

    @property
    def colon(self) -> Path:
        return self.folder / "colon"

    @property
    def north(self) -> Path:
        return self.folder / "north"

    def edit(self, name: str, old: str, new: str) -> None:
        path = self.folder / name
        text = path.read_text()
        assert old in text, name
        path.write_text(text.replace(old, new, 1))

    def serve(self) -> None:
        serve_consortium(self.colon / "consortium.toml")

    def start(self) -> None:
        start_run(self.colon / "consortium.toml")

    def agent(self) -> None:
        load(self.north / "site.toml")

    def rules(self) -> SiteRules:
        study = load_study(self.north / "study.toml")
        return SiteRules("north", study, load_policy(self.north / "policy.toml"))


Mistake = Callable[[Four], object]


def after(*steps: Mistake) -> Mistake:
    def all_of_them(four: Four) -> None:
        for step in steps:
            step(four)

    return all_of_them


def edit(name: str, old: str, new: str) -> Mistake:
    return lambda four: four.edit(name, old, new)


def gone(name: str) -> Mistake:
    return lambda four: (four.folder / name).unlink()


def mode(name: str, number: int) -> Mistake:
    return lambda four: (four.folder / name).chmod(number)


def port_in_use(four: Four) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        path = four.colon / "consortium.toml"
        port = f"port = {other.getsockname()[1]}"
        path.write_text(re.sub(r"(?m)^port = \d+", port, path.read_text()))
        four.serve()


def placeholders(four: Four) -> None:
    shutil.copy(ROOT / "docs/examples/study.toml", four.colon / "study.toml")
    four.serve()


def no_cards_yet(four: Four) -> None:
    (four.colon / "roster.cfl").unlink()
    four.serve()


def status(four: Four) -> None:
    type_in("rounds", "status", four.colon / "consortium.toml")


def sign_with_the_gateways_key(four: Four) -> None:
    roster, key = four.north / "roster.cfl", four.north / "supernode.key"
    type_in("rounds", "roster", "sign", roster, "--key", key)


def roster_of_two(four: Four) -> None:
    cards = [four.folder / name / f"{name}.card" for name in NAMES[:2]]
    out = four.folder / "two.cfl"
    type_in("rounds", "roster", "propose", out, *cards, "--consortium", "two")


def roster_without_the_own_signature(four: Four) -> None:
    shutil.copy(four.colon / "roster.cfl", four.north / "roster.cfl")  # as it was proposed
    four.agent()


def base_elsewhere(four: Four) -> None:
    find_base(Base(digest="sha256:" + "a" * 64, source="their-organisation/their-base"))


def join(four: Four, *words: object) -> None:
    site, invitation = four.north / "site.toml", four.colon / "invitation.cfl"
    type_in("site", "join", site, invitation, *words)


def study_above_the_budget(four: Four) -> None:
    (four.north / "policy.toml").unlink()
    digits = read_invitation(four.colon / "invitation.cfl").fingerprint()
    join(four, "--yes", "--expect-fingerprint", digits, "--lifetime-epsilon", 1)


def second_study_of_one_delta(four: Four) -> None:
    """Where deltas are added up, and the first study took all of it."""
    policy = four.rules().policy.model_copy(update={"across_studies": "sum", "delta": 5e-6})
    rules = SiteRules("north", four.rules().study, policy)
    charge = rules.charges.charge
    first = replace(charge, study_digest=bytes(32))
    key = AttemptKey(bytes(32), 1, 1, 1)
    rules.check_other_studies([Entry(key, first, State.COMMITTED, 1, 0.0, 0.0)])


def start_twice(four: Four) -> None:
    settings = load_consortium(four.colon / "consortium.toml")
    settings.state.mkdir()
    with Runs(settings.database_url(), SystemClock()) as runs:
        runs.begin(load_study(settings.study))
    four.start()


def somebody_elses_key(four: Four) -> None:
    (four.north / "site.key").unlink()
    (four.north / "site.key.ledger").unlink()
    make_identity(four.north / "site.key")
    four.agent()


def zeros(name: str, key: str) -> Mistake:
    """A digest in a policy that is another one."""

    def action(four: Four) -> None:
        path = four.folder / name
        pattern = rf'(?m)^({key} = \[?"(?:sha256:)?)[0-9a-f]{{64}}'
        path.write_text(re.sub(pattern, rf"\g<1>{'0' * 64}", path.read_text()))

    return action
