"""Strict settings: TOML files into frozen pydantic models; unknown keys fail by name."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, ClassVar, Final, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from privacy.error_ids import ErrorId
from privacy.errors import ConfigError
from privacy.strict_toml import read_toml
from privacy.visible import marked

_STUDY_NAME = r"^[a-z0-9][a-z0-9-]{0,63}$"
_SITE_NAME = r"^[a-z0-9][a-z0-9-]{0,31}$"
SiteName = Annotated[str, Field(pattern=_SITE_NAME)]
Positive = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(gt=0, le=1)]
Count = Annotated[int, Field(ge=1, le=2**32 - 1)]  # as the wire counts


PLAIN_STUDY = ErrorId.PLAIN_STUDY.value


_TOML_RULES: Final = (
    "Correct that line: texts stand in double quotes, decimals have a point, and each key stands "
    "once."
)


def refuse_plain(mode: object, hint: str) -> object:
    """`mode` of secure aggregation, unless it is the one that is gone; `hint`: what to write."""
    if mode == "plain":
        text = f'"plain" is no longer a mode, no update leaves unmasked: {hint}'
        raise PydanticCustomError(PLAIN_STUDY, "{text}", {"text": text})
    return mode


class Strict(BaseModel):
    """Base of all settings: frozen, no unknown keys, no NaN or infinity, no silent coercion."""

    # Keys that had another name once, and what to say of them: not a validator's work, because one
    # that runs before the others takes JSON's arrays away from them.
    RENAMED: ClassVar[Mapping[str, str]] = MappingProxyType({})

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, validate_default=True
    )


# Our files, each by keys that no other has together.
_FILES: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        "a hospital's card (NAME.card)": frozenset({"organisation", "public_key"}),
        "an invitation (invitation.cfl)": frozenset({"format", "rosters", "study"}),
        "a hospital's settings (site.toml)": frozenset({"policy", "data", "agent"}),
        "the operator's settings (consortium.toml)": frozenset({"study", "state"}),
        "a study (study.toml)": frozenset({"training", "privacy", "sites"}),
        "a hospital's policy (policy.toml)": frozenset({"epsilon", "bases", "mechanisms"}),
    }
)
_PEM: Final = "-----BEGIN "
_Settings = TypeVar("_Settings", bound=Strict)
VariableName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]  # of the environment


def load_toml(path: Path, model: type[_Settings]) -> _Settings:
    """Read `path` and check it against `model`.

    Raises `ConfigError` that names the file, each wrong key and, for an unknown key, the nearest
    known one.
    """
    text = ""
    try:
        text = path.read_text("utf-8")
        values = read_toml(text)
    except FileNotFoundError:
        raise UnreadableFileError(
            f"{path} does not exist.", "Check the path.", id=ErrorId.SETTINGS_MISSING
        ) from None
    except IsADirectoryError:
        raise UnreadableFileError(f"{path} is a folder.", "Name the file in it.") from None
    except PermissionError:
        raise UnreadableFileError(
            f"{path} cannot be read: this user may not.",
            "Run this as the user to whom it belongs (ls -l names that one).",
        ) from None
    except OSError as error:
        raise UnreadableFileError(
            f"{path} cannot be read: {error.strerror}.", "Check the path."
        ) from None
    except RecursionError:
        raise ConfigError(f"{path} nests its values too deeply.", "Correct it.") from None
    except UnicodeDecodeError:
        raise ConfigError(
            f"{path} is not a text in UTF-8.", "Check the path, or save it as UTF-8."
        ) from None
    except ValueError as error:  # not TOML, or an integer of thousands of digits
        if text.startswith(_PEM):
            raise OtherFileError(
                f"{path} is a key or a certificate in PEM.", f"Name {_called(model)} instead."
            ) from None
        raise ConfigError(f"{path} is not valid TOML: {error}.", _TOML_RULES) from None
    try:
        return check(values, model, where=str(path))
    except ConfigError:
        _check_kind(path, values, model)
        raise


class UnreadableFileError(ConfigError):
    """Nothing of the file was seen: it is not there, or not for this user."""


class OtherFileError(ConfigError):
    """Another file of ours than the one that was asked for."""


def _check_kind(path: Path, values: Mapping[str, object], model: type[BaseModel]) -> None:
    """Raise `OtherFileError` where the keys are those of another file than `model`'s."""
    for kind, keys in _FILES.items():
        if keys <= values.keys() and not keys <= model.model_fields.keys():
            raise OtherFileError(f"{path} is {kind}.", f"Name {_called(model)} instead.")


def _called(model: type[BaseModel]) -> str:
    """What people call the file of `model`."""
    found = (kind for kind, keys in _FILES.items() if keys <= model.model_fields.keys())
    return next(found, "the file that is asked for")


def check(
    values: object,
    model: type[_Settings],
    *,
    where: str,
    hint: str = "Correct the file and try again.",
) -> _Settings:
    """Validate plain `values` (tables as dicts) against `model`; `where` names them in errors.

    Nothing is converted: "8" is not a number and 1 is not true. It goes through JSON, because only
    there does pydantic's strict mode accept lists as tuples and strings as paths.
    """
    try:
        return model.model_validate_json(json.dumps(values, default=str), strict=True)
    except ValidationError as error:
        lines = "; ".join(_explain(detail, model) for detail in error.errors())
        plain = any(detail["type"] == PLAIN_STUDY for detail in error.errors())
        found = ErrorId.PLAIN_STUDY if plain else ""
        raise ConfigError(f"{where}: {lines}.", hint, id=found) from None


def _explain(detail: ErrorDetails, model: type[BaseModel]) -> str:
    name = marked(".".join(str(part) for part in detail["loc"])) or "(the whole file)"
    if detail["type"] == "extra_forbidden":
        if (said := _renamed(str(detail["loc"][-1]), model)) is not None:
            return f"{name} {said}"
        own = str(detail["loc"][-1])
        near = difflib.get_close_matches(own, _known_names(model), n=1)
        if near == [own]:
            return f"unknown key {name} (that belongs in another table)"
        return f"unknown key {name}" + (f" (did you mean {near[0]}?)" if near else "")
    if detail["type"] == "missing":
        return f"{name} is missing"
    if detail.get("ctx", {}).get("pattern") == _STUDY_NAME:
        return f"{name}: at most 64 lower-case letters, digits and hyphens, no hyphen first"
    if detail.get("ctx", {}).get("pattern") == _SITE_NAME:
        return f"{name}: at most 32 lower-case letters, digits and hyphens, no hyphen first"
    return f"{name}: {detail['msg'].removeprefix('Value error, ').rstrip('.')}"


def _known_names(model: type[BaseModel]) -> list[str]:
    """All key names of `model` and of the tables inside it."""
    return [name for table in _tables(model) for name in table.model_fields]


def _renamed(name: str, model: type[BaseModel]) -> str | None:
    """What one of the tables says of a key that it had once."""
    tables = (table for table in _tables(model) if issubclass(table, Strict))
    return next((table.RENAMED[name] for table in tables if name in table.RENAMED), None)


def _tables(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """`model` and the tables inside it."""
    queue = [model]
    while queue:
        table = queue.pop()
        yield table
        for field in table.model_fields.values():
            queue.extend(_models_in(field.annotation))


def _models_in(annotation: object) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in getattr(annotation, "__args__", ()) for model in _models_in(part)]
