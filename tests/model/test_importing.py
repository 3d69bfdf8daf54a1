"""The garbage collector while large libraries are imported."""

from __future__ import annotations

import gc

import pytest

from model.importing import quick_imports


@pytest.mark.parametrize("enabled", [True, False])
def test_the_collector_rests_meanwhile_and_is_as_before_afterwards(enabled: bool) -> None:
    before = gc.isenabled()
    try:
        (gc.enable if enabled else gc.disable)()
        with pytest.raises(RuntimeError), quick_imports():
            assert not gc.isenabled()
            raise RuntimeError
        assert gc.isenabled() is enabled
    finally:
        (gc.enable if before else gc.disable)()


def test_what_was_imported_is_exempt_from_collections() -> None:
    """It stays exempt: without that, the session's collector would walk what all tests import."""
    before = gc.get_freeze_count()
    with quick_imports():
        kept: list[list[None]] = [[] for _ in range(10)]
    assert gc.get_freeze_count() >= before + len(kept)
