"""What a hospital's people see before they say yes: who, what is signed, what it costs. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from client.policy import SiteRules
from craftsfl.privacy_words import epsilon_text
from craftsfl.site.joining.sized_policy import StudyPrice
from privacy.budget import Budgets
from privacy.identity import fingerprint
from privacy.study.invitation import Invitation
from privacy.study.manifest import Study
from privacy.visible import marked, visible


def invitation_lines(invitation: Invitation, own: str) -> Iterator[str]:
    """Who invites whom to what, with every fingerprint."""
    roster, study = invitation.rosters.roster, invitation.study
    yield f"{roster.consortium} invites {own} to {study.name}, at {invitation.superlink}."
    yield f"You sign roster {roster.sequence}, whose fingerprint is {roster.fingerprint()}:"
    width = max(len(member.name) for member in roster.members)
    for member in roster.members:
        here = "  this hospital" if member.name == own else ""
        key = fingerprint(member.public_key)
        yield f"  {member.name:{width}}  {key}  {marked(member.organisation)}{here}"
    if study.pooled is not None:
        key = fingerprint(bytes.fromhex(study.pooled.coordinator_key))
        yield f"  the coordinator's key  {key}"
    yield from _study_lines(study)


def price_lines(
    rules: SiteRules, price: StudyPrice, at_end: Budgets, changes: Sequence[str]
) -> Iterator[str]:
    """What the study costs here, what the policy will be, and what is left after it."""
    policy, charges = rules.policy, rules.charges
    yield (
        f"It costs each patient here epsilon {epsilon_text(at_end.study.after)} at delta "
        f"{charges.charge.delta:g} at most: {charges.schedule}, each charged."
    )
    life = at_end.lifetime
    spent = f"{life.spent:.2f} is used, " if life.spent else ""
    yield (
        f"Of this hospital's lifetime budget, epsilon {policy.epsilon:g} at delta "
        f"{policy.delta:g}, {spent}{life.after:.2f} will be after it."
    )
    if changes:
        yield "policy.toml will allow more than before: " + "; ".join(changes) + "."
    else:
        room = price.studies
        plural = "one study" if room == 1 else f"{room} studies"
        yield f"policy.toml is sized for {plural} like this one, one after the other, and no more."


def _study_lines(study: Study) -> Iterator[str]:
    training, cohort = study.training, study.cohort
    unit = "steps" if study.pools_noise else "rounds"
    minutes = math.ceil(study.rounds * cohort.reply_slot / 60)
    yield (
        f"The study: {study.rounds} {unit} of {cohort.reply_slot:g} s, {minutes} min or more; "
        f"{len(study.sites)} hospitals, {study.smallest_cohort} at least in each sum; adapter of "
        f"rank {study.adapter.rank} on {visible(study.base.source, most=80)}, noise multiplier "
        f"{training.noise_multiplier:g}."
    )
    if study.pools_noise:
        others = study.privacy.noise_colluders
        yield (
            "Each hospital adds a share of one noise. The promise holds while no more than "
            f"{others} of the others tell{'s' if others == 1 else ''} the coordinator "
            f"{'its' if others == 1 else 'their'} share."
        )
    yield f"Its digest: {study.digest().hex()}"
