"""Files of others are opened in one place each, with its checks: nobody goes around it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("craftsfl", "server", "client", "strategies", "model", "privacy", "bench")
SOURCES = sorted(path for name in PACKAGES for path in (ROOT / name).rglob("*.py"))
PICTURES = "model/pictures.py"
ADAPTERS = "model/adapter_file.py"

# Whole names that read a picture, or an adapter, by a reader of somebody else's.
READERS = {
    "PIL.Image.open": PICTURES,
    "PIL.ImageFile.Parser": "",
    "PIL.ImageShow.show": "",
    "safetensors.safe_open": ADAPTERS,
    "pickle.load": "",
    "pickle.loads": "",
}
# Methods and functions, whosoever they are.
METHODS = {
    "imread": "",
    "load_image": "",
    "load_lora_weights": "",
    "load_lora_adapter": "",
    "lora_state_dict": "",
    "load_attn_procs": "",
    "load_textual_inversion": "",
}
MODULES = ("cv2", "imageio", "tifffile", "skimage.io", "torchvision", "pickle")
# Opens slides; whoever has it could read their labels as well.
SLIDES = ("openslide", "client/slides/opened.py")


def found_in(text: str) -> Iterator[str]:
    """Names, by what they were imported as, that `text` uses or imports."""
    tree = ast.parse(text)
    known: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for name in node.names:
                known[name.asname or name.name.split(".")[0]] = (
                    name.name if name.asname else name.name.split(".")[0]
                )
                yield name.name
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            for name in node.names:
                known[name.asname or name.name] = f"{node.module}.{name.name}"
                yield f"{node.module}.{name.name}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            yield _whole(node, known)


def _whole(node: ast.expr, known: dict[str, str]) -> str:
    if isinstance(node, ast.Attribute):
        return f"{_whole(node.value, known)}.{node.attr}"
    return known.get(node.id, node.id) if isinstance(node, ast.Name) else ""


def faults(text: str, where: str) -> list[str]:
    """Ways around that `text`, the content of file `where`, takes."""
    wrong = []
    for name in found_in(text):
        allowed = READERS.get(name, METHODS.get(name.rsplit(".", 1)[-1], where))
        module = any(name == m or name.startswith(f"{m}.") for m in MODULES)
        package, place = SLIDES
        slide = name.split(".")[0] == package and where != place
        if allowed != where or module or slide:
            wrong.append(name)
    return wrong


@pytest.mark.parametrize(
    "text",
    [
        "from PIL import Image\nImage.open('x')",
        "import PIL.Image\nPIL.Image.open('x')",
        "from PIL import Image as I\nopener = I.open",
        "from PIL.Image import open as look",
        "import skimage.io",
        "from skimage import io",
        "import matplotlib.pyplot as plt\nplt.imread('x')",
        "pipeline.load_lora_weights('x')",
        "self.pipeline.unet.load_lora_adapter('x')",
        "from safetensors import safe_open",
    ],
)
def test_the_check_sees_ways_around(text: str) -> None:
    assert faults(text, "model/other.py")


@pytest.mark.parametrize("package", PACKAGES)
def test_nobody_goes_around(package: str) -> None:
    found = {}
    for path in SOURCES:
        where = path.relative_to(ROOT).as_posix()
        if where.startswith(f"{package}/"):
            found[where] = faults(path.read_text("utf-8"), where)
    assert found
    assert not {where: names for where, names in found.items() if names}


def test_the_places_that_may_do_it_are_there() -> None:
    for where in {*READERS.values(), *METHODS.values()} - {""}:
        assert faults((ROOT / where).read_text("utf-8"), "elsewhere")
