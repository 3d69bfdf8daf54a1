"""What a site or a coordinator can lie about to the other witnesses of the log."""

from __future__ import annotations

from dataclasses import replace

from craftsfl.audit.tampering.draft import Draft
from craftsfl.audit.tampering.files import flipped
from craftsfl.audit.tampering.kinds import NotHere, keys_of, kind
from craftsfl.audit.tampering.steps import REQUESTS_FILE
from privacy.audit.faults import Flaw
from privacy.audit.packs import packed_rows, unpacked_rows
from privacy.log.checkpoints import Cosignature, TreeHead, cosign, signed_checkpoint
from privacy.log.news import LogProofs
from privacy.log.notes import SignedNote
from privacy.secagg.sealed.attempt import sealed_signed
from privacy.secagg.sealed.opening import signed_step
from privacy.wire.sealed import Sealed, SealedStep


@kind("step-not-cosigned", Flaw.LOG_COSIGNATURES, needs_keys=True)
def _not_cosigned(draft: Draft) -> str:
    step, _ = _step(draft)
    _resend(draft, step.label, b"")
    return f"At step {step.step}, {draft.site} did not cosign the log that it was shown."


@kind("step-cosigned-otherwise", Flaw.LOG_COSIGNATURES, needs_keys=True)
def _otherwise(draft: Draft) -> str:
    """A witness of two logs: the vector brings a cosignature of one that nobody was shown."""
    step, head = _step(draft)
    other = replace(head, root=draft.random.randbytes(32))
    identity = keys_of(draft).identities[draft.some_site()]
    _resend(draft, step.label, cosign(other, identity, 1).encode())
    return f"At step {step.step}, {draft.site} cosigned another log than it was shown."


@kind("two-heads", Flaw.LOG_COSIGNATURES, needs_keys=True)
def _two_heads(draft: Draft) -> str:
    """Coordinator and site together: a step under another log, which the site has cosigned."""
    step, head = _step(draft)
    other = replace(head, root=draft.random.randbytes(32))
    keys = keys_of(draft)
    rows = draft.rows(REQUESTS_FILE)
    place = next(at for at, row in enumerate(rows) if SealedStep.decode(row).label == step.label)
    shown = replace(step, checkpoint=signed_checkpoint(other, keys.coordinator).encode())
    rows[place] = signed_step(keys.coordinator, shown).encode()
    draft.put_rows(REQUESTS_FILE, rows)
    identity = keys.identities[draft.some_site()]
    _resend(draft, step.label, cosign(other, identity, 1).encode())
    return f"{draft.site} cosigned two logs: one of them at step {step.step} alone."


@kind("passed-on-forged", Flaw.LOG_COSIGNATURES, needs_keys=True)
def _passed_on(draft: Draft) -> str:
    """The coordinator tells the sites of a cosignature that another one never gave."""
    rows = draft.rows(REQUESTS_FILE)
    places = [at for at, row in enumerate(rows) if _proofs(row)]
    if not places:
        raise NotHere("No cosignature was passed on.")
    at = draft.random.choice(places)
    step = SealedStep.decode(rows[at])
    proofs = LogProofs.decode(step.cosignature)
    site = draft.random.choice(sorted(proofs.cosignatures))
    given = proofs.cosignatures[site]
    forged = Cosignature(given.time, flipped(draft, given.signature))
    cosignatures = {**proofs.cosignatures, site: forged}
    told = replace(proofs, cosignatures=cosignatures).encode()
    rows[at] = signed_step(keys_of(draft).coordinator, replace(step, cosignature=told)).encode()
    draft.put_rows(REQUESTS_FILE, rows)
    member = draft.roster.member(site)
    draft.site = "" if member is None else member.name
    return f"At step {step.step} a cosignature of {draft.site} was made up."


def _proofs(row: bytes) -> bool:
    step = SealedStep.decode(row)
    return bool(step.log) and bool(LogProofs.decode(step.cosignature).cosignatures)


def _step(draft: Draft) -> tuple[SealedStep, TreeHead]:
    """A step under a log whose vectors are here, and what it showed."""
    steps = [SealedStep.decode(row) for row in draft.rows(REQUESTS_FILE)]
    under = [step for step in steps if step.log.checkpoint]
    if not under or not any("vectors/" in name for name in draft.files):
        raise NotHere("No step with its vectors was under a log.")
    step = draft.random.choice(under)
    return step, TreeHead.of_text(SignedNote.decode(step.checkpoint).text)


def _resend(draft: Draft, label: bytes, cosignature: bytes) -> None:
    """The site's vector of this step again, signed with another cosignature in it."""
    site = draft.site or draft.some_site()
    name, identity = draft.run_file(f"vectors/{site}.bin"), keys_of(draft).identities[site]
    rows = unpacked_rows(draft.files[name])
    for at, row in enumerate(rows):
        sealed = Sealed.decode(row)
        if sealed.label == label:
            other = replace(sealed, cosignature=cosignature)
            signature = identity.sign(sealed_signed(other, identity.public))
            rows[at] = replace(other, signature=signature).encode()
    draft.files[name] = packed_rows(rows)
