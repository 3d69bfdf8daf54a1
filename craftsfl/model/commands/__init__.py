"""`craftsfl model`: base models, samples, evaluation. A module for each command."""

from __future__ import annotations

from collections.abc import Callable

import typer

from craftsfl.model.commands.control_fidelity import control_fidelity
from craftsfl.model.commands.describe import describe
from craftsfl.model.commands.evaluate import evaluate
from craftsfl.model.commands.install import install
from craftsfl.model.commands.margin import margin
from craftsfl.model.commands.pretrain import pretrain
from craftsfl.model.commands.pretrain_control import pretrain_control
from craftsfl.model.commands.pretrain_encoder import pretrain_encoder
from craftsfl.model.commands.sample import sample

app = typer.Typer(help="Base models: pretrain, install, sample, evaluate.", no_args_is_help=True)
_COMMANDS: tuple[Callable[..., None], ...] = (
    pretrain,
    pretrain_encoder,
    pretrain_control,
    install,
    sample,
    margin,
    describe,
    control_fidelity,
    evaluate,
)
for command in _COMMANDS:
    app.command()(command)
