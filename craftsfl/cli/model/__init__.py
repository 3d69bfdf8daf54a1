"""`craftsfl model`: base models, samples, evaluation. A module for each command."""

from __future__ import annotations

from collections.abc import Callable

import typer

from craftsfl.cli.model.control_fidelity import control_fidelity
from craftsfl.cli.model.describe import describe
from craftsfl.cli.model.evaluate import evaluate
from craftsfl.cli.model.install import install
from craftsfl.cli.model.margin import margin
from craftsfl.cli.model.pretrain import pretrain
from craftsfl.cli.model.pretrain_control import pretrain_control
from craftsfl.cli.model.pretrain_encoder import pretrain_encoder
from craftsfl.cli.model.sample import sample

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
