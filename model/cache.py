"""Where a base's files are: pinned by digest, in a cache or a folder; only people ask the hub.

Weights are never package resources: the app bundle that Flower ships holds code only. Nothing here
imports torch, so a command can report a missing base at once.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

from model.digest import INDEX, SUFFIXES, UNUSED, folder_digest, pipeline_files
from model.fitness import check_base
from model.names import quoted
from privacy.error_ids import ErrorId
from privacy.errors import ModelError
from privacy.home import from_home, own_home
from privacy.study.manifest import Base
from privacy.visible import marked

_FOLDER = (
    "Without a network: copy the pipeline's folder, which holds model_index.json, to this machine, "
    "and name that folder."
)
SHIPPED_BASE = "tiny"  # the `source` that means the weights that ship with craftsfl


def base_cache() -> Path:
    """Folder of installed bases, one sub-folder a digest: $CRAFTSFL_CACHE/bases or the user's."""
    root = os.environ.get("CRAFTSFL_CACHE")
    if root:
        return Path(root) / "bases"
    platform = os.environ.get("XDG_CACHE_HOME")
    return (Path(platform) if platform else own_home() / ".cache") / "craftsfl" / "bases"


def install_base(folder: Path) -> str:
    """Copy the pipeline in `folder` into the cache and return its digest.

    All or nothing: an interrupted copy is never found. Installing twice copies once.
    Raises `ModelError` if `folder` is not a base that can be trained (`model.fitness`), or if the
    cache cannot be written. One that is installed was tried then, and is at every loading.
    """
    try:
        digest = folder_digest(folder)
    except ModelError:
        if not any(folder.glob("model*.safetensors")):  # else it is an encoder
            check_base(folder)  # says more about what is wrong
        raise
    target = _cached(digest)
    if _is_there(target) and folder_digest(target) == digest:
        return digest
    check_base(folder)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".new-") as fresh:
            copy = Path(fresh) / "base"
            _copy_files(folder, copy)
            shutil.rmtree(target, ignore_errors=True)
            copy.rename(target)
    except OSError as error:
        raise ModelError(
            f"The base cannot be copied to {target.parent}: {error.strerror}.",
            "Free some disk space, or set CRAFTSFL_CACHE to a writable folder.",
        ) from None
    return digest


def shipped_base() -> Path | None:
    """The tiny weights that ship with craftsfl: in the checkout, or under sys.prefix."""
    checkout = Path(__file__).resolve().parent.parent / "weights" / SHIPPED_BASE
    installed = Path(sys.prefix) / "share" / "craftsfl" / SHIPPED_BASE
    return next((path for path in (checkout, installed) if path.is_dir()), None)


def find_base(base: Base, *, root: Path | None = None, verify: bool = True) -> Path:
    """Folder of the base that a study pins: from the cache or a local folder, never from the hub.

    The study's author chose its name, and the hub sees who asks for it. A relative
    `base.source` starts from `root` (the folder of study.toml) or the working folder.
    With `verify` every file is hashed; only a caller that has already done so may skip it.
    Raises `ModelError` if no such base is available, or if it has another digest.
    """
    cached = _cached(base.digest)
    folder = cached if _is_there(cached) else _local_folder(base.source, root)
    if folder is None:
        raise ModelError(
            f"The base {base.digest} ({marked(base.source)}) is not on this machine.",
            "Nothing is downloaded unasked. Install it once, as the user who needs it: "
            f"craftsfl model install {quoted(base.source)}",
            id=ErrorId.BASE_MISSING,
        )
    if verify:
        _check_digest(folder, base.digest, in_cache=folder == cached)
    return folder


def locate_base(source: str, *, root: Path | None = None) -> Path:
    """Folder of a base that a person names: "tiny", a local folder, or a name on the hub.

    Raises `ModelError` if no such base is available.
    """
    found = _local_folder(source, root)
    if found is None and from_home(source).is_file():
        raise ModelError(f"{source} is a file: a base is a pipeline's folder.", _FOLDER)
    return found or _from_hub(source)


def base_is_installed(digest: str) -> bool:
    """Whether the cache holds a base of this digest, whatever its files are by now.

    Raises `ModelError` if this user has no access to the cache.
    """
    return _is_there(_cached(digest))


def _cached(digest: str) -> Path:
    return base_cache() / digest.removeprefix("sha256:")


def _is_there(cached: Path) -> bool:
    try:
        return cached.is_dir()
    except PermissionError:
        raise ModelError(
            f"This user has no access to the model cache {cached.parent}.",
            "Set CRAFTSFL_CACHE to a folder of this user, or unset it.",
        ) from None


def _copy_files(folder: Path, target: Path) -> None:
    for name in pipeline_files(folder):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / name, target / name)


def _local_folder(source: str, root: Path | None) -> Path | None:
    if source == SHIPPED_BASE:
        shipped = shipped_base()
        if shipped is None:
            raise ModelError(
                "The tiny base that ships with craftsfl is not installed.",
                "Make it with `craftsfl model pretrain`, or run from a full checkout.",
            )
        return shipped
    path = (root or Path()) / from_home(source)
    return path if path.is_dir() else None


def _from_hub(source: str) -> Path:
    """Download (or find in the hub's own cache) the files of pipeline `source`."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    wanted = [INDEX, *(f"*/*{suffix}" for suffix in sorted(SUFFIXES))]
    duplicates = ["*.fp16.*", "*.bf16.*", "*.non_ema.*", *(f"{name}/*" for name in UNUSED)]
    try:
        return Path(snapshot_download(source, allow_patterns=wanted, ignore_patterns=duplicates))
    except HFValidationError:
        message = f"The base {source!r} is neither a folder here nor the name of one on the hub."
    except OSError:  # the base class of the hub's errors: offline, unknown name, no permission
        message = (
            f"The base {source!r} is not a folder here, and cannot be downloaded from the hub."
        )
    raise ModelError(message, f"Check the name. {_FOLDER}")


def _check_digest(folder: Path, pinned: str, *, in_cache: bool) -> None:
    found = folder_digest(folder)
    if found == pinned:
        return
    if in_cache:
        hint = "The cached copy was altered: delete that folder and start again."
    else:
        hint = (
            "Get exactly the base that the study pins. If this folder is the right one, the "
            "coordinator has to put its digest into study.toml for all sites."
        )
    raise ModelError(
        f"The base in {folder} is {found}; the study pins {pinned}.", hint, id=ErrorId.BASE_ALTERED
    )
