"""`craftsfl model sample`: a picture of what a model draws, or a data set for a training job."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from craftsfl.model.adapter_source import FoundAdapter, find_adapter
from craftsfl.model.bases import find
from craftsfl.model.outputs import check_picture, unwritable
from model.base import Pipeline, load_base
from model.devices import pick_device
from model.generation.adapter import check_adapter, put_adapter
from model.generation.provenance import Drawing, software, write_png
from model.lab.control.conditions import Fit
from model.lab.control.guided import control_pipeline
from model.lab.control.network import Control, find_control, load_control
from model.lab.control.reading import Condition, ConditionKind, read_conditions
from model.lab.drawing.comparison import Guide, compare_shots
from model.lab.drawing.folder import DrawingOrder, draw_folder, open_drawing, provenance_of_all
from model.lab.drawing.prompts import Prompt, Words, plain_prompts, read_prompts, type_prompts
from model.lab.drawing.shots import Shot, shots
from model.origin import Origin
from model.sampling import SamplerSettings
from privacy.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to draw: texts, a file of them, cancer types; seeds and count as for `shots`.

    words: those of the cancer types' prompts; None: the words that the base knows.
    """

    texts: tuple[str, ...] = ()
    file: Path | None = None
    types: tuple[str, ...] = ()
    words: Words | None = None
    seeds: tuple[int, ...] = ()
    count: int = 1


@dataclass(frozen=True, slots=True)
class DrawingModels:
    """What draws: `base` as for `craftsfl.model.bases.find`, `adapter` as for `find_adapter`."""

    base: str | None = None
    adapter: str | None = None
    tracking_uri: str | None = None


@dataclass(frozen=True, slots=True)
class Follow:
    """Masks or fluorescence that the pictures follow; control: a folder, or the shipped one."""

    kind: ConditionKind
    path: Path
    control: str | None = None
    fit: Fit = "resize"
    strength: float = 1.0


@dataclass(frozen=True, slots=True)
class DrawingRequest:
    """Everything that the command line asks for."""

    wanted: Wanted
    models: DrawingModels
    settings: SamplerSettings
    follow: Follow | None = None


@dataclass(frozen=True, slots=True)
class Summary:
    """The result: pictures in the folder, and how many of them were there before."""

    images: int
    found: int


def draw_grid(request: DrawingRequest, out: Path, *, overwrite: bool = False) -> None:
    """Write one picture to `out`, every prompt and seed a row: before and after an adapter.

    Raises `CraftsflError` before any sampling if it cannot.
    """
    check_picture(out, overwrite=overwrite)
    with _studio(request) as studio:
        adapter = studio.adapter.path if studio.adapter is not None else None
        picture = compare_shots(
            studio.pipeline, adapter, studio.shots, request.settings, studio.guide(request)
        )
        try:
            write_png(picture, out, provenance_of_all(studio.shots, studio.drawing(request)))
        except OSError as error:
            raise unwritable(out, error, "--out") from None


def draw_into(
    request: DrawingRequest,
    folder: Path,
    on_progress: Callable[[int, int], None],
    begins: Callable[[Drawing], None] | None = None,
    *,
    option: str = "--out-dir",
) -> Summary:
    """Fill a folder; see `model.lab.drawing.folder`. Raises `CraftsflError`.

    begins(drawing) is told what draws, before anything is written; it may raise. `option`: with
    which the command names the folder, for its errors.
    """
    with _studio(request) as studio:
        if begins is not None:
            begins(studio.drawing(request))
        order = DrawingOrder(studio.shots, studio.drawing(request), request.settings)
        try:
            missing = len(open_drawing(folder, order))
            if studio.adapter is not None:
                put_adapter(studio.pipeline, studio.adapter.path)
            guide = studio.guide(request) or Guide(studio.pipeline)
            draw_folder(
                guide.pipeline, order, folder, strength=guide.strength, on_progress=on_progress
            )
        except OSError as error:
            raise unwritable(folder, error, option) from None
    return Summary(len(studio.shots), len(studio.shots) - missing)


@dataclass(frozen=True)
class _Studio:
    """Everything that was found and read, after checking that it fits together."""

    pipeline: Pipeline
    base: str
    shots: tuple[Shot, ...]
    adapter: FoundAdapter | None
    origin: Origin | None
    control: Control | None

    def guide(self, request: DrawingRequest) -> Guide | None:
        if self.control is None or request.follow is None:
            return None
        return Guide(control_pipeline(self.pipeline, self.control), request.follow.strength)

    def drawing(self, request: DrawingRequest) -> Drawing:
        adapter, control, follow = self.adapter, self.control, request.follow
        return Drawing(
            base=self.base,
            steps=request.settings.steps,
            guidance=request.settings.guidance,
            software=software(),
            adapter=adapter.digest if adapter is not None else None,
            adapter_source=adapter.source if adapter is not None else None,
            origin=self.origin,
            control=control.digest if control is not None else None,
            strength=follow.strength if follow is not None else None,
        )


@contextmanager
def _studio(request: DrawingRequest) -> Iterator[_Studio]:
    """Everything ready to draw; an adapter from MLflow exists as long as the block."""
    models, wanted = request.models, request.wanted
    with tempfile.TemporaryDirectory(prefix="craftsfl-") as folder:
        base = find(models.base)
        prompts = _prompts(wanted, "tissue" if base.embedded else "clinical")
        adapter = None
        if models.adapter is not None:
            adapter = find_adapter(models.adapter, models.tracking_uri, Path(folder))
        pipeline = load_base(base.folder, pick_device("auto"))
        control, conditions = _conditions(request, pipeline)
        origin = None
        if adapter is not None:
            origin = check_adapter(pipeline, adapter.path, base.digest).origin
        every = shots(prompts, wanted.seeds, conditions, count=wanted.count)
        yield _Studio(pipeline, base.digest, every, adapter, origin, control)


def _prompts(wanted: Wanted, words: Words) -> tuple[Prompt, ...]:
    found = (
        *plain_prompts(wanted.texts),
        *(read_prompts(wanted.file) if wanted.file is not None else ()),
        *(type_prompts(wanted.types, wanted.words or words) if wanted.types else ()),
    )
    if not found:
        raise ConfigError(
            "There is nothing to draw.", "Give prompts, --prompts FILE or --cancer-type CODE."
        )
    return tuple({prompt.text: prompt for prompt in found}.values())


def _conditions(
    request: DrawingRequest, pipeline: Pipeline
) -> tuple[Control | None, tuple[Condition, ...]]:
    follow = request.follow
    if follow is None:
        return None, ()
    control = load_control(find_control(follow.control), pipeline.unet.device)
    side = request.settings.size
    if side not in (None, control.spec.size):
        raise ConfigError(
            f"--size is {side}, but the control draws {control.spec.size} px.", "Leave --size out."
        )
    control_pipeline(pipeline, control)  # does it fit?
    return control, read_conditions(follow.kind, follow.path, control.spec, fit=follow.fit)
