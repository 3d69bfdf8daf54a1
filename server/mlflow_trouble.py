"""What is wrong with MLflow, in words with a cure: no exception's name, no SQL, no address.

Its exceptions' texts may name anything, so they are only searched for what is known.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class MlflowTrouble:
    """`words` complete "MLflow at ... cannot be used: "; `cure` is a sentence, or ""."""

    words: str
    cure: str = ""


_OTHER_VERSION: Final = MlflowTrouble(
    "its database is of another version of MLflow",
    "Copy the database, then: mlflow db upgrade URI; or install the MLflow that wrote it.",
)
_DAMAGED: Final = MlflowTrouble(
    "its database is damaged", "Restore it from a backup, or name a new one."
)
# In the text of a cause, in small letters; the first that is found counts.
_SAID: Final = (
    ("out-of-date database schema", _OTHER_VERSION),
    ("can't locate revision", _OTHER_VERSION),
    ("no such table", _OTHER_VERSION),
    ("no such column", _OTHER_VERSION),
    ("malformed", _DAMAGED),
    ("not a database", _DAMAGED),
    (
        "disk i/o error",
        MlflowTrouble("its disk has an error", "Check the disk and its free space."),
    ),
    ("is full", MlflowTrouble("its disk is full", "Free some space there.")),
    ("no space left", MlflowTrouble("its disk is full", "Free some space there.")),
    (
        "locked",
        MlflowTrouble(
            "another program holds its database", "Serve it: mlflow server, and name that."
        ),
    ),
    (
        "readonly",
        MlflowTrouble("this user may not write its database", "Check the owner of the file."),
    ),
    (
        "unable to open",
        MlflowTrouble("its database cannot be opened", "Check the path, its folder and the owner."),
    ),
    (
        "unauthenticated",
        MlflowTrouble(
            "it asks for a user and a password",
            "Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD.",
        ),
    ),
    ("permission_denied", MlflowTrouble("it does not let this user do that")),
    ("timed out", MlflowTrouble("it did not answer in time")),
    ("timeout", MlflowTrouble("it did not answer in time")),
    ("refused", MlflowTrouble("nobody answers there")),
    ("max retries exceeded", MlflowTrouble("nobody answers there")),
    ("name or service not known", MlflowTrouble("its host's name has no address")),
)
_MOST_CAUSES: Final = 10


def mlflow_trouble(error: BaseException) -> MlflowTrouble:
    """What `error`, MLflow's, its database's or the system's, means."""
    causes = list(_causes(error))
    texts = [f"{cause} {getattr(cause, 'error_code', '')}".lower() for cause in causes]
    for said, trouble in _SAID:
        if any(said in text for text in texts):
            return trouble
    for cause in causes:
        if isinstance(cause, ImportError):
            return MlflowTrouble(
                "the driver of its database is not installed",
                "Install the one that the address names, such as psycopg2 for postgresql.",
            )
        if isinstance(cause, OSError) and cause.strerror:
            return MlflowTrouble(cause.strerror[0].lower() + cause.strerror[1:])
    if any(isinstance(cause, ValueError) for cause in causes):
        return MlflowTrouble(
            "what answers there is not MLflow", "Check the address; a proxy may be in between."
        )
    return MlflowTrouble("it answers with an error", "Look at its own log.")


def _causes(error: BaseException) -> Iterator[BaseException]:
    link: BaseException | None = error
    for _ in range(_MOST_CAUSES):
        if link is None:
            return
        yield link
        link = link.__cause__ or link.__context__
