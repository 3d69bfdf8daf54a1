"""What a coordinator can do to its own word: the record of a run, and what travels with it."""

from __future__ import annotations

import json
from dataclasses import replace

from craftsfl.audit.tampering.draft import Draft
from craftsfl.audit.tampering.kinds import NotHere, kind
from craftsfl.audit.tampering.steps import REQUESTS_FILE, SESSIONS_FILE, SUMS_FILE
from privacy.audit.evidence import ADAPTER_FILE, ENVIRONMENT_FILE, RunEnd
from privacy.audit.faults import Flaw
from privacy.audit.left_out import decode_left_out, encode_left_out
from privacy.audit.promotions import decode_promotions
from privacy.secagg.sealed.stored import StoredMachine
from privacy.wire.sealed import OpenedSum, SealedStep


@kind("record-repeated", Flaw.RECORD)
def _repeated(draft: Draft) -> str:
    record = draft.record()
    one = draft.random.choice(record.attempts)
    draft.put_record(replace(record, attempts=(*record.attempts, one)))
    return f"The record has round {one.round} twice."


@kind("record-beyond-manifest", Flaw.RECORD)
def _beyond(draft: Draft) -> str:
    record = draft.record()
    last = replace(record.attempts[-1], state="failed", round=draft.study.rounds + 1, sites=())
    draft.put_record(replace(record, attempts=(*record.attempts, last)))
    return "The record has a round that the manifest has not."


@kind("record-of-strangers", Flaw.RECORD)
def _strangers(draft: Draft) -> str:
    record, draft.site = draft.record(), f"stranger-{draft.random.randrange(10**6)}"
    one = replace(record.attempts[0], attempt=2, state="failed", sites=(draft.site,))
    draft.put_record(replace(record, attempts=(*record.attempts, one)))
    return "The record has an attempt with a site that is not in the study."


@kind("record-out-of-time", Flaw.RECORD)
def _out_of_time(draft: Draft) -> str:
    record = draft.record()
    late = replace(record.attempts[-1], finished=10.0 ** draft.random.randrange(12, 300))
    draft.put_record(replace(record, attempts=(*record.attempts[:-1], late)))
    return "The record has an attempt that ended after the year 10000."


@kind("record-cut", Flaw.RECORD)
def _cut(draft: Draft) -> str:
    record = draft.record()
    draft.put_record(replace(record, attempts=record.attempts[:-1]))
    return "The record lacks the last attempt, and says that the run finished."


@kind("environment-rubbish", Flaw.MALFORMED)
def _environment(draft: Draft) -> str:
    draft.files[ENVIRONMENT_FILE] = draft.random.randbytes(100)
    return "What the coordinator says of its software is rubbish."


@kind("request-carries-more", Flaw.REQUEST)
def _request(draft: Draft) -> str:
    rows, sums = draft.rows(REQUESTS_FILE), draft.rows(SUMS_FILE)
    if not sums:
        raise NotHere("There are no sums.")
    at = draft.random.randrange(len(rows))
    more = (OpenedSum.decode(draft.random.choice(sums)),)
    rows[at] = replace(SealedStep.decode(rows[at]), opened=more).encode()
    draft.put_rows(REQUESTS_FILE, rows)
    return "A request carries a sum behind its signature."


@kind("session-carries-more", Flaw.SESSION)
def _session(draft: Draft) -> str:
    rows, requests = draft.rows(SESSIONS_FILE), draft.rows(REQUESTS_FILE)
    if not requests:
        raise NotHere("There are no steps.")
    step = SealedStep.decode(draft.random.choice(requests))
    rows[-1] = replace(StoredMachine.decode(rows[-1]), step=step, in_session=step.cohort).encode()
    draft.put_rows(SESSIONS_FILE, rows)
    return "A session carries a request that its members have not signed."


@kind("session-repeated", Flaw.SESSION)
def _session_repeated(draft: Draft) -> str:
    rows = draft.rows(SESSIONS_FILE)
    if not rows:
        raise NotHere("There are no sessions.")
    draft.put_rows(SESSIONS_FILE, [*rows, draft.random.choice(rows)])
    return "A session is there twice."


@kind("end-carries-more", Flaw.CLOSING)
def _end(draft: Draft) -> str:
    end, sums = _end_of(draft), draft.rows(SUMS_FILE)
    more = (OpenedSum.decode(draft.random.choice(sums)),)
    _put_end(draft, replace(end, close=replace(end.close, opened=more)))
    return "The coordinator's last word carries a sum behind its signature."


@kind("confirmation-repeated", Flaw.CLOSING)
def _confirmed_twice(draft: Draft) -> str:
    end = _end_of(draft)
    one = draft.random.choice(end.confirmed)
    _put_end(draft, replace(end, confirmed=(*end.confirmed, one)))
    return "One site has confirmed the end twice, and is counted for two."


@kind("left-out-unasked", Flaw.VECTOR_OTHER)
def _unasked(draft: Draft) -> str:
    if not draft.rows(REQUESTS_FILE):
        raise NotHere("There are no steps.")
    name, site = draft.run_file("left-out.json"), draft.some_site()
    named = decode_left_out(draft.files[name]) if name in draft.files else {}
    named.setdefault(site, {})[draft.random.randbytes(32)] = draft.random.randbytes(32)
    draft.files[name] = encode_left_out(named)
    return f"A vector of {site} is named for which nobody has asked."


@kind("adapter-claims", Flaw.ADAPTER)
def _claims(draft: Draft) -> str:
    """The file says less of itself than its study costs, under a digest that fits."""
    import hashlib

    data, study = draft.files.get(ADAPTER_FILE), draft.study
    if data is None:
        raise NotHere("There is no adapter.")
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    origin = {"base": study.base.digest, "study": study.name, "rounds": study.rounds}
    origin |= {"study_digest": study.digest().hex(), "run": str(draft.index.run)}
    origin |= {"epsilon": draft.random.uniform(0.001, 0.1), "delta": study.privacy.delta}
    header["__metadata__"]["craftsfl_origin"] = json.dumps(origin, sort_keys=True)
    text = json.dumps(header).encode()
    changed = len(text).to_bytes(8, "little") + text + data[8 + size :]
    draft.files[ADAPTER_FILE] = changed
    digest = hashlib.sha256(changed).hexdigest()
    draft.put_record(replace(draft.record(), released=digest))
    return "The adapter's own file claims a smaller ε."


@kind("promotions-listed-twice", Flaw.PROMOTION)
def _listed_twice(draft: Draft) -> str:
    data = draft.files.get("promotions.json", b"[]")
    if not decode_promotions(data):
        raise NotHere("Nothing was promoted.")
    rows = json.loads(data)
    rows.append(draft.random.choice(rows))
    draft.files["promotions.json"] = json.dumps(rows, sort_keys=True, separators=(",", ":")).encode(
        "ascii"
    )
    return "A promotion is in the coordinator's list twice."


def _end_of(draft: Draft) -> RunEnd:
    name = draft.run_file("closing.bin")
    if name not in draft.files:
        raise NotHere("The run has no end.")
    return RunEnd.decode(draft.files[name])


def _put_end(draft: Draft, end: RunEnd) -> None:
    draft.files[draft.run_file("closing.bin")] = end.encode()
