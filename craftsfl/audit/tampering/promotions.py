"""What a coordinator can do to promotions, and to what they rest on: leave out, forge, reorder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

from craftsfl.audit.tampering.draft import Draft
from craftsfl.audit.tampering.files import flipped
from craftsfl.audit.tampering.kinds import NotHere, kind
from craftsfl.audit.tampering.log import log_entries, resign_log
from privacy.audit.checks.promotions import PROMOTIONS_FILE
from privacy.audit.faults import Flaw
from privacy.audit.promotions import decode_promotions, readers_facts, readers_of
from privacy.log.entries import EntryKind, LogEntry, facts, facts_of

_NOBODY_CAN_TELL: Final = {"value": 0.5, "low": 0.5, "high": 0.5, "judgements": 9999}


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


@kind("promotion-back-to-nothing", Flaw.PROMOTION, needs_keys=True)
def _back(draft: Draft) -> str:
    """A first promotion that calls itself a rollback: of those, less is demanded."""
    entries, places = _of_kind(draft, EntryKind.PROMOTION)
    entry = LogEntry.decode(entries[places[0]])
    said = facts_of(entry.body) | {"back": True}
    entries[places[0]] = LogEntry(entry.kind, entry.time, facts(said)).encode()
    rows = json.loads(draft.files[PROMOTIONS_FILE])
    rows[0]["promotion"] = said
    text = json.dumps(rows, sort_keys=True, separators=(",", ":"))
    draft.files[PROMOTIONS_FILE] = text.encode("ascii")
    resign_log(draft, entries)
    return "The first promotion goes back to an adapter that was never promoted."


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


@kind("readers-dropped", Flaw.READERS, needs_keys=True)
def _readers_dropped(draft: Draft) -> str:
    """In the log; the coordinator's own list still has them."""
    entries, places = _of_kind(draft, EntryKind.READERS)
    resign_log(draft, [one for at, one in enumerate(entries) if at not in places])
    return "The readers' results were left out of the log: promoted all the same."


@kind("readers-flattered", Flaw.READERS, needs_keys=True)
def _readers_flattered(draft: Draft) -> str:
    """Figures that their signer never signed."""
    return _with_readers(draft, {"told_apart": _NOBODY_CAN_TELL})


@kind("readers-moved", Flaw.READERS, needs_keys=True)
def _readers_moved(draft: Draft) -> str:
    """Readers never saw this adapter's pictures: the result is another one's."""
    return _with_readers(draft, {"adapter": draft.random.randbytes(32).hex()})


def _with_readers(draft: Draft, changes: Mapping[str, object]) -> str:
    """One result is another one, in the log and in the list; the signature stays as it was."""
    entries, places = _of_kind(draft, EntryKind.READERS)
    at = draft.random.choice(places)
    entry = LogEntry.decode(entries[at])
    said = readers_of(facts_of(entry.body))
    other = json.loads(json.dumps(readers_facts(said)))
    other["result"] |= changes
    entries[at] = LogEntry(entry.kind, entry.time, facts(other)).encode()
    rows = json.loads(draft.files[PROMOTIONS_FILE])
    for row in rows:
        own = row.get("readers", [])
        row["readers"] = [other if one == readers_facts(said) else one for one in own]
    text = json.dumps(rows, sort_keys=True, separators=(",", ":"))
    draft.files[PROMOTIONS_FILE] = text.encode("ascii")
    resign_log(draft, entries)
    return "A readers' result says what nobody signed."


def _of_kind(draft: Draft, wanted: EntryKind) -> tuple[list[bytes], list[int]]:
    """The log's entries, and the places of those of a kind."""
    if not decode_promotions(draft.files.get(PROMOTIONS_FILE, b"[]")):
        raise NotHere("Nothing was promoted.")
    entries = log_entries(draft)
    places = [at for at, one in enumerate(entries) if LogEntry.decode(one).kind is wanted]
    if not places:
        raise NotHere("The log has no such entry.")
    return entries, places
