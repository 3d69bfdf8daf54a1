"""Whether the sites have enough attempts of a study left for one more run to reach its end."""

# Why: docs/adr/0083-what-a-caption-is-not.md

from __future__ import annotations

from collections import Counter

from privacy.error_ids import ErrorId
from privacy.errors import FederationError
from privacy.study.manifest import Study
from server.status_reader import read_ended
from server.tables import PartState


def check_attempts_left(url: str, study: Study) -> None:
    """Raise `FederationError` if too few sites could take part in every round of another run.

    A schedule counts over all runs: a run that began nevertheless would charge patients for rounds
    and never finish. Counted are updates that came here, so a site has charged these at least.
    `url`: ConsortiumSettings.database_url().
    """
    charged = Counter(
        part.name
        for run in read_ended(url, study.digest().hex())
        for attempt in run.history
        for part in attempt.sites
        if part.state is PartState.FINISHED
    )
    rounds, most = study.rounds, study.most_attempts
    left = {site.name: max(0, most - charged[site.name]) for site in study.sites}
    if sum(count >= rounds for count in left.values()) >= study.smallest_cohort:
        return
    unit = "step" if study.pools_noise else "round"
    raise FederationError(
        f"Another run of {study.name} could not finish: it has {rounds} {unit}s, and of the "
        f"{most} attempts that the study has over all runs, so many are left: "
        + ", ".join(f"{name} {count}" for name, count in left.items())
        + ".",
        "Plan the next study (craftsfl rounds plan ... --write next.toml, then craftsfl rounds add "
        "consortium.toml --study next.toml): hospitals join it with what is left of their budgets.",
        id=ErrorId.STUDY_USED_UP,
    )
