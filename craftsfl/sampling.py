"""`craftsfl model sample`: a picture of what a base, or a base with an adapter, draws."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from model.sampling import before_after_grid, sample

from model.base import find_base, folder_digest, install_base, load_base, shipped_base
from model.devices import pick_device
from privacy.config import check
from privacy.errors import ConfigError, ModelError
from privacy.manifest import Base


@dataclass(frozen=True)
class SampleRequest:
    """What to draw: every prompt with every seed."""

    prompts: tuple[str, ...]
    seeds: tuple[int, ...]
    steps: int
    guidance: float
    base: str | None
    adapter: Path | None
    out: Path


def draw(request: SampleRequest) -> None:
    """Write the grid to `request.out`; raises `CraftsflError` before any sampling if it cannot."""
    if request.out.suffix.lower() != ".png":
        raise ConfigError(f"{request.out} is no PNG file name.", "Name it something.png.")
    if not request.out.parent.is_dir():
        raise ConfigError(f"{request.out.parent} is no folder.", "Make it first.")
    if request.adapter is not None and not request.adapter.is_file():
        raise ConfigError(f"{request.adapter} is no file.", "Give the adapter's .safetensors file.")
    pipeline = load_base(_find(request.base), device=pick_device("auto"))
    prompts = [prompt for prompt in request.prompts for _ in request.seeds]
    seeds = [seed for _ in request.prompts for seed in request.seeds]

    def images() -> list[object]:
        drawn = sample(pipeline, prompts, seeds, steps=request.steps, guidance=request.guidance)
        return list(drawn)

    before = images()
    after = None
    if request.adapter is not None:
        pipeline.load_lora_weights(str(request.adapter.parent), weight_name=request.adapter.name)
        after = images()
    before_after_grid(prompts, before, after).save(request.out)


def _find(base: str | None) -> Path:
    if base is None:
        shipped = shipped_base()
        if shipped is None:
            raise ModelError("The embedded tiny base is missing.", "Name one with --base.")
        digest = install_base(shipped)
        return find_base(Base(digest=digest, source="tiny"))
    if base.startswith("sha256:"):
        return find_base(check({"digest": base, "source": "cache"}, Base, where="--base"))
    folder = Path(base)
    return find_base(Base(digest=folder_digest(folder), source=str(folder.resolve())))
