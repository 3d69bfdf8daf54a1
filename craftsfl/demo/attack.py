"""The hostile coordinator on the demo's own hospitals: with its key, through their sockets."""

# Why: docs/adr/0055-the-demos-page.md

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from client.agent.known_layout import KnownLayout
from client.agent.startup import load_rules
from client.agent.state import StateFolder
from client.forwarder import forward
from craftsfl.demo.hostile import HostileCoordinator, HostileGround
from craftsfl.demo.hostile_log import HostileLog
from craftsfl.demo.page.facts import AttackTried
from craftsfl.demo.roster import ROSTER
from craftsfl.demo.workspace import COORDINATOR_KEY, Hospital, Workspace
from model.layout import Layout, frozen_digest
from privacy.errors import FederationError
from privacy.identity import load_identity
from privacy.secagg.chain import in_force, read_rosters
from privacy.secagg.roster import Roster
from privacy.study.pooling import sealed_study
from privacy.wire.bodies import Body
from privacy.wire.envelope import Envelope, open_envelope, seal
from server.clock import SystemClock
from server.database import read_database
from server.operation import opened_log
from server.run_name import RunName
from server.settings import ConsortiumSettings
from server.step_store import StepStore
from strategies.pooled import begin_chain, digests_of

_LARGEST_ANSWER = 1 << 20  # bytes; nothing is refused at such length


def attack_hospitals(
    workspace: Workspace, consortium: ConsortiumSettings, run: int
) -> tuple[AttackTried, ...]:
    """Try everything on the agents of the demo, after its run of number `run`.

    Raises `FederationError` if the agents are gone.
    """
    study = workspace.study
    roster = in_force(
        read_rosters(workspace.consortium.parent / ROSTER),
        bytes.fromhex(study.secure_aggregation.roster),
    )
    layout = _layout(workspace.hospitals[0])
    ground = HostileGround(
        coordinator=load_identity(workspace.consortium.parent / COORDINATOR_KEY),
        roster=roster,
        study=sealed_study(study, roster, layout.fingerprint(), frozen_digest(layout)),
        sites=roster.sites,
        chain=digests_of(begin_chain(study, layout)),
        run=run + 1,
        session=_unused_session(consortium, study.digest(), run),
    )
    sockets = _sockets(roster, workspace.hospitals)
    with opened_log(consortium, study, ground.coordinator, SystemClock()) as keeper:
        log = None if keeper is None else HostileLog(keeper, ground.coordinator, roster)
        return HostileCoordinator(
            ground, lambda site, sent: _asked(sockets[site], sent), log=log
        ).attacks()


def show_attacks(attacks: Sequence[AttackTried], console: Console) -> None:
    """What was tried, and what came of it."""
    console.print("\n[bold]Then the coordinator turns hostile[/], with its own key:")
    table = Table("it tries", "", "the hospital's answer")
    for attack in attacks:
        word = "[green]refused[/]" if attack.refused else "[red]NOT refused[/]"
        table.add_row(attack.tried, word + (", charged" if attack.charged else ""), attack.answer)
    console.print(table)


def _layout(hospital: Hospital) -> Layout:
    """What the hospital's trainer has said the adapter's numbers mean."""
    ruled = load_rules(hospital.settings)
    state = StateFolder(ruled.settings.agent.state)
    found = KnownLayout(state.known_layout, ruled.rules).read()
    if found is None:
        raise FederationError(
            f"{hospital.name} has never had a trainer.", "See its agent's log in logs/."
        )
    return found


def _unused_session(consortium: ConsortiumSettings, study: bytes, run: int) -> int:
    url = consortium.database_url()
    engine = read_database(url)
    if engine is None:
        raise FederationError("The coordinator has no round state.", "Start the demo again.")
    return StepStore(url, engine, RunName(study, run).key, SystemClock()).newest_session() + 1


def _sockets(roster: Roster, hospitals: Sequence[Hospital]) -> Mapping[int, Path]:
    by_name = {hospital.name: hospital.socket for hospital in hospitals}
    members = (roster.member(site) for site in roster.sites)
    return {member.site: by_name[member.name] for member in members if member is not None}


def _asked(socket: Path, envelope: Envelope) -> Body:
    answer = forward(seal(envelope), str(socket)).answer
    return open_envelope(answer, limit=_LARGEST_ANSWER).body
