"""The version of the craftsfl that is installed."""

from __future__ import annotations

import importlib.metadata

NOT_INSTALLED = "0.0.0"  # a checkout on the path


def installed_version() -> str:
    """The version as pip knows it."""
    try:
        return importlib.metadata.version("craftsfl")
    except importlib.metadata.PackageNotFoundError:
        return NOT_INSTALLED
