"""The adapter of every step, worked out again from the start and the opened sums."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Final

from model.layout import Layout, frozen_digest
from model.layout_text import decode_layout
from privacy.audit.checks.log_facts import facts_of_run
from privacy.audit.checks.membership import rosters_of
from privacy.audit.checks.steps import LayoutDigests
from privacy.audit.evidence import LAYOUT_FILE, Evidence, RunEvidence
from privacy.audit.faults import AuditFailure, Flaw, failure
from privacy.errors import CraftsflError
from privacy.log.entries import EntryKind, LogFacts
from privacy.log.replay import LogReplay
from privacy.study.manifest import Study
from privacy.study.pooling import grid_of
from strategies.chain import AdapterChain
from strategies.pooled import Grids, begin_chain, digests_of, final_of, following

MOST_PARAMETERS: Final = 1 << 26  # of an adapter, and of its frozen factors
_LARGEST_LAYOUT: Final = 16 << 20


@dataclass
class Replay:
    """`chain`: after the last step that follows; `steps`: how many; `failures`: what does not."""

    chain: AdapterChain | None = None
    failures: list[AuditFailure] = field(default_factory=list)

    @property
    def steps(self) -> int:
        """How many steps were worked out."""
        return 0 if self.chain is None else self.chain.steps


def layout_of_bundle(evidence: Evidence) -> tuple[Layout | None, list[AuditFailure]]:
    """What the adapter's numbers mean; None, and why, where the bundle does not say."""
    data = evidence.files.get(LAYOUT_FILE, b"")
    if len(data) > _LARGEST_LAYOUT:
        words = f"{LAYOUT_FILE} has more than {_LARGEST_LAYOUT} bytes."
        return None, [failure(Flaw.TOO_LARGE, words)]
    try:
        layout = decode_layout(data)
    except CraftsflError as error:
        return None, [failure(Flaw.MALFORMED, f"{LAYOUT_FILE}: {error.message}")]
    size = max(layout.parameters, sum(entry.size for entry in layout.frozen))
    if size > MOST_PARAMETERS:
        words = f"{size} numbers; at most {MOST_PARAMETERS} are worked out."
        return None, [failure(Flaw.TOO_LARGE, words)]
    pooled = evidence.study.pooled
    if pooled is not None and pooled.parameters != layout.parameters:
        words = f"The layout has {layout.parameters} numbers, the manifest {pooled.parameters}."
        return None, [failure(Flaw.ADAPTER, words)]
    return layout, []


@dataclass(frozen=True)
class ReplayStart:
    """What all runs of a study begin from; worked out once, however many runs a bundle claims.

    `chain` None: nothing, and `why` says why. `digests`: what labels hold of the layout.
    """

    digests: LayoutDigests
    chain: AdapterChain | None
    grids: Grids
    why: str = ""

    @classmethod
    def of(cls, study: Study, layout: Layout) -> ReplayStart:
        """The start that the study fixes."""
        digests = LayoutDigests(layout.fingerprint(), frozen_digest(layout))
        grids = cache(partial(grid_of, study))
        try:
            return cls(digests, begin_chain(study, layout), grids)
        except CraftsflError as error:
            return cls(digests, None, grids, error.message)


def replay(evidence: Evidence, number: int, start: ReplayStart) -> Replay:
    """The steps of a run, from the start that the study fixes."""
    found = Replay(start.chain)
    run = evidence.runs[number]
    if start.chain is None:
        found.failures.append(failure(Flaw.ADAPTER, start.why, run=number))
        return found
    _follow(evidence, run, found, number, start.grids)
    found.failures += _ended(run, found, number)
    return found


def check_logged_models(
    evidence: Evidence, log: LogReplay, number: int, own: LayoutDigests, found: Replay
) -> Iterator[AuditFailure]:
    """What the log says that a run began from, and came to, is what was worked out.

    It begins from one thing, however often that is said; where a last step was run again, what the
    run came to is what was said last.
    """
    base = evidence.study.base.digest.removeprefix("sha256:")
    start: LogFacts = {"base": base, "layout": own.layout.hex(), "frozen": own.frozen.hex()}
    ended: LogFacts = (
        {} if found.chain is None else {"digest": final_of(found.chain).published.hex()}
    )
    told = facts_of_run(evidence, log, number, EntryKind.MODEL)
    begun = [said for said in told if said.get("what") == "start"]
    came = [said for said in told if said.get("what") == "published"][-1:]
    for what, values, several in (("start", start, begun), ("published", ended, came)):
        if any(said.get(name) != value for said in several for name, value in values.items()):
            words = f"The log names another {what} of the run than follows from the bundle."
            yield failure(Flaw.LOG_RECORD, words, run=number)


def _follow(evidence: Evidence, run: RunEvidence, found: Replay, number: int, grids: Grids) -> None:
    """Add the sums in order, and compare each with what the requests say came before it."""
    chain = found.chain
    if chain is None:
        return
    rosters = {roster.digest(): roster for roster in rosters_of(evidence)}
    rosters_by_session = {
        one.offer.session: rosters.get(one.offer.roster_digest) for one in run.sessions
    }
    before = {chain.steps: chain}
    for total in run.sums:
        roster = rosters_by_session.get(total.session)
        where = ("", number, total.step, total.attempt)
        if roster is None or total.step != chain.steps + 1:
            words = f"It does not follow step {chain.steps}."
            found.failures.append(failure(Flaw.STEP_MISSING, words, *where))
            break
        try:
            chain = following(chain, [total], evidence.study, roster, grids)
        except CraftsflError as error:
            found.failures.append(failure(Flaw.CHAIN, error.message, *where))
            break
        before[chain.steps] = chain
    found.chain = chain
    found.failures += _begun_elsewhere(run, before, number)


def _begun_elsewhere(
    run: RunEvidence, before: dict[int, AdapterChain], number: int
) -> Iterator[AuditFailure]:
    opened = {(one.step, one.attempt) for one in run.sums}
    for request in run.requests:
        known = before.get(request.step - 1)
        if known is None:
            continue
        own = digests_of(known)
        same = (own.adapter, own.state, own.sums) == (request.adapter, request.state, request.sums)
        # A step after a sum that nobody took began from it; only steps that opened have to follow.
        if not same and (request.step, request.attempt) in opened:
            words = "It began from another adapter than the sums before it give."
            yield failure(Flaw.CHAIN, words, "", number, request.step, request.attempt)


def _ended(run: RunEvidence, found: Replay, number: int) -> Iterator[AuditFailure]:
    if run.closing is None or found.chain is None:
        return
    close, own = run.closing.close, final_of(found.chain)
    said = (close.adapter, close.state, close.sums, close.published)
    if said != (own.chain.adapter, own.chain.state, own.chain.sums, own.published):
        words = "The coordinator's last word names another end than the sums lead to."
        yield failure(Flaw.CLOSING, words, run=number)
