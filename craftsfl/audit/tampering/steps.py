"""What can be done to the steps of a pooled study: sessions, requests, vectors, sums."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from craftsfl.audit.tampering.draft import Draft
from craftsfl.audit.tampering.kinds import NotHere, keys_of, kind
from privacy.audit.faults import Flaw
from privacy.audit.left_out import encode_left_out
from privacy.audit.packs import packed_rows, unpacked_rows
from privacy.identity import Identity
from privacy.secagg.sealed.attempt import sealed_signed, sent_digest
from privacy.secagg.sealed.opening import signed_step
from privacy.secagg.sealed.stored import StoredMachine
from privacy.wire.sealed import OpenedSum, Sealed, SealedStep

SUMS_FILE = "sums.bin"
REQUESTS_FILE = "requests.bin"
SESSIONS_FILE = "sessions.bin"


@kind("sum-false", Flaw.SUM)
def _sum_false(draft: Draft) -> str:
    rows, at = _some(draft, SUMS_FILE)
    found = OpenedSum.decode(rows[at])
    lanes = found.lanes.copy()
    lanes[draft.random.randrange(len(lanes) - 3)] ^= np.uint64(1 << draft.random.randrange(64))
    rows[at] = replace(found, lanes=lanes).encode()
    draft.put_rows(SUMS_FILE, rows)
    return f"The opened sum of step {found.step} was changed in one number."


@kind("sum-dropped", Flaw.RECORD, Flaw.STEP_MISSING)
def _sum_dropped(draft: Draft) -> str:
    rows, at = _some(draft, SUMS_FILE)
    draft.put_rows(SUMS_FILE, rows[:at] + rows[at + 1 :])
    return f"The opened sum of step {at + 1} was left out."


@kind("sum-repeated", Flaw.SUM)
def _sum_repeated(draft: Draft) -> str:
    rows, at = _some(draft, SUMS_FILE)
    draft.put_rows(SUMS_FILE, [*rows, rows[at]])
    return f"The opened sum of step {at + 1} is there twice."


@kind("sums-reordered", Flaw.STEP_MISSING)
def _sums_reordered(draft: Draft) -> str:
    rows, _ = _some(draft, SUMS_FILE, 2)
    one, other = draft.random.sample(range(len(rows)), 2)
    rows[one], rows[other] = rows[other], rows[one]
    draft.put_rows(SUMS_FILE, rows)
    return f"The sums of steps {one + 1} and {other + 1} changed places."


@kind("request-forged", Flaw.REQUEST)
def _request_forged(draft: Draft) -> str:
    rows, at = _some(draft, REQUESTS_FILE)
    request = SealedStep.decode(rows[at])
    rows[at] = signed_step(Identity.from_seed(draft.random.randbytes(32)), request).encode()
    draft.put_rows(REQUESTS_FILE, rows)
    return f"The request of step {request.step} was signed by another key."


@kind("request-dropped", Flaw.NOT_ASKED)
def _request_dropped(draft: Draft) -> str:
    rows, at = _some(draft, REQUESTS_FILE)
    draft.put_rows(REQUESTS_FILE, rows[:at] + rows[at + 1 :])
    return "A request was left out: nobody is to know who was asked."


@kind("other-adapter", Flaw.LABEL, Flaw.CHAIN, needs_keys=True)
def _other_adapter(draft: Draft) -> str:
    rows, at = _some(draft, REQUESTS_FILE)
    request = SealedStep.decode(rows[at])
    other = replace(request, adapter=draft.random.randbytes(32))
    rows[at] = signed_step(keys_of(draft).coordinator, other).encode()
    draft.put_rows(REQUESTS_FILE, rows)
    return f"The coordinator says that step {request.step} began from another adapter."


@kind("session-key-forged", Flaw.SESSION)
def _session_key(draft: Draft) -> str:
    rows, at = _some(draft, SESSIONS_FILE)
    stored = StoredMachine.decode(rows[at])
    entries = list(stored.keys.entries)
    place = draft.random.randrange(len(entries))
    entries[place] = replace(entries[place], key=draft.random.randbytes(32))
    keys = replace(stored.keys, entries=tuple(entries))
    rows[at] = replace(stored, keys=keys).encode()
    draft.put_rows(SESSIONS_FILE, rows)
    return "A site's key of a session was replaced by another."


@kind("session-dropped", Flaw.REQUEST)
def _session_dropped(draft: Draft) -> str:
    rows, at = _some(draft, SESSIONS_FILE)
    draft.put_rows(SESSIONS_FILE, rows[:at] + rows[at + 1 :])
    return "A session was left out."


@kind("vector-changed", Flaw.VECTOR_SIGNATURE)
def _vector_changed(draft: Draft) -> str:
    name, rows, at = _vectors(draft)
    sealed = Sealed.decode(rows[at])
    lanes = sealed.lanes.copy()
    lanes[draft.random.randrange(len(lanes))] ^= np.uint64(1 << draft.random.randrange(64))
    rows[at] = replace(sealed, lanes=lanes).encode()
    draft.files[name] = packed_rows(rows)
    return f"One number of a masked vector of {draft.site} was changed."


@kind("vector-other", Flaw.VECTOR_OTHER, needs_keys=True)
def _vector_other(draft: Draft) -> str:
    name, rows, at = _vectors(draft)
    sealed, identity = Sealed.decode(rows[at]), keys_of(draft).identities[draft.site]
    lanes = sealed.lanes.copy()
    lanes[draft.random.randrange(len(lanes))] ^= np.uint64(1 << draft.random.randrange(64))
    other = replace(sealed, lanes=lanes)
    signature = identity.sign(sealed_signed(other, identity.public))
    rows[at] = replace(other, signature=signature).encode()
    draft.files[name] = packed_rows(rows)
    return f"{draft.site} signed another vector than the one that its ledger names."


@kind("vector-dropped", Flaw.VECTOR_MISSING)
def _vector_dropped(draft: Draft) -> str:
    name, rows, at = _vectors(draft)
    draft.files[name] = packed_rows(rows[:at] + rows[at + 1 :])
    return f"A masked vector of {draft.site} was left out, and not named by its digest."


@kind("vectors-swapped", Flaw.VECTOR_SIGNATURE)
def _vectors_swapped(draft: Draft) -> str:
    one, other = draft.random.sample([site.name for site in draft.study.sites], 2)
    draft.site = one
    names = [draft.run_file(f"vectors/{site}.bin") for site in (one, other)]
    if not all(name in draft.files for name in names):
        raise NotHere("There are no vectors.")
    files = draft.files
    files[names[0]], files[names[1]] = files[names[1]], files[names[0]]
    return f"The vectors of {one} and {other} changed places."


@kind("sum-and-vectors-false", Flaw.VECTOR_OTHER, needs_keys=True)
def _sum_and_vectors(draft: Draft) -> str:
    """A coordinator in league with a site: sum and vector fit, the site's ledger does not."""
    name, rows, at = _vectors(draft)
    sealed, identity = Sealed.decode(rows[at]), keys_of(draft).identities[draft.site]
    bit = np.uint64(1 << draft.random.randrange(64))
    place = draft.random.randrange(len(sealed.lanes) - 3)
    lanes = sealed.lanes.copy()
    lanes[place] ^= bit
    other = replace(sealed, lanes=lanes)
    other = replace(other, signature=identity.sign(sealed_signed(other, identity.public)))
    rows[at] = other.encode()
    draft.files[name] = packed_rows(rows)
    sums = draft.rows(SUMS_FILE)
    for row, found in enumerate(map(OpenedSum.decode, sums)):
        if found.label == sealed.label:
            total = found.lanes.copy()
            total[place] ^= bit
            sums[row] = replace(found, lanes=total).encode()
    draft.put_rows(SUMS_FILE, sums)
    return f"The coordinator and {draft.site} made up a vector and the sum that goes with it."


@kind("left-out-falsely", Flaw.VECTOR_OTHER)
def _left_out_falsely(draft: Draft) -> str:
    """The vectors are said to be left out, and one is named by another digest."""
    named: dict[str, dict[bytes, bytes]] = {}
    for site in draft.study.sites:
        name = draft.run_file(f"vectors/{site.name}.bin")
        if name not in draft.files:
            raise NotHere("There are no vectors.")
        found = map(Sealed.decode, unpacked_rows(draft.files.pop(name)))
        named[site.name] = {one.label: sent_digest(one.lanes) for one in found}
    label = draft.random.choice(sorted(named[draft.some_site()]))
    named[draft.site][label] = draft.random.randbytes(32)
    draft.files[draft.run_file("left-out.json")] = encode_left_out(named)
    return f"A vector of {draft.site} was left out, and named by another digest."


def _some(draft: Draft, name: str, least: int = 1) -> tuple[list[bytes], int]:
    rows = draft.rows(name)
    if len(rows) < least:
        raise NotHere(f"There are too few {name}.")
    return rows, draft.random.randrange(len(rows))


def _vectors(draft: Draft) -> tuple[str, list[bytes], int]:
    name = draft.run_file(f"vectors/{draft.some_site()}.bin")
    if name not in draft.files:
        raise NotHere("There are no vectors.")
    rows = unpacked_rows(draft.files[name])
    return name, rows, draft.random.randrange(len(rows))
