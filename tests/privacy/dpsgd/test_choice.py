from __future__ import annotations

import subprocess
import sys

import pytest
from torch import nn

from privacy.dpsgd.choice import choose_engine
from privacy.dpsgd.lora_engine import LoraEngine
from privacy.dpsgd.opacus_engine import OpacusEngine
from privacy.errors import ModelError
from tests.privacy.dpsgd.worlds import attach, conv_unet, frozen_a_unet, mixer, unet


@pytest.mark.parametrize("make", [mixer, unet, conv_unet, frozen_a_unet])
def test_lora_gets_the_engine_for_lora(make: type) -> None:
    world = make()
    assert type(choose_engine(world.module, world.parameters)) is LoraEngine


@pytest.mark.parametrize("name", ["one", "norm"])
def test_other_trainable_layers_get_opacus(name: str) -> None:
    world = mixer()
    world.module.get_submodule(name).requires_grad_(True)
    with choose_engine(world.module, world.parameters) as engine:
        assert type(engine) is OpacusEngine


def test_lora_of_layers_without_a_rule_gets_opacus() -> None:
    module = nn.Sequential(nn.Conv1d(4, 4, 3))
    attach(module, ["0"])
    parameters = [p for p in module.parameters() if p.requires_grad]
    with choose_engine(module, parameters) as engine:
        assert type(engine) is OpacusEngine


def test_what_neither_can_clip_is_refused() -> None:
    layer = nn.PReLU()
    with pytest.raises(ModelError, match="No rule for"):
        choose_engine(layer, list(layer.parameters()))


def test_opacus_is_not_imported_for_lora() -> None:
    program = "import sys, privacy.dpsgd.choice; sys.exit('opacus' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], timeout=120, check=False).returncode == 0
