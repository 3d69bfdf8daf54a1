"""What a coordinator can do to promotions: leave them out, make them up, change their order."""

from __future__ import annotations

import json

from craftsfl.audit.tampering.draft import Draft
from craftsfl.audit.tampering.files import flipped
from craftsfl.audit.tampering.kinds import NotHere, kind
from craftsfl.audit.tampering.log import log_entries, resign_log
from privacy.audit.checks.promotions import PROMOTIONS_FILE
from privacy.audit.faults import Flaw
from privacy.audit.promotions import decode_promotions
from privacy.log.entries import EntryKind, LogEntry, facts, facts_of


@kind("promotion-left-out", Flaw.PROMOTION, needs_keys=True)
def _left_out(draft: Draft) -> str:
    entries, places = _of_kind(draft, EntryKind.PROMOTION)
    at = draft.random.choice(places)
    resign_log(draft, entries[:at] + entries[at + 1 :])
    return "A promotion was left out of the log, and the rest signed again."


@kind("promotion-unlisted", Flaw.PROMOTION)
def _unlisted(draft: Draft) -> str:
    _of_kind(draft, EntryKind.PROMOTION)
    del draft.files[PROMOTIONS_FILE]
    return "The coordinator's own list of promotions was left out."


@kind("promotion-forged", Flaw.PROMOTION, needs_keys=True)
def _forged(draft: Draft) -> str:
    """Another adapter becomes the champion, in the log and in the list."""
    entries, places = _of_kind(draft, EntryKind.PROMOTION)
    said = facts_of(LogEntry.decode(entries[places[-1]]).body)
    said |= {"number": len(places) + 1, "digest": draft.random.randbytes(32).hex(), "back": False}
    entries.append(LogEntry(EntryKind.PROMOTION, 0, facts(said)).encode())
    rows = json.loads(draft.files[PROMOTIONS_FILE])
    rows.append({"promotion": said, "signoffs": rows[-1]["signoffs"]})
    text = json.dumps(rows, sort_keys=True, separators=(",", ":"))
    draft.files[PROMOTIONS_FILE] = text.encode("ascii")
    resign_log(draft, entries)
    return "An adapter that no run released was promoted."


@kind("promotions-reordered", Flaw.PROMOTION, needs_keys=True)
def _reordered(draft: Draft) -> str:
    entries, places = _of_kind(draft, EntryKind.PROMOTION)
    if len(places) < 2:
        raise NotHere("There is one promotion.")
    one, other = draft.random.sample(places, 2)
    entries[one], entries[other] = entries[other], entries[one]
    resign_log(draft, entries)
    return "Two promotions changed places in the log."


@kind("signoff-dropped", Flaw.SIGNOFF, needs_keys=True)
def _dropped(draft: Draft) -> str:
    """Of all auditors, so that the manifest's number is not reached."""
    entries, places = _of_kind(draft, EntryKind.SIGNOFF)
    resign_log(draft, [one for at, one in enumerate(entries) if at not in places])
    return "The auditors' verdicts were left out of the log: promoted all the same."


@kind("signoff-forged", Flaw.SIGNOFF, needs_keys=True)
def _signoff_forged(draft: Draft) -> str:
    entries, places = _of_kind(draft, EntryKind.SIGNOFF)
    at = draft.random.choice(places)
    entry = LogEntry.decode(entries[at])
    said = facts_of(entry.body)
    said["signature"] = flipped(draft, bytes.fromhex(str(said["signature"]))).hex()
    entries[at] = LogEntry(entry.kind, entry.time, facts(said)).encode()
    resign_log(draft, entries)
    return "An auditor's signature of a verdict was forged."


def _of_kind(draft: Draft, wanted: EntryKind) -> tuple[list[bytes], list[int]]:
    """The log's entries, and the places of those of a kind."""
    if not decode_promotions(draft.files.get(PROMOTIONS_FILE, b"[]")):
        raise NotHere("Nothing was promoted.")
    entries = log_entries(draft)
    places = [at for at, one in enumerate(entries) if LogEntry.decode(one).kind is wanted]
    if not places:
        raise NotHere("The log has no such entry.")
    return entries, places
