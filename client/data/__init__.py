"""A hospital's tiles: a folder in the imagefolder convention, checked file by file.

Captions, file names and patient ids are health data. They live in `SiteTile` and `Quarantined` and
in the texts of `DataError`; none of these leaves the agent or enters a log.
"""

from __future__ import annotations

from client.data.imagefolder import (
    Quarantined,
    SiteData,
    SiteTile,
    check_usable,
    commonest,
    load_site_data,
)
from client.data.images import read_tile, read_tile_mask
from client.data.metadata import patient_key
from client.data.quarantine import write_quarantine
from client.data.suspicion import check_believable

__all__ = [
    "Quarantined",
    "SiteData",
    "SiteTile",
    "check_believable",
    "check_usable",
    "commonest",
    "load_site_data",
    "patient_key",
    "read_tile",
    "read_tile_mask",
    "write_quarantine",
]
