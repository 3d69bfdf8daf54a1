"""Where the model runs: a GPU where there is one, else the CPU."""

from __future__ import annotations

import torch

from privacy.errors import ModelError

_HINT = 'Set device to "auto", "cpu" or "cuda" (or "cuda:1" for the second GPU).'


def pick_device(name: str = "auto") -> torch.device:
    """The device called `name`: "auto", "cpu", "cuda", "cuda:N" or "mps".

    "auto" is the GPU if there is one. Raises `ModelError` for an unknown name and for a
    device that this machine or this build of torch does not have: a site that asked for its GPU
    must not train on the CPU for a day without knowing it.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ModelError(f"{name!r} is not a device.", _HINT) from None
    if device.type not in ("cpu", "cuda", "mps"):
        raise ModelError(f"Devices of type {device.type!r} are not supported.", _HINT)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        found = torch.cuda.device_count()
        raise ModelError(f"Device {name!r} was asked for, but {found} GPUs were found.", _HINT)
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ModelError("Device 'mps' was asked for, but this machine has none.", _HINT)
    return device
