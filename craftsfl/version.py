"""The installed version of craftsfl."""

from __future__ import annotations

import importlib.metadata

NOT_INSTALLED = "0.0.0"  # a checkout that is merely on the path


def installed_version() -> str:
    """The version in the installed package's metadata."""
    try:
        return importlib.metadata.version("craftsfl")
    except importlib.metadata.PackageNotFoundError:
        return NOT_INSTALLED
