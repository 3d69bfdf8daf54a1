"""Put an exported adapter together, and write it where nothing is."""

from __future__ import annotations

import hashlib
import secrets
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from craftsfl.rounds.exporting.card import DIFFUSERS_WEIGHTS, export_card
from craftsfl.rounds.exporting.figures import ExportFigures, as_json, figures_of
from craftsfl.rounds.exporting.licences import LicenceLink, chain_json, licence_chain
from craftsfl.rounds.promotion import candidate_of, check_begun
from model.adapter_file import load_adapter
from model.names import quoted_path
from model.peft_files import as_peft
from privacy.error_ids import ErrorId
from privacy.errors import ConfigError, DeploymentError, FederationError
from privacy.files import write_public
from privacy.study.manifest import Study, load_study
from server.champion import CHAMPION, Champions
from server.registry import read_release
from server.settings import ConsortiumSettings, load_consortium
from server.status import ReleaseStatus, RunStatus
from server.status_reader import read_ended

SUMS: Final = "SHA256SUMS"


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """What goes into which folder. `run` None: the champion's; licences as the operator says."""

    out: Path
    run: int | None = None
    published: Sequence[Path] = ()
    licence: str | None = None
    base_licence: str | None = None


@dataclass(frozen=True, slots=True)
class Exported:
    """What was exported."""

    run: int
    figures: ExportFigures
    chain: tuple[LicenceLink, ...]


def export_adapter(settings: Path, request: ExportRequest) -> Exported:
    """Write the folder; raises `CraftsflError`, and leaves nothing behind then."""
    _check_free(request.out)
    consortium = load_consortium(settings)
    study = load_study(consortium.study)
    check_begun(consortium, settings)
    status, release = _released(consortium, study, request.run, settings)
    file, facts = read_release(status.run, release)
    figures = figures_of(study, request.published)
    chain = licence_chain(
        study,
        facts.sha256,
        own=request.licence,
        base=request.base_licence,
        root=consortium.study.parent,
    )
    files = {
        DIFFUSERS_WEIGHTS: file.read_bytes(),
        **as_peft(load_adapter(file), study.base.source),
        "README.md": export_card(study, status, figures, chain).encode(),
        "licences.json": chain_json(chain),
        "privacy.json": as_json(study, figures),
        "study.toml": consortium.study.read_bytes(),
    }
    _write(request.out, files)
    return Exported(status.run, figures, chain)


def _released(
    consortium: ConsortiumSettings, study: Study, run: int | None, settings: Path
) -> tuple[RunStatus, ReleaseStatus]:
    """The run to export, which has released an adapter."""
    if run is None:
        status = _champions_run(consortium, study, settings)
    else:
        ended = read_ended(consortium.database_url(), study.digest().hex())
        found = [status for status in ended if status.run == run]
        if not found:
            raise FederationError(
                f"{study.name} has no ended run {run}.",
                f"See the newest: craftsfl rounds status {quoted_path(settings)}",
                id=ErrorId.NO_RUN,
            )
        status = found[-1]
    if status.release is None:
        raise FederationError(
            f"Run {status.run} is {status.state} and has released no adapter.",
            "Export a run that has finished.",
            id=ErrorId.NO_RUN,
        )
    return status, status.release


def _champions_run(consortium: ConsortiumSettings, study: Study, settings: Path) -> RunStatus:
    champions = Champions(consortium.mlflow_uri(), study)
    version = champions.present()
    if version is None:
        raise DeploymentError(
            f"{study.name} has no champion to export.",
            f"Name one: craftsfl rounds promote {quoted_path(settings)}; or export a run: --run N",
            id=ErrorId.NOT_PROMOTED,
        )
    candidate = candidate_of(consortium, study, champions.version(CHAMPION))
    if candidate.adapter is None or candidate.adapter.sha256 != candidate.registered:
        raise DeploymentError(
            f"The file of version {version} is not the one that was registered.",
            "Restore the file that the run released, and find out who changed it.",
            id=ErrorId.ADAPTER_UNUSABLE,
        )
    return candidate.status


def _check_free(out: Path) -> None:
    if out.exists() or out.is_symlink():
        raise ConfigError(
            f"{out} exists already; an export replaces nothing.",
            "Name a new folder.",
            id=ErrorId.EXPORT_TAKEN,
        )


def _write(out: Path, files: Mapping[str, bytes]) -> None:
    """The whole folder or nothing; raises `OSError`."""
    sums = [f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in sorted(files.items())]
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(f".{out.name}.{secrets.token_hex(8)}")
    part.mkdir()
    try:
        for name, data in {**files, SUMS: "".join(sums).encode()}.items():
            write_public(part / name, data)
        _check_free(out)
        part.rename(out)
    finally:
        shutil.rmtree(part, ignore_errors=True)
