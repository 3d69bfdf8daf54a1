"""MLflow's client without its noise, and its errors as ours. Slow to use: it imports MLflow."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from privacy.error_ids import ErrorId
from privacy.errors import DeploymentError

if TYPE_CHECKING:
    from mlflow import MlflowClient

_SILENT = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}


def quiet_client(uri: str) -> MlflowClient:
    """A client of the tracking server `uri`: no telemetry, no reports on its tables."""
    os.environ.update(_SILENT)
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    from mlflow import MlflowClient

    logging.getLogger("mlflow").setLevel(logging.WARNING)  # the import sets it to INFO
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


@contextmanager
def mlflow_errors(uri: str, hint: str) -> Iterator[None]:
    """Raise `DeploymentError` with this `hint` for whatever MLflow or its database raises."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError, OSError) as error:
        raise DeploymentError(
            f"MLflow at {uri} cannot be used ({type(error).__name__}).",
            hint,
            id=ErrorId.MLFLOW_UNUSABLE,
        ) from None
