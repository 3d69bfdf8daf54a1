from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

# What of the contract the reference engine shows on a whole UNet for every change.
REFERENCE = (
    "test_each_patients_gradient_is_the_plain_loops",
    "test_the_sum_is_of_clipped_gradients",
    "test_what_others_hold_changes_not_one_bit",
    "test_the_others_contributions_stay",
)
# On whole UNets each of these runs with one parameter, and the mixer with all of them.
OTHER_PARAMETERS = {
    "test_one_patient_moves_the_sum_by_at_most_the_clip": ("0.001",),
    "test_a_hostile_adapter_moves_it_by_no_more": ("0.2", "1.0"),
}


@pytest.fixture(scope="package", autouse=True)
def one_thread() -> Iterator[None]:
    """Networks this small get up to 30 times slower where threads share busy cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The reference engine on whole UNets takes a minute; on the mixer it runs with the others.

    `conv` has the layers of `unet` and more, so that the other engine need not run on both.
    """
    for item in items:
        if "test_contract" not in item.nodeid:
            continue
        if "[unet-opacus" in item.nodeid and any(name in item.nodeid for name in REFERENCE):
            item.add_marker(pytest.mark.ci)
        test, _, parameters = item.name.partition("[")
        others = tuple(f"-{value}]" for value in OTHER_PARAMETERS.get(test, ()))
        if parameters.startswith(("conv-lora", "frozen-a-lora")) and parameters.endswith(others):
            item.add_marker(pytest.mark.ci)
            item.add_marker(pytest.mark.slow)
        if "[unet-" in item.nodeid or ("-opacus" in item.nodeid and "mixer" not in item.nodeid):
            item.add_marker(pytest.mark.slow)
