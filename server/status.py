"""The round state as values: a run, its attempts, its sites, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from server.events import ROUND
from server.tables import (
    AttemptState,
    PartState,
    RunState,
    SiteState,
    Wish,
)


@dataclass(frozen=True, slots=True)
class SiteStatus:
    """A site in a run. `epsilon` is what it has spent in total; +inf: no noise, no privacy."""

    name: str
    declared_patients: int
    state: SiteState
    reason: str
    rounds: int  # that include its update
    epsilon: float
    budget: float
    delta: float
    masked: bool


@dataclass(frozen=True, slots=True)
class PartStatus:
    """A site's part in an attempt; `epsilon` is its total after this round.

    `exchange` is where it dropped out. A site that had FINISHED by then is still in the sum.
    """

    name: str
    state: PartState
    reason: str
    epsilon: float | None
    exchange: str = ""


@dataclass(frozen=True, slots=True)
class RoundStatus:
    """An attempt at a round; if it has ended, `seconds` of wall clock, and when (Unix seconds)."""

    round: int
    attempt: int
    state: AttemptState
    reason: str
    updates: int
    adapter_norm: float | None
    seconds: float | None
    sites: tuple[PartStatus, ...]
    finished: float | None = None


@dataclass(frozen=True, slots=True)
class RunFailure:
    """How a run failed: what is wrong, what to do next, and the `error`'s id."""

    message: str
    hint: str
    error: str


@dataclass(frozen=True, slots=True)
class ReleaseStatus:
    """The files that a run released, with their SHA-256 in hex when it did."""

    adapter: str
    adapter_sha256: str
    samples: str
    samples_sha256: str


@dataclass(frozen=True, slots=True)
class QualityStatus:
    """A figure on public tiles, of the adapter after `round` (0: of the base).

    "denoising": a loss, lower is better; "alignment": a difference of cosines, higher is better.
    `change` since the base, with its 95 % interval over patients; `measured` in Unix seconds.
    """

    round: int
    metric: str
    value: float
    change: float
    low: float
    high: float
    patients: int
    images: int
    measured: float


@dataclass(frozen=True, slots=True)
class RunStatus:
    """A run; `started` and `finished` in Unix seconds, `phases` in seconds.

    `run` is its number, or Flower's id of a run under a coordinator that did not number them yet.
    `message` says in one text how it failed; `failure` has the parts of that text. It is None if
    the run has not failed, or failed under a coordinator that did not keep them yet.
    `state` is the last that a ServerApp wrote: whether one is alive is not in the database
    (`server.life`). `awaited` says what the next attempt waits for. `unit` is what it counts, a
    round or a step. So many attempts are `lost`: they have failed, and sites may have charged them.
    Of a pooled study `spare` may be, else None. `confirmed` are the sites that have worked out the
    same adapter at the end of such a run; None until they were asked.
    """

    run: int
    study: str
    state: RunState
    message: str
    rounds_done: int
    rounds: int
    started: float
    finished: float | None
    sites: tuple[SiteStatus, ...]
    history: tuple[RoundStatus, ...]
    phases: Mapping[str, float]
    failure: RunFailure | None = None
    study_digest: str = ""  # hex
    wish: Wish = Wish.RUN
    awaited: str = ""
    last_words: str = ""
    flower_run: int | None = None
    flower_since: float | None = None  # Unix seconds
    release: ReleaseStatus | None = None
    quality: tuple[QualityStatus, ...] = ()
    unit: str = ROUND
    lost: int = 0
    spare: int | None = None
    confirmed: tuple[str, ...] | None = None
