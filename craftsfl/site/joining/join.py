"""`craftsfl site join`: what an invitation asks of a hospital, and its people's yes.

Order, each step refusing before the next one looks: is the hospital's own key in it, under its own
name; does the fingerprint match what was read out on the phone; does it follow what was joined
before; may the study be, within what is left of the budget. Then everything is shown, and only a
person's yes writes and signs. Nothing of it talks to the coordinator.
"""

# Why: docs/adr/0057-first-hour.md

from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from client.agent.own_ledger import read_own_ledger
from client.agent.state import StateFolder
from client.policy import SiteRules, limits_of
from client.settings import Policy, SiteSettings, load_policy, load_site
from craftsfl.passphrase import identity_in
from craftsfl.site.joining.authority import check_authority
from craftsfl.site.joining.earlier import put_away
from craftsfl.site.joining.own_files import AUTHORITY, with_confirmed_ids, with_gateway
from craftsfl.site.joining.shown import invitation_lines, price_lines
from craftsfl.site.joining.sized_policy import (
    StudyPrice,
    loosened,
    policy_text,
    sized_policy,
)
from craftsfl.site.whose import READ_BY_BOTH
from model.cache import find_base
from privacy.budget import Book, cannot_end, to_its_end, whole_figures
from privacy.error_ids import ErrorId
from privacy.errors import ConfigError, ModelError, PolicyError
from privacy.files import write_public
from privacy.identity import Identity, fingerprint
from privacy.ledger import Entry
from privacy.secagg.chain import AgreedRoster, read_rosters, write_rosters
from privacy.study.invitation import Invitation

_FINGERPRINT_DIGITS: Final = 30


@dataclass(frozen=True, slots=True)
class JoinOptions:
    """What was typed. `lifetime`: the epsilon of all studies together; None: what is proposed."""

    invitation: Invitation
    expected: str = ""  # the fingerprint that was read out on the phone
    lifetime: float | None = None
    ids_confirmed: bool = False


@dataclass(frozen=True, slots=True)
class JoinDesk:
    """How a person is told and asked. `scripted`: nobody is there, every answer is yes."""

    say: Callable[[str], None]
    confirm: Callable[[str], bool]
    ask: Callable[[str], str]
    scripted: bool = False


def join_study(settings_file: Path, options: JoinOptions, desk: JoinDesk) -> bool:
    """Join the study of an invitation; whether the hospital's people said yes.

    Raises `CraftsflError`, and has then changed nothing.
    """
    site = load_site(settings_file)
    if site.identity is None:
        raise ConfigError(
            f"{settings_file} has no [identity] table.", "Begin with craftsfl site init."
        )
    invitation = options.invitation
    identity = identity_in(site.identity.key)
    _check_own_key(site, identity, invitation)
    _check_fingerprint(options.expected, invitation, desk)
    check_authority(invitation.authority, datetime.datetime.now(datetime.UTC))
    roster = _continued(site.identity.roster, invitation.rosters)
    proposal = _proposed(site, invitation, options.lifetime)
    for line in invitation_lines(invitation, site.name):
        desk.say(line)
    for line in proposal.lines():
        desk.say(line)
    _say_if_base_is_missing(site, invitation, desk)
    if not _ids_confirmed(site, options, desk, proposal.rules):
        return False
    if not desk.confirm("Sign this roster, and take part in this study?"):
        desk.say("Nothing was changed.")
        return False
    _keep(settings_file, site, invitation, proposal.text())
    write_rosters(site.identity.roster, _signed(roster, identity).chain)  # last: now it counts
    return True


def _check_own_key(site: SiteSettings, identity: Identity, invitation: Invitation) -> None:
    """Raise `ConfigError` unless the invitation is for this hospital and its key."""
    roster = invitation.rosters.roster
    member, own = roster.member_named(site.name), fingerprint(identity.public)
    if member is None:
        names = ", ".join(one.name for one in roster.members)
        raise _foreign(
            f"This invitation is not for {site.name}: its roster lists {names}.",
            "Send the operator your card, and ask for the invitation that is made with it.",
        )
    if member.public_key != identity.public:
        raise _foreign(
            f"This invitation lists another key for {site.name}: "
            f"{fingerprint(member.public_key)}. This hospital's is {own}.",
            "Somebody else may have sent a card in your name. Tell the operator on the phone, and "
            "read your fingerprint out.",
        )
    if invitation.study.site(site.name) is None:
        names = ", ".join(one.name for one in invitation.study.sites)
        raise _foreign(
            f"The study {invitation.study.name} does not list {site.name}; it lists {names}.",
            "Ask the operator for the invitation to a study that lists you.",
        )


def _check_fingerprint(expected: str, invitation: Invitation, desk: JoinDesk) -> None:
    """Raise `ConfigError` unless the digits from the phone are the file's."""
    given = expected or desk.ask(
        "The invitation's fingerprint, as the operator reads it out on the phone"
    )
    count = len(_digits(given))
    if count != _FINGERPRINT_DIGITS:
        raise ConfigError(
            f"A fingerprint has {_FINGERPRINT_DIGITS} digits, and {count} were given.",
            "Have the operator read it out on the phone: six groups of five digits, as craftsfl "
            "rounds add has printed it.",
            id=ErrorId.FINGERPRINT_DIFFERS,
        )
    if _digits(given) != _digits(invitation.fingerprint()):
        raise ConfigError(
            "This invitation's fingerprint is not the one from the phone.",
            "Look for a typing mistake first. If it stays so, the file was changed on its way: "
            "tell the operator, and have it sent another way.",
            id=ErrorId.FINGERPRINT_DIFFERS,
        )


def _digits(text: str) -> str:
    return "".join(letter for letter in text if letter in "0123456789")


def _continued(file: Path, invited: AgreedRoster) -> AgreedRoster:
    """The invitation's rosters, with signatures that this hospital has already.

    Raises `ConfigError` for rosters that do not continue those that it has.
    """
    if not file.exists():
        return invited
    own, new = read_rosters(file), invited.chain
    known = [one.roster.digest() for one in own]
    offered = [one.roster.digest() for one in new]
    if known == offered:
        return invited.with_signatures(own[-1].signatures)
    if offered == known[: len(offered)]:
        raise _foreign(
            f"This invitation is older than roster {own[-1].roster.sequence}, which this hospital "
            "has.",
            "Ask the operator for the newest invitation.",
        )
    if known != offered[: len(known)]:
        raise _foreign(
            f"This invitation's rosters do not continue those of {own[-1].roster.consortium}, "
            "which this hospital has.",
            "One hospital's folder belongs to one consortium. If nothing was ever signed in "
            f"earnest, move {file} away; for another consortium, make another folder.",
        )
    return invited


@dataclass(frozen=True, slots=True)
class _Proposal:
    rules: SiteRules
    price: StudyPrice
    before: Policy | None
    entries: tuple[Entry, ...]

    def lines(self) -> Iterator[str]:
        policy = self.rules.policy
        changes = () if self.before is None else loosened(self.before, policy)
        charges = self.rules.charges
        book = Book.of(self.entries)
        at_end = to_its_end(charges, book.allowance(limits_of(policy), charges.charge))
        yield from price_lines(self.rules, self.price, at_end, changes)

    def text(self) -> str:
        return policy_text(self.rules.policy, self.rules.study)


def _proposed(site: SiteSettings, invitation: Invitation, lifetime: float | None) -> _Proposal:
    """A policy that admits the study, checked as the agent will. Raises `CraftsflError`."""
    study = invitation.study
    own = study.site(site.name)
    price = StudyPrice.of(study, 1 if own is None else own.declared_patients)
    before = load_policy(site.policy) if site.policy.exists() else None
    view = read_own_ledger(StateFolder(site.agent.state), site)
    entries = tuple(view.entries()) if view is not None else ()
    wanted = lifetime
    if wanted is None:
        wanted = price.lifetime(price.studies) if before is None else before.epsilon
    if not math.isfinite(wanted):
        raise PolicyError(
            f"The study {study.name} adds no noise, or so little that no budget holds it.",
            "Ask the operator for a study that craftsfl rounds plan has planned.",
        )
    if wanted < price.epsilon:
        raise PolicyError(
            f"The study {study.name} costs each patient epsilon {price.epsilon:.2f} at most, and "
            f"the lifetime budget would be {wanted:g}.",
            "Ask the operator for a study that costs less; or decide on a larger budget: "
            "--lifetime-epsilon.",
        )
    policy = sized_policy(study, price, wanted, before)
    rules = SiteRules(site.name, study, policy)
    rules.check()
    rules.check_budget()
    rules.check_other_studies(entries)
    charges = rules.charges
    allowance = Book.of(entries).allowance(limits_of(policy), charges.charge)
    over = cannot_end(charges, allowance)
    if over is not None:
        raise PolicyError(
            f"The study {study.name} does not fit into what is left: "
            f"{whole_figures(charges, over)}.",
            _what_would_fit(price, policy, over.lifetime.spent),
        )
    return _Proposal(rules, price, before, entries)


def _what_would_fit(price: StudyPrice, policy: Policy, spent: float) -> str:
    left = max(0.0, policy.epsilon - spent)
    return (
        f"Of epsilon {policy.epsilon:g} for this hospital's patients {left:.2f} is left: ask the "
        f"operator for a study that costs less than this one's {price.epsilon:.2f}. Only if the "
        "hospital decides on a larger lifetime budget: --lifetime-epsilon."
    )


def _say_if_base_is_missing(site: SiteSettings, invitation: Invitation, desk: JoinDesk) -> None:
    """Whether the study's base is on this machine; only a person gets it, never the agent."""
    try:
        find_base(invitation.study.base, root=site.study.parent, verify=False)
    except ModelError as error:
        desk.say(f"Before you serve: {error.message} {error.hint}")


def _ids_confirmed(
    site: SiteSettings, options: JoinOptions, desk: JoinDesk, rules: SiteRules
) -> bool:
    """Whether a person says that one id is one person; asked once."""
    from client.data import load_site_data

    if site.data.patient_ids_confirmed:
        return True
    data = load_site_data(site.data.folder)
    desk.say(
        f"{site.data.folder} has {len(data.tiles)} tiles of {data.patients} patients; "
        f"{len(data.quarantined)} entries cannot be used."
    )
    doubt = rules.cohort_doubt(data.patients)
    if doubt:
        desk.say(f"{doubt}. Tell the operator before you join.")
    if data.doubt:
        desk.say(f"About patient_id: {data.doubt}. craftsfl site suspicions shows more.")
    if options.ids_confirmed:
        return True
    if data.doubt and desk.scripted:  # a script's yes is no answer to a doubt
        raise ConfigError(
            f"patient_id may not name patients: {data.doubt}.",
            "Look at it: craftsfl site suspicions. If the ids are patients' nevertheless: "
            "--patient-ids-confirmed.",
            id=ErrorId.PERSONS_UNCONFIRMED,
        )
    question = "Privacy is promised per patient_id. Does each name one person, with no other id?"
    if not desk.confirm(question):
        desk.say("Correct the table first; nothing was changed.")
        return False
    return True


def _keep(settings_file: Path, site: SiteSettings, invitation: Invitation, policy: str) -> None:
    """Write what the invitation brought; earlier versions of what it replaces are kept."""
    text = settings_file.read_text("utf-8")
    put_away(site.study, [site.study, site.policy])
    named = None if site.gateway is None else site.gateway.root_certificates
    authority = named or settings_file.absolute().parent / AUTHORITY
    if site.gateway is not None and invitation.authority:
        write_public(authority, invitation.authority.encode("utf-8"))
    write_public(site.study, invitation.study_text.encode("utf-8"))
    write_public(site.policy, policy.encode("utf-8"))
    text = with_gateway(text, invitation.superlink, authority=bool(invitation.authority))
    write_public(settings_file, with_confirmed_ids(text).encode("utf-8"))
    if site.agent.user is not None:  # the gateway's user reads them, whatever the umask
        for file in filter(Path.exists, (settings_file, authority)):
            file.chmod(READ_BY_BOTH)


def _signed(roster: AgreedRoster, identity: Identity) -> AgreedRoster:
    """With this hospital's signature, if it is among those who sign."""
    if not roster.may_sign(identity.public) or roster.signed_by(identity.public):
        return roster
    signature = identity.sign(roster.roster.digest())
    return roster.with_signatures([(identity.public, signature)])


def _foreign(message: str, hint: str) -> ConfigError:
    return ConfigError(message, hint, id=ErrorId.INVITATION_UNUSABLE)
