"""From `site.toml` to a trainer that can train: data first, then the model. In the trainer."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING

from client.agent.boundary import silence_libraries
from client.agent.startup import RuledSite
from client.agent.state import StateFolder
from client.agent.withdrawals import ConsentingTrainer
from client.data import SiteData, commonest, load_site_data, write_quarantine
from client.patients import Patients, open_patients
from client.trainer.serving import OnEncoded
from model.importing import quick_imports

if TYPE_CHECKING:
    from client.training import ResidentTrainer

TrainerFactory = Callable[[RuledSite, SiteData, StateFolder, OnEncoded], "ResidentTrainer"]

_log = logging.getLogger("craftsfl.agent")


def load_consenting(
    site: RuledSite,
    state: StateFolder,
    on_encoded: OnEncoded,
    stack: ExitStack,
    make: TrainerFactory | None = None,
) -> ConsentingTrainer:
    """The site's trainer, which consults the patients' register until `stack` is closed.

    `make` makes the resident one; it is `load_trainer` unless given. Raises as `load_data` and
    `make` do, and `LedgerError` where the register cannot be used.
    """
    patients = stack.enter_context(open_patients(state.path))
    data = load_data(site, state, patients)
    resident = (make or load_trainer)(site, data, state, on_encoded)
    return ConsentingTrainer(resident, data, patients, state.cache)


def load_data(site: RuledSite, state: StateFolder, patients: Patients) -> SiteData:
    """The usable tiles of those who did not withdraw; numbers and `lines` cover everyone.

    Lists the other tiles in the state folder, and warns at the site of whatever a person there
    should look at. Nothing in rows or files stops the start, not even their absence: others would
    see it. Raises `DataError` where the folder or its table as a whole cannot be read.
    """
    data = load_site_data(
        site.settings.data.folder, lines_of=patients.lines_of, line_of=patients.standing
    )
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
    site: RuledSite, data: SiteData, state: StateFolder, patients: Patients
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
    yield from _about_places(site, data)
    yield from _about_sharing(data, patients)


def _about_places(site: RuledSite, data: SiteData) -> Iterator[str]:
    """Where every patient has a place in every step, there are as many places as declared."""
    study, places = site.rules.study, site.rules.declared_patients
    over = data.enrolled - places
    if study.pools_noise and over > 0:
        yield (
            f"THE LAST {over} OF {data.enrolled} PATIENTS IN THE TABLE TAKE NO PART: the study "
            f"declares {places} for {site.rules.name}, and has as many places in a step. Have the "
            "declared size corrected in the next study"
        )


def _about_sharing(data: SiteData, patients: Patients) -> Iterator[str]:
    """Of those who can be drawn: who shares pictures with others, and with people who withdrew."""
    out = patients.register.withdrawn()
    drawn = {data.lines[tile.patient] for tile in data.tiles} - out
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
    site: RuledSite, data: SiteData, state: StateFolder, on_encoded: OnEncoded
) -> ResidentTrainer:
    """The base model by its digest, the encoded tiles, and the trainer over both, all resident.

    Raises `ModelError` for a missing or altered base or encoder, or a device on which one
    patient's rows change another's gradient, and `PolicyError` for too large an adapter.
    """
    # Imported late: they take seconds, and a mistake in a file is reported first.
    with quick_imports():
        from client.training import LocalTrainer, encode_site, phrases_of, reference_of
        from client.training.kept_proof import KeptProof
        from client.training.precision import precision_for
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
        phrases=phrases_of(study, pipeline.device, root=site.settings.study.parent),
        cache=state.cache,
        on_progress=on_encoded,
    )
    precision = precision_for(site.settings.agent.precision, pipeline.unet, study)
    _log.info("The frozen layers compute in %s.", precision)
    trainer = LocalTrainer(study, site.rules.name, pipeline, tiles, precision=precision)
    site.rules.check_parameters(trainer.layout.parameters)
    trainer.prove_isolation(KeptProof(state.proof))
    return trainer
