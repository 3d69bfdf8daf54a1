"""`[promotion]`: what an adapter has to show before it is called the study's champion.

Public and frozen like the rest of the study, so that nobody chooses the demands after seeing the
results.
"""

# Why: docs/adr/0053-champions-and-exports.md

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from privacy.config import Count, Positive, Strict

if TYPE_CHECKING:
    from privacy.study.manifest import Study


class Promotion(Strict):
    """What `craftsfl rounds promote` demands; a table without keys demands nothing of its own.

    `improves`: figures on public tiles whose change since the base has to be shown after the last
    round: its 95 % interval lies on the good side of 0. `epsilon`: the most that the adapter may
    cost a patient of one site over the study's whole schedule. `confirmations`: how many sites must
    have worked out the same adapter at the end of a run, where the noise is pooled.
    """

    improves: Annotated[tuple[Literal["denoising", "alignment"], ...], Field(max_length=2)] = ()
    epsilon: Positive | None = None
    confirmations: Count | None = None


def check_promotion(study: Study) -> None:
    """Raise `ValueError` for demands that no run of the study can meet."""
    wanted = study.promotion
    if wanted is None or wanted.confirmations is None:
        return
    if not study.pools_noise:
        raise ValueError(
            'promotion.confirmations belongs to studies with privacy.mechanism = "pooled": in '
            "others no site works the adapter out"
        )
    if wanted.confirmations > len(study.sites):
        raise ValueError(
            f"promotion.confirmations is {wanted.confirmations} but only {len(study.sites)} sites "
            "are listed"
        )
