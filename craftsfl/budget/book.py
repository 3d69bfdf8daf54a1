"""From a ledger's entries and the site's rules to what is shown: studies, spending over time.

Pure: no file, no clock. The figures come from the functions by which the agent enforces them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from client.policy import SiteRules
from craftsfl.budget.sums import Studies, Sums, events_of, smallest_delta, times
from privacy.events import Event, event_of
from privacy.ledger import Charge, Entry, State

MOST_POINTS: Final = 40  # of the curve: each takes the accountant some milliseconds


@dataclass(frozen=True, slots=True)
class Line:
    """One study's spending at this site. `epsilon` is infinite where an attempt had no noise."""

    digest: bytes
    name: str  # "" where only the digest is known: it is not the study of the site's settings
    rounds: int  # with at least one charged attempt
    attempts: int  # charged
    lost: int  # begun, not charged: under way, superseded or cut off
    epsilon: float
    delta: float
    budget: float
    rounds_left: int  # more attempts like its last that budgets and manifest admit
    events: tuple[Event, ...] = field(repr=False)  # what was charged

    @property
    def label(self) -> str:
        """The study's name, or the beginning of its digest."""
        return self.name or f"study {self.digest.hex()[:8]}"


@dataclass(frozen=True, slots=True)
class Point:
    """Where epsilon stood after a charge, of its study and of all studies together."""

    time: float  # seconds since 1970; never before the previous point's
    study: str
    epsilon: float
    lifetime: float


@dataclass(frozen=True, slots=True)
class Book:
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
    planned: tuple[Event, ...] = field(repr=False)  # of the present study, used to its end

    @property
    def present(self) -> Line:
        """The study of the site's settings."""
        return self.lines[0]


def open_book(rules: SiteRules, entries: Sequence[Entry]) -> Book:
    """Everything from the ledger's `entries`; raises `AccountingError` for unknown events."""
    sums, charged = Sums(rules.policy), [e for e in entries if e.state is State.COMMITTED]
    studies = _by_study(charged)
    lines = tuple(_lines(rules, sums, entries, studies))
    present, one = lines[0], event_of(rules.study)
    more = (times(one, present.rounds_left),) if present.rounds_left else ()
    return Book(
        site=rules.name,
        epsilon=sums.lifetime(studies),
        delta=sums.delta(studies),
        budget=rules.policy.epsilon,
        budget_delta=rules.policy.delta,
        composition=rules.policy.across_studies,
        began=min((entry.intent_time for entry in entries), default=None),
        lines=lines,
        points=tuple(_points(charged, sums, {line.digest: line.label for line in lines})),
        planned=(*present.events, *more),
    )


def _lines(
    rules: SiteRules, sums: Sums, entries: Sequence[Entry], studies: Studies
) -> Iterator[Line]:
    study = rules.study
    own = Charge(study.digest(), event_of(study), study.privacy.delta)
    last = {own.study_digest: own} | {e.charge.study_digest: e.charge for e in entries}
    for digest, charge in last.items():
        mine = [entry for entry in entries if entry.charge.study_digest == digest]
        charges = studies.get(digest, ())
        left = sums.rounds_left(studies, charge)
        if digest == own.study_digest:
            left = min(left, max(0, study.rounds * study.privacy.attempts - len(charges)))
        keys = [entry.key for entry in mine if entry.state is State.COMMITTED]
        yield Line(
            digest=digest,
            name=study.name if digest == own.study_digest else "",
            rounds=len({(key.run, key.round) for key in keys}),
            attempts=len(charges),
            lost=len(mine) - len(charges),
            epsilon=sums.study(charges),
            delta=smallest_delta(charges) if charges else charge.delta,
            budget=rules.policy.study_epsilon,
            rounds_left=left,
            events=events_of(charges),
        )


def _points(charged: Sequence[Entry], sums: Sums, labels: Mapping[bytes, str]) -> Iterator[Point]:
    """The curve at no more than `MOST_POINTS` charges, evenly chosen, the last one included."""
    stride = -(-len(charged) // MOST_POINTS) or 1
    now = 0.0
    for count, entry in enumerate(charged, start=1):
        # A clock that was set back does not bend the curve: the ledger's sequence orders.
        now = max(now, entry.intent_time if entry.charge_time is None else entry.charge_time)
        if (len(charged) - count) % stride:
            continue
        studies = _by_study(charged[:count])
        digest = entry.charge.study_digest
        yield Point(now, labels[digest], sums.study(studies[digest]), sums.lifetime(studies))


def _by_study(charged: Iterable[Entry]) -> dict[bytes, list[Charge]]:
    studies: dict[bytes, list[Charge]] = defaultdict(list)
    for entry in charged:
        studies[entry.charge.study_digest].append(entry.charge)
    return dict(studies)
