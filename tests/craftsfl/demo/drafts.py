"""Hospitals of a demo before anything of theirs is written."""

from __future__ import annotations

from pathlib import Path

from craftsfl.demo.workspace import HospitalDraft

DIGEST = "sha256:" + "a" * 64


def drafts(tmp_path: Path) -> list[HospitalDraft]:
    """Three hospitals, whose tiles are elsewhere."""
    sizes = {"north": 500, "harbour": 550, "hillside": 600}
    return [HospitalDraft(name, tmp_path / name, size) for name, size in sizes.items()]
