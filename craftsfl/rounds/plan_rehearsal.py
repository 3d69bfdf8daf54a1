"""`craftsfl rounds plan --rehearse`: the plan's steps on drawn patients, with its noise."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from craftsfl.planning.plan import StudyPlan
from craftsfl.planning.stage import HELD_OUT, RehearsalStage, recovered, steps_of
from craftsfl.planning.tissue import by_hospital, drawn_sites
from craftsfl.planning.words import time_words
from craftsfl.rounds.planning import base_folder
from craftsfl.terminal import progress_bars, say
from model.base import load_base
from model.cache import base_cache
from model.digest import folder_digest

_AT_LEAST: Final = 1.5  # what measuring adds to training, roughly


def rehearse_plan(plan: StudyPlan, base: str, seed: int) -> str:
    """What was recovered of the best noise-off run, in words.

    The same patients, drawn by `seed`, without noise and with the plan's; measured on others.
    """
    asked, known = plan.asked, plan.known
    steps = steps_of(plan)
    private = steps.in_a_step(asked.patients, asked.parameters)
    without = steps.without_noise(1.0).in_a_step(asked.patients, asked.parameters)
    if known.gradient_seconds is not None:
        rows = asked.steps * (private + without)
        long = time_words(_AT_LEAST * rows * known.gradient_seconds)
        say(f"Rehearsing on {asked.patients} drawn patients: about {long}.")
    folder = base_folder(base)
    pipeline = load_base(folder)
    patients = by_hospital([site.declared_patients for site in asked.sites])
    cache = base_cache().parent / "rehearsals" / folder_digest(folder).removeprefix("sha256:")[:16]
    with _shown() as show:
        sites = drawn_sites(pipeline, patients, HELD_OUT, seed, cache)
        stage = RehearsalStage(pipeline, asked.adapter, sites, seed)
        rate = known.layout.reference_rate
        reference = stage.noise_off(
            rate, known.clipping_norm, asked.steps, lambda *at: show("without noise", *at)
        )
        trained = stage.private(steps, lambda *at: show("with the plan's noise", *at))
    share = recovered(trained.gains, reference)
    lesson = known.recovery.lesson(share.middle)
    verdict = "agrees with" if known.recovery.agrees(plan.pooled.lesson, share) else "contradicts"
    return (
        f"Rehearsed: {share.middle:.2f} ({share.low:.2f} to {share.high:.2f}) of what the same "
        f"steps teach without noise was recovered: {lesson}. That {verdict} the plan "
        f"({plan.pooled.share.middle:.2f}: {plan.pooled.lesson}). The interval is over "
        f"{len(reference)} held-out patients; another draw of the noise (--seed) moves it further."
    )


@contextmanager
def _shown() -> Iterator[Callable[[str, int, int], None]]:
    """Yield show(what, step, steps), which draws a bar for each `what`."""
    from rich.progress import BarColumn, TaskID, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with progress_bars(*columns) as bars:
        tasks: dict[str, TaskID] = {}

        def show(what: str, step: int, steps: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=steps)
            bars.update(tasks[what], completed=step)

        yield show
