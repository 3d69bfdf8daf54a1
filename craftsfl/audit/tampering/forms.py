"""The same evidence in another form, or with something beside it that nobody would read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from craftsfl.audit.tampering.draft import Draft
from craftsfl.audit.tampering.kinds import NotHere, keys_of, kind
from craftsfl.audit.tampering.steps import REQUESTS_FILE
from privacy.audit.checks.promotions import PROMOTIONS_FILE
from privacy.audit.faults import Flaw
from privacy.audit.left_out import decode_left_out, encode_left_out
from privacy.audit.packs import packed_rows, unpacked_rows
from privacy.secagg.sealed.opening import signed_step
from privacy.wire.sealed import Sealed, SealedStep

_EMPTY: Final = {
    "sessions.bin": b"",
    "vectors/nobody.bin": b"",
    "left-out.json": b"{}",
}


@kind("empty-file", Flaw.MALFORMED)
def _empty(draft: Draft) -> str:
    """A list of nothing: it has one form, which is to be absent."""
    name = draft.random.choice([one for one in _EMPTY if draft.run_file(one) not in draft.files])
    draft.files[draft.run_file(name)] = _EMPTY[name]
    return f"{name} is there, and holds nothing."


@kind("promotions-of-nothing", Flaw.PROMOTION)
def _no_promotions(draft: Draft) -> str:
    draft.files[PROMOTIONS_FILE] = b"[]"
    return "The coordinator's list of promotions is there, and is empty."


@kind("record-reordered", Flaw.RECORD)
def _record(draft: Draft) -> str:
    record = draft.record()
    if len(record.attempts) < 2:
        raise NotHere("There is one attempt.")
    first, *rest = record.attempts
    odd, what = draft.random.choice(
        (
            ((*rest, first), "attempts"),
            ((replace(first, sites=first.sites[::-1]), *rest), "sites of an attempt"),
            ((replace(first, sites=(*first.sites, first.sites[-1])), *rest), "sites, one twice"),
        )
    )
    draft.put_record(replace(record, attempts=odd))
    return f"The record has its {what}, in another order than its own."


@kind("requests-reordered", Flaw.REQUEST)
def _requests(draft: Draft) -> str:
    rows = draft.rows(REQUESTS_FILE)
    if len(rows) < 2:
        raise NotHere("There are too few requests.")
    one, other = draft.random.sample(range(len(rows)), 2)
    rows[one], rows[other] = rows[other], rows[one]
    draft.put_rows(REQUESTS_FILE, rows)
    return "Two requests changed places."


@kind("vectors-reordered", Flaw.VECTOR_OTHER)
def _vectors(draft: Draft) -> str:
    name = draft.run_file(f"vectors/{draft.some_site()}.bin")
    rows = unpacked_rows(draft.files.get(name, b""))
    if len(rows) < 2:
        raise NotHere("There are too few vectors.")
    draft.files[name] = packed_rows(rows[::-1])
    return f"The vectors of {draft.site} stand in another order."


@kind("left-out-and-here", Flaw.VECTOR_OTHER)
def _both(draft: Draft) -> str:
    """A vector, and beside it the digest of another one."""
    name = draft.run_file(f"vectors/{draft.some_site()}.bin")
    rows = unpacked_rows(draft.files.get(name, b""))
    if not rows:
        raise NotHere("There are no vectors.")
    label, beside = Sealed.decode(draft.random.choice(rows)).label, draft.run_file("left-out.json")
    named = decode_left_out(draft.files[beside]) if beside in draft.files else {}
    named.setdefault(draft.site, {})[label] = draft.random.randbytes(32)
    draft.files[beside] = encode_left_out(named)
    return f"A vector of {draft.site} is there, and named by another digest."


@kind("request-of-strangers", Flaw.REQUEST, needs_keys=True)
def _strangers(draft: Draft) -> str:
    """The coordinator asks a site that has no key in the session."""
    return _asked(draft, lambda step: replace(step, cohort=(*step.cohort, 60_000)))


@kind("request-beyond-session", Flaw.REQUEST, needs_keys=True)
def _beyond(draft: Draft) -> str:
    return _asked(draft, lambda step: replace(step, attempt=1000))


def _asked(draft: Draft, change: Callable[[SealedStep], SealedStep]) -> str:
    """One more request, which opens nothing; the record has it."""
    rows = draft.rows(REQUESTS_FILE)
    if not rows:
        raise NotHere("There are no steps.")
    step = SealedStep.decode(rows[-1])
    label = draft.random.randbytes(32)
    more = change(replace(step, attempt=step.attempt + 1, label=label))
    rows.append(signed_step(keys_of(draft).coordinator, more).encode())
    draft.put_rows(REQUESTS_FILE, rows)
    record = draft.record()
    row = replace(record.attempts[-1], attempt=more.attempt, state="failed", sites=())
    draft.put_record(replace(record, attempts=(*record.attempts, row)))
    return f"The coordinator asked for attempt {more.attempt} at step {more.step} of {more.cohort}."
