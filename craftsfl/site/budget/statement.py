"""From a ledger's entries and the site's rules to what is shown: studies, spending over time.

Pure: no file, no clock. The figures come from the functions by which the agent enforces them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from client.policy import SiteRules
from privacy.budget import (
    Book,
    Budgets,
    Limits,
    cannot_end,
    cost_by_observer,
    log_factor_of,
    to_its_end,
)
from privacy.events import Event, Observer
from privacy.ledger import Entry, State, charged
from privacy.study.terms import events_of, whole_schedule

MOST_POINTS: Final = 40  # of the curve: each takes the accountant some milliseconds


@dataclass(frozen=True, slots=True)
class Line:
    """One study's spending at this site. `epsilon` is infinite where an attempt had no noise."""

    digest: bytes
    name: str  # "" where only the digest is known
    rounds: int  # with at least one charged attempt
    attempts: int  # charged
    lost: int  # begun, not charged: under way, superseded or cut off
    epsilon: float  # used of the budget; not a claim by itself
    delta: float
    budget: float
    rounds_left: int  # more attempts like its last that budgets and manifest admit
    events: tuple[Event, ...] = field(repr=False)  # what was charged
    pooled: bool = False  # whether its noise is shared: then each round is one step

    @property
    def label(self) -> str:
        """The study's name, or the beginning of its digest."""
        return self.name or f"study {self.digest.hex()[:8]}"


@dataclass(frozen=True, slots=True)
class Point:
    """What was used of the budgets after a charge, of its study and of all studies together."""

    time: float  # seconds since 1970; never before the previous point's
    study: str
    epsilon: float
    lifetime: float


@dataclass(frozen=True, slots=True)
class Statement:
    """All that is shown of a site's budget, for one patient of its."""

    site: str
    epsilon: float
    delta: float
    budget: float
    budget_delta: float
    composition: str  # of studies: "sum" or "rdp-filter"
    began: float | None  # when the first attempt was begun, seconds since 1970
    lines: tuple[Line, ...]  # the present study first, charged or not
    points: tuple[Point, ...]
    # Both budgets once every attempt of the present study is charged, and whether the agent refuses
    # the study for that.
    at_its_end: Budgets
    refused: bool
    # Of the present study, whatever was seen: the most that budgets and manifest admit, and all
    # that its manifest has. Claims are made of these; of what was used, none is valid.
    planned: tuple[Event, ...] = field(repr=False)
    schedule: tuple[Event, ...] = field(repr=False)
    allowed: frozenset[Event] = field(repr=False)  # as what its attempts may stand in the ledger
    schedule_words: str  # how many attempts that is, of which kind
    # Epsilon of the whole schedule against each observer, and which of them this site's policy
    # charges; K is what it costs that the noise is drawn on integers, and is in these figures.
    against: Mapping[Observer, float]
    charged: tuple[Observer, ...]
    log_factor: float

    @property
    def present(self) -> Line:
        """The study of the site's settings."""
        return self.lines[0]


def statement_of(
    rules: SiteRules,
    entries: Sequence[Entry],
    earlier: Mapping[bytes, str] = MappingProxyType({}),
) -> Statement:
    """Everything from the ledger's `entries`; raises `AccountingError` for unknown events.

    `earlier`: names of studies that are not the present one, by digest, as far as they are known.
    """
    policy, limits, book = rules.policy, rules.limits, Book.of(entries)
    lines = tuple(_lines(rules, entries, earlier))
    schedule = whole_schedule(rules.study)
    # Counted from an empty ledger: how far a study may go does not depend on how far it has gone.
    charges = rules.charges
    allowance = book.allowance(limits, charges.charge)
    within = Book().allowance(limits, charges.charge).rounds_left()
    more = max(0, min(len(schedule), within) - lines[0].attempts)
    return Statement(
        site=rules.name,
        epsilon=book.lifetime_epsilon(limits),
        delta=book.lifetime_delta(limits),
        budget=policy.epsilon,
        budget_delta=policy.delta,
        composition=policy.across_studies,
        began=min((entry.intent_time for entry in entries), default=None),
        lines=lines,
        points=tuple(_points(limits, entries, {line.digest: line.label for line in lines})),
        at_its_end=to_its_end(charges, allowance),
        refused=cannot_end(charges, allowance) is not None,
        planned=(*lines[0].events, *schedule[:more]),
        schedule=schedule,
        allowed=events_of(rules.study),
        schedule_words=charges.schedule,
        against=cost_by_observer(charges.charge, charges.most),
        charged=limits.observers,
        log_factor=log_factor_of(charges.charge, charges.most),
    )


def _lines(
    rules: SiteRules, entries: Sequence[Entry], earlier: Mapping[bytes, str]
) -> Iterator[Line]:
    """The present study's line, then those of other studies as they came."""
    study, book, present = rules.study, Book.of(entries), rules.charges
    own = present.charge.study_digest
    last = {own: present.charge} | {e.charge.study_digest: e.charge for e in entries}
    for digest, like in last.items():
        mine = [entry for entry in entries if entry.charge.study_digest == digest]
        charges = book.of_study(digest)
        left = book.allowance(rules.limits, like).rounds_left()
        if digest == own:  # the manifest caps attempts, whatever the budget admits
            left = min(left, max(0, present.most - len(charges)))
        keys = [entry.key for entry in mine if entry.state is State.COMMITTED]
        yield Line(
            digest=digest,
            name=study.name if digest == own else earlier.get(digest, ""),
            rounds=len({(key.run, key.round) for key in keys}),
            attempts=len(charges),
            lost=len(mine) - len(charges),
            epsilon=book.study_epsilon(digest, rules.limits.observers),
            delta=min((charge.delta for charge in charges), default=like.delta),
            budget=rules.limits.study_epsilon,
            rounds_left=left,
            events=tuple(charge.event for charge in charges),
            pooled=like.event.sums_over_sites,
        )


def _points(
    limits: Limits, entries: Sequence[Entry], labels: Mapping[bytes, str]
) -> Iterator[Point]:
    """The curve at no more than `MOST_POINTS` charges, evenly chosen, the last one included."""
    paid = [entry for entry in entries if entry.state is State.COMMITTED]
    stride = -(-len(paid) // MOST_POINTS) or 1
    now = 0.0
    for count, entry in enumerate(paid, start=1):
        # A clock that was set back does not bend the curve: the ledger's sequence orders.
        now = max(now, entry.intent_time if entry.charge_time is None else entry.charge_time)
        if (len(paid) - count) % stride:
            continue
        used, study = Book(tuple(charged(paid[:count]))), entry.charge.study_digest
        yield Point(
            time=now,
            study=labels[study],
            epsilon=used.study_epsilon(study, limits.observers),
            lifetime=used.lifetime_epsilon(limits),
        )
