"""From `site.toml` to an agent that is ready: cheap checks first, then data, then the model."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from client.agent.boundary import silence_libraries
from client.agent.budget import lifetime_filter
from client.agent.masking import Membership
from client.agent.own_ledger import KeyedIdentity, passphrase
from client.agent.state import StateFolder
from client.data import SiteData, load_site_data, write_quarantine
from client.patients import Patients
from client.policy import SiteRules
from client.settings import SiteSettings, load_policy, load_site
from model.importing import quick_imports
from privacy.accounting import check_delta
from privacy.accounting.composition import MAX_COMPOSED_STEPS
from privacy.errors import AccountingError, ConfigError, PolicyError
from privacy.events import event_of
from privacy.identity import load_identity
from privacy.ledger import Charge, Ledger
from privacy.manifest import Study, load_study
from privacy.secagg.agreement import roster_in_force

if TYPE_CHECKING:
    from client.training import ResidentTrainer

_log = logging.getLogger("craftsfl.agent")


@dataclass(frozen=True, slots=True)
class Site:
    """The hospital's settings, and the rules that study and policy make for it."""

    settings: SiteSettings
    rules: SiteRules
    membership: Membership

    @property
    def own(self) -> KeyedIdentity | None:
        """The identity to which the site's ledger is bound."""
        named = self.settings.identity
        return None if named is None else KeyedIdentity(self.membership.identity, named.key)

    @property
    def charge(self) -> Charge:
        """What every attempt of the study costs."""
        study = self.rules.study
        return Charge(study.digest(), event_of(study), study.privacy.delta)


OnProgress = Callable[[int, int], None]  # tiles done, of all
TrainerFactory = Callable[[Site, SiteData, StateFolder, OnProgress], "ResidentTrainer"]


def load(site_toml: Path) -> Site:
    """Read and check settings, study, policy, key and roster: all that is cheap.

    Raises `ConfigError`, `PolicyError`, `SecAggError` or `AccountingError`.
    """
    settings = load_site(site_toml)
    rules = SiteRules(settings.name, load_study(settings.study), load_policy(settings.policy))
    rules.check()
    check_delta(rules.study.privacy.delta, rules.declared_patients)
    rules.check_lifetime_delta()
    check_schedule(rules.study)
    if rules.policy.across_studies == "rdp-filter":
        lifetime_filter(rules.policy)  # refuses an order at which nothing fits
    if rules.study.training.noise_multiplier == 0:
        _log.warning("NO PRIVACY: this study adds no noise, and the policy allows it.")
    return Site(settings, rules, _membership(settings, rules))


def _membership(settings: SiteSettings, rules: SiteRules) -> Membership:
    """The site's identity and the roster in force. Raises `ConfigError` or `SecAggError`."""
    if not rules.study.masked:
        raise PolicyError(
            f"The study {rules.study.name} is a plain one: the coordinator would see this site's "
            "own update.",
            'Such studies run in one process only. Ask for secure_aggregation = "required".',
        )
    own = settings.identity
    if own is None:
        raise ConfigError(
            "The study needs secure aggregation, and site.toml has no [identity] table.",
            "Make a key with craftsfl site init, and name it and the signed roster there.",
        )
    identity = load_identity(own.key, passphrase(own.passphrase_file))
    membership = Membership(identity, roster_in_force(rules.study, own.roster))
    membership.check(rules)
    return membership


def check_schedule(study: Study) -> None:
    """Raise `AccountingError` for a schedule that nobody could account for to its end."""
    steps = event_of(study).steps * study.rounds * study.privacy.attempts
    if steps > MAX_COMPOSED_STEPS:
        raise AccountingError(
            f"The study has {steps} steps, all rounds and attempts together; more than "
            f"{MAX_COMPOSED_STEPS} cannot be accounted for.",
            "Correct the study.",
        )


def check_other_studies(rules: SiteRules, ledger: Ledger) -> None:
    """Raise `PolicyError` if this study's delta no longer fits beside those already journalled."""
    own = rules.study.digest()
    charges = (entry.charge for entry in ledger.entries())
    others = {charge.study_digest: charge.delta for charge in charges}
    others.pop(own, None)
    rules.check_delta(sum(others.values()))


def load_data(site: Site, state: StateFolder, patients: Patients) -> SiteData:
    """The usable tiles of those who did not withdraw; `lines` and `patients` tell of all.

    Lists the other tiles in the state folder, and logs only their count. Raises `DataError`, and
    `ConfigError` for another number of patients than was declared: those who withdrew count, so
    that a withdrawal changes nothing that others can see.
    """
    asked = site.settings.data
    data = load_site_data(
        asked.folder, lines_of=patients.lines_of, ids_confirmed=asked.patient_ids_confirmed
    )
    if data.doubt:
        _log.warning(
            "patient_ids_confirmed: %s. EACH ID COUNTS AS ONE PERSON; one with several ids is "
            "protected that much less.",
            data.doubt,
        )
    write_quarantine(state.quarantine, data.quarantined)
    if data.quarantined:
        _log.warning(
            "Entries of the data folder that are not used: %d; %s says which and why.",
            *(len(data.quarantined), state.quarantine),
        )
    site.rules.check_patients(data.patients)
    left = data.without(patients.register.withdrawn())
    gone = data.patients - len({tile.patient for tile in left.tiles})
    _log.info(
        "%d tiles of %d patients can be used%s.",
        *(len(left.tiles), data.patients - gone, f"; withdrawn: {gone}" if gone else ""),
    )
    return left


def load_trainer(
    site: Site, data: SiteData, state: StateFolder, on_encoded: OnProgress
) -> ResidentTrainer:
    """The base model by its digest, the encoded tiles, and the trainer over both, all resident.

    Raises `ModelError` for a missing or altered base or encoder, `PolicyError` for too large an
    adapter.
    """
    # Imported late: they take seconds, and a mistake in a file is told before.
    with quick_imports():
        from client.training import LocalTrainer, encode_site, reference_of
        from model.base import load_base
        from model.cache import find_base
        from model.devices import pick_device

        silence_libraries()
        study = site.rules.study
        folder = find_base(study.base, root=site.settings.study.parent)
        # diffusers and transformers import most of what they need when it is first used.
        pipeline = load_base(folder, pick_device(site.settings.agent.device))
    tiles = encode_site(
        pipeline,
        data,
        base_digest=study.base.digest,
        reference=reference_of(study, pipeline, root=site.settings.study.parent),
        cache=state.cache,
        on_progress=on_encoded,
    )
    trainer = LocalTrainer(study, site.rules.name, pipeline, tiles)
    site.rules.check_parameters(trainer.layout.parameters)
    return trainer
