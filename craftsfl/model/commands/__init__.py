"""`craftsfl model`: base models, samples, evaluation. A module for each command."""

from __future__ import annotations

from collections.abc import Callable

import typer

from craftsfl.model.commands.atlas import model_atlas
from craftsfl.model.commands.augment import model_augment
from craftsfl.model.commands.control_fidelity import model_control_fidelity
from craftsfl.model.commands.describe import model_describe
from craftsfl.model.commands.evaluate import model_evaluate
from craftsfl.model.commands.install import model_install
from craftsfl.model.commands.margin import model_margin
from craftsfl.model.commands.phrases import model_phrases
from craftsfl.model.commands.pretrain import model_pretrain
from craftsfl.model.commands.pretrain_control import model_pretrain_control
from craftsfl.model.commands.pretrain_encoder import model_pretrain_encoder
from craftsfl.model.commands.reader_study import reader_study
from craftsfl.model.commands.sample import model_sample

app = typer.Typer(
    help="Base models: pretrain, install, sample, evaluate.",
    no_args_is_help=True,
    suggest_commands=False,
)
_COMMANDS: dict[str, Callable[..., None]] = {
    "pretrain": model_pretrain,
    "pretrain-encoder": model_pretrain_encoder,
    "pretrain-control": model_pretrain_control,
    "install": model_install,
    "sample": model_sample,
    "atlas": model_atlas,
    "margin": model_margin,
    "phrases": model_phrases,
    "describe": model_describe,
    "control-fidelity": model_control_fidelity,
    "evaluate": model_evaluate,
    "augment": model_augment,
}
for _name, _command in _COMMANDS.items():
    app.command(_name)(_command)
app.add_typer(reader_study, name="reader-study")
