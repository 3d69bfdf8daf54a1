from __future__ import annotations

import pytest

from tests.privacy.secagg.sealed.world import SealedWorld


@pytest.fixture
def world() -> SealedWorld:
    """Four sites that no session has been opened for."""
    return SealedWorld()
