"""From `site.toml` to an agent that is ready: cheap checks first, then data, then the model."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from client.agent.boundary import silence_libraries
from client.agent.masking import Membership
from client.agent.own_ledger import KeyedIdentity, passphrase
from client.agent.state import StateFolder
from client.data import SiteData, commonest, load_site_data, write_quarantine
from client.patients import Patients
from client.policy import SiteRules
from client.settings import SiteSettings, load_policy, load_site
from model.importing import quick_imports
from privacy.error_ids import ErrorId
from privacy.errors import ConfigError, PolicyError
from privacy.identity import load_identity
from privacy.ledger import Charge
from privacy.secagg.offer import withstood
from privacy.study.agreement import roster_in_force
from privacy.study.manifest import load_study

if TYPE_CHECKING:
    from client.training import ResidentTrainer

_log = logging.getLogger("craftsfl.agent")


@dataclass(frozen=True, slots=True)
class LoadedSite:
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
        return self.rules.charges.charge


OnEncoded = Callable[[int, int], None]  # tiles done, of all
TrainerFactory = Callable[[LoadedSite, SiteData, StateFolder, OnEncoded], "ResidentTrainer"]


def load(site_toml: Path) -> LoadedSite:
    """Read and check settings, study, policy, key and roster: all that is cheap.

    Raises `ConfigError`, `PolicyError`, `SecAggError` or `AccountingError`.
    """
    settings = load_site(site_toml)
    _check_confirmed(settings)
    rules = SiteRules(settings.name, load_study(settings.study), load_policy(settings.policy))
    rules.check()
    rules.check_budget()
    if rules.mechanism.event.no_privacy:
        _log.warning("NO PRIVACY: this study adds no noise, and the policy allows it.")
    return LoadedSite(settings, rules, _membership(settings, rules))


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
    study = rules.study
    sites, planned = len(study.sites), study.privacy.noise_colluders
    _log.info(
        "A sum is of %d to %d sites. Of the others %d may side with the coordinator and the masks "
        "hold; this site adds all of its own noise, so its noise holds against any number%s.",
        *(study.smallest_cohort, sites, withstood(study.smallest_cohort, sites)),
        f" (noise_colluders = {planned})" if planned else "",
    )
    return membership


def load_data(site: LoadedSite, state: StateFolder, patients: Patients) -> SiteData:
    """The usable tiles of those who did not withdraw; `lines` and `patients` cover everyone.

    Lists the other tiles in the state folder, and warns at the site of whatever a person there
    should look at. Nothing in rows or files stops the start, not even their absence: others would
    see it. Raises `DataError` where the folder or its table as a whole cannot be read.
    """
    data = load_site_data(site.settings.data.folder, lines_of=patients.lines_of)
    write_quarantine(state.quarantine, data.quarantined)
    left = data.without(patients.register.withdrawn())
    for warning in _warnings(site, data, state, patients):
        _log.warning("%s.", warning)
    gone = data.patients - len({tile.patient for tile in left.tiles})
    _log.info(
        "%d tiles of %d patients can be used%s.",
        *(len(left.tiles), data.patients - gone, f"; withdrawn: {gone}" if gone else ""),
    )
    return left


def _warnings(
    site: LoadedSite, data: SiteData, state: StateFolder, patients: Patients
) -> Iterator[str]:
    """What a person at this site should look at; names no patient, and is logged only here."""
    if not data.tiles:
        reason = commonest(data.quarantined).rstrip(".")
        yield f"NO TILE CAN BE USED; this site adds noise alone. {reason}"
    if data.doubt:
        yield (
            f"patient_ids_confirmed: {data.doubt}. EACH ID COUNTS AS ONE PERSON; one with several "
            "is protected that much less"
        )
    if data.quarantined:
        yield (
            f"Entries of the data folder that are not used: {len(data.quarantined)}; "
            f"{state.quarantine} says which and why"
        )
    if cohort := site.rules.cohort_doubt(data.patients):
        yield (
            f"THE DECLARED COHORT DOES NOT FIT: {cohort}. Have the declared size corrected in the "
            "next study; this one goes on with it"
        )
    yield from _about_sharing(data, patients)


def _about_sharing(data: SiteData, patients: Patients) -> Iterator[str]:
    """Of those who can be drawn: who shares pictures with others, and with people who withdrew."""
    out = patients.register.withdrawn()
    drawn = set(data.lines) - out
    sets = [each.patients for each in patients.register.shared() if each.patients & drawn]
    if sets:
        sharing = frozenset().union(*sets) & drawn
        left = frozenset().union(*(those for those in sets if those & out)) & drawn
        yield (
            f"Pictures of {len(sharing)} patients stand under other ids too"
            + (f", those of {len(left)} under ids of patients who WITHDREW" if left else "")
            + "; craftsfl site suspicions tells which"
        )


def load_trainer(
    site: LoadedSite, data: SiteData, state: StateFolder, on_encoded: OnEncoded
) -> ResidentTrainer:
    """The base model by its digest, the encoded tiles, and the trainer over both, all resident.

    Raises `ModelError` for a missing or altered base or encoder, or a device on which one
    patient's rows change another's gradient, and `PolicyError` for too large an adapter.
    """
    # Imported late: they take seconds, and a mistake in a file is reported first.
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
    trainer.prove_isolation()
    return trainer
