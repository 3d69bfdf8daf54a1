"""Where a round's time went, from the coordinator's events and the agents' own progress."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from client.agent.progress import TRAINING
from craftsfl.processes.agent_watch import AgentState
from server.event_lines import LoggedEvent
from server.events import ExchangeFinished, RoundFinished, RoundStarted, SiteFinished

_AFTER_THE_INPUT = ("consistency", "unmask")
_SHARE = "share"
_ADDED = (_SHARE, *_AFTER_THE_INPUT)


@dataclass(frozen=True)
class RoundTiming:
    """Seconds of one round. `training` is the slowest site's, until its reply was taken (how long
    it really took is the site's secret); `waiting` is the remainder: Flower's polling, starting a
    client process per message, and the messages themselves.

    `exchanges` are those of secure aggregation, in order; together they make up the round except
    for what the coordinator does before, between and after them. The sites train during the first
    three.
    """

    round: int
    total: float
    training: float
    aggregation: float
    exchanges: Mapping[str, float] = field(default_factory=dict)
    hidden: float = 0.0  # seconds of the exchange of shares in which a site still trained

    @property
    def masking(self) -> float:
        """The seconds that secure aggregation adds: what follows the last update, and the exchange
        of shares except for the part in which sites still train (`hidden`)."""
        return sum(self.exchanges.get(name, 0.0) for name in _ADDED) - self.hidden

    @property
    def waiting(self) -> float:
        """Seconds in which no site trained and nothing was aggregated."""
        return max(0.0, self.total - self.training - self.aggregation)


class Timeline:
    """Collects the facts during a run."""

    def __init__(self) -> None:
        self._began: dict[int, float] = {}
        self._last_update: dict[int, float] = {}
        self._training: dict[tuple[str, int], tuple[float, float]] = {}
        self._exchanges: dict[int, dict[str, float]] = {}
        self._shared: dict[int, float] = {}
        self.rounds: list[RoundTiming] = []

    def see_agent(self, site: str, state: AgentState) -> None:
        """Take in an agent's newest state (several times a second)."""
        if state.phase == TRAINING:
            now = time.time()
            first, _ = self._training.get((site, state.round), (now, now))
            self._training[site, state.round] = (first, now)

    def see_event(self, logged: LoggedEvent) -> None:
        """Take in one of the coordinator's events."""
        at = logged.time
        match logged.event:
            case RoundStarted(round=number):
                self._began[number] = at
                self._exchanges[number] = {}
            case ExchangeFinished(round=number, exchange=exchange, seconds=seconds):
                self._exchanges.setdefault(number, {})[exchange] = seconds
                if exchange == _SHARE:
                    self._shared[number] = at
            case SiteFinished(round=number):
                self._last_update[number] = at
            case RoundFinished(round=number):
                self._finish(number, at)

    def _finish(self, number: int, at: float) -> None:
        training = [
            last - first
            for (_, round_), (first, last) in self._training.items()
            if round_ == number
        ]
        began = self._began.get(number, at)
        exchanges = self._exchanges.get(number, {})
        after = sum(exchanges.get(name, 0.0) for name in _AFTER_THE_INPUT)
        aggregation = max(0.0, at - self._last_update.get(number, at) - after)
        trained = max(training, default=0.0)
        hidden = self._hidden(number, exchanges.get(_SHARE, 0.0))
        self.rounds.append(RoundTiming(number, at - began, trained, aggregation, exchanges, hidden))

    def _hidden(self, number: int, share: float) -> float:
        """Seconds of the exchange of shares during which a site still trained."""
        ends = [last for (_, round_), (_, last) in self._training.items() if round_ == number]
        if not ends or number not in self._shared:
            return 0.0
        return min(share, max(0.0, max(ends) - (self._shared[number] - share)))
