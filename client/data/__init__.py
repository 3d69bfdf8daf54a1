"""A hospital's tiles: a folder in the imagefolder convention, checked file by file.

Captions, file names and patient ids are health data. They live in `Tile` and `Quarantined` and in
the texts of `DataError`; none of these leaves the agent or enters a log.
"""

from __future__ import annotations

from client.data.imagefolder import (
    Quarantined,
    SiteData,
    Tile,
    check_usable,
    commonest,
    load_site_data,
)
from client.data.images import read_image, read_mask
from client.data.metadata import patient_key
from client.data.quarantine import write_quarantine
from client.data.suspicion import check_believable

__all__ = [
    "Quarantined",
    "SiteData",
    "Tile",
    "check_believable",
    "check_usable",
    "commonest",
    "load_site_data",
    "patient_key",
    "read_image",
    "read_mask",
    "write_quarantine",
]
