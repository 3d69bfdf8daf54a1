"""Where a command writes: bad places are refused before anything slow begins."""

from __future__ import annotations

from pathlib import Path

from privacy.errors import ConfigError, DeploymentError

_CHECKPOINTS = ".checkpoints"  # of an interrupted training, in the folder of its result


def check_picture(out: Path, *, overwrite: bool = False) -> None:
    """Raise `ConfigError` unless `out` can become a PNG file without replacing one by accident."""
    if out.suffix.lower() != ".png":
        raise ConfigError(f"{out} is not a PNG file name.", "Name it something.png.")
    if not out.parent.is_dir():
        hint = "Name another place." if out.parent.exists() else "Make it first."
        raise ConfigError(f"{out.parent} is not a folder.", hint)
    if out.exists() and not overwrite:
        raise ConfigError(f"{out} exists.", "Name another file, or add --overwrite.")


def check_new_folder(out: Path, holds: str, what: str) -> None:
    """Raise `ConfigError` if `out` is a file, or a finished `what`, which has the file `holds`.

    An interrupted one goes on: it still has its checkpoints.
    """
    if out.exists() and not out.is_dir():
        raise ConfigError(f"{out} is a file.", "Name a new folder.")
    if (out / holds).exists() and not (out / _CHECKPOINTS).exists():
        raise ConfigError(f"{out} holds {what} already.", "Name a new folder: nothing is replaced.")


def unwritable(place: Path, error: OSError, option: str) -> DeploymentError:
    """The error that says why `place` cannot be written and which option names another."""
    reason = error.strerror or type(error).__name__
    return DeploymentError(f"{place} cannot be written: {reason}.", f"Choose another {option}.")
