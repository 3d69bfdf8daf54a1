from __future__ import annotations

from typing import Any

import pytest

from tests.model.losses.worlds import World, make_world


@pytest.fixture
def world(tiny_pipeline: Any) -> World:
    return make_world(tiny_pipeline)
