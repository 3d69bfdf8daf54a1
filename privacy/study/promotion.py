"""`[promotion]`: what an adapter has to show before it is called the study's champion.

Public and frozen like the rest of the study, so that nobody chooses the demands after seeing the
results.
"""

# Why: docs/adr/0053-champions-and-exports.md

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from privacy.config import Count, Positive, Strict
from privacy.study.auditors import AuditorKey, check_distinct

if TYPE_CHECKING:
    from privacy.study.manifest import Study


class ReadersDemand(Strict):
    """What people who judged the adapter's pictures must have found, and who may sign for it.

    `readers`: how many of them at least. `told_apart`: the most that the whole 95 % interval of
    their accuracy in "real or synthetic" allows them to be right, or to be wrong (0.5: guessing).
    `preferred`: what the lower end must exceed for the share that preferred the picture from after
    training to the base's (0.5: no difference).
    """

    keys: Annotated[tuple[AuditorKey, ...], Field(min_length=1)]
    readers: Annotated[int, Field(ge=2, le=99)]
    told_apart: Annotated[float, Field(gt=0.5, lt=1)] | None = None
    preferred: Annotated[float, Field(gt=0, lt=1)] | None = None

    @model_validator(mode="after")
    def _means_something(self) -> ReadersDemand:
        check_distinct(self.keys, "signers")
        if self.told_apart is None and self.preferred is None:
            raise ValueError("name told_apart or preferred: else nothing is demanded")
        return self


class Promotion(Strict):
    """What `craftsfl rounds promote` demands; a table without keys demands nothing of its own.

    `improves`: figures on public tiles whose change since the base has to be shown after the last
    round: its 95 % interval lies on the good side of 0. `epsilon`: the most that the adapter may
    cost a patient of one site over the study's whole schedule. `confirmations`: how many sites must
    have worked out the same adapter at the end of a run, where the noise is pooled. `readers`: what
    a readers' study of this adapter must have shown.
    """

    improves: Annotated[tuple[Literal["denoising", "alignment"], ...], Field(max_length=2)] = ()
    epsilon: Positive | None = None
    confirmations: Count | None = None
    readers: ReadersDemand | None = None


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
