"""Where a round's time went, from the coordinator's events and the agents' own progress."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from craftsfl.agent_watch import AgentState

TRAINING = "training"


@dataclass(frozen=True)
class RoundTiming:
    """Seconds of one round. `training` is the slowest site's, until its
    reply was taken (what it took itself is nobody's business); `waiting` is what is left over:
    Flower's polling, the start of a client process per message, and the messages themselves."""

    round: int
    total: float
    training: float
    aggregation: float

    @property
    def waiting(self) -> float:
        """Seconds in which no site trained and nothing was aggregated."""
        return max(0.0, self.total - self.training - self.aggregation)


class Timeline:
    """Collects the facts while a run goes on."""

    def __init__(self) -> None:
        self._began: dict[int, float] = {}
        self._last_update: dict[int, float] = {}
        self._training: dict[tuple[str, int], tuple[float, float]] = {}
        self.rounds: list[RoundTiming] = []

    def see_agent(self, site: str, state: AgentState) -> None:
        """Take in an agent's newest state (seen a few times a second)."""
        if state.phase == TRAINING:
            now = time.time()
            first, _ = self._training.get((site, state.round), (now, now))
            self._training[site, state.round] = (first, now)

    def see_event(self, event: Mapping[str, object]) -> None:
        """Take in one of the coordinator's events."""
        name = event.get("event")
        if name not in ("round-started", "site-finished", "round-finished"):
            return
        number, at = int(str(event["round"])), float(str(event["time"]))
        if name == "round-started":
            self._began[number] = at
        elif name == "site-finished":
            self._last_update[number] = at
        else:
            self._finish(number, at)

    def _finish(self, number: int, at: float) -> None:
        training = [
            last - first
            for (_, round_), (first, last) in self._training.items()
            if round_ == number
        ]
        began = self._began.get(number, at)
        aggregation = at - self._last_update.get(number, at)
        self.rounds.append(RoundTiming(number, at - began, max(training, default=0.0), aggregation))
