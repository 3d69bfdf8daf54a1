"""What a site with all of its own keys can do: a second ledger, charges under another name, a log
that goes back.
"""

from __future__ import annotations

from dataclasses import replace

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from craftsfl.audit.tampering.draft import Draft
from craftsfl.audit.tampering.kinds import NotHere, keys_of, kind
from craftsfl.audit.tampering.steps import REQUESTS_FILE
from privacy.audit.faults import Flaw
from privacy.audit.packs import packed_rows, unpacked_rows
from privacy.ledger.anchors import INHERITED_RUN, Anchors
from privacy.ledger.attempts import AttemptKey, Charge
from privacy.ledger.binding import bind
from privacy.ledger.records import Bound, Charged, Content, Genesis, Intent
from privacy.log.checkpoints import TreeHead, cosign
from privacy.log.notes import SignedNote
from privacy.secagg.sealed.attempt import sealed_signed
from privacy.secagg.sealed.opening import signed_step
from privacy.wire.checkpoint import Checkpoint
from privacy.wire.sealed import Sealed, SealedStep

# A ledger that is not the one which others have seen is missed by whichever of these looks first.
_OTHER = (Flaw.LEDGER_OLDER, Flaw.LOG_LEDGER, Flaw.NOT_CHARGED)


@kind("second-ledger", *_OTHER, needs_keys=True)
def _second(draft: Draft) -> str:
    """The site's identity has signed for two ledgers, and hands over the one with less in it."""
    site, key = draft.some_site(), _fresh_key(draft)
    ledger, public = draft.random.randbytes(16), key.public_key().public_bytes_raw()
    contents = draft.contents(site)
    last = max(at for at, one in enumerate(contents) if isinstance(one, Intent))
    bound = bind(keys_of(draft).identities[site], ledger, public, site)
    again = [_with(one, public, bound) for one in contents[:last]]
    draft.rewrite(site, again, key, ledger)
    draft.restate(site, keys_of(draft).identities[site])
    return f"{site} hands over a second ledger of its own, without the last charge."


@kind("lost-ledger-cheaper", *_OTHER, needs_keys=True)
def _lost(draft: Draft) -> str:
    """A ledger that stands for a lost one, and takes over less than that one had."""
    site, key = draft.some_site(), _fresh_key(draft)
    old, _ = draft.ledger(site)
    spent = _charges(draft, site)[:-1]
    lost = Checkpoint(old.ledger, old.sequence + 1, old.hash)
    anchors = Anchors(keys_of(draft).identities[site], replaced=lost, inherited=spent)
    ledger, public = draft.random.randbytes(16), key.public_key().public_bytes_raw()
    draft.rewrite(site, anchors.first_records(ledger, public, site), key, ledger)
    draft.restate(site, keys_of(draft).identities[site])
    return f"{site} calls its ledger lost, and takes over one charge fewer."


@kind("charges-taken-over", Flaw.NOT_ASKED, needs_keys=True)
def _taken_over(draft: Draft) -> str:
    """Steps of this study as what a lost ledger had charged: nobody has asked for those."""
    site, contents = draft.some_site(), list[Content]()
    for place, one in enumerate(draft.contents(site)):
        if isinstance(one, Intent):
            one = replace(one, key=AttemptKey(one.key.study, INHERITED_RUN, place, 0))
        contents.append(one)
    draft.rewrite(site, contents, keys_of(draft).ledgers[site])
    draft.restate(site, keys_of(draft).identities[site])
    return f"{site} calls its steps charges of a ledger that was lost."


@kind("charge-replayed", Flaw.NOT_ASKED, needs_keys=True)
def _replayed(draft: Draft) -> str:
    """One label under two attempts."""
    site, contents = draft.some_site(), draft.contents(draft.site)
    intent = draft.random.choice([one for one in contents if isinstance(one, Intent)])
    again = replace(intent, key=replace(intent.key, attempt=intent.key.attempt + 1000))
    contents += (again, Charged(len(contents)))
    draft.rewrite(site, contents, keys_of(draft).ledgers[site])
    draft.restate(site, keys_of(draft).identities[site])
    return f"{site} charged one attempt again, under another number."


@kind("trained-under-older-log", Flaw.LOG_COSIGNATURES, needs_keys=True)
def _older_log(draft: Draft) -> str:
    """Coordinator and sites together: the last step was under the log of the first one."""
    rows, keys = draft.rows(REQUESTS_FILE), keys_of(draft)
    steps = [SealedStep.decode(row) for row in rows]
    if len(steps) < 2 or not steps[0].log.checkpoint:
        raise NotHere("There are too few steps under a log.")
    names = [draft.run_file(f"vectors/{site.name}.bin") for site in draft.study.sites]
    if not all(name in draft.files for name in names):
        raise NotHere("There are no vectors.")
    shown = replace(steps[-1], checkpoint=steps[0].checkpoint)
    rows[-1] = signed_step(keys.coordinator, shown).encode()
    draft.put_rows(REQUESTS_FILE, rows)
    head = TreeHead.of_text(SignedNote.decode(shown.checkpoint).text)
    for site, name in zip(draft.study.sites, names, strict=True):
        identity, vectors = keys.identities[site.name], unpacked_rows(draft.files[name])
        sealed = replace(Sealed.decode(vectors[-1]), cosignature=cosign(head, identity, 1).encode())
        signature = identity.sign(sealed_signed(sealed, identity.public))
        vectors[-1] = replace(sealed, signature=signature).encode()
        draft.files[name] = packed_rows(vectors)
    draft.some_site()
    return "The last step was under the log of the first one, and all sites cosigned that."


def _with(one: Content, public: bytes, bound: Bound) -> Content:
    if isinstance(one, Genesis):
        return replace(one, public_key=public)
    return bound if isinstance(one, Bound) else one


def _charges(draft: Draft, site: str) -> tuple[Charge, ...]:
    return tuple(one.charge for one in draft.contents(site) if isinstance(one, Intent))


def _fresh_key(draft: Draft) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(draft.random.randbytes(32))
