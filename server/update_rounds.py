"""Rounds whose sites send masked updates; their mean moves the adapter."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from model.layout import Layout
from privacy.study.agreement import terms_of
from privacy.wire.codec import Vector
from server.checkpoint import load_checkpoint, save_checkpoint
from server.cohort import too_few
from server.life import RunStopped
from server.masked import MaskedAttempt
from server.nodes import Attendee
from server.participants import AttemptOutcome, TrainingOrder
from server.round_parts import RoundParts, in_words, length_of
from server.tables import AttemptState
from strategies.base import Mean, Strategy


class UpdateRounds:
    """The rounds of one run, in order; `layout` and `start` (float32 [P]) are the adapter's."""

    def __init__(
        self,
        parts: RoundParts,
        layout: Layout,
        start: Vector,
        strategy: Callable[[int], Strategy],
    ) -> None:
        self._parts = parts
        self._context = parts.context
        self._layout = layout
        self._strategy = strategy(layout.parameters)
        self.adapter = start

    def check(self) -> None:
        """Raise `ConfigError` where the study's bits cannot hold the sum."""
        terms_of(self._context.study, self._layout.parameters)

    def restore(self) -> int:
        """Go back to the last finished round; its number, 0 if there is none."""
        stored = self._context.store.last_adapter()
        if stored is None:
            kept = save_checkpoint(self._parts.file(0), self.adapter, self._strategy.state())
            self._context.store.keep_adapter(0, kept)
            return 0
        number, path, digest = stored
        there, own = Path(path), self._parts.file(number)
        # The state may have been restored in another place than it was written in.
        checkpoint = load_checkpoint(there if there.exists() else own, digest)
        self._layout.check(checkpoint.adapter)
        self._strategy.restore(checkpoint.state)
        self.adapter = checkpoint.adapter
        return number

    def close(self) -> None:
        """Nothing: an update's sum is proven to nobody."""

    def run(self, number: int) -> None:
        """One round. Raises `FederationError` if no attempt at it succeeds."""
        key, mean, sites = self._attempts(number)
        context = self._context
        with context.phase("aggregation"):
            adapter = self._strategy.aggregate(self.adapter, mean)
            self._layout.check(adapter)
            norm = length_of(adapter)
            kept = save_checkpoint(self._parts.file(number), adapter, self._strategy.state())
            context.store.round_finished(key, len(sites), norm, kept)
        self.adapter = adapter
        self._parts.finished(key, sites, norm)

    def _attempts(self, number: int) -> tuple[tuple[int, int], Mean, tuple[str, ...]]:
        """Attempt round `number` until there is a mean update, or no attempt is left.

        Returns the key of the successful attempt, the mean, and the sites in it.
        """
        context, study, parts = self._context, self._context.study, self._parts
        reason = "It was interrupted."
        for attempt in self._attempt_numbers(number):
            order = TrainingOrder(number, attempt, self.adapter, self._layout)
            attendees = parts.gate.choose_cohort(number, self._layout)
            try:
                with context.phase("training"):
                    outcome = self._attempt(order, attendees)
            except RunStopped as stopped:
                parts.failed(order.key, stopped.message)
                raise
            if outcome.mean is not None:
                return order.key, outcome.mean, outcome.sites
            reason = _why(outcome, len(attendees), study.smallest_cohort)
            parts.failed(order.key, reason)
        raise parts.given_up(number, f"after {study.privacy.attempts} attempt(s). {reason}")

    def _attempt_numbers(self, number: int) -> Iterator[int]:
        """The remaining attempts.

        An interrupted one cannot be resumed: what the sites had sent was in the memory of the
        process that ended, and no site masks an update twice.
        """
        before = self._context.store.attempts(number)
        last, state = before[-1] if before else (0, AttemptState.FAILED)
        if state is AttemptState.OPEN:
            self._parts.failed((number, last), "The coordinator was interrupted.")
        yield from range(last + 1, self._context.study.privacy.attempts + 1)

    def _attempt(self, order: TrainingOrder, attendees: Sequence[Attendee]) -> AttemptOutcome:
        parts = self._parts
        parts.begun(order.key, tuple(attendee.name for attendee in attendees))
        attempt = MaskedAttempt(self._context, order, parts.attendance, attendees, parts.spending)
        return attempt.run()


def _why(outcome: AttemptOutcome, asked: int, needed: int) -> str:
    """Why an attempt that `asked` so many sites has failed."""
    if not outcome.reason:
        # Whoever had not come to its update yet was there all the same.
        left = max(len(outcome.sites), asked - len(outcome.dropped))
        return too_few(left, needed, outcome.dropped)
    return in_words(outcome.reason, outcome.dropped)
