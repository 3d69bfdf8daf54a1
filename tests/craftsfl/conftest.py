from __future__ import annotations

import functools
from collections.abc import Iterator

import pytest

from tests.figures import remembered_figures as remembered_figures


@pytest.fixture(scope="session", autouse=True)
def this_machine_is_timed_once() -> Iterator[None]:
    """Every plan and every new demo times this machine, a large part of what they do in a test."""
    from craftsfl.demo import workspace
    from craftsfl.rounds import planning

    timed_once = functools.cache(planning.probe)
    with pytest.MonkeyPatch.context() as patch:
        for module in (planning, workspace):
            patch.setattr(module, "probe", timed_once)
        yield
