"""`craftsfl model pretrain-control` and `control-fidelity`: train a control, or test one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from craftsfl.model.outputs import check_picture
from model.base import load_base
from model.cache import SHIPPED_BASE, locate_base
from model.devices import pick_device
from model.digest import folder_digest
from model.generation.adapter import put_adapter
from model.lab.control.fidelity import Fidelity
from model.lab.control.network import check_fits, find_control, load_control
from model.lab.control.pairs import listed
from model.lab.control.reading import ConditionKind
from model.lab.control.recipe import ControlRecipe
from model.lab.control.spec import ControlSpec
from model.lab.control.training import pretrain_control
from model.lab.control.trial import (
    Trial,
    TrialCase,
    TrialSettings,
    drawn_cases,
    file_cases,
    picture,
    run_trial,
)
from model.lab.pretraining.recipe import Progress
from privacy.errors import ConfigError, DeploymentError
from privacy.files import PUBLIC, replacing, write_public


@dataclass(frozen=True)
class TrialRequest:
    """What to sample in a trial: the kind of condition, which masks, how many.

    data: a public folder of images and masks, all captioned `prompt`; None for drawn tissue, `each`
    tiles of every morphology with captions of their own.
    """

    kind: ConditionKind
    data: Path | None = None
    prompt: str = ""
    each: int = 8
    setting: TrialSettings | None = None


@dataclass(frozen=True)
class TrialModels:
    """What is tested: base and control (the shipped ones for None), and an adapter's file."""

    base: str | None = None
    control: str | None = None
    adapter: Path | None = None


def train_control(out: Path, base: str | None, recipe: ControlRecipe, on_progress: Progress) -> str:
    """Train a control for a base (the shipped one for None); returns the control's digest."""
    pretrain_control(out, locate_base(base or SHIPPED_BASE), recipe, on_progress)
    return load_control(out).digest


def control_trial(question: TrialRequest, models: TrialModels) -> Trial:
    """Sample and score. Raises `ModelError` for parts that do not fit each other."""
    device = pick_device("auto")
    control = load_control(find_control(models.control), device)
    base = locate_base(models.base or SHIPPED_BASE)
    pipeline = load_base(base, device)
    check_fits(pipeline, control)
    if models.adapter is not None:
        put_adapter(pipeline, models.adapter, folder_digest(base))
    return run_trial(pipeline, control, list(_cases(question, control.spec)), question.setting)


def check_trial_files(picture_to: Path | None, json_to: Path | None) -> None:
    """Raise `ConfigError` for places that no result can be written to, before anything is drawn."""
    if picture_to is not None:
        check_picture(picture_to, overwrite=True)
    if json_to is not None and (json_to.is_dir() or not json_to.parent.is_dir()):
        raise ConfigError(
            f"{json_to} cannot be a file: it is a folder, or in none.", "Name another with --json."
        )


def write_trial(done: Trial, picture_to: Path | None, json_to: Path | None) -> None:
    """Write the picture of up to 12 cases, and the rows of the fidelity."""
    if picture_to is not None and picture_to.suffix.lower() != ".png":
        raise ConfigError(f"{picture_to} is not a PNG file name.", "Name it something.png.")
    count = len(done.cases)
    chosen = sorted({count * k // 12 for k in range(12)})
    try:
        if picture_to is not None:
            with replacing(picture_to, PUBLIC) as stream:
                picture(done, chosen).save(stream, "PNG")
        if json_to is not None:
            write_public(json_to, _json(done.fidelity).encode("utf-8"))
    except OSError as error:
        place = error.filename or "The result"
        raise DeploymentError(
            f"{place} cannot be written: {error.strerror}.",
            "Name another place with --picture or --json.",
        ) from None


def _json(fidelity: Fidelity) -> str:
    return json.dumps(fidelity.rows(), indent=1) + "\n"


def _cases(question: TrialRequest, spec: ControlSpec) -> Iterator[TrialCase]:
    if question.data is None:
        return drawn_cases(spec, question.kind, question.each)
    return file_cases(listed(question.data), spec, question.kind, question.prompt)
