"""From `site.toml` to an agent that is ready: cheap checks first, then data, then the model."""

from __future__ import annotations

import logging
import shlex
from dataclasses import dataclass
from pathlib import Path

from client.agent.masking import Membership
from client.agent.own_ledger import KeyedIdentity, passphrase
from client.policy import SiteRules
from client.settings import IdentitySettings, SiteSettings, load_policy, load_site
from privacy.error_ids import ErrorId
from privacy.errors import ConfigError, SecAggError
from privacy.identity import Identity, load_identity
from privacy.ledger import Charge
from privacy.secagg.chain import AgreedRoster
from privacy.secagg.offer import withstood
from privacy.study.agreement import roster_agreed
from privacy.study.manifest import Study, load_study

_log = logging.getLogger("craftsfl.agent")


@dataclass(frozen=True, slots=True)
class RuledSite:
    """The hospital's settings, and the rules that study and policy make for it. Holds no key."""

    settings: SiteSettings
    rules: SiteRules


@dataclass(frozen=True, slots=True)
class LoadedSite(RuledSite):
    """The same, and who the site is."""

    membership: Membership
    roster: AgreedRoster  # it may lack signatures, which then come by messages

    @property
    def own(self) -> KeyedIdentity | None:
        """The identity to which the site's ledger is bound."""
        named = self.settings.identity
        return None if named is None else KeyedIdentity(self.membership.identity, named.key)

    @property
    def charge(self) -> Charge:
        """What every attempt of the study costs."""
        return self.rules.charges.charge


def load_rules(site_toml: Path) -> RuledSite:
    """Read settings, study and policy, and no key; raises `ConfigError` or `PolicyError`."""
    settings = load_site(site_toml)
    for path in (settings.study, settings.policy):
        if not path.exists():
            file = shlex.quote(str(site_toml))
            raise ConfigError(
                f"{path} does not exist: this hospital has joined no study yet.",
                f"The operator's invitation brings it: craftsfl site join {file} INVITATION. "
                "If it was there before, restore it.",
                id=ErrorId.SETTINGS_MISSING,
            )
    rules = SiteRules(settings.name, load_study(settings.study), load_policy(settings.policy))
    return RuledSite(settings, rules)


def load(site_toml: Path) -> LoadedSite:
    """Read and check settings, study, policy, key and roster: all that is cheap.

    Raises `ConfigError`, `PolicyError`, `SecAggError` or `AccountingError`.
    """
    found = load_rules(site_toml)
    settings, rules = found.settings, found.rules
    _check_confirmed(settings)
    rules.check()
    rules.check_budget()
    if rules.mechanism.event.no_privacy:
        _log.warning("NO PRIVACY: this study adds no noise, and the policy allows it.")
    membership, roster = _membership(settings, rules)
    return LoadedSite(settings, rules, membership, roster)


def _check_confirmed(settings: SiteSettings) -> None:
    """Raise `ConfigError` unless a person has confirmed the patient ids, whatever they are.

    A refusal that depended on the ids would let one patient's id decide, for everyone to see.
    """
    if not settings.data.patient_ids_confirmed:
        raise ConfigError(
            "Nobody has confirmed yet that patient_id names persons at this site.",
            "Privacy is promised per patient_id, not per person. Look at what "
            "`craftsfl site suspicions site.toml` finds; then set patient_ids_confirmed = true in "
            "the [data] table of site.toml.",
            id=ErrorId.PERSONS_UNCONFIRMED,
        )


def _membership(settings: SiteSettings, rules: SiteRules) -> tuple[Membership, AgreedRoster]:
    """The site's identity and its roster. Raises `ConfigError` or `SecAggError`."""
    own = settings.identity
    if own is None:
        raise ConfigError(
            "The study needs secure aggregation, and site.toml has no [identity] table.",
            "Make a key with craftsfl site init, and name it and the signed roster there.",
        )
    identity = load_identity(own.key, passphrase(own.passphrase_file))
    found = roster_agreed(rules.study, own.roster)
    membership = Membership(identity, found.roster)
    membership.check(rules)
    check_own_signature(found, identity, own)
    _say_what_holds(rules.study)
    return membership, found


def check_own_signature(found: AgreedRoster, identity: Identity, own: IdentitySettings) -> None:
    """Raise `SecAggError` for a roster that lacks signatures, this site's own among them.

    Others' come by messages; its own is a person's to give.
    """
    if found.lacking and found.may_sign(identity.public) and not found.signed_by(identity.public):
        raise SecAggError(
            f"The roster of {found.roster.consortium} has {len(found.newest.signatures)} of "
            f"{found.voters.quorum} signatures, and lacks this site's own.",
            "Look at it, compare its fingerprint by phone, and sign it: craftsfl rounds roster "
            f"sign {shlex.quote(str(own.roster))} --key {shlex.quote(str(own.key))}",
        )


def _say_what_holds(study: Study) -> None:
    """Whom the study's masks and noise withstand, for the site's own log."""
    sites, planned = len(study.sites), study.privacy.noise_colluders
    if study.pools_noise:
        _log.info(
            "A sum is of %d to %d sites, and its noise is the sum of their shares. It is what the "
            "study says against the coordinator with up to %d of the others (noise_colluders): "
            "ask yourself whether more of them would side with it.",
            *(study.smallest_cohort, sites, planned),
        )
        return
    _log.info(
        "A sum is of %d to %d sites. Of the others %d may side with the coordinator and the masks "
        "hold; this site adds all of its own noise, so its noise holds against any number%s.",
        *(study.smallest_cohort, sites, withstood(study.smallest_cohort, sites)),
        f" (noise_colluders = {planned})" if planned else "",
    )
