"""What can be done to a site's ledger: by anybody, and by a dishonest site with its own keys."""

from __future__ import annotations

from dataclasses import replace

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from craftsfl.audit.tampering.draft import Draft
from craftsfl.audit.tampering.files import flipped
from craftsfl.audit.tampering.kinds import NotHere, keys_of, kind
from privacy.audit.faults import Flaw
from privacy.identity import Identity
from privacy.ledger.binding import bind
from privacy.ledger.head import HEAD_BYTES
from privacy.ledger.records import (
    Bound,
    Charged,
    Content,
    GeneratorTried,
    Genesis,
    Intent,
    Sent,
    hash_of,
)
from privacy.mechanisms.registry import event_from_json
from privacy.study.pooling import deviation_tried
from privacy.study.terms import event_of
from privacy.wire.codec import Writer

# A ledger that lacks a charge is found by whichever of these looks at it first.
_LACKS = (
    *(
        Flaw.NOT_CHARGED,
        Flaw.LEDGER_OLDER,
        Flaw.VECTOR_OTHER,
        Flaw.NOT_ASKED,
    ),
    *(Flaw.LOG_LEDGER, Flaw.LOG_RECORD),
)


@kind("ledger-bit-flip", Flaw.LEDGER_DAMAGED)
def _bit_flip(draft: Draft) -> str:
    name = f"sites/{draft.some_site()}/ledger.bin"
    draft.files[name] = flipped(draft, draft.files[name], HEAD_BYTES)
    return f"One bit of a record of {draft.site} was flipped, and the index made to fit."


@kind("record-dropped", Flaw.LEDGER_DAMAGED)
def _dropped(draft: Draft) -> str:
    head, rows = draft.ledger(draft.some_site())
    at = draft.random.randrange(len(rows))
    draft.put_ledger(draft.site, head, rows[:at] + rows[at + 1 :])
    return f"Record {at} of {draft.site} was left out."


@kind("records-reordered", Flaw.LEDGER_DAMAGED)
def _reordered(draft: Draft) -> str:
    head, rows = draft.ledger(draft.some_site())
    one, other = draft.random.sample(range(len(rows)), 2)
    rows[one], rows[other] = rows[other], rows[one]
    draft.put_ledger(draft.site, head, rows)
    return f"Records {one} and {other} of {draft.site} changed places."


@kind("record-repeated", Flaw.LEDGER_DAMAGED)
def _repeated(draft: Draft) -> str:
    head, rows = draft.ledger(draft.some_site())
    at = draft.random.randrange(len(rows))
    draft.put_ledger(draft.site, head, rows[: at + 1] + rows[at:])
    return f"Record {at} of {draft.site} is there twice."


@kind("ledgers-swapped", Flaw.LEDGER_IDENTITY)
def _swapped(draft: Draft) -> str:
    one, other = draft.random.sample([site.name for site in draft.study.sites], 2)
    draft.site = one
    names = f"sites/{one}/ledger.bin", f"sites/{other}/ledger.bin"
    files = draft.files
    files[names[0]], files[names[1]] = files[names[1]], files[names[0]]
    return f"The ledgers of {one} and {other} changed places."


@kind("ledger-dropped", Flaw.LEDGER_MISSING)
def _ledger_dropped(draft: Draft) -> str:
    del draft.files[f"sites/{draft.some_site()}/ledger.bin"]
    return f"The ledger of {draft.site} was left out."


@kind("wrong-key", Flaw.LEDGER_DAMAGED)
def _wrong_key(draft: Draft) -> str:
    site, key = draft.some_site(), _fresh_key(draft)
    contents = _with_key(draft.contents(site), key)
    draft.rewrite(site, contents, key)
    return f"The ledger of {site} was signed again, with a key that its identity does not know."


@kind("fresh-ledger", Flaw.LEDGER_IDENTITY)
def _fresh_ledger(draft: Draft) -> str:
    site, key = draft.some_site(), _fresh_key(draft)
    stranger = Identity.from_seed(draft.random.randbytes(32))
    ledger, public = draft.ledger(site)[0].ledger, key.public_key().public_bytes_raw()
    contents = _without_last(_with_key(draft.contents(site), key))
    bound: Content = bind(stranger, ledger, public, site)
    draft.rewrite(site, [bound if isinstance(one, Bound) else one for one in contents], key)
    return f"{site} got a new ledger with fresh keys, and one round fewer."


@kind("record-nested", Flaw.LEDGER_DAMAGED)
def _nested(draft: Draft) -> str:
    """A record whose event is a thousand lists in each other: some readers never come back."""
    head, rows = draft.ledger(draft.some_site())
    depth = draft.random.randrange(1000, 4000)
    writer = Writer().u8(1).u8(2).fixed(head.ledger, 16).u64(len(rows))
    writer.fixed(hash_of(rows[-1]), 32).u64(0).u64(1).u32(1).u32(1)
    writer.fixed(draft.study.digest(), 32).f64(draft.study.privacy.delta).text("[" * depth, 4096)
    draft.put_ledger(draft.site, head, [*rows, writer.done()])
    return f"A record of {draft.site} nests its event {depth} deep."


@kind("bound-to-a-stranger", Flaw.LEDGER_IDENTITY, needs_keys=True)
def _strangers(draft: Draft) -> str:
    """For a while somebody else's key stood for the site: a key that no roster has named."""
    site, keys = draft.some_site(), keys_of(draft)
    ledger, public = draft.ledger(site)[0].ledger, draft.ledger(site)[0].public_key
    stranger = Identity.from_seed(draft.random.randbytes(32))
    both = [bind(one, ledger, public, site) for one in (stranger, keys.identities[site])]
    draft.rewrite(site, [*draft.contents(site), *both], keys.ledgers[site])
    draft.restate(site, keys.identities[site])
    return f"The ledger of {site} was bound to a key that no roster lists, and back."


@kind("delta-changed", Flaw.EVENT, needs_keys=True)
def _delta(draft: Draft) -> str:
    """From the middle of the study on, charges are made at another delta."""
    site, keys = draft.some_site(), keys_of(draft)
    contents = draft.contents(site)
    at = draft.random.choice([i for i, one in enumerate(contents) if isinstance(one, Intent)])
    for place, one in enumerate(contents):
        if place >= at and isinstance(one, Intent):
            contents[place] = replace(one, charge=replace(one.charge, delta=one.charge.delta / 2))
    draft.rewrite(site, contents, keys.ledgers[site])
    draft.restate(site, keys.identities[site])
    return f"{site} charges half of δ from record {at} on, and has signed that."


@kind("trial-failed", Flaw.GENERATOR, needs_keys=True)
def _trial(draft: Draft) -> str:
    """Before a charge, a trial of the generator that failed; sometimes it is called passed."""
    site, keys = draft.some_site(), keys_of(draft)
    contents = draft.contents(site)
    if event_of(draft.study).no_privacy:
        raise NotHere("No noise is drawn.")
    at = next(place for place, one in enumerate(contents) if isinstance(one, Intent))
    name, figure = draft.random.choice(
        (
            *(("passed", False), ("known", False), ("draws", 100), ("fit", 99.0)),
            *(("variance", 0.25), ("variance", 4.0), ("shared", -40.0)),
        )
    )
    deviation = deviation_tried(draft.study)
    good = GeneratorTried(True, True, deviation, draws=1 << 16, variance=1.0, shared=0.0, fit=0.0)
    contents[at:at] = [replace(good, **{name: figure})]  # type: ignore[arg-type]
    draft.rewrite(site, _renumbered(contents, at), keys.ledgers[site])
    draft.restate(site, keys.identities[site])
    return f"{site} trained although a trial of its generator had failed ({name}: {figure})."


def _renumbered(contents: list[Content], at: int) -> list[Content]:
    """What refers to an intent behind place `at`, where one more record stands now."""
    return [
        replace(one, intent=one.intent + 1)
        if isinstance(one, Charged | Sent) and one.intent >= at
        else one
        for one in contents
    ]


@kind("charge-hidden", *_LACKS, needs_keys=True)
def _charge_hidden(draft: Draft) -> str:
    site, keys = draft.some_site(), keys_of(draft)
    draft.rewrite(site, _without_last(draft.contents(site)), keys.ledgers[site])
    draft.restate(site, keys.identities[site])
    return f"{site} rewrote its ledger without its last charge, and signed it with its own key."


@kind("record-retouched", *_LACKS, needs_keys=True)
def _sent_changed(draft: Draft) -> str:
    site, keys = draft.some_site(), keys_of(draft)
    contents = draft.contents(site)
    sent = [place for place, one in enumerate(contents) if isinstance(one, Sent)]
    if not sent:
        raise NotHere("No vector has left.")
    at = draft.random.choice(sent)
    old = contents[at]
    if isinstance(old, Sent):
        contents[at] = replace(old, digest=draft.random.randbytes(32))
    draft.rewrite(site, contents, keys.ledgers[site])
    draft.restate(site, keys.identities[site])
    return f"{site} wrote down another vector than it has sent, and signed that."


@kind("sigma-lowered", Flaw.EVENT, needs_keys=True)
def _sigma(draft: Draft) -> str:
    return _event_changed(draft, "noise_multiplier", draft.random.uniform(1.01, 3.0))


@kind("event-cheaper", Flaw.EVENT, needs_keys=True)
def _cheaper(draft: Draft) -> str:
    return _event_changed(draft, "clipping_norm", draft.random.uniform(0.2, 0.9))


def _event_changed(draft: Draft, name: str, factor: float) -> str:
    """All charges of a site with another event, and the ledger signed by its own key."""
    import json

    site, keys = draft.some_site(), keys_of(draft)
    contents: list[Content] = []
    for one in draft.contents(site):
        if isinstance(one, Intent):
            values = json.loads(one.charge.event.to_json())
            values[name] *= factor
            event = event_from_json(json.dumps(values, sort_keys=True, separators=(",", ":")))
            one = replace(one, charge=replace(one.charge, event=event))
        contents.append(one)
    draft.rewrite(site, contents, keys.ledgers[site])
    draft.restate(site, keys.identities[site])
    return f"{site} wrote down {name} times {factor:.2f} in all its charges, and signed that."


def _with_key(contents: list[Content], key: Ed25519PrivateKey) -> list[Content]:
    public = key.public_key().public_bytes_raw()
    return [
        replace(one, public_key=public) if isinstance(one, Genesis) else one for one in contents
    ]


def _without_last(contents: list[Content]) -> list[Content]:
    """The contents before the newest intent, so that nothing refers to what is gone."""
    charged = [place for place, one in enumerate(contents) if isinstance(one, Intent)]
    if not charged or not any(isinstance(one, Charged) for one in contents[charged[-1] :]):
        raise NotHere("Nothing was charged last.")
    return contents[: charged[-1]]


def _fresh_key(draft: Draft) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(draft.random.randbytes(32))
