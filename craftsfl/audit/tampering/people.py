"""What people say and sign: rosters, statements, the end of a run."""

from __future__ import annotations

from dataclasses import replace

from craftsfl.audit.tampering.draft import Draft
from craftsfl.audit.tampering.files import flipped
from craftsfl.audit.tampering.kinds import NotHere, keys_of, kind
from privacy.audit.evidence import ROSTERS_FILE, RunEnd
from privacy.audit.faults import Flaw
from privacy.identity import Identity
from privacy.secagg.chain import decode_rosters, encode_rosters
from privacy.secagg.roster import add_signature, propose_roster


@kind("roster-foreign", Flaw.ROSTER_PIN)
def _roster_foreign(draft: Draft) -> str:
    old = decode_rosters(draft.files[ROSTERS_FILE])[0].roster
    own = {member.name: _fresh(draft) for member in old.members}
    members = [replace(one, public_key=own[one.name].public) for one in old.members]
    signed = propose_roster(members, old.quorum, consortium=old.consortium)
    for identity in own.values():
        signed = add_signature(signed, identity, None)
    draft.files[ROSTERS_FILE] = encode_rosters([signed])
    return "The roster was replaced by one with other keys, which they have all signed."


@kind("roster-unsigned", Flaw.ROSTER_SIGNATURES)
def _roster_unsigned(draft: Draft) -> str:
    chain = list(decode_rosters(draft.files[ROSTERS_FILE]))
    first = chain[0]
    few = draft.random.sample(first.signatures, first.roster.quorum - 1)
    chain[0] = replace(first, signatures=tuple(sorted(few)))
    draft.files[ROSTERS_FILE] = encode_rosters(chain)
    return "The first roster lost signatures, and has no quorum."


@kind("roster-forged", Flaw.ROSTER_SIGNATURES)
def _roster_forged(draft: Draft) -> str:
    chain = list(decode_rosters(draft.files[ROSTERS_FILE]))
    key, signature = chain[0].signatures[0]
    forged = (key, flipped(draft, signature))
    chain[0] = replace(chain[0], signatures=(forged, *chain[0].signatures[1:]))
    draft.files[ROSTERS_FILE] = encode_rosters(chain)
    return "A signature of the first roster was forged."


@kind("statement-dropped", Flaw.STATEMENT)
def _statement_dropped(draft: Draft) -> str:
    del draft.files[f"sites/{draft.some_site()}/statement.json"]
    return f"What {draft.site} says of its budget was left out."


@kind("claim-lowered", Flaw.STATEMENT)
def _claim_lowered(draft: Draft) -> str:
    site = draft.some_site()
    said = draft.statement(site)
    lower = replace(said.statement, epsilon=said.statement.epsilon * draft.random.uniform(0.1, 0.9))
    draft.files[f"sites/{site}/statement.json"] = replace(said, statement=lower).encode()
    return f"The ε that {site} claims was lowered; its signature is as it was."


@kind("claim-lowered-and-signed", Flaw.EPSILON, needs_keys=True)
def _claim_signed(draft: Draft) -> str:
    site = draft.some_site()
    said = draft.statement(site).statement
    lower = replace(said, epsilon=said.epsilon * draft.random.uniform(0.1, 0.999))
    draft.say(site, lower, keys_of(draft).identities[site])
    return f"{site} claims less than its events cost, and has signed that."


@kind("budget-exceeded", Flaw.BUDGET, needs_keys=True)
def _budget_exceeded(draft: Draft) -> str:
    site = draft.some_site()
    said = draft.statement(site).statement
    limits = replace(said.limits, study_epsilon=said.epsilon * draft.random.uniform(0.1, 0.999))
    draft.say(site, replace(said, limits=limits), keys_of(draft).identities[site])
    return f"The budget that {site} has signed is below what it has charged."


@kind("lifetime-delta-raised", Flaw.BUDGET, needs_keys=True)
def _delta_raised(draft: Draft) -> str:
    """At a large δ any ε is small: the site's own limits say at which one its budget holds."""
    site = draft.some_site()
    said = draft.statement(site).statement
    limits = replace(said.limits, delta=draft.random.uniform(1e-4, 0.9))
    draft.say(site, replace(said, limits=limits), keys_of(draft).identities[site])
    return f"{site} states its budget for all studies at δ = {limits.delta:.2g}."


@kind("statement-of-another", Flaw.STATEMENT)
def _statement_of_another(draft: Draft) -> str:
    one, other = draft.random.sample([site.name for site in draft.study.sites], 2)
    draft.site = one
    names = f"sites/{one}/statement.json", f"sites/{other}/statement.json"
    draft.files[names[0]] = draft.files[names[1]]
    return f"{one} says what {other} has said."


@kind("epsilon-of-study-lowered", Flaw.EPSILON)
def _whole_lowered(draft: Draft) -> str:
    record = draft.record()
    draft.put_record(replace(record, epsilon=record.epsilon * draft.random.uniform(0.1, 0.999)))
    return "A smaller ε is claimed for the whole study."


@kind("confirmation-forged", Flaw.CLOSING)
def _confirmation_forged(draft: Draft) -> str:
    name = draft.run_file("closing.bin")
    if name not in draft.files:
        raise NotHere("The run has no end.")
    end = RunEnd.decode(draft.files[name])
    place = draft.random.randrange(len(end.confirmed))
    site, signature = end.confirmed[place]
    member = draft.roster.member(site)
    draft.site = "" if member is None else member.name
    words = list(end.confirmed)
    words[place] = (site, flipped(draft, signature))
    draft.files[name] = replace(end, confirmed=tuple(words)).encode()
    return f"That {draft.site} has come to the same adapter was forged."


@kind("end-changed", Flaw.CLOSING)
def _end_changed(draft: Draft) -> str:
    name = draft.run_file("closing.bin")
    if name not in draft.files:
        raise NotHere("The run has no end.")
    end = RunEnd.decode(draft.files[name])
    other = replace(end.close, published=flipped(draft, end.close.published))
    draft.files[name] = replace(end, close=other).encode()
    return "The coordinator's last word names another adapter."


def _fresh(draft: Draft) -> Identity:
    return Identity.from_seed(draft.random.randbytes(32))
