"""A layout as bytes: between trainer and agent, and in the state folders of both sides."""

from __future__ import annotations

import json

from model.layout import Layout, LayoutEntry
from privacy.errors import WireError


def encode_layout(layout: Layout) -> bytes:
    """JSON: lists of [name, shape, dtype], those in the vector and those that are frozen."""
    entries, frozen = ([_row(e) for e in part] for part in (layout.entries, layout.frozen))
    return json.dumps({"entries": entries, "frozen": frozen}, separators=(",", ":")).encode("ascii")


def decode_layout(data: bytes | bytearray) -> Layout:
    """The layout whose bytes are `data`; raises `WireError` for any other bytes."""
    try:
        found = json.loads(data)
        layout = Layout(*(tuple(map(_entry, found[name])) for name in ("entries", "frozen")))
        same = encode_layout(layout) == data
    except (ValueError, TypeError, KeyError, RecursionError):
        same = False
    if not same:
        raise WireError("These bytes are no layout of an adapter.")
    return layout


def _row(entry: LayoutEntry) -> list[object]:
    return [entry.name, list(entry.shape), entry.dtype]


def _entry(row: tuple[object, list[object], object]) -> LayoutEntry:
    name, shape, dtype = row
    sizes = tuple(size for size in shape if type(size) is int and size > 0)
    if not isinstance(name, str) or dtype != "float32" or len(sizes) != len(shape):
        raise ValueError
    return LayoutEntry(name, sizes, "float32")
