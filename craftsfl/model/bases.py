"""`--base`: a digest, a pipeline's folder, a name on the hub, or the embedded tiny base."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from model.cache import (
    SHIPPED_BASE,
    base_is_installed,
    find_base,
    install_base,
    locate_base,
    shipped_base,
)
from model.digest import folder_digest
from privacy.error_ids import ErrorId
from privacy.errors import ConfigError, ModelError
from privacy.study.manifest import Base
from privacy.visible import marked

_DIGEST: Final = re.compile("sha256:[0-9a-f]{64}")


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
            raise ModelError(
                "The embedded tiny base is missing.",
                "Name another with --base, or reinstall craftsfl.",
            )
        install_base(shipped)
        return FoundBase(find_base(Base(digest=own, source=SHIPPED_BASE)), own, embedded=True)
    if base.startswith("sha256:"):
        if not _DIGEST.fullmatch(base):
            raise ConfigError(
                f"--base {marked(base)} is no digest.",
                "A digest is sha256: and 64 hex digits, as craftsfl model install prints it.",
            )
        if base != own and not base_is_installed(base):
            raise ModelError(
                f"The base {base} is not in this user's model cache.",
                "Name its folder, or install it from there: craftsfl model install FOLDER",
                id=ErrorId.BASE_MISSING,
            )
        pinned = Base(digest=base, source=SHIPPED_BASE if base == own else base)
        return FoundBase(find_base(pinned), base, embedded=base == own)
    folder = locate_base(base)
    digest = folder_digest(folder)
    return FoundBase(folder, digest, embedded=digest == own)
