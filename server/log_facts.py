"""What the coordinator writes into the log of a run itself: what it runs, on what, to which end."""

from __future__ import annotations

import importlib.metadata
import platform
from typing import Final

from privacy.log.entries import LogFacts

# What could change a number of the adapter, or what protects it.
_PACKAGES: Final = ("craftsfl", "cryptography", "flwr", "numpy", "opacus", "scipy", "torch")


def recipe_facts() -> LogFacts:
    """The versions of program, interpreter and packages at the coordinator."""
    found = {name: _version(name) for name in _PACKAGES}
    return {
        "release": found["craftsfl"],
        "python": platform.python_version(),
        "packages": {name: version for name, version in found.items() if version},
    }


def base_facts(base: bytes, layout: bytes, frozen: bytes) -> LogFacts:
    """Digests of what the adapter stands on, 32 bytes each."""
    return {"what": "start", "base": base.hex(), "layout": layout.hex(), "frozen": frozen.hex()}


def published_facts(digest: bytes) -> LogFacts:
    """The digest of the adapter that a run has come to."""
    return {"what": "published", "digest": digest.hex()}


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""
