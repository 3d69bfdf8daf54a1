"""`--base`: a digest, a pipeline's folder, a name on the hub, or the embedded tiny base."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from model.cache import SHIPPED_BASE, find_base, install_base, locate_base, shipped_base
from model.digest import folder_digest
from privacy.config import check
from privacy.errors import ModelError
from privacy.study.manifest import Base


@dataclass(frozen=True, slots=True)
class FoundBase:
    """A pipeline's folder and its digest, "sha256:…"; `embedded`: craftsfl's own."""

    folder: Path
    digest: str
    embedded: bool


def find(base: str | None) -> FoundBase:
    """The base that `base` names; None and "tiny" mean the embedded one.

    Raises `ModelError` if it is not available, `ConfigError` for a malformed digest.
    """
    shipped = shipped_base()
    own = folder_digest(shipped) if shipped is not None else None
    if base is None or base == SHIPPED_BASE:
        if shipped is None or own is None:
            raise ModelError("The embedded tiny base is missing.", "Name one with --base.")
        install_base(shipped)
        return FoundBase(find_base(Base(digest=own, source=SHIPPED_BASE)), own, embedded=True)
    if base.startswith("sha256:"):
        source = SHIPPED_BASE if base == own else "cache"
        pinned = check({"digest": base, "source": source}, Base, where="--base", hint="Correct it.")
        return FoundBase(find_base(pinned), base, embedded=base == own)
    folder = locate_base(base)
    digest = folder_digest(folder)
    return FoundBase(folder, digest, embedded=digest == own)
