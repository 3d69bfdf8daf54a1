"""Which release of craftsfl is installed at this site."""

from __future__ import annotations

import importlib.metadata
import re
from typing import Final

from privacy.wire.bodies import ReleaseNumbers

_UNKNOWN: Final = (0, 0, 0)  # a checkout that is merely on the path


def installed_release() -> ReleaseNumbers:
    """The first three numbers of the installed version; no more of it leaves the site."""
    try:
        version = importlib.metadata.version("craftsfl")
    except importlib.metadata.PackageNotFoundError:
        return _UNKNOWN
    found = re.match(r"(\d{1,4})\.(\d{1,4})\.(\d{1,4})", version)
    if found is None:
        return _UNKNOWN
    major, minor, micro = map(int, found.groups())
    return major, minor, micro
