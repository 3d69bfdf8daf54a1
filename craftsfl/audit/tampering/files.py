"""What anybody can do to a file: flip bits, cut it, leave something out."""

from __future__ import annotations

from craftsfl.audit.tampering.draft import Draft
from craftsfl.audit.tampering.kinds import NotHere, kind
from privacy.audit.evidence import ADAPTER_FILE, STUDY_FILE
from privacy.audit.faults import Flaw
from privacy.audit.index import INDEX_FILE


def flipped(draft: Draft, data: bytes, first: int = 0) -> bytes:
    """`data` with one bit changed, not before byte `first`."""
    if len(data) <= first:
        raise NotHere("There is nothing to change.")
    at = draft.random.randrange(first, len(data))
    changed = bytearray(data)
    changed[at] ^= 1 << draft.random.randrange(8)
    return bytes(changed)


@kind("bit-flip", Flaw.FILE_DIGEST)
def _bit_flip(draft: Draft) -> str:
    name = draft.random.choice(sorted(draft.files.keys() - {INDEX_FILE}))
    draft.files[name] = flipped(draft, draft.files[name])
    draft.indexed = False
    return f"One bit of {name} was flipped."


@kind("bit-flip-outside", Flaw.NOT_A_BUNDLE, Flaw.FILE_DIGEST, Flaw.MALFORMED)
def _bit_flip_outside(draft: Draft) -> str:
    # Checksums and sizes of the zip file itself, too.
    draft.whole = lambda data: flipped(draft, data)
    return "One bit of the bundle was flipped, anywhere."


@kind("cut-short", Flaw.NOT_A_BUNDLE)
def _cut_short(draft: Draft) -> str:
    draft.whole = lambda data: data[: draft.random.randrange(len(data))]
    return "The bundle was cut short."


@kind("file-dropped", Flaw.FILE_MISSING)
def _file_dropped(draft: Draft) -> str:
    name = draft.random.choice(sorted(draft.files.keys() - {INDEX_FILE}))
    del draft.files[name]
    draft.indexed = False
    return f"{name} was left out."


@kind("file-added", Flaw.FILE_UNEXPECTED)
def _file_added(draft: Draft) -> str:
    draft.files[f"more-{draft.random.randrange(10**6)}.txt"] = b"hello"
    return "A file was added, and the index made to fit."


@kind("adapter-changed", Flaw.ADAPTER)
def _adapter_changed(draft: Draft) -> str:
    if ADAPTER_FILE not in draft.files:
        raise NotHere("There is no adapter.")
    data = bytearray(draft.files[ADAPTER_FILE])
    size = int.from_bytes(data[:8], "little")
    at = draft.random.randrange(8 + size, len(data))
    data[at] ^= 1 << draft.random.randrange(8)
    draft.files[ADAPTER_FILE] = bytes(data)
    return "One number of the released adapter was changed."


@kind("manifest-changed", Flaw.STATEMENT, Flaw.SESSION, Flaw.STUDY)
def _manifest_changed(draft: Draft) -> str:
    text = draft.files[STUDY_FILE].decode("utf-8")
    found = text.replace("rounds = ", "rounds = 1", 1)
    draft.files[STUDY_FILE] = found.encode("utf-8")
    return "The manifest got more rounds, and the index was made to fit."
