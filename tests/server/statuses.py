"""States of a run, as the database would give them."""

from __future__ import annotations

from server.status import PartStatus, RoundStatus, RunStatus, SiteStatus
from server.tables import AttemptState, PartState, RunState, SiteState
from tests.server.fakes import RUN


def finished(number: int, epsilon: float | None = 0.5) -> RoundStatus:
    part = PartStatus("north", PartState.FINISHED, "", epsilon)
    lost = PartStatus("harbour", PartState.DROPPED, "It was late.", None)
    sites, ended = (part, lost), 1.7e9 + 10.0 * number
    return RoundStatus(number, 1, AttemptState.FINISHED, "", 1, 2.0, 9.0, sites, ended)


def status_with(*history: RoundStatus) -> RunStatus:
    site = SiteStatus("north", 500, SiteState.JOINED, "", 1, 0.5, 8.0, 1e-5, False)
    return RunStatus(
        run=RUN,
        study="test-study",
        state=RunState.RUNNING,
        message="",
        rounds_done=len(history),
        rounds=2,
        started=1.7e9,
        finished=None,
        sites=(site,),
        history=history,
        phases={},
        study_digest="ab" * 32,
    )
