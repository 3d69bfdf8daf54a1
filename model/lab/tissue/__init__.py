"""Procedural, public tissue: H&E-like tiles with captions, for pretraining and demos."""

from model.lab.tissue.appearance import HOSPITALS, Appearance
from model.lab.tissue.tile import MORPHOLOGIES, Tile, draw_tile

__all__ = ["HOSPITALS", "MORPHOLOGIES", "Appearance", "Tile", "draw_tile"]
