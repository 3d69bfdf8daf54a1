"""The demo's hospitals: synthetic ones with enough patients to learn from, or real ones."""

from __future__ import annotations

from pathlib import Path

from craftsfl.demo.tiles import SYNTHETIC_HOSPITALS, data_folder
from craftsfl.demo.workspace import HospitalDraft, declare
from privacy.errors import ConfigError
from privacy.secagg.offer import SMALLEST_COHORT

LONGEST_NAME = 32


def synthetic_members(folder: Path) -> list[HospitalDraft]:
    """The synthetic hospitals; `craftsfl.demo.tiles` makes their data below `folder`."""
    return [
        HospitalDraft(hospital.name, data_folder(folder, hospital.name), hospital.patients)
        for hospital in SYNTHETIC_HOSPITALS.values()
    ]


def real_members(folder: Path) -> list[HospitalDraft]:
    """One hospital for each sub-folder of `folder`; patients are counted and rounded up.

    Raises `ConfigError` for a folder without hospitals, `DataError` for an unusable hospital.
    """
    from client.data import check_believable, check_usable, load_site_data

    if not folder.is_dir():
        raise ConfigError(
            f"{folder} is not a folder.", "Give a folder with one sub-folder per hospital."
        )
    folders = sorted(path for path in folder.iterdir() if path.is_dir())
    if len(folders) < SMALLEST_COHORT:
        raise ConfigError(
            f"{folder} has {len(folders)} sub-folders; a federation needs {SMALLEST_COHORT} "
            "hospitals or more: with two, each could read the other's update off the sum.",
            "Make one sub-folder per hospital, each with images and a metadata.csv.",
        )
    members = []
    for path in folders:
        data = load_site_data(path)
        check_usable(data, path)
        check_believable(data.doubt, confirm="serve the folder with a site agent of its own")
        members.append(HospitalDraft(_site_name(path), path, declare(data.patients)))
    names = [member.name for member in members]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(
            f"Two sub-folders of {folder} would both be called {twice[0]}.",
            "Rename one: site names consist of lower-case letters, digits and hyphens.",
        )
    return members


def _site_name(folder: Path) -> str:
    text = "".join(c if c.isascii() and c.isalnum() else "-" for c in folder.name.lower())
    name = text.strip("-")[:LONGEST_NAME].strip("-")
    if not name:
        raise ConfigError(f"{folder} has no usable name.", "Rename it, using letters and digits.")
    return name
