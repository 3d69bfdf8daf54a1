"""What opens holds the noise of every site of the cohort, as large as the terms say, new each time.

Everything between a trainer's exact sum and the opened one is real: agents, masks, packing.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from model.layout import Layout, LayoutEntry
from privacy.study.manifest import Study
from strategies.pooled import link_of, scale_of

from .sealed import MEMBERS_OF_FOUR, SealedSites, TinyCoordinator, sealed_values

WIDE = 4096  # numbers: the deviation of a sample of so many is known to 1.1 %
SIGMA, COLLUDERS = 5.0, 1
LAYOUT = Layout(
    (LayoutEntry("up.lora_B.weight", (WIDE, 1), "float32"),),
    frozen=(LayoutEntry("up.lora_A.weight", (1, 6), "float32"),),
)


@pytest.fixture
def four(tmp_path: Path) -> Iterator[SealedSites]:
    values = sealed_values(MEMBERS_OF_FOUR, sites=4)
    values["pooled"]["parameters"] = WIDE
    study = Study.model_validate(values)
    assert study.training.noise_multiplier == SIGMA
    assert study.privacy.noise_colluders == COLLUDERS
    made = SealedSites(tmp_path, study, MEMBERS_OF_FOUR, seed=b"noise", layout=LAYOUT)
    yield made
    made.close()


def noise_of(coordinator: TinyCoordinator, cohort: tuple[int, ...]) -> NDArray[np.float64]:
    """What the newest opened sum holds beside the exact one, float64 [P], in units of C."""
    found, sites = coordinator.sums[-1], coordinator.sites
    scale = scale_of(sites.study, coordinator.roster, found.cohort)
    exact = sum(sites.trainers[site].sum_at(np.zeros(WIDE)) for site in cohort)
    noise: NDArray[np.float64] = scale.open(link_of(found, sites.study).fields) - exact / 2**30
    return noise


@pytest.mark.parametrize("cohort", [(1, 2, 3, 4), (1, 2, 4)], ids=["of all", "of three"])
def test_the_noise_is_the_sum_of_shares_sized_for_the_cohort(
    four: SealedSites, cohort: tuple[int, ...]
) -> None:
    coordinator = TinyCoordinator(four)
    coordinator.open()
    coordinator.whole(cohort=cohort)
    noise = noise_of(coordinator, cohort)
    # sigma is left when those who collude subtract theirs. One share less, or each sized for
    # another cohort, is 13 % off or more.
    wanted = SIGMA * np.sqrt(len(cohort) / (len(cohort) - COLLUDERS))
    assert noise.std() == pytest.approx(wanted, rel=0.06)
    assert abs(noise.mean()) < 6 * wanted / np.sqrt(WIDE)


def test_another_attempt_at_the_same_gradients_has_noise_of_its_own(four: SealedSites) -> None:
    coordinator, cohort = TinyCoordinator(four), (1, 2, 3, 4)
    coordinator.open()
    lost = coordinator.begun()
    four.sleep(four.study.cohort.reply_slot)
    coordinator.sums.append(coordinator.added(lost, coordinator.send_all(lost)))
    first = noise_of(coordinator, cohort)
    coordinator.sums.clear()
    coordinator.whole(attempt=2)
    second = noise_of(coordinator, cohort)
    assert second.std() == pytest.approx(first.std(), rel=0.1)
    assert abs(np.corrcoef(first, second)[0, 1]) < 6 / np.sqrt(WIDE)
