"""What a coordinator can write into the log of its steps that it then says otherwise."""

from __future__ import annotations

from dataclasses import replace

from craftsfl.audit.tampering.draft import Draft
from craftsfl.audit.tampering.kinds import NotHere, kind
from craftsfl.audit.tampering.log import log_entries, resign_log
from privacy.audit.checks.log import CHECKPOINT_FILE, COSIGNED_FILE
from privacy.audit.faults import Flaw
from privacy.log.entries import EntryKind, LogEntry, LogFacts, facts, facts_of
from privacy.log.notes import SignedNote


@kind("log-two-sums", Flaw.LOG_RECORD, needs_keys=True)
def _two_sums(draft: Draft) -> str:
    """Two sums of one attempt, the true one last."""
    entries, _, step = _newest(draft, EntryKind.STEP)
    other = facts({**facts_of(step.body), "opened": draft.random.randbytes(32).hex()})
    resign_log(draft, [*entries, replace(step, body=other).encode(), step.encode()])
    return "The log names two sums of one attempt."


@kind("log-says-otherwise", Flaw.LOG_RECORD, needs_keys=True)
def _otherwise(draft: Draft) -> str:
    entries, at, step = _newest(draft, EntryKind.STEP)
    name = draft.random.choice(("slot", "cohort", "label", "session", "adapter", "vectors"))
    entries[at] = replace(step, body=facts({**facts_of(step.body), name: 0})).encode()
    resign_log(draft, entries)
    return f"The log has another {name} of a step than the bundle."


@kind("log-published-otherwise", Flaw.LOG_RECORD, needs_keys=True)
def _published(draft: Draft) -> str:
    entries, at, model = _newest(draft, EntryKind.MODEL)
    said = {**facts_of(model.body), "digest": draft.random.randbytes(32).hex()}
    entries[at] = replace(model, body=facts(said)).encode()
    resign_log(draft, entries)
    return "The log names another adapter as what the run came to."


@kind("log-begun-elsewhere", Flaw.LOG_RECORD, needs_keys=True)
def _begun(draft: Draft) -> str:
    """From another base; what is true is said after it."""
    entries = log_entries(draft)
    found = [(at, LogEntry.decode(one)) for at, one in enumerate(entries)]
    models = ((at, one) for at, one in found if one.kind is EntryKind.MODEL)
    at, start = next(models, (0, None))
    if start is None:
        raise NotHere("The log has no such entry.")
    said = {**facts_of(start.body), "base": draft.random.randbytes(32).hex()}
    other = replace(start, body=facts(said)).encode()
    resign_log(draft, [*entries[:at], other, *entries[at:]])
    return "The log names two bases from which the run began."


@kind("log-refusal-hidden", Flaw.LOG_RECORD, needs_keys=True)
def _refusal(draft: Draft) -> str:
    said = {"step": 1, "attempt": 1, "site": draft.some_site(), "reason": "It has refused."}
    _told(draft, EntryKind.REFUSAL, draft.index.run, said)
    return f"The log has a refusal of {draft.site} that the coordinator's record lacks."


@kind("log-run-hidden", Flaw.LOG_RECORD, needs_keys=True)
def _run(draft: Draft) -> str:
    run = draft.random.randrange(2, 100)
    _told(draft, EntryKind.RECIPE, run, {"release": "1"})
    return f"The log has a run {run} that is not in the bundle."


@kind("log-signed-twice", Flaw.LOG_CHECKPOINT, Flaw.LOG_COSIGNATURES)
def _signed_twice(draft: Draft) -> str:
    log_entries(draft)
    name = draft.random.choice((CHECKPOINT_FILE, COSIGNED_FILE))
    note = SignedNote.decode(draft.files[name])
    again = draft.random.choice(note.lines)
    draft.files[name] = SignedNote(note.text, (*note.lines, again)).encode()
    return f"A signature of {name} is there twice."


def _told(draft: Draft, what: EntryKind, run: int, said: LogFacts) -> None:
    entries = log_entries(draft)
    whole = {"study": draft.study.digest().hex(), "run": run, **said}
    resign_log(draft, [*entries, LogEntry(what, 0, facts(whole)).encode()])


def _newest(draft: Draft, what: EntryKind) -> tuple[list[bytes], int, LogEntry]:
    entries = log_entries(draft)
    found = [(at, LogEntry.decode(one)) for at, one in enumerate(entries)]
    places = [(at, one) for at, one in found if one.kind is what]
    if not places:
        raise NotHere("The log has no such entry.")
    return entries, *places[-1]
