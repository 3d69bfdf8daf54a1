from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(scope="package", autouse=True)
def one_thread() -> Iterator[None]:
    """Networks this small get up to 30 times slower where threads share busy cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The reference engine on whole UNets takes a minute; on the mixer it runs with the others."""
    for item in items:
        if "test_contract" in item.nodeid and "-opacus" in item.nodeid:
            if "unet-opacus" in item.nodeid and "conv" not in item.nodeid:
                item.add_marker(pytest.mark.ci)
            if "mixer" not in item.nodeid:
                item.add_marker(pytest.mark.slow)
