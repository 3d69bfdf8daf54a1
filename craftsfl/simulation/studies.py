"""From a study to the one that is simulated: other sites, keys that anybody can make, quick slots.

Everything that decides what is learned stays: base, adapter, loss, noise, clip, steps, optimiser.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from craftsfl.simulation.config import Arm, SimulationConfig
from craftsfl.simulation.members import SimulatedMembers, seeded_identity
from privacy.config import check
from privacy.errors import ConfigError
from privacy.identity import Identity
from privacy.secagg.offer import SMALLEST_COHORT
from privacy.study.manifest import Study, load_study
from privacy.wire.sites import MAX_SITES

_SLOT_SECONDS: Final = 1.0  # of the simulation's own clock: nobody waits for it
_SESSION_HOURS: Final = 12.0
_LONGEST_NAME: Final = 64
_COORDINATOR: Final = "coordinator of a simulation"
_HINT: Final = "Correct the study file, or choose other --sites."


@dataclass(frozen=True)
class SimulatedStudy:
    """A study as it is simulated, who takes part in it, and which arm is run."""

    study: Study
    members: SimulatedMembers
    arm: Arm
    root: Path  # where a relative folder of the base starts

    @property
    def federated(self) -> bool:
        """Whether real agents and a real coordinator run it: the arm is the study's own noise."""
        return self.arm == self.study.privacy.mechanism

    @property
    def coordinator(self) -> Identity:
        """The key that signs steps; it proves nothing."""
        return seeded_identity(_COORDINATOR)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the sites, in the study's order."""
        return tuple(site.name for site in self.study.sites)


def read_study(config: SimulationConfig) -> tuple[Study, Path]:
    """The study that was asked for, and the folder that it is in. Raises `ConfigError`."""
    if isinstance(config.study, Study):
        return config.study, Path()
    return load_study(config.study), config.study.parent


def site_sizes(config: SimulationConfig, study: Study) -> dict[str, int]:
    """How many patients each simulated site has, by name, where tissue is drawn."""
    own = {site.name: site.declared_patients for site in study.sites}
    if config.sites is not None and config.sites != len(own):
        sizes = list(own.values())  # the study's, in turn
        own = {f"site-{i + 1:03d}": sizes[i % len(sizes)] for i in range(config.sites)}
    if config.patients is not None:
        own = dict.fromkeys(own, config.patients)
    return own


def simulated_study(
    config: SimulationConfig, study: Study, root: Path, sizes: Mapping[str, int]
) -> SimulatedStudy:
    """The study over sites of these `sizes`.

    Raises `ConfigError` for fewer sites than a sum needs, an arm that the study does not have, and
    whatever no study allows.
    """
    arm: Arm = config.arm or study.privacy.mechanism
    _check_count(study, len(sizes))
    _check_arm(arm, study, config)
    members = SimulatedMembers.seeded(sizes)
    values: dict[str, Any] = study.model_dump(mode="json")
    values["name"] = f"simulated-{study.name}"[:_LONGEST_NAME]  # to be taken for no other
    values["sites"] = [
        {"name": name, "declared_patients": patients} for name, patients in sizes.items()
    ]
    values["secure_aggregation"]["roster"] = members.roster.digest().hex()
    values["cohort"]["reply_slot"] = min(_SLOT_SECONDS, study.cohort.reply_slot)
    if study.pools_noise:
        values["pooled"]["coordinator_key"] = seeded_identity(_COORDINATOR).public.hex()
        values["pooled"]["session_hours"] = _SESSION_HOURS
    if config.base is not None:
        values["base"] = _base(config.base, root)
    if config.alone is not None and config.alone not in sizes:
        raise ConfigError(
            f"No simulated site is called {config.alone}.",
            f"They are called {next(iter(sizes))} to {list(sizes)[-1]}.",
        )
    where = f"{study.name}, simulated with {len(sizes)} sites"
    return SimulatedStudy(check(values, Study, where=where, hint=_HINT), members, arm, root)


def _base(source: str, root: Path) -> dict[str, str]:
    from model.cache import locate_base
    from model.digest import folder_digest

    folder = locate_base(source, root=root)
    return {"digest": folder_digest(folder), "source": str(folder.resolve())}


def _check_count(study: Study, sites: int) -> None:
    if sites < SMALLEST_COHORT:
        raise ConfigError(
            f"{sites} site(s) make no consortium: of two, each would read the other's update off "
            "the sum.",
            f"Give --sites {SMALLEST_COHORT} or more. What one site would learn without the others "
            "is --arm alone.",
        )
    if sites > MAX_SITES:
        raise ConfigError(
            f"--sites {sites}: a roster has {MAX_SITES} sites at most.",
            f"Give --sites {MAX_SITES} or fewer.",
        )
    if sites < study.cohort.min_sites:
        raise ConfigError(
            f"The study's sums need {study.cohort.min_sites} sites (cohort.min_sites), and "
            f"{sites} are simulated.",
            f"Give --sites {study.cohort.min_sites} or more, or lower cohort.min_sites in the "
            "study.",
        )


def _check_arm(arm: Arm, study: Study, config: SimulationConfig) -> None:
    if arm == "pooled" and not study.pools_noise:
        raise ConfigError(
            f"The study {study.name} does not pool its noise: each site adds all of its own.",
            'Simulate it with --arm local, or write a study with privacy.mechanism = "pooled".',
        )
    if config.strategy is not None and study.pools_noise:
        raise ConfigError(
            "Every site of a pooled study works the adapter out itself, so its optimiser cannot be "
            "replaced at the coordinator.",
            'Use a study with privacy.mechanism = "local", or change [aggregation].',
        )
    if study.training.noise_multiplier == 0 and arm in ("local", "central", "alone"):
        raise ConfigError(
            f"The study {study.name} adds no noise.",
            "Without noise there is one arm: --arm noise-off, which writes to no ledger.",
        )
