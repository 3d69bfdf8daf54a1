"""What a study may ask of its masks, as far as that is known before the adapter's size is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from privacy.secagg.offer import SMALLEST_COHORT, most_colluders, withstood
from privacy.secagg.width import relative_error

if TYPE_CHECKING:
    from privacy.study.manifest import SecureAggregation, Study


def check_masks(settings: SecureAggregation, study: Study) -> None:
    """Refuse settings that no cohort of the study can meet; the adapter's size is not known yet."""
    sites = len(study.sites)
    most = sites - 2 if study.pools_noise else most_colluders(sites)
    if sites < SMALLEST_COHORT:
        raise ValueError(
            f"{sites} site(s) are listed, but secure aggregation needs {SMALLEST_COHORT}: "
            "of two, each reads the other's update off the sum"
        )
    if settings.colluders > most:
        raise ValueError(
            f"{sites} sites do not withstand {settings.colluders} colluding ones; "
            f"secure_aggregation.colluders may be {most} at most"
        )
    if study.pools_noise:  # its fields follow from its noise
        return
    if relative_error(settings.bits, 1, sites) > settings.tolerated_error:
        raise ValueError(
            f"secure_aggregation.bits = {settings.bits} cannot keep the mean of {sites} sites "
            f"within tolerated_error = {settings.tolerated_error:g}, however small the adapter"
        )


def check_noise_colluders(study: Study) -> None:
    """Colluders that the masks do not withstand know every single share of the noise.

    Sealed steps withstand all but two, whatever the threshold of other studies' masks.
    """
    most = withstood(study.smallest_cohort, len(study.sites))
    if study.pools_noise:
        most = study.smallest_cohort - 2
    if study.privacy.noise_colluders > most:
        raise ValueError(
            f"privacy.noise_colluders is {study.privacy.noise_colluders}, but the masks of this "
            f"study withstand {most}"
        )
