"""MLflow's client without its noise and its patience, and its errors as ours.

Slow to use: it imports MLflow. MLflow's own defaults are 120 s for each request and 7 retries:
266 s for a server that is down. Here a request has `MLFLOW_REQUEST_SECONDS` and no second try:
whoever calls tries everything again later. MLflow reads these variables at every request; what the
operator has set stays.
"""

# Why: docs/adr/0037-mlflow-is-never-waited-for.md

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from privacy.error_ids import ErrorId
from privacy.errors import DeploymentError
from server.mlflow_trouble import mlflow_trouble

if TYPE_CHECKING:
    from mlflow import MlflowClient

MLFLOW_REQUEST_SECONDS: Final = 5
_LOCK_SECONDS: Final = 2  # that another program may hold MLflow's SQLite file
_SILENT: Final = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}
_BRIEF: Final = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": str(MLFLOW_REQUEST_SECONDS),
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_ARTIFACT_UPLOAD_DOWNLOAD_TIMEOUT": "60",
}
_PASSWORD: Final = re.compile(r"(://[^/@:]*):[^/@]*@")


def quiet_client(uri: str) -> MlflowClient:
    """A client of the tracking server `uri`: no telemetry, no reports on its tables, no retries.

    Raises `MlflowException`, `SQLAlchemyError` or OSError at once if a database cannot be used.
    """
    os.environ.update(_SILENT)
    for name, value in _BRIEF.items():
        os.environ.setdefault(name, value)
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    from mlflow import MlflowClient

    logging.getLogger("mlflow").setLevel(logging.CRITICAL)  # the import sets it to INFO
    if not uri.startswith(("http:", "https:", "databricks", "file:")):
        _probe_database(uri)
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def public_uri(uri: str) -> str:
    """`uri` without the password that it may hold: for messages, events and results."""
    return _PASSWORD.sub(r"\1:***@", uri)


@contextmanager
def mlflow_errors(uri: str, hint: str) -> Iterator[None]:
    """Raise `DeploymentError` with this `hint` for whatever MLflow or its database raises.

    A ValueError is what it makes of an answer that is not MLflow's, such as a page of a proxy; an
    ImportError is a database whose driver is not installed.
    """
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError, OSError, ValueError, ImportError) as error:
        found = mlflow_trouble(error)
        raise DeploymentError(
            f"MLflow at {public_uri(uri)} cannot be used: {found.words}.",
            f"{found.cure} {hint}".strip(),
            id=ErrorId.MLFLOW_UNUSABLE,
        ) from None


def _probe_database(uri: str) -> None:
    """One look at a database: MLflow tries to connect ten times, for 100 s, and waits 20 s for a
    lock."""
    from sqlalchemy import create_engine, text
    from sqlalchemy.engine import make_url
    from sqlalchemy.pool import NullPool

    local = make_url(uri).get_backend_name() == "sqlite"
    waits = {"timeout": _LOCK_SECONDS} if local else {"connect_timeout": MLFLOW_REQUEST_SECONDS}
    engine = create_engine(uri, connect_args=waits, poolclass=NullPool)
    with engine.connect() as connection:
        connection.execute(text("BEGIN IMMEDIATE" if local else "SELECT 1"))
