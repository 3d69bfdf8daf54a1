"""`craftsfl model pretrain`: stage one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from privacy.errors import ConfigError

if TYPE_CHECKING:
    from model.lab.stage_one.run import Show


def model_pretrain(
    out: Annotated[
        Path, typer.Argument(help="The folder of the new base; resumed if interrupted.")
    ],
    base: Annotated[
        str | None,
        typer.Option(
            help="Continue from this pipeline: a folder, a hub id, or tiny. Needs --data."
        ),
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(
            help="Public pictures: a folder with metadata.csv or .jsonl, or shards as "
            "x-{000..010}.tar. May be given several times."
        ),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="Settings of --base, stage-one.toml; see docs.")
    ] = None,
    public: Annotated[
        bool,
        typer.Option("--public", help="The data are public, though they name patients."),
    ] = False,
    former: Annotated[
        Path | None,
        typer.Option(
            help="Without --base: go on from this tiny base of an earlier version, to other stains."
        ),
    ] = None,
    smoke: Annotated[
        bool,
        typer.Option(
            "--smoke", help="A few steps only, to see that it runs; the result draws noise."
        ),
    ] = False,
) -> None:
    """Stage one: the tiny base from procedural tissue, or a real base from public pictures."""
    if base is not None and former is not None:
        raise ConfigError(
            "--base and --former name two beginnings.",
            "Leave out one: --base trains on your pictures, --former on drawn tissue.",
        )
    if base is not None:
        _pretrain_base(out, (base, data or [], config), public=public, smoke=smoke)
    elif data or config or public:
        raise ConfigError(
            "--data, --config and --public need a base.",
            "Name one with --base (a folder, a hub id, or tiny), or leave all of them out.",
        )
    else:
        _pretrain_tiny(out, former, smoke=smoke)


def _pretrain_base(
    out: Path, what: tuple[str, list[str], Path | None], *, public: bool, smoke: bool
) -> None:
    from craftsfl.terminal import errors
    from model.cache import locate_base
    from model.importing import quick_imports
    from model.lab.stage_one.publicness import WARNING
    from model.lab.stage_one.settings import StageOneSettings
    from privacy.config import load_toml

    base, data, config = what
    settings = load_toml(config, StageOneSettings) if config else StageOneSettings()
    if os.environ.get("RANK", "0") == "0":
        errors().print(f"[bold white on red]{WARNING}[/]")
    with quick_imports():
        from model.lab.stage_one.run import Data, train_base
    settings = settings.smoke() if smoke else settings
    digest = train_base(locate_base(base), Data(data, public), out, settings, _bars())
    if digest is not None:
        typer.echo(f'For study.toml:\n\n[base]\ndigest = "{digest}"\nsource = "{out}"')


def _bars() -> Show:
    """Progress bars with loss and images per second, created when there is something to show."""
    from rich.progress import BarColumn, TaskID, TextColumn, TimeRemainingColumn

    from craftsfl.terminal import progress_bars
    from model.lab.stage_one.run import Show
    from model.lab.stage_one.trainer import TrainingReport

    columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[state]}")
    progress = progress_bars(*columns, TimeRemainingColumn())
    tasks: dict[str, TaskID] = {}

    def show(stage: str, done: int, total: int, state: str) -> None:
        if stage not in tasks:
            progress.start()
            tasks[stage] = progress.add_task(stage, total=total, state="")
        progress.update(tasks[stage], completed=done, state=state)
        if done == total:
            progress.stop()

    def trained(report: TrainingReport) -> None:
        state = f"loss {report.loss:.4f}, {report.images_per_second:.1f} images/s"
        show("training", report.step, report.steps, f"{report.step}/{report.steps} {state}")

    return Show(lambda done, total: show("latents", done, total, f"{done}/{total}"), trained)


def _pretrain_tiny(out: Path, former: Path | None, *, smoke: bool) -> None:
    from craftsfl.model.commands.bars import bars
    from craftsfl.model.outputs import check_new_folder
    from model.digest import INDEX, folder_digest

    check_new_folder(out, INDEX, "a base")
    from model.lab.pretraining import Recipe
    from model.lab.pretraining import pretrain_tiny_base as run

    with bars() as show:
        run(out, Recipe.smoke() if smoke else None, show, former=former)
    typer.echo(f"{out}: {folder_digest(out)}")
