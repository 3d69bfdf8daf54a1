"""Why a slide gives no tiles. A module of its own, because geometry must not need OpenSlide."""

from __future__ import annotations


class UnusableSlide(Exception):
    """The reason why one slide is left out. Names no file and repeats nothing from inside it."""
