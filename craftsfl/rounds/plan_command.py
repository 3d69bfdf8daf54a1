"""`craftsfl rounds plan`: what a study would teach and cost, before any patient pays for it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

_Who, _What, _Promise, _Then = "Who takes part", "What is trained", "What is promised", "What then"


def rounds_plan(
    site: Annotated[
        list[str] | None,
        typer.Option(help="A site, as NAME=PATIENTS; repeatable.", rich_help_panel=_Who),
    ] = None,
    sites: Annotated[
        int | None, typer.Option(help="Instead: how many sites.", rich_help_panel=_Who)
    ] = None,
    patients: Annotated[
        int | None, typer.Option(help="And how many patients each.", rich_help_panel=_Who)
    ] = None,
    colluders: Annotated[
        int,
        typer.Option(
            help="n_c: so many sites may tell the coordinator their noise.", rich_help_panel=_Who
        ),
    ] = 1,
    min_sites: Annotated[
        int | None,
        typer.Option(
            help="Fewest sites of a step; by default what policies allow.", rich_help_panel=_Who
        ),
    ] = None,
    base: Annotated[
        str, typer.Option(help='"tiny", or the folder of a base.', rich_help_panel=_What)
    ] = "tiny",
    layout: Annotated[
        str | None,
        typer.Option(
            help="A rehearsed adapter: last-self-attention or attentions. By default, that which "
            "learns most.",
            rich_help_panel=_What,
        ),
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(help="Instead: a layer to adapt; repeatable.", rich_help_panel=_What),
    ] = None,
    rank: Annotated[
        int, typer.Option(help="Its rank, with --target.", min=1, rich_help_panel=_What)
    ] = 1,
    steps: Annotated[int, typer.Option(help="T: steps.", rich_help_panel=_What)] = 40,
    spare_attempts: Annotated[
        int | None,
        typer.Option(help="A: steps that may be lost; by default 5 %.", rich_help_panel=_What),
    ] = None,
    tiles: Annotated[
        int, typer.Option(help="Tiles of a patient in a step.", rich_help_panel=_What)
    ] = 1,
    draws: Annotated[
        int, typer.Option(help="(t, noise) draws of a tile.", rich_help_panel=_What)
    ] = 1,
    clipping_norm: Annotated[
        float | None,
        typer.Option(
            help="C; by default small, so that nearly every gradient is clipped.",
            rich_help_panel=_What,
        ),
    ] = None,
    gradient_seconds: Annotated[
        float | None,
        typer.Option(
            help="What one patient's gradient takes at the slowest site; by default estimated from "
            "this machine's speed.",
            rich_help_panel=_What,
        ),
    ] = None,
    slot: Annotated[
        float | None,
        typer.Option(help="Seconds of a step; by default twice training.", rich_help_panel=_What),
    ] = None,
    rehearsals: Annotated[
        Path | None,
        typer.Option(
            help="Rehearsals of another base, instead of those that ship.", rich_help_panel=_What
        ),
    ] = None,
    epsilon: Annotated[
        float, typer.Option(help="Of the whole study.", rich_help_panel=_Promise)
    ] = 8.0,
    delta: Annotated[
        float | None,
        typer.Option(
            help="By default min(1e-5, 1/(10 N)), divided by --studies.", rich_help_panel=_Promise
        ),
    ] = None,
    studies: Annotated[
        int,
        typer.Option(
            help="Studies like this one, one after the other, that share a hospital's delta.",
            min=1,
            rich_help_panel=_Promise,
        ),
    ] = 2,
    json: Annotated[
        bool, typer.Option("--json", help="Print JSON instead.", rich_help_panel=_Then)
    ] = False,
    svg: Annotated[
        Path | None, typer.Option(help="Draw the plan into this file.", rich_help_panel=_Then)
    ] = None,
    write: Annotated[
        Path | None,
        typer.Option(
            help="Write the study file, with every bound of the plan in it.",
            rich_help_panel=_Then,
        ),
    ] = None,
    name: Annotated[
        str, typer.Option(help="The study's name, with --write.", rich_help_panel=_Then)
    ] = "planned",
    rehearse: Annotated[
        bool,
        typer.Option(
            "--rehearse",
            help="Train the plan on as many drawn patients, with its noise: minutes to hours.",
            rich_help_panel=_Then,
        ),
    ] = False,
    seed: Annotated[
        int, typer.Option(help="Of drawn patients, with --rehearse.", min=0, rich_help_panel=_Then)
    ] = 0,
) -> None:
    """Say what a study would teach and cost, before any patient pays for it.

    Nothing is started and nobody's data is read: noise follows from the
    promise, and what can be learnt through it from rehearsals on synthetic
    tissue. Shows the same for sites that each add all of their own noise,
    and for the largest site alone.
    """
    from craftsfl.rounds.plan_text import show_plan
    from craftsfl.rounds.planning import PlanOptions, after_plan, plan_json, plan_of
    from craftsfl.terminal import output

    options = PlanOptions(
        site=tuple(site or ()),
        sites=sites,
        patients=patients,
        base=base,
        layout=layout,
        target=tuple(target or ()),
        rank=rank,
        epsilon=epsilon,
        delta=delta,
        studies=studies,
        steps=steps,
        spare_attempts=spare_attempts,
        colluders=colluders,
        min_sites=min_sites,
        clipping_norm=clipping_norm,
        tiles=tiles,
        draws=draws,
        slot=slot,
        gradient_seconds=gradient_seconds,
        rehearsals=rehearsals,
    )
    plan = plan_of(options)
    if json:
        typer.echo(plan_json(plan))
    else:
        show_plan(plan, output())
    if svg is not None:
        from craftsfl.rounds.plan_picture import write_picture

        write_picture(plan, svg)
    if write is not None:
        for line in after_plan(plan, options, name, write):
            typer.echo(line, err=json)
    if rehearse:
        from craftsfl.rounds.plan_rehearsal import rehearse_plan

        typer.echo(rehearse_plan(plan, options.base, seed), err=json)
