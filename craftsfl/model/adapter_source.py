"""`--adapter`: a file, or a version or alias of a registered model in MLflow."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from model.generation.adapter import file_digest
from model.origin import DIGEST_TAG
from privacy.errors import ConfigError, DeploymentError, ModelError
from privacy.home import from_home
from server.mlflow_client import public_uri
from server.mlflow_trouble import mlflow_trouble

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

SCHEME = "models:/"
_SCHEMES = {"http", "https", "sqlite", "file", "postgresql", "mysql", "mssql", "databricks"}
_NAMED = re.compile(r"models:/+(?P<name>[^/@]+)(/(?P<version>\d+)|@(?P<alias>[^/@]+))")
_SILENT = {
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}


@dataclass(frozen=True, slots=True)
class FoundAdapter:
    """An adapter's local file, its digest, and its source: a file name, or models:/NAME/3."""

    path: Path
    digest: str
    source: str


def find_adapter(source: str, tracking_uri: str | None, folder: Path) -> FoundAdapter:
    """The adapter that `source` names; one from MLflow is downloaded to `folder`.

    An alias is resolved to the version it points to now. `tracking_uri`: None for
    MLFLOW_TRACKING_URI. Raises `ConfigError`, `DeploymentError`, `ModelError`.
    """
    if not source.startswith(SCHEME):
        path = from_home(source)
        if not path.is_file():
            raise ConfigError(
                f"{source} is not a file.",
                "Name the adapter's .safetensors file, or models:/NAME/VERSION in MLflow.",
            )
        return FoundAdapter(path, file_digest(path), path.name)
    parts = _NAMED.fullmatch(source)
    if parts is None:
        raise ConfigError(
            f"{source} names no model version.", "Write models:/NAME/3 or models:/NAME@challenger."
        )
    uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
    if not uri:  # MLflow would make an empty database in the working folder
        raise ConfigError(
            f"{source} is a version in MLflow, and nothing says in which one.",
            "Add --tracking-uri, or set MLFLOW_TRACKING_URI: result.json of a finished run names "
            "it (mlflow), and so does consortium.toml.",
        )
    _check_there(uri)
    with _mlflow_errors(source, uri):
        return _fetched(_client(uri), parts, folder)


def _fetched(client: MlflowClient, parts: re.Match[str], folder: Path) -> FoundAdapter:
    name = parts["name"]
    version = (
        client.get_model_version(name, parts["version"])
        if parts["version"]
        else client.get_model_version_by_alias(name, parts["alias"])
    )
    source = f"{SCHEME}{name}/{version.version}"
    path = _download(client, version, folder, source)
    digest, registered = file_digest(path), version.tags.get(DIGEST_TAG)
    if registered is not None and registered != digest:
        raise ModelError(
            f"The file of {source} is {digest}, but {registered} was registered.",
            "It was altered after that: use another version, and find out why.",
        )
    return FoundAdapter(path, digest, source)


def _download(client: MlflowClient, version: ModelVersion, folder: Path, source: str) -> Path:
    from mlflow.artifacts import download_artifacts

    uri = client.get_model_version_download_uri(version.name, version.version)
    got = download_artifacts(
        artifact_uri=uri, dst_path=str(folder), tracking_uri=client.tracking_uri
    )
    files = sorted(Path(got).rglob("*.safetensors"))
    if len(files) != 1:
        raise ModelError(
            f"{source} holds {len(files)} .safetensors files.", "Exactly one was expected."
        )
    return files[0]


def _client(tracking_uri: str) -> MlflowClient:
    os.environ.update(_SILENT)
    # A person waits: MLflow's own seven tries take four minutes before it says a word.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    from mlflow import MlflowClient

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    return MlflowClient(tracking_uri=tracking_uri, registry_uri=tracking_uri)


@contextmanager
def _mlflow_errors(source: str, uri: str) -> Iterator[None]:
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    where = public_uri(uri)
    try:
        yield
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise ModelError(
                f"MLflow at {where} does not know {source}.",
                "Look up versions and aliases there, or name another MLflow with --tracking-uri.",
            ) from None
        raise _unusable(uri, error) from None
    except (SQLAlchemyError, OSError) as error:
        raise _unusable(uri, error) from None


def _check_there(uri: str) -> None:
    """MLflow would create an empty database, or folder, for a mistyped name."""
    scheme, separator, _ = uri.partition("://")
    if separator and scheme.partition("+")[0] not in _SCHEMES:
        raise ConfigError(
            f"{public_uri(uri)} is no address of an MLflow.",
            "Write http://HOST:PORT, or sqlite:////FOLDER/mlflow.db for a file.",
        )
    if separator and scheme not in ("sqlite", "file"):
        return
    path = Path(uri.removeprefix("sqlite:///").removeprefix("file://"))
    there = path.is_file() and path.stat().st_size > 0 if scheme == "sqlite" else path.is_dir()
    if not there:
        raise DeploymentError(
            f"There is no MLflow database {path}.",
            "result.json of a finished run names it (mlflow); pass it as --tracking-uri.",
        )


def _unusable(uri: str, error: Exception) -> DeploymentError:
    found = mlflow_trouble(error)
    check = " Check --tracking-uri, and that the server is running." * uri.startswith("http")
    return DeploymentError(
        f"MLflow at {public_uri(uri)} cannot be used: {found.words}.",
        f"{found.cure}{check}".strip() or "Check --tracking-uri.",
    )
