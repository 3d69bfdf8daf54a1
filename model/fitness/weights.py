"""A base by its files: complete weights in safetensors, not pointers to them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from model.fitness.fault import AGAIN, READABLE, BaseFault, settings_of
from privacy.strict_json import read_json
from privacy.visible import visible

Shapes = dict[str, tuple[int, ...]]  # of a part's tensors by name

_FILES: Final = {
    "unet": "diffusion_pytorch_model",
    "vae": "diffusion_pytorch_model",
    "text_encoder": "model",
}
_PICKLED: Final = {".bin", ".pt", ".pth", ".ckpt", ".pkl"}
_OTHERS: Final = {".msgpack", ".h5", ".onnx", ".pb", ".gguf"}
_LFS: Final = b"version https://git-lfs"
_LONGEST: Final = 100 << 20  # bytes of a header, as safetensors allows
_BYTES: Final = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "U8": 1, "BOOL": 1}
_FLOATS: Final = {"F64", "F32", "F16", "BF16"}


def of_weights(folder: Path) -> tuple[dict[str, Shapes], list[BaseFault]]:
    """The tensors of each part, and what is wrong with the files that hold them."""
    shapes: dict[str, Shapes] = {}
    faults: list[BaseFault] = []
    for part, stem in _FILES.items():
        try:
            files = _files(folder, part, stem)
            shapes[part] = {}
            for file in files:
                shapes[part] |= _header(folder, file)
        except _Refused as refused:
            faults.append(refused.fault)
    return shapes, faults


def of_texts(folder: Path) -> Iterator[BaseFault]:
    """Of the tokenizer's files: whether they are there, and not pointers."""
    names = ("tokenizer.json", "vocab.json", "merges.txt")
    there = [name for name in names if (folder / "tokenizer" / name).is_file()]
    if "tokenizer.json" not in there and not {"vocab.json", "merges.txt"} <= set(there):
        yield BaseFault(
            "its tokenizer has no tokenizer.json, nor vocab.json with merges.txt", AGAIN
        )
    for name in there:
        if _starts(folder / "tokenizer" / name).startswith(_LFS):
            yield BaseFault(f"tokenizer/{name} is a git-lfs pointer, not the file", AGAIN)


class _Refused(Exception):
    def __init__(self, what: str, cure: str) -> None:
        super().__init__(what)
        self.fault = BaseFault(what, cure)


def weights_fault(folder: Path, names: Iterable[str]) -> BaseFault | None:
    """The first of these safetensors files whose bytes are not all there, or that is none."""
    try:
        for name in names:
            _header(folder, name)
    except _Refused as refused:
        return refused.fault
    except OSError as error:
        return BaseFault(f"its weights cannot be read: {error.strerror}", READABLE)
    return None


def _files(folder: Path, part: str, stem: str) -> list[str]:
    """Names, relative to `folder`, of the files that `use_safetensors=True` loads."""
    index = f"{part}/{stem}.safetensors.index.json"
    if (folder / index).is_file():
        return _shards(folder, part, index)
    whole = f"{part}/{stem}.safetensors"
    if (folder / whole).is_file():
        return [whole]
    found = sorted(path.name for path in (folder / part).glob("*") if path.is_file())
    raise _absent(part, stem, found)


def _absent(part: str, stem: str, found: list[str]) -> _Refused:
    """Why there are no loadable weights, judged by what lies there instead."""
    whole = f"{stem}.safetensors"
    kinds = {name: Path(name).suffix for name in found}
    variants = [name for name, kind in kinds.items() if kind == ".safetensors"]
    programs = [name for name, kind in kinds.items() if kind in _PICKLED]
    others = [name for name, kind in kinds.items() if kind in _OTHERS]
    if variants:
        name = visible(variants[0], most=80)
        return _Refused(
            f"{part} has its weights as {name} alone (a variant), not as {whole}",
            f"Get the base without a variant, or rename {name} to {whole}: half precision is "
            "read in full.",
        )
    if programs or others:
        name = visible((programs or others)[0], most=80)
        why = "a pickle is a program and is never opened" if programs else "of another framework"
        return _Refused(
            f"{part} has its weights as {name} alone ({why})",
            "Get the safetensors of this base, or convert it if you trust its maker: "
            "load it with diffusers there and save_pretrained(..., safe_serialization=True).",
        )
    return _Refused(f"{part} has no weights ({whole})", AGAIN)


def _shards(folder: Path, part: str, index: str) -> list[str]:
    try:
        listed = settings_of(folder / index).get("weight_map")
    except (OSError, ValueError):
        listed = None
    if not isinstance(listed, Mapping) or not listed:
        raise _Refused(f"{index} is damaged", AGAIN)
    names = sorted({str(name) for name in listed.values()})
    for name in names:
        if Path(name).name != name or not (folder / part / name).is_file():
            raise _Refused(f"{part}'s weights {visible(name, most=80)} are missing", AGAIN)
    return [f"{part}/{name}" for name in names]


def _header(folder: Path, name: str) -> Shapes:
    """The tensors of a safetensors file whose bytes are all there; no value is read."""
    path = folder / name
    size, start = path.stat().st_size, _starts(path)
    if start.startswith(_LFS):
        raise _Refused(f"{name} is a git-lfs pointer, not the weights", "Run git lfs pull there.")
    length = int.from_bytes(start[:8], "little")
    if size < 8 or not 2 <= length <= _LONGEST:
        raise _Refused(f"{name} is not a safetensors file", AGAIN)
    if 8 + length > size:
        raise _Refused(f"{name} is cut short: {size} bytes", AGAIN)
    try:
        with path.open("rb") as file:
            file.seek(8)
            header = read_json(file.read(length).decode("utf-8"))
        shapes, end = _tensors(name, header)
    except (ValueError, TypeError, KeyError, AttributeError):
        raise _Refused(f"{name} has a damaged header", AGAIN) from None
    if 8 + length + end < size:
        raise _Refused(f"{name} holds more than its tensors", AGAIN)
    if 8 + length + end > size:
        raise _Refused(f"{name} is cut short: {size} of {8 + length + end} bytes", AGAIN)
    return shapes


def _tensors(name: str, header: object) -> tuple[Shapes, int]:
    """(shapes, bytes of all tensors). Raises ValueError and the like for an invalid header."""
    shapes: Shapes = {}
    end = 0
    if not isinstance(header, dict):
        raise ValueError("not an object")
    for key, entry in header.items():
        if key == "__metadata__":
            continue
        kind, shape, (first, last) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
        if kind not in _BYTES or (key.endswith(".weight") and kind not in _FLOATS):
            raise _Refused(
                f"{name} holds {visible(str(kind), most=20)} numbers: quantised weights",
                "Get it in single or half precision.",
            )
        count = 1
        for length in shape:
            count *= int(length)
        if last - first != count * _BYTES[kind]:
            raise ValueError("a tensor of another length")
        shapes[key], end = shape, max(end, int(last))
    if not shapes:
        raise _Refused(f"{name} holds no tensor", AGAIN)
    return shapes, end


def _starts(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(len(_LFS))
