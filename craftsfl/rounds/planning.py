"""`craftsfl rounds plan`: from the options of a command to a plan, and where it is written."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from craftsfl.planning.base_layers import parameters_of
from craftsfl.planning.plan import Known, PlannedMode, StudyPlan, nearest_layout, planned
from craftsfl.planning.probe import probe
from craftsfl.planning.rehearsed import (
    RehearsalTable,
    RehearsedLayout,
    load_rehearsals,
    shipped_rehearsals,
)
from craftsfl.planning.request import (
    FEWEST_PATIENTS,
    MOST_PATIENTS,
    MOST_SITES,
    PlanRequest,
    default_delta,
    default_min_sites,
    default_spare,
)
from craftsfl.planning.study_file import StudyNames, planned_study_text, policy_lines
from craftsfl.planning.words import grounds_words, mending_words, verdict_words
from model.cache import SHIPPED_BASE, locate_base, shipped_base
from model.digest import folder_digest
from privacy.accounting.bounds import MIN_DELTA
from privacy.config import check
from privacy.errors import ConfigError
from privacy.files import write_public
from privacy.home import from_home
from privacy.study.manifest import STUDY_NAME, Adapter, Site, Study, load_study
from privacy.visible import marked
from privacy.wire.bodies import SITE_NAME

_USUAL_TARGETS: Final = ("to_v", "to_out.0")


@dataclass(frozen=True)
class PlanOptions:
    """What was typed; None and () where nothing was."""

    site: tuple[str, ...] = ()
    sites: int | None = None
    patients: int | None = None
    base: str = "tiny"
    layout: str | None = None
    target: tuple[str, ...] = ()
    rank: int = 1
    epsilon: float = 8.0
    delta: float | None = None
    studies: int = 2  # that share a hospital's delta, where none is given
    steps: int = 40
    spare_attempts: int | None = None
    colluders: int = 1
    min_sites: int | None = None
    clipping_norm: float | None = None
    tiles: int = 1
    draws: int = 1
    slot: float | None = None
    gradient_seconds: float | None = None
    rehearsals: Path | None = None


def plan_of(options: PlanOptions) -> StudyPlan:
    """The plan that was asked for; of several rehearsed adapters that which learns most."""
    sites = tuple(_sites(options))
    folder = base_folder(options.base)
    own = options.rehearsals
    table = shipped_rehearsals() if own is None else load_rehearsals(own)
    # Large bases are not read for nothing: none of them is in the table that ships.
    may_be = own is not None or folder == shipped_base()
    on_rehearsed = may_be and folder_digest(folder) == table.base
    adapters = list(_adapters(options, table, on_rehearsed))
    seconds = _gradient_seconds(options, table, on_rehearsed)
    plans = []
    for adapter in adapters:
        asked = _request(options, sites, adapter, parameters_of(folder, adapter))
        plans.append(planned(asked, _known(asked, options, table, on_rehearsed, seconds)))
    return max(plans, key=lambda plan: plan.pooled.share.middle * plan.known.layout.reference)


def base_folder(source: str) -> Path:
    """Of "tiny" or of a folder: a plan downloads nothing. Raises `ConfigError` or `ModelError`."""
    if source != SHIPPED_BASE and not from_home(source).is_dir():
        raise ConfigError(
            f"The base {marked(source)} is not a folder here.",
            'Give "tiny", or the folder of a base; a plan downloads nothing.',
        )
    return locate_base(source)


def write_study(plan: StudyPlan, names: StudyNames, path: Path) -> Study:
    """Write the plan's study file, and return it as sites will read it. Replaces no file."""
    if path.exists():
        raise ConfigError(f"{path} exists already.", "Choose another name, or move it away.")
    text = planned_study_text(plan, names)
    hint = "Give --name a name of small letters, digits and hyphens."
    check(tomllib.loads(text), Study, where="rounds plan", hint=hint)  # before anything is written
    try:
        write_public(path, text.encode("utf-8"))
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be written: {error.strerror}.", "Choose another file."
        ) from None
    return load_study(path)


def after_plan(plan: StudyPlan, options: PlanOptions, name: str, path: Path) -> tuple[str, ...]:
    """Write the study file; what to say of it, and what hospitals' policies have to allow."""
    if not re.fullmatch(STUDY_NAME, name):
        raise ConfigError(
            f"--name {marked(name)}: a study's name has lower-case letters, digits and hyphens.",
            "At most 64 of them, no hyphen first, for instance --name glands-2.",
        )
    folder = base_folder(options.base)
    study = write_study(plan, StudyNames(name, folder_digest(folder), options.base), path)
    return (
        f"Wrote {path}. It still lacks what only the consortium has, the roster's digest and the "
        f"coordinator's key: craftsfl rounds add consortium.toml --study {shlex.quote(str(path))}",
        "Every hospital's policy.toml has to allow as much, as craftsfl site join writes it:",
        policy_lines(study, plan.asked.epsilon),
    )


def plan_json(plan: StudyPlan) -> str:
    """All figures, for scripts."""
    asked, known = plan.asked, plan.known
    values = {
        "sites": {site.name: site.declared_patients for site in asked.sites},
        "patients": asked.patients,
        "parameters": asked.parameters,
        "targets": asked.adapter.targets,
        "epsilon": asked.epsilon,
        "delta": asked.delta,
        "steps": asked.steps,
        "spare_attempts": asked.spare_attempts,
        "noise_colluders": asked.colluders,
        "clipping_norm": known.clipping_norm,
        "share_clipped": known.share_clipped,
        "coherence": known.coherence,
        "rehearsed": known.rehearsed,
        "learning_rate": plan.learning_rate,
        "verdict": plan.pooled.lesson,
        "words": verdict_words(plan),
        "mending": mending_words(plan),
        "grounds": grounds_words(plan),
        "modes": {mode.noise.mode: _mode_values(mode) for mode in plan.modes},
    }
    return json.dumps(values, indent=2, ensure_ascii=False)


def _mode_values(mode: PlannedMode) -> dict[str, object]:
    return {
        "sigma": mode.noise.sigma,
        "mu": mode.noise.mu,
        "noise_of_a_step": mode.noise.of_a_step,
        "rho": mode.noise.rho,
        "signal_to_noise": mode.snr,
        "recovered": asdict(mode.share),
        "verdict": mode.lesson,
        **asdict(mode.cost),
    }


def _sites(options: PlanOptions) -> Iterator[Site]:
    """From --site NAME=PATIENTS, or from --sites and --patients of each."""
    counted = options.sites is not None or options.patients is not None
    if counted == bool(options.site):
        raise ConfigError(
            "Who takes part? Give every site with --site, or their number and size.",
            "For instance --site north=160 --site harbour=200 --site hillside=120, or --sites 3 "
            "--patients 160.",
        )
    pairs = list(_counted(options)) if counted else [_pair(text) for text in options.site]
    for name, patients in pairs:
        where = f"site {name}"
        hint = f"Give a whole number of patients, {FEWEST_PATIENTS} to {MOST_PATIENTS}."
        yield check({"name": name, "declared_patients": patients}, Site, where=where, hint=hint)


def _counted(options: PlanOptions) -> Iterator[tuple[str, int]]:
    """`--sites` of `--patients` each; raises `ConfigError` unless both are given."""
    if options.sites is None or options.patients is None:
        raise ConfigError(
            "--sites says how many sites, --patients how many patients each has.",
            "Give both, for instance --sites 3 --patients 160.",
        )
    if options.sites > MOST_SITES:
        raise ConfigError(
            f"--sites {options.sites}: pooled noise is known for {MOST_SITES} sites at most.",
            "Give fewer; a thousand take a plan some seconds.",
        )
    yield from ((f"site-{n + 1}", options.patients) for n in range(options.sites))


def _pair(text: str) -> tuple[str, int]:
    """Name and number; raises `ConfigError` unless it is NAME=PATIENTS."""
    name, equals, patients = text.partition("=")
    if not equals or not patients.isdecimal() or not patients.isascii() or int(patients) < 1:
        raise ConfigError(
            f"--site {marked(text)} does not say how many patients.",
            "Write NAME=PATIENTS, with a whole number of patients from 1 on, for instance --site "
            "north=160.",
        )
    if not re.fullmatch(SITE_NAME, name):
        raise ConfigError(
            f"--site {marked(text)}: a site's name has lower-case letters, digits and hyphens.",
            "At most 32 of them, no hyphen first, and the same that the hospital gives to craftsfl "
            "site init --name: for instance --site north=160.",
        )
    return name, int(patients)


def _adapters(options: PlanOptions, table: RehearsalTable, on_rehearsed: bool) -> Iterator[Adapter]:
    if options.target and options.layout is not None:
        raise ConfigError("--layout and --target both name layers.", "Give one of them.")
    if options.rank != 1 and not options.target and (options.layout is not None or on_rehearsed):
        raise ConfigError(
            f"--rank {options.rank}: the adapters that were rehearsed have a rank of their own.",
            "Leave it out, or name layers with --target.",
        )
    if options.layout is not None:
        yield _adapter(_layout_named(table, options.layout))
    elif options.target or not on_rehearsed:
        targets, rank = options.target or _USUAL_TARGETS, options.rank
        yield Adapter(targets=targets, rank=rank, alpha=float(rank), frozen_a=True)
    else:
        yield from map(_adapter, table.layouts)


def _adapter(layout: RehearsedLayout) -> Adapter:
    return Adapter(
        targets=layout.targets, rank=layout.rank, alpha=float(layout.rank), frozen_a=True
    )


def _layout_named(table: RehearsalTable, name: str) -> RehearsedLayout:
    found = next((layout for layout in table.layouts if layout.name == name), None)
    if found is None:
        names = " or ".join(layout.name for layout in table.layouts)
        raise ConfigError(
            f"No adapter called {name!r} was rehearsed.",
            f"Use --layout {names}, or name layers with --target.",
        )
    return found


def _request(
    options: PlanOptions, sites: tuple[Site, ...], adapter: Adapter, parameters: int
) -> PlanRequest:
    spare, least = options.spare_attempts, options.min_sites
    return PlanRequest(
        sites=sites,
        adapter=adapter,
        parameters=parameters,
        epsilon=options.epsilon,
        delta=_delta(options, sites),
        steps=options.steps,
        spare_attempts=default_spare(options.steps) if spare is None else spare,
        colluders=options.colluders,
        min_sites=default_min_sites(len(sites)) if least is None else least,
        tiles=options.tiles,
        draws=options.draws,
        slot=options.slot,
        gradient_seconds=options.gradient_seconds,
    )


def _delta(options: PlanOptions, sites: tuple[Site, ...]) -> float:
    """What was typed; else an equal part of the largest delta for each of the studies planned."""
    if options.studies < 1:
        raise ConfigError(f"--studies {options.studies}: it has to be 1 or more.", "2 are usual.")
    if options.delta is not None:
        return options.delta
    share = default_delta(sites) / options.studies
    if share < MIN_DELTA:
        raise ConfigError(
            f"--studies {options.studies}: each would have a delta of {share:.1g}, below the "
            f"{MIN_DELTA:g} that can be accounted for.",
            "Plan fewer; 2 are usual.",
        )
    return share


def _known(
    asked: PlanRequest,
    options: PlanOptions,
    table: RehearsalTable,
    on_rehearsed: bool,
    seconds: float | None,
) -> Known:
    adapter = asked.adapter
    layout, same = nearest_layout(table, adapter.targets, adapter.rank, asked.parameters)
    norm = options.clipping_norm
    if norm is not None and not 0 < norm <= 1e6:
        raise ConfigError(
            f"--clipping-norm {norm:g}: it has to be above 0.",
            f"Leave it out: {layout.small_clip():g} clips nearly everybody.",
        )
    return Known(
        table,
        layout,
        rehearsed=same and on_rehearsed,
        clipping_norm=layout.small_clip() if norm is None else norm,
        gradient_seconds=seconds,
    )


def _gradient_seconds(
    options: PlanOptions, table: RehearsalTable, on_rehearsed: bool
) -> float | None:
    """As a site measured it, or the rehearsed base's, scaled by how fast this machine is now."""
    if options.gradient_seconds is not None:
        return options.gradient_seconds
    if not on_rehearsed:
        return None
    return table.gradient_seconds * min(probe() for _ in range(2)) / table.probe_seconds
