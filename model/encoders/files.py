"""Where an encoder's files are, and the digest over those that are loaded. Imports no torch."""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from model.fitness.fault import BaseFault
from model.fitness.weights import weights_fault
from model.names import quoted
from privacy.errors import ModelError
from privacy.home import from_home
from privacy.visible import marked

# The `source`s that mean encoders that ship with craftsfl, and their folders under weights/.
SHIPPED_ENCODERS = MappingProxyType({"tiny": "tiny-encoder", "tiny-evaluator": "tiny-evaluator"})

_INDEX = "model.safetensors.index.json"
_ADAPTER = "adapter_config.json"
_PATTERNS = (
    "config.json",
    "preprocessor_config.json",
    "model*.safetensors",
    _INDEX,
    "tokenizer*.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
    "*.model",
)
_TAG = b"craftsfl/encoder/v1\0"
_HINT = (
    "Name tiny, tiny-evaluator, a folder with config.json and model.safetensors, or a model "
    "on the hub."
)


@dataclass(frozen=True)
class EncoderFiles:
    """A folder that holds an encoder; config: its config.json; preprocessing may be empty."""

    source: str
    folder: Path
    config: dict[str, Any]
    preprocessing: dict[str, Any]

    @property
    def kind(self) -> str:
        """The config's model_type: "clip", "vit", "resnet" and so on."""
        return str(self.config.get("model_type", ""))

    def digest(self) -> str:
        """ "sha256:" and 64 hex digits over the sorted (name, SHA-256 of content) pairs."""
        pairs = [(path.name, _hash(path)) for path in loaded_files(self.folder)]
        text = json.dumps(pairs, separators=(",", ":"), ensure_ascii=True)
        return "sha256:" + hashlib.sha256(_TAG + text.encode("ascii")).hexdigest()


def find_encoder(source: str, *, online: bool = True) -> EncoderFiles:
    """The files of "tiny", "tiny-evaluator", a local folder or a model on the hub.

    Files on this machine are preferred; the network is asked only if `online`, which is not for
    names that somebody else chose. Raises `ModelError` if there is no such encoder, if it has no
    safetensors weights (pickled ones are programs and never opened), or if weights would be loaded
    that its digest does not cover.
    """
    folder = _locate(source, online)
    if not any(folder.glob("*")):
        raise ModelError(f"{source} holds nothing that this user may read.", _HINT)
    if not any(folder.glob("model*.safetensors")):
        raise ModelError(
            f"The encoder {source!r} has no safetensors weights.",
            "Save it again with transformers' save_pretrained; pickled weights are not loaded.",
        )
    _check_pinned(source, folder)
    preprocessing = folder / "preprocessor_config.json"
    return EncoderFiles(
        source,
        folder,
        _read(folder / "config.json"),
        _read(preprocessing) if preprocessing.is_file() else {},
    )


def encoder_fault(files: EncoderFiles) -> BaseFault | None:
    """What is wrong with the files of the weights, if their headers show it; no value is read."""
    names = sorted(path.name for path in files.folder.glob("model*.safetensors"))
    return weights_fault(files.folder, names)


def check_encoder(files: EncoderFiles) -> None:
    """Raise `ModelError` if the weights are cut short or no weights: they would get a digest."""
    fault = encoder_fault(files)
    if fault is not None:
        raise ModelError(
            f"The encoder {files.source!r} cannot be loaded: {fault.what}.", fault.cure
        )


def loaded_files(folder: Path) -> list[Path]:
    """The files that count, sorted by name."""
    return sorted({path for pattern in _PATTERNS for path in folder.glob(pattern)})


def shipped_encoder(source: str) -> Path | None:
    """Folder of "tiny" or "tiny-evaluator": in the checkout, or under sys.prefix."""
    name = SHIPPED_ENCODERS[source]
    checkout = Path(__file__).resolve().parents[2] / "weights" / name
    installed = Path(sys.prefix) / "share" / "craftsfl" / name
    return next((path for path in (checkout, installed) if path.is_dir()), None)


def _check_pinned(source: str, folder: Path) -> None:
    """Raise `ModelError` if transformers would load weights that the digest does not cover."""
    if (folder / _ADAPTER).exists():  # it would be applied, unasked
        raise ModelError(
            f"The encoder {source!r} has an adapter next to its weights ({_ADAPTER}).",
            "Merge it into the weights and save them again, or take it out of the folder.",
        )
    index = folder / _INDEX
    shards = _read(index).get("weight_map", {}) if index.is_file() else {}
    known = {path.name for path in loaded_files(folder)}
    if not isinstance(shards, dict) or not set(map(str, shards.values())) <= known:
        raise ModelError(
            f"{index} names weights that are not here as model*.safetensors.", "Get it again."
        )


def _locate(source: str, online: bool) -> Path:
    if source in SHIPPED_ENCODERS:
        shipped = shipped_encoder(source)
        if shipped is None:
            raise ModelError(
                f"The encoder {source!r} that ships with craftsfl is not installed.",
                "Make it with `craftsfl model pretrain-encoder`, or run from a full checkout.",
            )
        return shipped
    folder = from_home(source)
    if folder.is_file():
        raise ModelError(f"{source} is a file: an encoder is a folder.", _HINT)
    return folder if folder.is_dir() else _from_hub(source, online)


def _from_hub(source: str, online: bool) -> Path:
    """The snapshot in the hub's own cache; downloaded if there is none, and only if `online`."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    patterns = list(_PATTERNS)
    try:
        try:
            return Path(snapshot_download(source, allow_patterns=patterns, local_files_only=True))
        except LocalEntryNotFoundError:
            if not online:
                raise _not_here(source) from None
            return Path(snapshot_download(source, allow_patterns=patterns))
    except HFValidationError:
        if not online:
            raise _not_here(source) from None
        message = f"The encoder {source!r} is neither a folder here nor the name of one on the hub."
    except OSError:  # the base class of the hub's errors: offline, unknown name, no permission
        message = (
            f"The encoder {source!r} is not a folder here, and cannot be downloaded from the hub."
        )
    raise ModelError(message, _HINT)


def _not_here(source: str) -> ModelError:
    return ModelError(
        f"The encoder {marked(source)} is not on this machine.",
        "Nothing is downloaded unasked. Install it once, as the user who needs it: "
        f"craftsfl model install --encoder {quoted(source)}",
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except OSError:
        raise ModelError(f"{path.parent} holds no encoder ({path.name}).", _HINT) from None
    except ValueError:
        raise ModelError(f"{path} is not valid JSON.", "Get the encoder again.") from None
    if not isinstance(found, dict):
        raise ModelError(f"{path} is not a JSON object.", "Get the encoder again.")
    return found


def _hash(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(
            f"{path} cannot be read: {error.strerror}.", "Get the encoder again."
        ) from None
