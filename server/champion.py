"""The alias `champion` of a study's model in MLflow: who has it, who had it, and moving it.

MLflow keeps an alias without its past. So each move is noted in a tag of the registered model,
before the alias moves; where somebody has moved it by hand since, the alias counts.
"""

# Why: docs/adr/0053-champions-and-exports.md

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from privacy.error_ids import ErrorId
from privacy.errors import DeploymentError
from privacy.study.manifest import Study
from server.figures import COMPLETE_TAG
from server.mlflow_client import mlflow_errors, public_uri, quiet_client
from server.registry import LOG_LATER

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

CHAMPION: Final = "champion"
_PAST: Final = "craftsfl.champions"
_MOST: Final = 50  # moves that are kept: a tag has 5,000 characters
_HINT: Final = "Start its server, or correct [tracking] in consortium.toml; nothing was changed."


@dataclass(frozen=True, slots=True)
class Move:
    """The alias went to `version`; `back`: by a rollback. `time` in Unix seconds, `by` a user."""

    version: str
    back: bool
    time: int
    by: str


class Champions:
    """The champions of a study. Every method raises `DeploymentError` if MLflow cannot be used."""

    def __init__(self, uri: str, study: Study) -> None:
        self._uri, self._name = uri, study.name
        with self._errors():
            self._client = quiet_client(uri)

    def version(self, wanted: str) -> ModelVersion:
        """The version with this number or alias, which is registered completely."""
        with self._errors():
            found = self._versions().get(wanted)
            if found is None:
                raise DeploymentError(
                    f"MLflow at {public_uri(self._uri)} has no {wanted} of {self._name}.",
                    f"See the versions there. A finished run has one. {LOG_LATER}",
                    id=ErrorId.MLFLOW_UNUSABLE,
                )
        if COMPLETE_TAG not in found.tags:
            raise DeploymentError(
                f"Version {found.version} of {self._name} is registered only in part.", LOG_LATER
            )
        return found

    def present(self) -> str | None:
        """The champion's version."""
        with self._errors():
            found = self._versions().get(CHAMPION)
        return None if found is None else str(found.version)

    def before(self) -> str | None:
        """The version that was champion before the present one, and still exists."""
        with self._errors():
            versions = self._versions()
            present = versions.get(CHAMPION)
            if present is None:
                return None
            line = line_of(self._past(), str(present.version))
        earlier = [name for name in line[:-1] if name in versions]
        return earlier[-1] if earlier else None

    def move(self, move: Move) -> None:
        """Give the alias to `move.version`, and note it."""
        with self._errors():
            past = [*self._past(), move][-_MOST:]
            text = json.dumps([[m.version, m.back, m.time, m.by] for m in past])
            self._client.set_registered_model_tag(self._name, _PAST, text)
            self._client.set_registered_model_alias(self._name, CHAMPION, move.version)

    def _versions(self) -> dict[str, ModelVersion]:
        """By number, and by alias."""
        from mlflow.exceptions import MlflowException

        every = self._client.search_model_versions(f"name = '{self._name}'")
        found = {str(version.version): version for version in every}
        try:
            aliases = self._client.get_registered_model(self._name).aliases
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return {}
        named = {name: found[str(at)] for name, at in aliases.items() if str(at) in found}
        return {**named, **found}

    def _past(self) -> list[Move]:
        text = self._client.get_registered_model(self._name).tags.get(_PAST, "[]")
        return [Move(*entry) for entry in json.loads(text)]

    def _errors(self) -> AbstractContextManager[None]:
        return mlflow_errors(self._uri, _HINT)


def line_of(moves: Iterable[Move], present: str) -> Sequence[str]:
    """The champions that a rollback goes back through, the `present` one last.

    A rollback takes away what came after its version. The alias counts: if it is elsewhere,
    somebody has moved it by hand.
    """
    line: list[str] = []
    for move in moves:
        _go(line, move.version, back=move.back)
    _go(line, present, back=present in line)
    return line


def _go(line: list[str], version: str, *, back: bool) -> None:
    if back and version in line:
        del line[len(line) - line[::-1].index(version) :]
    elif not line or line[-1] != version:
        line.append(version)
