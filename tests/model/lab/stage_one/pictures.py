"""Public pictures for the tests: folders, and shards written by webdataset itself."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def picture(number: int, side: int = 64, kind: str = "PNG") -> bytes:
    image = np.random.default_rng(number).integers(0, 256, (side, side, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, kind)
    return buffer.getvalue()


def write_folder(folder: Path, count: int = 6, extra: Sequence[str] = ()) -> Path:
    """`count` pictures 000.png.. with captions "tissue 0".., and columns `extra`."""
    folder.mkdir(parents=True)
    rows = []
    for number in range(count):
        (folder / f"{number:03d}.png").write_bytes(picture(number))
        rows.append((f"{number:03d}.png", f"tissue {number}", *("x" for _ in extra)))
    with (folder / "metadata.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("file_name", "text", *extra), *rows])
    return folder


def write_shard(path: Path, numbers: Sequence[int], **beside: Any) -> Path:
    """One shard of pictures `numbers`; members `beside` each (txt="..", json={..})."""
    import webdataset

    with webdataset.TarWriter(str(path)) as writer:
        for number in numbers:
            members = beside or {"txt": f"tissue {number}"}
            writer.write({"__key__": f"a/{number:03d}", "png": picture(number), **members})
    return path
