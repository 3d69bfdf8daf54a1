"""The one place that answers "may this be?" at a site: study, deltas, adapter, cohort, attempts.

Pure: from the study, the policy and the charges that the ledger holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from client.settings import ANY, Policy
from privacy.accounting.across import FILTER_SHARE
from privacy.accounting.bounds import check_delta, largest_delta
from privacy.accounting.capacity import DECLARED_FACTOR, OVERFLOW_SHARE
from privacy.budget import Limits, StudyCharges
from privacy.errors import ConfigError, PolicyError
from privacy.events import Observer
from privacy.ledger import Charge, Entry
from privacy.mechanisms.base import Mechanism
from privacy.secagg.offer import most_absent, most_colluders
from privacy.study.manifest import Study
from privacy.study.schedule import check_schedule
from privacy.study.terms import mechanism_of


@dataclass(frozen=True, slots=True)
class SiteRules:
    """A site's name, its policy and the one study that its agent serves."""

    name: str
    study: Study
    policy: Policy

    @property
    def declared_patients(self) -> int:
        """The public cohort size N of this site; `ConfigError` if the study does not list it."""
        member = self.study.site(self.name)
        if member is None:
            listed = ", ".join(site.name for site in self.study.sites)
            raise ConfigError(
                f"The study {self.study.name} does not list a site called {self.name}; "
                f"it lists {listed}.",
                "Correct `name` in site.toml, or ask the consortium for a study that lists you.",
            )
        return member.declared_patients

    @property
    def mechanism(self) -> Mechanism:
        """How the study's attempts are made private at this site."""
        return mechanism_of(self.study)

    @property
    def limits(self) -> Limits:
        """What may be charged, over all studies."""
        return limits_of(self.policy)

    @property
    def charges(self) -> StudyCharges:
        """What the study may charge: what every attempt costs, and how many there may be.

        Of its attempts 2 x its rounds may be lost unless the policy says otherwise.
        """
        study, lost = self.study, self.policy.max_lost_attempts
        return StudyCharges(
            charge=Charge(study.digest(), self.mechanism.event, study.privacy.delta),
            rounds=study.rounds,
            attempts=study.attempts_a_round,
            most_lost=2 * study.rounds if lost is None else lost,
            spare=None if study.pooled is None else study.pooled.spare_attempts,
        )

    def check(self) -> None:
        """Raise `ConfigError` or `PolicyError`, naming every bound that the study exceeds."""
        _ = self.declared_patients
        faults = [
            *self._masking_faults(),
            *self._study_faults(),
            *self._mechanism_faults(),
            *self._noise_faults(),
        ]
        if faults:
            raise PolicyError(
                f"The policy forbids the study {self.study.name}: " + "; ".join(faults) + ".",
                "Change policy.toml only if the hospital agrees; else ask for another study.",
            )

    def check_budget(self) -> None:
        """Raise unless both deltas suit this site's cohort, and both budgets can be accounted for.

        The study's delta, then the policy's, at which the lifetime epsilon holds: min(1e-5,
        1/(10 N)) bounds both. Raises `AccountingError` also for a schedule whose epsilon could not
        be released and for a filter's order at which nothing fits, `PolicyError` for the policy's
        delta.
        """
        check_delta(self.study.privacy.delta, self.declared_patients)
        self._check_lifetime_delta()
        check_schedule(self.study)
        self.limits.over_studies()

    def _check_lifetime_delta(self) -> None:
        largest = largest_delta(self.declared_patients)
        if self.policy.delta > largest:
            raise PolicyError(
                f"delta is {self.policy.delta:g} in policy.toml but may be at most {largest:g} "
                f"with {self.declared_patients} declared patients.",
                "Lower delta in policy.toml.",
            )

    def check_other_studies(self, entries: Iterable[Entry]) -> None:
        """Raise `PolicyError` if the deltas of all studies together exceed the policy's.

        Or if a Gaussian filter could not compose them.

        `entries` of the ledger say which studies this site's patients were already in; (epsilon,
        delta) of separate studies add up (Dwork and Roth 2014, Theorem 3.16). A filter holds
        at the policy's own delta; what it reserves of that for draws beyond a step's capacity is
        enough for studies whose deltas add up to ten times as much.
        """
        known = list(entries)
        if self.policy.across_studies == "gdp-filter":
            _check_full_batch(known)
        others = {entry.charge.study_digest: entry.charge.delta for entry in known}
        others.pop(self.study.digest(), None)
        filtered = self.policy.across_studies != "sum"
        allowed = self.policy.delta * (FILTER_SHARE / OVERFLOW_SHARE if filtered else 1)
        total = sum(others.values()) + self.study.privacy.delta
        if total > allowed * (1 + 1e-9):
            raise PolicyError(
                f"With this study the deltas of all studies sum to {total:g}; the policy allows "
                f"{allowed:g}.",
                "Ask the operator for a study with a smaller delta: craftsfl rounds plan --studies "
                "divides it by plan.",
            )

    def check_parameters(self, parameters: int) -> None:
        """Raise `PolicyError` if the adapter has more parameters than the policy allows."""
        if parameters > self.policy.max_parameters:
            raise PolicyError(
                f"The adapter has {parameters} parameters, but max_parameters is "
                f"{self.policy.max_parameters}.",
                "Raise max_parameters in policy.toml, or ask for a smaller adapter.",
            )

    def adapter_fault(self, norm: float) -> str:
        """Why an adapter of this L2 `norm` is not trained from; "" where it may be."""
        most = self.policy.max_adapter_norm
        if norm <= most:
            return ""
        return f"an adapter of norm {norm:.4g}: max_adapter_norm in policy.toml is {most:g}"

    def cohort_doubt(self, patients: int) -> str:
        """Why a cohort of `patients` would not be rounded to the declared N; "" if it would.

        For the site itself, and not a reason to refuse anything: at the bounds, one patient more
        or less would decide, and everyone would see it. Noise, q and delta depend on N alone.
        """
        declared = self.declared_patients
        if declared / DECLARED_FACTOR <= patients <= declared * DECLARED_FACTOR:
            return ""
        return (
            f"The study declares {declared} patients for {self.name}, but the data folder has "
            f"{patients} that can be used"
        )

    def _masking_faults(self) -> Iterator[str]:
        policy, study = self.policy, self.study
        if study.secure_aggregation.roster != policy.roster:
            yield f"its roster {study.secure_aggregation.roster} is not the policy's `roster`"
        sites = len(study.sites)
        # A sealed step's masks withstand all but two of those who take part.
        most = study.smallest_cohort - 2 if study.pools_noise else most_colluders(sites)
        if policy.max_colluders > most:
            yield f"{sites} sites do not withstand max_colluders {policy.max_colluders}"
        absent = most_absent(sites) if policy.max_absent is None else policy.max_absent
        if sites - study.smallest_cohort > absent:
            yield (
                f"a sum may lack {sites - study.smallest_cohort} of {sites} sites "
                f"(cohort.min_sites), and max_absent is {absent}: the more may be left out, the "
                "more sums the coordinator can compare"
            )
        if study.smallest_cohort < policy.min_cohort:
            yield (
                f"a sum may be of {study.smallest_cohort} sites (cohort.min_sites), which is below "
                f"min_cohort {policy.min_cohort}"
            )

    def _study_faults(self) -> Iterator[str]:
        digest = self.study.digest().hex()
        if self.policy.studies != (ANY,) and digest not in self.policy.studies:
            yield f"its digest {digest} is not among `studies`"
        if not self.policy.allows_base(self.study.base.digest):
            yield f"its base model {self.study.base.digest} is not among `bases`"
        yield from self._encoder_faults()
        yield from _above("rank", self.study.adapter.rank, self.policy.max_rank)
        yield from _above("delta", self.study.privacy.delta, self.policy.delta)
        yield from _above("rounds", self.study.rounds, self.policy.max_rounds)
        if not self.study.pools_noise:  # there, spare attempts are charges of the whole study
            yield from _above("attempts", self.study.privacy.attempts, self.policy.max_attempts)
        slot, shortest = self.study.cohort.reply_slot, self.policy.min_reply_slot
        if slot < shortest:
            yield f"reply_slot {slot:g} is below min_reply_slot {shortest:g} (seconds)"

    def _encoder_faults(self) -> Iterator[str]:
        terms = self.study.stage_two
        for digest in sorted(terms.encoder_digests) if terms is not None else ():
            if not self.policy.allows_encoder(digest):
                yield f"its frozen encoder {digest} is not among `encoders`"

    def _mechanism_faults(self) -> Iterator[str]:
        training, policy = self.study.training, self.policy
        mechanism = self.mechanism.NAME
        if mechanism not in policy.mechanisms:
            yield f'the mechanism "{mechanism}" is not among `mechanisms`'
        yield from _above("steps a round", training.steps, policy.max_steps_per_round)
        yield from _above("sampling_rate", training.sampling_rate, policy.max_sampling_rate)
        yield from _above(
            "tiles_per_patient", training.tiles_per_patient, policy.max_tiles_per_patient
        )
        yield from _above("draws_per_tile", training.draws_per_tile, policy.max_draws_per_tile)
        yield from _above("clipping_norm", training.clipping_norm, policy.max_clipping_norm)
        if training.learning_rate is not None:
            yield from _above("learning_rate", training.learning_rate, policy.max_learning_rate)
        yield from self._pooled_faults()

    def _pooled_faults(self) -> Iterator[str]:
        """Terms of a pooled study that are weaker than the policy: a site resizes nothing."""
        pooled, policy = self.study.pooled, self.policy
        if pooled is None:
            if policy.across_studies == "gdp-filter":
                yield (
                    'its mechanism is "local", and across_studies is "gdp-filter", which can only '
                    "compose pooled studies"
                )
            return
        if pooled.grid < policy.min_grid:
            yield f"pooled.grid {pooled.grid:g} is below min_grid {policy.min_grid:g}"
        colluders = self.study.privacy.noise_colluders
        if colluders < policy.min_noise_colluders:
            yield (
                f"its noise withstands {colluders} colluding sites (privacy.noise_colluders), "
                f"which is below min_noise_colluders {policy.min_noise_colluders}"
            )
        yield from _above("spare_attempts", pooled.spare_attempts, policy.max_spare_attempts)
        yield from _above("session_hours", pooled.session_hours, policy.max_session_hours)
        yield from _above("pooled.parameters", pooled.parameters, policy.max_parameters)

    def _noise_faults(self) -> Iterator[str]:
        sigma = self.study.training.noise_multiplier
        if sigma == 0 and not self.policy.allow_no_privacy:
            yield "noise_multiplier 0 means no privacy at all, and allow_no_privacy is not set"
        if 0 < sigma < self.policy.min_noise_multiplier:
            yield (
                f"noise_multiplier {sigma:g} is below "
                f"min_noise_multiplier {self.policy.min_noise_multiplier:g}"
            )


def _check_full_batch(entries: Iterable[Entry]) -> None:
    """Raise `PolicyError` for charges of steps that drew some of the patients."""
    drawn = {
        entry.charge.study_digest.hex()[:12]
        for entry in entries
        if any(part.sampling_rate < 1 for part in entry.charge.event.charged)
    }
    if drawn:
        raise PolicyError(
            'across_studies is "gdp-filter" in policy.toml, which composes steps with all patients '
            f"only; the ledger holds others, of the studies {', '.join(sorted(drawn))}.",
            'Use "sum" or "rdp-filter"; a filter is chosen before the first study.',
        )


def limits_of(policy: Policy) -> Limits:
    """What `policy` allows to be charged, whatever the study."""
    return Limits(
        epsilon=policy.epsilon,
        delta=policy.delta,
        study_epsilon=policy.study_epsilon,
        rdp_order=policy.rdp_order,
        gdp_filter=policy.across_studies == "gdp-filter",
        masks_broken=Observer.MASKS_BROKEN in policy.observers,
        allow_no_privacy=policy.allow_no_privacy,
        allow_partial=policy.allow_partial,
    )


def _above(name: str, value: float, bound: float) -> Iterator[str]:
    if value > bound:
        yield f"{name} {value:g} is above {bound:g}"
