"""What server and sites derive from the study, each on its own, so that they can compare it.

Everything here is a function of public constants.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from privacy.errors import ConfigError, SecAggError
from privacy.secagg import transcript
from privacy.secagg.chain import AgreedRoster, agreed, in_force, read_rosters, roster_with
from privacy.secagg.offer import SMALLEST_COHORT, SecAggPolicy, withstood
from privacy.secagg.roster import Roster
from privacy.secagg.width import check_width
from privacy.study.manifest import Study
from privacy.study.terms import mechanism_of
from privacy.wire.bodies import StartTraining
from privacy.wire.offer import MechanismNumber, Terms

EXCHANGES: Final = 4  # in addition to the one that collects the masked updates
CLOCK_SKEW: Final = 300  # seconds by which the clocks of server and site may differ


def shares_of(study: Study) -> dict[str, float]:
    """The weight of every site of the study: its share of all declared patients.

    They sum to 1. A site multiplies its update by its own weight before masking; the server divides
    the sum by the weights of the survivors. Neither true nor drawn counts are ever used.
    """
    total = sum(site.declared_patients for site in study.sites)
    return {site.name: site.declared_patients / total for site in study.sites}


def terms_of(study: Study, parameters: int) -> Terms:
    """What an offer has to state for `study` and adapters of `parameters` numbers.

    Raises `ConfigError` where the bits cannot hold the tolerated error.
    """
    settings, training = study.secure_aggregation, study.training
    if settings.bound is None:
        raise ConfigError(
            f"The sums of the study {study.name} are pooled ones: no update is encoded for them.",
            "Serve it with a coordinator and sites that take sealed steps.",
        )
    check_width(settings.bits, parameters, len(study.sites), settings.tolerated_error)
    mechanism, noise = mechanism_of(study), training.noise_multiplier
    return Terms(
        recipe_digest=study.digest(),
        dimension=parameters,
        bits=settings.bits,
        bound=settings.bound,
        clipping_norm=training.clipping_norm,
        weight_cap=max(shares_of(study).values()),
        mechanism=MechanismNumber(mechanism.NUMBER) if noise > 0 else MechanismNumber.PLAIN,
        noise_multiplier=noise,
    )


def roster_in_force(study: Study, file: Path) -> Roster:
    """The newest roster in `file`, verified from its first; the study's has to be among them.

    A successor needs no new study: the members of the pinned roster have signed it. Raises
    `ConfigError` for what is no such file and for a study whose sites nobody has signed,
    `SecAggError` for signatures that do not hold.
    """
    chain, pinned = read_rosters(file), bytes.fromhex(study.secure_aggregation.roster)
    roster = in_force(chain, pinned)
    check_membership(study, roster_with(chain, pinned))
    return roster


def roster_agreed(study: Study, file: Path) -> AgreedRoster:
    """The same, where the study's roster may still lack signatures, which travel by messages."""
    chain, pinned = read_rosters(file), bytes.fromhex(study.secure_aggregation.roster)
    found = agreed(chain, pinned)
    check_membership(study, roster_with(chain, pinned))
    return found


def check_membership(study: Study, pinned: Roster) -> None:
    """Raise `ConfigError` unless the members of a study of more than three sites have signed it.

    The pinned roster then lists exactly the study's sites: a coordinator who writes studies over
    {1,2,3,4}, {1,2,3,5}, ... needs the signatures of more than half of each. With three sites
    there is one cohort only, and the roster may be a larger consortium's.
    """
    if len(study.sites) <= SMALLEST_COHORT:
        return
    odd = {site.name for site in study.sites} ^ {member.name for member in pinned.members}
    if odd:
        raise ConfigError(
            f"The study {study.name} and the roster that it pins do not list the same sites: "
            f"{', '.join(sorted(odd))}.",
            "Have the sites of the study sign a roster of their own (craftsfl rounds roster "
            "propose), and pin that in study.toml and policy.toml.",
        )


def offer_seconds(study: Study) -> int:
    """For how long an offer of this study is valid: every exchange up to its deadline."""
    exchanges = EXCHANGES * study.secure_aggregation.exchange_deadline
    return math.ceil(study.cohort.round_deadline + exchanges)


def policy_of(study: Study, roster: Roster, parameters: int, colluders: int = 0) -> SecAggPolicy:
    """The rules of a site in `study`; `colluders` is what its own policy asks for at least.

    Unless more is asked for, n_c is the most that every cohort of the study withstands: the
    threshold follows from the cohort's size alone, so that costs nothing.
    """
    settings, sites = study.secure_aggregation, len(study.sites)
    return SecAggPolicy(
        roster_digest=roster.digest(),
        terms=terms_of(study, parameters),
        n_min=study.smallest_cohort,
        n_c=max(colluders, settings.colluders, withstood(study.smallest_cohort, sites)),
        longest_offer=offer_seconds(study) + CLOCK_SKEW,
    )


def cohort_of(roster: Roster, names: Iterable[str]) -> tuple[int, ...]:
    """The ids of the sites `names`, ascending; `SecAggError` for one that the roster lacks."""
    ids = []
    for name in names:
        member = roster.member_named(name)
        if member is None:
            raise SecAggError(
                f"The roster of {roster.consortium} does not list {name}.",
                "Sign a successor that does, and give it to every site and the coordinator.",
            )
        ids.append(member.site)
    return tuple(sorted(ids))


def model_digest(study: Study, start: StartTraining) -> bytes:
    """What an offer calls the model that travels with it: base, layout and adapter; 32 bytes."""
    base = bytes.fromhex(study.base.digest.removeprefix("sha256:"))
    return transcript.round_model(base, start.layout_fingerprint, start.adapter)
