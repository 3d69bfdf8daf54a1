"""The digest that pins a base pipeline: a hash over exactly the files that may be loaded.

Other files in a pipeline's folder (README, judges, pickled or fp16 duplicates, .git) do not count,
and `model.base.load_base` never opens them.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from privacy.errors import ModelError

INDEX = "model_index.json"
SUFFIXES = frozenset({".json", ".txt", ".model", ".safetensors"})
# Never loaded here: they judge pictures by rules made for photographs.
UNUSED = frozenset({"safety_checker", "feature_extractor", "image_encoder"})
LIBRARIES = frozenset({"diffusers", "transformers"})

_TAG = b"craftsfl/base/v1\0"
_HINT = "Name the folder that holds model_index.json, unet/, vae/, text_encoder/ and the rest."
_ENCODER = (
    "It looks like an encoder: craftsfl model install --encoder FOLDER, or name it with --encoder "
    "or --judge."
)
_OWNER = "Run this as the user to whom it belongs (ls -ld names that one)."


def folder_digest(folder: Path) -> str:
    """ "sha256:" and 64 hex digits over the sorted (relative name, SHA-256 of content) pairs.

    Raises `ModelError` if `folder` holds no Stable-Diffusion-shaped diffusers pipeline.
    """
    pairs = [(name, _file_hash(folder / name)) for name in pipeline_files(folder)]
    text = json.dumps(pairs, separators=(",", ":"), ensure_ascii=True)
    return "sha256:" + hashlib.sha256(_TAG + text.encode("ascii")).hexdigest()


def pipeline_files(folder: Path) -> list[str]:
    """Names, relative to `folder`, of the files that a pipeline loads; sorted.

    Weights of a variant (`x.fp16.safetensors`) are duplicates, and left out.
    """
    names = [INDEX]
    for component in components(folder):
        files = [path for path in (folder / component).rglob("*") if path.is_file()]
        if not files:
            raise ModelError(f"The pipeline's part {component} is missing.", _HINT)
        names += [path.relative_to(folder).as_posix() for path in files if _is_loaded(path)]
    return sorted(names)


def components(folder: Path) -> list[str]:
    """Sub-folders that the pipeline is made of, by its model_index.json.

    Raises `ModelError` if a part needs code of its own: a base is data, never a program.
    """
    found = []
    for name, value in _read_index(folder).items():
        if name.startswith("_") or name in UNUSED or not isinstance(value, list):
            continue
        if len(value) != 2 or value[0] is None:
            continue
        if value[0] not in LIBRARIES or not name.isidentifier():
            raise ModelError(
                f"The pipeline's part {name!r} wants code from {value[0]!r}.",
                "Only parts from diffusers and transformers are loaded; use a plain pipeline.",
            )
        found.append(name)
    return sorted(found)


def _read_index(folder: Path) -> dict[str, object]:
    try:
        index = json.loads((folder / INDEX).read_text("utf-8"))
    except PermissionError:
        raise ModelError(f"{folder / INDEX} cannot be read: this user may not.", _OWNER) from None
    except OSError:
        hint = _ENCODER if (folder / "model.safetensors").exists() else _HINT
        raise ModelError(f"{folder} holds no diffusers pipeline ({INDEX}).", hint) from None
    except ValueError:
        raise ModelError(f"{folder / INDEX} is not valid JSON.", "Get the base again.") from None
    if not isinstance(index, dict) or not {"unet", "vae", "text_encoder"} <= index.keys():
        raise ModelError(f"{folder} is not a Stable-Diffusion-shaped pipeline.", _HINT)
    return index


def _is_loaded(path: Path) -> bool:
    return path.suffix in SUFFIXES and not (path.suffix == ".safetensors" and "." in path.stem)


def _file_hash(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        reason = error.strerror
        raise ModelError(f"{path} cannot be read: {reason}.", "Get the base again.") from None
