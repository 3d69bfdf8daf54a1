"""Sealed steps as they should go, and what may go missing."""

import numpy as np
import pytest

from tests.privacy.secagg.sealed.world import SealedWorld


@pytest.mark.parametrize("sites", [(2, 5, 8), tuple(range(3, 40, 3))], ids=["three", "thirteen"])
def test_the_sum_of_every_step_is_exact_and_proven(sites):
    world = SealedWorld(sites)
    server = world.open()
    for step in range(1, 5):
        world.run_step(server, step)
    assert len(world.sums) == 4
    assert not np.array_equal(world.sums[0].lanes, world.sums[1].lanes)
