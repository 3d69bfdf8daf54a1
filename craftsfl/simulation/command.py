"""`craftsfl simulate`: a study before it costs anything, in one process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from craftsfl.simulation.config import SimulationProgress


class SimulatedArm(StrEnum):
    """Whose noise, and whose patients."""

    POOLED = "pooled"
    LOCAL = "local"
    CENTRAL = "central"
    ALONE = "alone"
    NOISE_OFF = "noise-off"


def simulate_study(
    study: Annotated[Path, typer.Argument(help="The study's manifest, study.toml.")],
    sites: Annotated[
        int | None, typer.Option(min=1, help="How many sites; the study's own if left out.")
    ] = None,
    patients: Annotated[
        int | None,
        typer.Option(min=1, help="Patients of each site; as the study declares if left out."),
    ] = None,
    arm: Annotated[
        SimulatedArm | None,
        typer.Option(
            help="pooled or local: the noise of all sites together, or of each by itself; the "
            "study's own if left out. central: one data set with the noise that opens. alone: one "
            "site. noise-off: no privacy at all."
        ),
    ] = None,
    directory: Annotated[
        Path,
        typer.Option("--dir", help="Keeps everything; the same command goes on where it stopped."),
    ] = Path("simulation"),
    data: Annotated[
        Path | None,
        typer.Option(help="Public tiles in place of drawn tissue: one sub-folder for each site."),
    ] = None,
    base: Annotated[
        str | None, typer.Option(help='Another base than the study\'s: "tiny", or a folder.')
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, help="Of the tissue, and of draws and noise where no agents are.")
    ] = 0,
    held_out: Annotated[
        int, typer.Option(min=2, help="Drawn patients on whom the gain is measured.")
    ] = 60,
    alone: Annotated[
        str | None, typer.Option(help="Which site trains in the arm alone; else the first.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or mps.")] = "cpu",
    mlflow: Annotated[
        str | None, typer.Option(help="Log the finished arm to this MLflow tracking URI.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Simulate a study with any number of sites: same agents, same messages, one process.

    Slots are not waited for. A simulation that was killed goes on with the
    step after the last finished one. Further arms in the same folder share
    its tissue, and are shown beside each other.
    """
    from craftsfl.simulation.config import SimulationConfig
    from craftsfl.simulation.report import show, warn

    config = SimulationConfig(
        study=study,
        folder=directory,
        sites=sites,
        patients=patients,
        arm=None if arm is None else arm.value,
        seed=seed,
        held_out=held_out,
        data=data,
        base=base,
        alone=alone,
        device=device,
        mlflow=mlflow,
    )
    warn(arm is SimulatedArm.NOISE_OFF, data)
    from model.heap import keep_freed_memory
    from model.importing import quick_imports

    keep_freed_memory()
    with quick_imports():
        from craftsfl.simulation.run import simulate, simulated_results

    with _shown() as progress:
        result = simulate(config, progress)
    show(result, simulated_results(config), as_json)


@contextmanager
def _shown() -> Iterator[SimulationProgress]:
    """A bar on standard error: what is done, and how much of it."""
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import TimeElapsedColumn as Elapsed

    from craftsfl.terminal import progress_bars

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Elapsed())
    with progress_bars(*columns) as bar:
        task = bar.add_task("starting", total=1)
        yield lambda what, done, total: bar.update(
            task, description=what, completed=done, total=total
        )
