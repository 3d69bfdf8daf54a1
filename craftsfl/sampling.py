"""`craftsfl model sample`: a picture of what a base, or a base with an adapter, draws."""

from __future__ import annotations

from pathlib import Path

from model.base import load_base
from model.cache import find_base, install_base, shipped_base
from model.devices import pick_device
from model.digest import folder_digest
from model.sampling import Pictures, compare_adapter
from privacy.config import check
from privacy.errors import ConfigError, DeploymentError, ModelError
from privacy.manifest import Base


def draw(pictures: Pictures, *, base: str | None, adapter: Path | None, out: Path) -> None:
    """Write the grid to `out`; raises `CraftsflError` before any sampling if it cannot.

    `base` is a digest, a pipeline's folder, or None for the embedded tiny base.
    """
    if out.suffix.lower() != ".png":
        raise ConfigError(f"{out} is no PNG file name.", "Name it something.png.")
    if not out.parent.is_dir():
        raise ConfigError(f"{out.parent} is no folder.", "Make it first.")
    if adapter is not None and not adapter.is_file():
        raise ConfigError(f"{adapter} is no file.", "Give the adapter's .safetensors file.")
    grid = compare_adapter(load_base(_find(base), pick_device("auto")), adapter, pictures)
    try:
        grid.save(out)
    except OSError as error:
        raise DeploymentError(
            f"{out} cannot be written: {error.strerror}.", "Choose another place with --out."
        ) from None


def _find(base: str | None) -> Path:
    if base is None:
        shipped = shipped_base()
        if shipped is None:
            raise ModelError("The embedded tiny base is missing.", "Name one with --base.")
        return find_base(Base(digest=install_base(shipped), source="tiny"))
    if base.startswith("sha256:"):
        return find_base(check({"digest": base, "source": "cache"}, Base, where="--base"))
    folder = Path(base)
    return find_base(Base(digest=folder_digest(folder), source=str(folder.resolve())))
