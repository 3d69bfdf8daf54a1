"""What a consortium asks of a study: who takes part, what is trained, what is promised."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from privacy.accounting.bounds import MIN_DELTA, largest_delta
from privacy.errors import ConfigError
from privacy.secagg.offer import SMALLEST_COHORT, most_absent
from privacy.study.manifest import Adapter, Site

PLANNED_STEPS: Final = 40
DEFAULT_EPSILON: Final = 8.0
LARGEST_EPSILON: Final = 30.0  # above it, pooled sums have no figure (docs/adr/0039)
MOST_STEPS: Final = 1000
_SPARE_SHARE: Final = 0.05  # of the steps
# A site this small is a list of people: membership is guessed from its name alone.
FEWEST_PATIENTS: Final = 10
MOST_PATIENTS: Final = 10_000_000  # that a manifest declares of a site
MOST_SITES: Final = 10_000  # of which pooled noise is accounted for


@dataclass(frozen=True, slots=True)
class PlanRequest:
    """One study that might be. Raises `ConfigError` for what no study can be.

    `parameters`: P, of `adapter` on its base. `spare_attempts`: A. `colluders`: n_c. `min_sites`:
    the smallest cohort. `tiles` and `draws`: rows of a patient in a step. `slot`: seconds of a
    step, or None for as long as training takes here. `gradient_seconds`: what a site measured for
    one patient's gradient, or None.
    """

    sites: tuple[Site, ...]
    adapter: Adapter
    parameters: int
    epsilon: float = DEFAULT_EPSILON
    delta: float = 1e-5
    steps: int = PLANNED_STEPS
    spare_attempts: int = 2
    colluders: int = 1
    min_sites: int = SMALLEST_COHORT
    tiles: int = 1
    draws: int = 1
    slot: float | None = None
    gradient_seconds: float | None = None

    def __post_init__(self) -> None:
        message, hint = next(_faults(self), ("", ""))
        if message:
            raise ConfigError(message, hint)

    @property
    def patients(self) -> int:
        """N: declared by all sites together."""
        return sum(site.declared_patients for site in self.sites)

    @property
    def largest_site(self) -> int:
        """Patients of the site that has most."""
        return max(site.declared_patients for site in self.sites)


def default_spare(steps: int) -> int:
    """A: 5 % of the steps, one at least."""
    return max(1, math.ceil(_SPARE_SHARE * steps))


def default_min_sites(sites: int) -> int:
    """All sites but the few that hospitals' policies let a sum lack."""
    return max(SMALLEST_COHORT, sites - most_absent(sites))


def default_delta(sites: tuple[Site, ...]) -> float:
    """The largest delta that every site accepts: min(1e-5, 1/(10 N))."""
    return min((largest_delta(site.declared_patients) for site in sites), default=1e-5)


def _faults(asked: PlanRequest) -> Iterator[tuple[str, str]]:
    yield from _cohort_faults(asked)
    yield from _promise_faults(asked)
    yield from _schedule_faults(asked)


def _cohort_faults(asked: PlanRequest) -> Iterator[tuple[str, str]]:
    count = len(asked.sites)
    if count < SMALLEST_COHORT:
        sites = "1 site" if count == 1 else f"{count} sites"
        yield (
            f"{sites}: a sum of fewer than {SMALLEST_COHORT} shows each one what the other sent, "
            "or the coordinator everything.",
            f"Find at least {SMALLEST_COHORT - count} more: one --site NAME=PATIENTS for each of "
            "all, or a larger --sites. The plan of three says what a site would learn alone.",
        )
    names = [site.name for site in asked.sites]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        yield f"Two sites are called {twice[0]}.", "Give every site a name of its own."
    small = min(asked.sites, key=lambda site: site.declared_patients)
    if small.declared_patients < FEWEST_PATIENTS:
        yield (
            f"{small.name} has {small.declared_patients} patients; a site needs "
            f"{FEWEST_PATIENTS} at least.",
            "Plan without it, or count its patients with those of a hospital that it belongs to.",
        )
    if not SMALLEST_COHORT <= asked.min_sites <= count:
        yield (
            f"--min-sites {asked.min_sites}: a step needs {SMALLEST_COHORT} to {count} of {count} "
            "sites.",
            f"Hospitals' policies allow {default_min_sites(count)} unless they say otherwise.",
        )
    most = asked.min_sites - 2
    if not 0 <= asked.colluders <= most:
        yield (
            f"--colluders {asked.colluders}: if that many sites tell the coordinator their noise, "
            f"a step of {asked.min_sites} hides nobody any more; it may be 0 to {most}.",
            f"Use --colluders {max(0, most)} or less, or find more sites: n_c may be the sites of "
            "a step less two.",
        )


def _promise_faults(asked: PlanRequest) -> Iterator[tuple[str, str]]:
    if not 0 < asked.epsilon <= LARGEST_EPSILON:  # which NaN is not
        yield (
            f"--epsilon {asked.epsilon:g}: " + _about_epsilon(asked.epsilon),
            "Ask for 1 to 8; 8 bounds an attacker's odds about a patient by a factor of 2981.",
        )
    largest = default_delta(asked.sites)
    if not MIN_DELTA <= asked.delta <= largest:
        yield (
            f"--delta {asked.delta:g}: with {asked.largest_site} patients at one site it may be "
            f"{MIN_DELTA:g} to {largest:g}.",
            "Leave it out for the largest. Above 1 / (10 N), giving one patient away would count "
            "as private.",
        )


def _about_epsilon(epsilon: float) -> str:
    if epsilon == 0:
        return (
            "nothing that depends on a patient could leave a hospital at all, so nothing is learnt."
        )
    if epsilon > 0:
        return f"above {LARGEST_EPSILON:g} it promises a patient nothing worth the name."
    return "it has to be above 0."


def _schedule_faults(asked: PlanRequest) -> Iterator[tuple[str, str]]:
    if not 1 <= asked.steps <= MOST_STEPS:
        yield (
            f"--steps {asked.steps}: a study has 1 to {MOST_STEPS} steps.",
            "Use 30 to 60: noise over signal after all steps is the same for any number.",
        )
    if not 0 <= asked.spare_attempts <= max(asked.steps, 1):
        yield (
            f"--spare-attempts {asked.spare_attempts}: of {asked.steps} steps, 0 to "
            f"{asked.steps} may be lost.",
            f"{default_spare(asked.steps)} are usual for {asked.steps} steps.",
        )
    rows = asked.tiles, asked.draws
    if min(rows) < 1 or max(rows) > 16:  # the bounds of hospitals' policies
        yield (
            f"--tiles {asked.tiles}, --draws {asked.draws}: of a patient in a step there are 1 to "
            "16 of each.",
            "Use 1 and 1: more rows take longer, and make a clipped gradient little better.",
        )
    for name, seconds in (("slot", asked.slot), ("gradient-seconds", asked.gradient_seconds)):
        if seconds is not None and not 0 < seconds < 86_400:
            yield f"--{name} {seconds:g}: it has to be above 0 s, and below a day.", "Leave it out."
