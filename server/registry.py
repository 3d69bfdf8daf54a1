"""The adapter of a run in MLflow's model registry: file, version, and the newest one's alias."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from model.adapter_file import load_adapter
from model.origin import DIGEST_TAG, Origin
from privacy.error_ids import ErrorId
from privacy.errors import DeploymentError, ModelError
from privacy.study.manifest import Study
from server.checkpoint import sha256_of
from server.figures import COMPLETE_TAG, DIGEST_OF_STUDY, RUN_TAG
from server.model_card import AdapterFacts
from server.status import ReleaseStatus

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

ALIAS = "challenger"  # the newest adapter; a person decides whether it becomes the champion
LOG_LATER = "Once that is done, log what is missing: craftsfl rounds track consortium.toml"


def read_release(run: int, release: ReleaseStatus) -> tuple[Path, AdapterFacts]:
    """The adapter's file and what stands in it.

    Raises `DeploymentError` if it is not the file that the run released.
    """
    adapter = unchanged(release.adapter, release.adapter_sha256)
    if adapter is None:
        raise DeploymentError(
            f"The adapter of run {run}, {release.adapter}, is gone or was changed.",
            f"Restore the file that the run released. {LOG_LATER}",
            id=ErrorId.ADAPTER_UNUSABLE,
        )
    return adapter, AdapterFacts(adapter.name, release.adapter_sha256, _origin(adapter))


def unchanged(path: str, sha256: str) -> Path | None:
    """The file, if its contents still have this SHA-256."""
    file = Path(path)
    try:
        return file if sha256_of(file) == sha256 else None
    except OSError:
        return None


def register_version(
    client: MlflowClient,
    mlflow_run: str,
    study: Study,
    run: int,
    adapter: AdapterFacts,
    card: str,
) -> str:
    """The model version of the run, made if there is none; the newest becomes the challenger.

    The alias is moved once: somebody may have moved it elsewhere since.
    """
    _ensure_model(client, study)
    found = client.search_model_versions(f"name = '{study.name}'")
    mine = sorted((v for v in found if v.run_id == mlflow_run), key=lambda v: int(v.version))
    version = mine[0] if mine else _new_version(client, mlflow_run, study, run, adapter, card)
    if COMPLETE_TAG not in version.tags:
        later = [
            v for v in found if COMPLETE_TAG in v.tags and _number(v) > run and _same(v, study)
        ]
        if not later:
            client.set_registered_model_alias(study.name, ALIAS, version.version)
        client.set_model_version_tag(study.name, version.version, COMPLETE_TAG, "complete")
    return str(version.version)


def _new_version(
    client: MlflowClient, mlflow_run: str, study: Study, run: int, adapter: AdapterFacts, card: str
) -> ModelVersion:
    source = f"{client.get_run(mlflow_run).info.artifact_uri}/adapter"
    tags = {
        DIGEST_TAG: f"sha256:{adapter.sha256}",
        RUN_TAG: str(run),
        DIGEST_OF_STUDY: study.digest().hex(),
    }
    return client.create_model_version(
        study.name, source=source, run_id=mlflow_run, tags=tags, description=card
    )


def _ensure_model(client: MlflowClient, study: Study) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.get_registered_model(study.name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        client.create_registered_model(
            study.name,
            description=f"Adapters that runs of the study {study.name} released, trained by "
            f"hospitals together. `{ALIAS}` is the newest; a person names the champion.",
        )


def _number(version: ModelVersion) -> int:
    return int(version.tags.get(RUN_TAG, "0"))


def _same(version: ModelVersion, study: Study) -> bool:
    return bool(version.tags.get(DIGEST_OF_STUDY) == study.digest().hex())


def _origin(adapter: Path) -> Origin | None:
    try:
        return load_adapter(adapter).origin
    except ModelError:
        return None
