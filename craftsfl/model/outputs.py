"""Where a command writes: bad places are refused before anything slow begins."""

from __future__ import annotations

from pathlib import Path

from privacy.errors import ConfigError, DeploymentError


def check_picture(out: Path, *, overwrite: bool = False) -> None:
    """Raise `ConfigError` unless `out` can become a PNG file without replacing one by accident."""
    if out.suffix.lower() != ".png":
        raise ConfigError(f"{out} is not a PNG file name.", "Name it something.png.")
    if not out.parent.is_dir():
        raise ConfigError(f"{out.parent} is not a folder.", "Make it first.")
    if out.exists() and not overwrite:
        raise ConfigError(f"{out} exists.", "Name another file, or add --overwrite.")


def unwritable(place: Path, error: OSError, option: str) -> DeploymentError:
    """The error that says why `place` cannot be written and which option names another."""
    reason = error.strerror or type(error).__name__
    return DeploymentError(f"{place} cannot be written: {reason}.", f"Choose another {option}.")
