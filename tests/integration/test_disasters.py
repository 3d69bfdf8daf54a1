"""What takes minutes: a cut link, a wrong clock, an expired certificate, a coordinator that hangs.

Each is survived, and named within a minute at the desks that can do something about it: the rows of
`bench.faults disasters`, one of each.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.disasters import DISASTERS, Disaster, disaster
from bench.far_site import OPERATOR, NoCableError
from bench.plane_study import PLANE_SITES

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(900)]

NAMED = 60.0  # seconds within which a desk is told that can do something about it
# Flower counts a node as connected for up to 60 s after its last sign, whatever became of it; the
# hospital itself is told long before.
AWAY = 90.0


@pytest.mark.parametrize("fault", DISASTERS)
def test_it_is_named_within_a_minute_and_the_study_goes_on(fault: Disaster, tmp_path: Path) -> None:
    try:
        found = disaster(fault, tmp_path / "plane")
    except NoCableError as error:
        pytest.skip(str(error))
    names = {one.name for one in found.told}
    assert OPERATOR in names
    assert names & set(PLANE_SITES)
    for told in found.told:
        assert told.seconds is not None, told
        assert told.seconds <= (AWAY if "is not connected" in told.said else NAMED), told
    assert found.resumed
    assert (found.double, found.uncaused) == (0, 0)
